//! Creating and changing roles, giving and taking them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{AppId, PermissionKey, Principal, TenantId, UserId};

use super::{
    ADMIN,
    store::{self, Assignment, Effective, Permission, Role},
};
use crate::{
    audit::{Action, Event},
    identity::service::{Error as IdentityError, Identity},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a role needs a name of 1 to 128 characters")]
    InvalidName,
    #[error("the role 'admin' cannot be created, changed or deleted")]
    Protected,
    #[error("role '{0}' already exists")]
    Exists(String),
    #[error("{0}")]
    InvalidKey(#[from] weft_model::permission::InvalidKey),
    #[error("role hierarchy cycle involving '{0}'")]
    Cycle(String),
    #[error("no fields to update")]
    NothingToUpdate,
    #[error("role '{0}'")]
    Unknown(String),
    #[error("role '{0}' not defined")]
    NotDefined(String),
    #[error("assignment of role '{role}' to user {user}")]
    NotAssigned { role: String, user: UserId },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Identity(error.into())
    }
}

/// What to change of a role; `None` leaves it as it is.
pub struct Update {
    pub description: Option<String>,
    pub inherits: Option<Vec<String>>,
    pub permissions: Option<Vec<String>>,
}

impl Identity {
    pub async fn roles(&self, tenant: &TenantId) -> Result<Vec<Role>, Error> {
        Ok(store::list(&mut *self.pool.acquire().await?, tenant).await?)
    }

    pub async fn create_role(&self, by: &Principal, role: Role) -> Result<(), Error> {
        if role.name.trim().is_empty() || role.name.len() > 128 {
            return Err(Error::InvalidName);
        }
        if role.name == ADMIN {
            return Err(Error::Protected);
        }
        check_keys(&role.permissions)?;
        let mut transaction = self.pool.begin().await?;
        let others = store::lock_all(&mut transaction, &by.tenant).await?;
        refuse_cycle(&role, &others)?;
        if !store::insert(&mut transaction, &by.tenant, &role).await? {
            return Err(Error::Exists(role.name));
        }
        Ok(self.commit(transaction, changed(by, Action::RoleCreated, &role)).await?)
    }

    pub async fn update_role(&self, by: &Principal, name: &str, update: Update) -> Result<(), Error> {
        if name == ADMIN && (update.inherits.is_some() || update.permissions.is_some()) {
            return Err(Error::Protected);
        }
        if update.description.is_none() && update.inherits.is_none() && update.permissions.is_none() {
            return Err(Error::NothingToUpdate);
        }
        let mut transaction = self.pool.begin().await?;
        let mut others = store::lock_all(&mut transaction, &by.tenant).await?;
        let position = others.iter().position(|role| role.name == name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let mut role = others.swap_remove(position);
        let was = [("permissionsBefore", role.permissions.clone()), ("inheritsBefore", role.inherits.clone())];
        role.description = update.description.or(role.description);
        role.inherits = update.inherits.unwrap_or(role.inherits);
        role.permissions = update.permissions.unwrap_or(role.permissions);
        check_keys(&role.permissions)?;
        refuse_cycle(&role, &others)?;
        store::update(&mut transaction, &by.tenant, &role).await?;
        let event = changed(by, Action::RoleUpdated, &role);
        let event = was.into_iter().fold(event, |event, (name, value)| event.with(name, value));
        Ok(self.commit(transaction, event).await?)
    }

    pub async fn delete_role(&self, by: &Principal, name: &str) -> Result<(), Error> {
        if name == ADMIN {
            return Err(Error::Protected);
        }
        let mut transaction = self.pool.begin().await?;
        if !store::delete(&mut transaction, &by.tenant, name).await? {
            return Err(Error::Unknown(name.to_owned()));
        }
        Ok(self.commit(transaction, Event::by(by, Action::RoleDeleted).on("role", name)).await?)
    }

    pub async fn assignments(&self, tenant: &TenantId) -> Result<Vec<Assignment>, Error> {
        Ok(store::list_assignments(&mut *self.pool.acquire().await?, tenant).await?)
    }

    pub async fn assign_role(&self, by: &Principal, user: UserId, role: &str) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        if !store::list(&mut transaction, &by.tenant).await?.iter().any(|known| known.name == role) {
            return Err(Error::NotDefined(role.to_owned()));
        }
        if crate::identity::store::find_member(&mut transaction, &by.tenant, user).await?.is_none() {
            return Err(IdentityError::UnknownUser.into());
        }
        if !store::assign(&mut transaction, &by.tenant, user, role, Some(by.id), self.clock.now()).await? {
            return Ok(());
        }
        let event = Event::by(by, Action::RoleAssigned).on("role", role).with("user", user.to_string());
        Ok(self.commit(transaction, event).await?)
    }

    pub async fn revoke_role(&self, by: &Principal, user: UserId, role: &str) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        let administrators = store::lock_administrators(&mut transaction, &by.tenant).await?;
        if role == ADMIN && administrators == [user] {
            return Err(IdentityError::LastAdministrator("revoke").into());
        }
        if !store::revoke(&mut transaction, &by.tenant, user, role).await? {
            return Err(Error::NotAssigned { role: role.to_owned(), user });
        }
        let event = Event::by(by, Action::RoleRevoked).on("role", role).with("user", user.to_string());
        Ok(self.commit(transaction, event).await?)
    }

    pub async fn effective(&self, tenant: &TenantId, user: UserId) -> Result<Effective, Error> {
        let mut connection = self.pool.acquire().await?;
        Ok(store::effective(&mut connection, tenant, user).await?)
    }

    /// The keys of the catalogue that `caller` holds itself.
    pub async fn available_permissions(&self, caller: &Principal) -> Result<Vec<Permission>, Error> {
        let mut all = store::list_permissions(&mut *self.pool.acquire().await?, &caller.tenant).await?;
        all.retain(|permission| caller.permissions.allows(&permission.key));
        Ok(all)
    }
}

/// Puts the keys of an app into the catalogue.
pub async fn declare_app(
    connection: &mut PgConnection,
    tenant: &TenantId,
    app: &AppId,
    keys: &[(String, String)],
) -> sqlx::Result<()> {
    let permissions: Vec<_> =
        keys.iter().map(|(key, description)| Permission { key: key.clone(), description: description.clone() }).collect();
    store::replace_permissions(connection, tenant, app.as_str(), &permissions).await
}

/// Gives whoever installs an app the role that administers it.
pub async fn assign_app(connection: &mut PgConnection, by: &Principal, app: &AppId, now: DateTime<Utc>) -> sqlx::Result<()> {
    let role = Role {
        name: admin_role(app),
        description: Some(format!("May do everything with the app {app}")),
        inherits: Vec::new(),
        permissions: vec![format!("app:{app}:*"), format!("integration:{app}:*")],
    };
    store::insert(connection, &by.tenant, &role).await?;
    store::assign(connection, &by.tenant, by.id, &role.name, Some(by.id), now).await?;
    Ok(())
}

/// Removes what [`declare_app`] and [`assign_app`] made.
pub async fn remove_app(connection: &mut PgConnection, tenant: &TenantId, app: &AppId) -> sqlx::Result<()> {
    store::replace_permissions(connection, tenant, app.as_str(), &[]).await?;
    store::delete(connection, tenant, &admin_role(app)).await?;
    Ok(())
}

/// A role as it is now.
fn changed(by: &Principal, action: Action, role: &Role) -> Event {
    let event = Event::by(by, action).on("role", &role.name);
    event.with("permissions", role.permissions.clone()).with("inherits", role.inherits.clone())
}

fn admin_role(app: &AppId) -> String {
    format!("app:{app}:admin")
}

fn check_keys(keys: &[String]) -> Result<(), Error> {
    for key in keys {
        key.parse::<PermissionKey>()?;
    }
    Ok(())
}

/// Refuses a role that would, directly or not, inherit from itself.
fn refuse_cycle(role: &Role, others: &[Role]) -> Result<(), Error> {
    let mut open: Vec<&str> = role.inherits.iter().map(String::as_str).collect();
    let mut seen: Vec<&str> = Vec::new();
    while let Some(name) = open.pop() {
        if name == role.name {
            return Err(Error::Cycle(role.name.clone()));
        }
        if !seen.contains(&name) {
            seen.push(name);
            open.extend(
                others.iter().filter(|other| other.name == name).flat_map(|other| other.inherits.iter().map(String::as_str)),
            );
        }
    }
    Ok(())
}
