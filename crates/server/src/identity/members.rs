//! Making people members of a tenant.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::PgConnection;
use weft_model::{Fault, Principal, Secret, TenantId, UserId};

use super::{
    password, roles,
    service::{Error, Identity, is_email, taken},
    store::{self, User},
};
use crate::audit::{Action, Event};

/// A person who is to become a member.
pub struct NewMember {
    pub email: String,
    pub display_name: Option<String>,
    /// For an account that does not exist yet; one is made when absent.
    pub password: Option<Secret<String>>,
    pub roles: Vec<String>,
}

/// A checked [`NewMember`], with what is costly to make ready before a transaction begins.
pub struct ReadyMember {
    new: NewMember,
    hash: String,
    /// The password that was made, because none was given.
    made: Option<Secret<String>>,
}

/// Somebody who became a member.
pub struct Added {
    pub user: User,
    /// Only when the account is new and its password was made here. It is shown once.
    pub initial_password: Option<Secret<String>>,
}

impl Identity {
    pub async fn ready_member(&self, mut new: NewMember) -> Result<ReadyMember, Error> {
        new.email = new.email.trim().to_owned();
        let mut faults = new.password.as_ref().map_or_else(Vec::new, |given| password::faults(given.expose(), "$.password"));
        if !is_email(&new.email) {
            faults.push(Fault::new("$.email", "must be an e-mail address"));
        }
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let made = new.password.is_none().then(make_password);
        let secret = new.password.clone().or_else(|| made.clone()).unwrap_or_else(make_password);
        Ok(ReadyMember { new, hash: self.passwords.hash(secret).await, made })
    }

    /// Makes a person a member, and an account first when there is none of that address. An existing account stays as it is.
    pub async fn add_member(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        ready: ReadyMember,
        by: Option<UserId>,
    ) -> Result<Added, Error> {
        let now = self.clock.now();
        let known = store::find_credentials(connection, &ready.new.email).await?;
        let initial_password = if known.is_some() { None } else { ready.made };
        let user = if let Some(known) = known {
            known.user
        } else {
            let id = UserId::generate(now);
            let (email, display_name) = (ready.new.email, ready.new.display_name);
            let user = User { id, email, display_name, created_at: now };
            let inserted = store::insert_account(connection, &user, Some(&ready.hash)).await;
            inserted.map_err(|error| taken(error, &user.email))?;
            store::update_password_maker(connection, id, tenant).await?;
            user
        };
        if !store::insert_membership(connection, tenant, user.id, now).await? {
            return Err(Error::AlreadyMember(user.email));
        }
        let defined = roles::store::list(connection, tenant).await?;
        for role in &ready.new.roles {
            if !defined.iter().any(|known| known.name == *role) {
                return Err(Error::RoleNotDefined(role.clone()));
            }
            roles::store::assign(connection, tenant, user.id, role, by, now).await?;
        }
        Ok(Added { user, initial_password })
    }

    /// Adds a person to the caller's tenant.
    pub async fn create_user(&self, by: &Principal, new: NewMember) -> Result<Added, Error> {
        let roles = new.roles.clone();
        let ready = self.ready_member(new).await?;
        let mut transaction = self.pool.begin().await?;
        let added = self.add_member(&mut transaction, &by.tenant, ready, Some(by.id)).await?;
        tracing::info!(user.id = %added.user.id, "identity.create_user");
        let event = Event::by(by, Action::UserAdded).on("user", added.user.id).with("email", added.user.email.clone());
        self.commit(transaction, event.with("roles", roles)).await?;
        Ok(added)
    }
}

/// A password that follows the rule for passwords.
fn make_password() -> Secret<String> {
    loop {
        let mut bytes = [0; 18];
        rand::fill(&mut bytes);
        let text = URL_SAFE_NO_PAD.encode(bytes);
        if password::faults(&text, "").is_empty() {
            return Secret::new(text);
        }
    }
}
