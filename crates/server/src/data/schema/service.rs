//! Planning the tables of an app and carrying the plan out, in the transaction that installs the manifest.

use sqlx::PgConnection;
use weft_data::{Plan, catalogue::SCHEMA_MARK};
use weft_model::{AppId, Fault, contract::Entity};

use crate::data::{Error, backend, store};

/// Whether somebody has agreed to losing data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consent {
    #[default]
    Withheld,
    ToLoss,
}

impl Consent {
    pub fn given(loss: bool) -> Self {
        if loss { Self::ToLoss } else { Self::Withheld }
    }
}

/// What a contract would change.
pub async fn plan(connection: &mut PgConnection, app: &AppId, contract: &[Entity]) -> Result<Plan, Error> {
    let catalogue = store::find_catalogue(connection, app).await?;
    if contract.is_empty() && (!catalogue.exists || catalogue.is_foreign()) {
        return Ok(Plan::default());
    }
    if catalogue.is_foreign() || store::is_searched(connection, app).await? {
        return Err(Error::Foreign(app.clone()));
    }
    Ok(weft_data::plan(app.as_str(), contract, &catalogue))
}

/// Brings the tables to what a contract says, or says what stands against it.
pub async fn apply(connection: &mut PgConnection, app: &AppId, contract: &[Entity], consent: Consent) -> Result<(), Error> {
    store::lock_schema(connection, app).await?;
    let plan = plan(connection, app, contract).await?;
    admissible(&plan, consent)?;
    if plan.steps.is_empty() {
        return Ok(());
    }
    store::bound_waiting(connection).await?;
    store::execute_plan(connection, &plan).await.map_err(impossible)
}

/// Whether a plan may be carried out.
pub fn admissible(plan: &Plan, consent: Consent) -> Result<(), Error> {
    if !plan.obstacles.is_empty() {
        let fault = |obstacle: &weft_data::plan::Obstacle| {
            Fault::new(format!("{}.{}", obstacle.entity, obstacle.column), obstacle.message.clone())
        };
        return Err(Error::Impossible(plan.obstacles.iter().map(fault).collect()));
    }
    if consent == Consent::Withheld && plan.losses().next().is_some() {
        return Err(Error::Loss(plan.clone()));
    }
    Ok(())
}

/// What PostgreSQL holds against a plan: records that break a new rule, an operator class that is not there.
fn impossible(error: sqlx::Error) -> Error {
    let Some(cause) = error.as_database_error() else { return Error::Database(error) };
    let code = cause.code().unwrap_or_default().into_owned();
    if code == "55P03" {
        return Error::Moved;
    }
    // Classes: violated constraints, data, what is not supported, names and types that do not fit.
    if !["23", "22", "0A", "42", "2B", "54"].iter().any(|class| code.starts_with(class)) {
        return Error::Database(error);
    }
    let place = cause.table().map_or_else(|| "$.dataContract".to_owned(), str::to_owned);
    Error::Impossible(vec![Fault::new(place, cause.message())])
}

/// The tables of an app, each with whether it has records.
pub async fn tables(connection: &mut PgConnection, app: &AppId) -> Result<Vec<(String, bool)>, Error> {
    let catalogue = store::find_catalogue(connection, app).await?;
    if catalogue.is_foreign() {
        return Ok(Vec::new());
    }
    Ok(catalogue.tables.into_iter().map(|(name, table)| (name, table.filled)).collect())
}

/// Removes the tables of an app with all that is in them.
pub async fn remove(connection: &mut PgConnection, app: &AppId) -> Result<(), Error> {
    store::lock_schema(connection, app).await?;
    let catalogue = store::find_catalogue(connection, app).await?;
    if catalogue.mark.as_deref() == Some(SCHEMA_MARK) {
        store::drop_schema(connection, app).await?;
    }
    Ok(backend::drop_roles(connection, app).await?)
}
