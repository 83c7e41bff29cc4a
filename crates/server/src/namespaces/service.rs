//! Who sees which namespace and how much of it, and changing them.

use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use weft_model::{DepartmentId, NamespaceId, Principal, TenantId, UserId};

use super::{
    store::{self, Department, Member, Namespace},
    tree::{Misplaced, Tree},
};
use crate::{
    audit::{self, Action, Event},
    clock::Clock,
    db::breaks,
};

/// Namespaces in a tenant at most.
const MOST: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("namespace '{0}'")]
    Unknown(NamespaceId),
    #[error("department '{0}'")]
    UnknownDepartment(DepartmentId),
    #[error("user '{0}'")]
    UnknownUser(UserId),
    #[error("namespace '{0}' already exists")]
    Exists(NamespaceId),
    #[error("there is a department '{0}' in that place already")]
    NameTaken(String),
    #[error("a name has 1 to 200 characters")]
    InvalidName,
    #[error("a tenant has {MOST} namespaces at most")]
    TooMany,
    #[error("namespace '{0}' has departments: delete them first")]
    HasDepartments(NamespaceId),
    #[error("there are departments below it: move or delete them first")]
    HasChildren,
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// How much of a namespace somebody acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// Own departments and those below them, sorted.
    Departments(Vec<DepartmentId>),
}

/// What is to change of a department.
#[derive(Debug)]
pub struct Change {
    pub name: Option<String>,
    pub place: Place,
}

/// Where a department is to be.
#[derive(Debug, Clone, Copy, Default)]
pub enum Place {
    #[default]
    Same,
    Top,
    Below(DepartmentId),
}

/// The namespaces of all tenants.
pub struct Namespaces {
    pool: PgPool,
    clock: Clock,
}

impl Namespaces {
    pub fn new((pool, clock): (PgPool, Clock)) -> Self {
        Self { pool, clock }
    }

    /// The namespaces that somebody sees.
    pub async fn list(&self, by: &Principal) -> Result<Vec<Namespace>, Error> {
        let all = store::list(&mut *self.pool.acquire().await?, &by.tenant, None, by.id).await?;
        let seen = all.into_iter().filter(|(namespace, belongs)| *belongs || governs(by, &namespace.id));
        Ok(seen.map(|(namespace, _)| namespace).collect())
    }

    /// A namespace, if somebody sees it.
    pub async fn get(&self, by: &Principal, id: &NamespaceId) -> Result<Namespace, Error> {
        let mut found = store::list(&mut *self.pool.acquire().await?, &by.tenant, Some(id), by.id).await?;
        match found.pop() {
            Some((namespace, belongs)) if belongs || governs(by, id) => Ok(namespace),
            _ => Err(Error::Unknown(id.clone())),
        }
    }

    /// How much of a namespace somebody acts for. A namespace that they do not see is unknown.
    pub async fn scope(&self, by: &Principal, id: &NamespaceId) -> Result<Scope, Error> {
        self.get(by, id).await?;
        if governs(by, id) {
            return Ok(Scope::Everything);
        }
        let reached = store::list_reached(&mut *self.pool.acquire().await?, (&by.tenant, id), by.id).await?;
        Ok(Scope::Departments(reached))
    }

    pub async fn create(&self, by: &Principal, id: NamespaceId, name: &str) -> Result<Namespace, Error> {
        let namespace = Namespace { id, name: checked(name)?, created_at: self.clock.now() };
        let mut transaction = self.pool.begin().await?;
        if store::list(&mut transaction, &by.tenant, None, by.id).await?.len() >= MOST {
            return Err(Error::TooMany);
        }
        if !store::insert(&mut transaction, &by.tenant, &namespace).await? {
            return Err(Error::Exists(namespace.id));
        }
        let event = Event::by(by, Action::NamespaceCreated).on("namespace", &namespace.id);
        self.commit(transaction, event.with("name", namespace.name.clone())).await?;
        Ok(namespace)
    }

    pub async fn rename(&self, by: &Principal, id: &NamespaceId, name: &str) -> Result<(), Error> {
        let name = checked(name)?;
        let mut transaction = self.begin(&by.tenant, id).await?;
        store::update_name(&mut transaction, (&by.tenant, id), &name).await?;
        self.commit(transaction, Event::by(by, Action::NamespaceRenamed).on("namespace", id).with("name", name)).await
    }

    pub async fn delete(&self, by: &Principal, id: &NamespaceId) -> Result<(), Error> {
        let mut transaction = self.begin(&by.tenant, id).await?;
        store::delete(&mut transaction, (&by.tenant, id)).await.map_err(|error| {
            if breaks(&error, "departments_namespace") { Error::HasDepartments(id.clone()) } else { error.into() }
        })?;
        self.commit(transaction, Event::by(by, Action::NamespaceDeleted).on("namespace", id)).await
    }

    /// The departments of a namespace that are in somebody's scope.
    pub async fn departments(&self, by: &Principal, id: &NamespaceId) -> Result<Vec<Department>, Error> {
        let scope = self.scope(by, id).await?;
        let mut departments = store::list_departments(&mut *self.pool.acquire().await?, (&by.tenant, id)).await?;
        if let Scope::Departments(reached) = scope {
            departments.retain(|department| reached.contains(&department.id));
        }
        Ok(departments)
    }

    pub async fn add_department(
        &self,
        by: &Principal,
        id: &NamespaceId,
        (name, parent): (&str, Option<DepartmentId>),
    ) -> Result<Department, Error> {
        let now = self.clock.now();
        let department = Department { id: DepartmentId::generate(now), parent, name: checked(name)? };
        let mut transaction = self.begin(&by.tenant, id).await?;
        let (mut tree, _) = forest(&mut transaction, &by.tenant, id).await?;
        tree.add(department.id, parent)?;
        self.put(&mut transaction, (&by.tenant, id), &department).await?;
        self.commit(transaction, told(by, Action::DepartmentCreated, id, &department)).await?;
        Ok(department)
    }

    /// Renames a department, moves it with all below it, or both.
    pub async fn change_department(
        &self,
        by: &Principal,
        id: &NamespaceId,
        (department, change): (DepartmentId, Change),
    ) -> Result<Department, Error> {
        let mut transaction = self.begin(&by.tenant, id).await?;
        let (mut tree, departments) = forest(&mut transaction, &by.tenant, id).await?;
        let known = departments.into_iter().find(|known| known.id == department);
        let mut department = known.ok_or(Error::UnknownDepartment(department))?;
        if let Some(name) = change.name {
            department.name = checked(&name)?;
        }
        department.parent = match change.place {
            Place::Same => department.parent,
            Place::Top => None,
            Place::Below(parent) => Some(parent),
        };
        tree.move_to(department.id, department.parent)?;
        self.put(&mut transaction, (&by.tenant, id), &department).await?;
        self.commit(transaction, told(by, Action::DepartmentChanged, id, &department)).await?;
        Ok(department)
    }

    pub async fn delete_department(&self, by: &Principal, id: &NamespaceId, department: DepartmentId) -> Result<(), Error> {
        let mut transaction = self.begin(&by.tenant, id).await?;
        let department = find(&mut transaction, (&by.tenant, id), department).await?;
        store::delete_department(&mut transaction, (&by.tenant, id), department.id)
            .await
            .map_err(|error| if breaks(&error, "departments_parent") { Error::HasChildren } else { error.into() })?;
        self.commit(transaction, told(by, Action::DepartmentDeleted, id, &department)).await
    }

    pub async fn members(&self, by: &Principal, id: &NamespaceId, department: DepartmentId) -> Result<Vec<Member>, Error> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, (&by.tenant, id), department).await?;
        Ok(store::list_members(&mut connection, (&by.tenant, id), department).await?)
    }

    /// Makes a member of the tenant one of the department. Who is one already stays one.
    pub async fn add_member(
        &self,
        by: &Principal,
        id: &NamespaceId,
        (department, user): (DepartmentId, UserId),
    ) -> Result<(), Error> {
        let mut transaction = self.begin(&by.tenant, id).await?;
        let found = find(&mut transaction, (&by.tenant, id), department).await?;
        let added = store::insert_member(&mut transaction, (&by.tenant, id), (department, user), self.clock.now()).await;
        let is_new = added.map_err(|error| match error {
            sqlx::Error::Database(cause) if cause.is_foreign_key_violation() => Error::UnknownUser(user),
            error => error.into(),
        })?;
        if !is_new {
            return Ok(());
        }
        let event = told(by, Action::DepartmentMemberAdded, id, &found).with("user", user.to_string());
        self.commit(transaction, event).await
    }

    /// Somebody who is no member stays none.
    pub async fn remove_member(
        &self,
        by: &Principal,
        id: &NamespaceId,
        (department, user): (DepartmentId, UserId),
    ) -> Result<(), Error> {
        let mut transaction = self.begin(&by.tenant, id).await?;
        let found = find(&mut transaction, (&by.tenant, id), department).await?;
        if !store::delete_member(&mut transaction, (&by.tenant, id), (department, user)).await? {
            return Ok(());
        }
        let event = told(by, Action::DepartmentMemberRemoved, id, &found).with("user", user.to_string());
        self.commit(transaction, event).await
    }

    /// A transaction in which nobody else changes the namespace.
    async fn begin(&self, tenant: &TenantId, id: &NamespaceId) -> Result<Transaction<'static, Postgres>, Error> {
        let mut transaction = self.pool.begin().await?;
        if store::lock(&mut transaction, (tenant, id)).await? { Ok(transaction) } else { Err(Error::Unknown(id.clone())) }
    }

    async fn put(
        &self,
        connection: &mut PgConnection,
        place: (&TenantId, &NamespaceId),
        department: &Department,
    ) -> Result<(), Error> {
        store::upsert_department(connection, place, department, self.clock.now()).await.map_err(|error| {
            if breaks(&error, "departments_name") { Error::NameTaken(department.name.clone()) } else { error.into() }
        })
    }

    async fn commit(&self, mut transaction: Transaction<'_, Postgres>, event: Event) -> Result<(), Error> {
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        Ok(transaction.commit().await?)
    }
}

/// Whether somebody sees all of a namespace, by a key for every one or for this one.
fn governs(by: &Principal, id: &NamespaceId) -> bool {
    let held = |key: &str| by.permissions.allows(key);
    held("namespaces:manage")
        || held("namespaces:plugins.manage")
        || held(&format!("namespace:{id}:manage"))
        || held(&format!("namespace:{id}:plugins.manage"))
}

async fn forest(connection: &mut PgConnection, tenant: &TenantId, id: &NamespaceId) -> Result<(Tree, Vec<Department>), Error> {
    let departments = store::list_departments(connection, (tenant, id)).await?;
    let tree = departments.iter().map(|department| (department.id, department.parent)).collect();
    Ok((tree, departments))
}

async fn find(
    connection: &mut PgConnection,
    place: (&TenantId, &NamespaceId),
    department: DepartmentId,
) -> Result<Department, Error> {
    let departments = store::list_departments(connection, place).await?;
    departments.into_iter().find(|known| known.id == department).ok_or(Error::UnknownDepartment(department))
}

fn checked(name: &str) -> Result<String, Error> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 200 || name.contains('\0') {
        return Err(Error::InvalidName);
    }
    Ok(name.to_owned())
}

fn told(by: &Principal, action: Action, id: &NamespaceId, department: &Department) -> Event {
    let event = Event::by(by, action).on("department", department.id).with("namespace", id.to_string());
    let event = event.with("name", department.name.clone());
    match department.parent {
        Some(parent) => event.with("parent", parent.to_string()),
        None => event,
    }
}
