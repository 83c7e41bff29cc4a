//! From the tables that are there to those that a contract asks for: typed steps, what each would lose, and their SQL.
//!
//! Planning is pure. What a plan would lose is said before anything is done, and what it cannot do at all is an obstacle. Applying a
//! plan and planning again yields nothing to do.

mod columns;
mod convert;
mod objects;
mod planner;

pub use planner::plan;

/// What is to be done, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub obstacles: Vec<Obstacle>,
}

/// One change of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub entity: String,
    pub change: Change,
    /// The column, or the index or check, that it is about; empty for a table.
    pub column: String,
    pub detail: Option<String>,
    /// What is gone afterwards, in words for whoever has to consent.
    pub loss: Option<String>,
    /// Part of another step, so not worth a line of its own.
    pub is_detail: bool,
    pub sql: Vec<String>,
    /// Steps run phase by phase.
    phase: Phase,
}

/// Why a plan cannot be carried out, whatever somebody consents to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub entity: String,
    pub column: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Schema,
    RenameTables,
    RenameColumns,
    DropObjects,
    DropTables,
    CreateTables,
    DropColumns,
    Columns,
    Objects,
    Links,
}

macro_rules! changes {
    ($($name:ident $word:literal),* $(,)?) => {
        /// Kinds of changes, by the words that the API has for them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Change { $($name),* }

        impl Change {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

changes! {
    CreateSchema "create_schema",
    CreateTable "create_table",
    RenameTable "rename_table",
    DropTable "drop_table",
    AddColumn "add_column",
    RenameColumn "rename_column",
    DropColumn "drop_column",
    AlterType "alter_type",
    SetNotNull "set_not_null",
    DropNotNull "drop_not_null",
    SetDefault "set_default",
    DropDefault "drop_default",
    AddLink "add_foreign_key",
    AlterLink "alter_fk_delete_rule",
    DropLink "drop_foreign_key",
    AddIdentityIndex "add_identity_index",
    DropIdentityIndex "drop_identity_index",
    AddIndex "add_index",
    ReplaceIndex "replace_index",
    DropIndex "drop_index",
    AddCheck "add_check",
    ReplaceCheck "replace_check",
    DropCheck "drop_check",
    AddPolicy "add_policy",
    DropPolicy "drop_policy",
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.obstacles.is_empty()
    }

    /// What would be lost: each with the entity and the column.
    pub fn losses(&self) -> impl Iterator<Item = (&Step, &str)> {
        self.steps.iter().filter_map(|step| Some((step, step.loss.as_deref()?)))
    }

    /// The steps worth telling.
    pub fn shown(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.is_detail)
    }
}

impl Step {
    fn new(phase: Phase, change: Change, (entity, column): (&str, &str)) -> Self {
        let (entity, column) = (entity.to_owned(), column.to_owned());
        Self { entity, change, column, detail: None, loss: None, is_detail: false, sql: Vec::new(), phase }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn losing(mut self, loss: Option<String>) -> Self {
        self.loss = loss;
        self
    }

    fn hidden(mut self, is_detail: bool) -> Self {
        self.is_detail = is_detail;
        self
    }

    fn sql(mut self, statement: impl Into<String>) -> Self {
        self.sql.push(statement.into());
        self
    }
}
