//! Finding the grants and the obstacles.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{PermissionKey, PermissionSet, Principal, UserId};

use crate::identity::{
    accounts::{self, AccountError},
    roles::store::{self, Given, Role},
    service::{Error, Identity},
    store::{self as users, Member, User},
};

/// What is asked.
pub struct Question {
    pub principal: Member,
    pub permission: PermissionKey,
    /// As whom the principal would act.
    pub act_as: Option<UserId>,
}

/// A grant that covers the permission, and how the principal comes to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role that holds the grant.
    pub role: String,
    /// The key as the role has it, perhaps with a wildcard.
    pub key: String,
    /// The roles on the way, from the one that is assigned to the one that holds the grant.
    pub path: Vec<String>,
    pub assigned_at: DateTime<Utc>,
    pub assigned_by: Option<UserId>,
}

/// What stands in the way although a role may grant it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error("no role of theirs grants it")]
    NotGranted,
    #[error("they are switched off in this tenant")]
    Disabled,
    #[error("it acts on the server as a whole, so only members of the tenant 'default' can have it")]
    OfTheInstance,
    #[error("the scopes of this token do not cover it")]
    Narrowed,
    /// The rules of acting as somebody else refuse.
    #[error("{0}")]
    ActAs(String),
}

/// Somebody that the principal has been let act as.
pub struct Delegation {
    pub target: Member,
    pub granted_at: DateTime<Utc>,
    pub granted_by: Option<UserId>,
    /// Whether the target holds the permission.
    pub holds: bool,
    /// A permission of the target that the principal lacks, which makes the delegation of no use.
    pub lacks: Option<String>,
}

pub struct Explanation {
    pub principal: Member,
    /// The one that it acts as, when that was asked.
    pub acting_as: Option<Member>,
    pub allowed: bool,
    pub grants: Vec<Grant>,
    pub obstacles: Vec<Obstacle>,
    pub delegations: Vec<Delegation>,
}

impl Identity {
    /// Explains. Whether the caller may ask about this principal is decided before.
    pub async fn explain(&self, by: &Arc<Principal>, question: Question) -> Result<Explanation, Error> {
        let permission = question.permission.as_str();
        let mut connection = self.pool.acquire().await?;
        let roles = store::list(&mut connection, &by.tenant).await?;
        let actor = Subject::load(&mut connection, by, question.principal, &roles).await?;
        let delegations = delegations(&mut connection, by, &actor, &roles, permission).await?;
        let mut obstacles = Vec::new();
        let mut acting_as = None;
        if let Some(target) = question.act_as.filter(|target| *target != actor.member.id) {
            obstacles.extend(self.act_as_obstacle(&mut connection, by, &actor, target).await?);
            let member = users::find_any_member(&mut connection, &by.tenant, &target.to_string()).await?;
            acting_as = Some(Subject::load(&mut connection, by, member.ok_or(Error::UnknownUser)?, &roles).await?);
        }
        let grants = grants(&acting_as.as_ref().unwrap_or(&actor).given, &roles, permission);
        if grants.is_empty() {
            obstacles.push(Obstacle::NotGranted);
        }
        if actor.member.disabled {
            obstacles.push(Obstacle::Disabled);
        }
        if !by.tenant.is_default() && store::is_of_the_instance(&mut connection, permission).await? {
            obstacles.push(Obstacle::OfTheInstance);
        }
        let narrowed = acting_as.is_none() && actor.member.id == by.id && !by.permissions.allows(permission);
        if narrowed && !grants.is_empty() {
            obstacles.push(Obstacle::Narrowed);
        }
        let acting_as = acting_as.map(|subject| subject.member);
        let allowed = obstacles.is_empty();
        Ok(Explanation { principal: actor.member, acting_as, allowed, grants, obstacles, delegations })
    }

    /// Whom a question is about.
    pub async fn asked_about(&self, by: &Principal, named: Option<&str>) -> Result<Member, Error> {
        let (mut connection, own) = (self.pool.acquire().await?, by.id.to_string());
        users::find_any_member(&mut connection, &by.tenant, named.unwrap_or(&own)).await?.ok_or(Error::UnknownUser)
    }

    /// Asks the rule itself, as the actor.
    async fn act_as_obstacle(
        &self,
        connection: &mut PgConnection,
        by: &Arc<Principal>,
        actor: &Subject,
        target: UserId,
    ) -> Result<Option<Obstacle>, Error> {
        let principal = if actor.member.id == by.id {
            Arc::clone(by)
        } else {
            let (id, email) = (actor.member.id, actor.member.email.clone());
            let user = User { id, email, display_name: None, created_at: self.clock.now() };
            Arc::new(self.principal(connection, &by.tenant, (user, &actor.member.kind), by.proof).await?)
        };
        if principal.id == target {
            return Ok(None);
        }
        match self.act_as_on(connection, &principal, target).await {
            Ok(_) => Ok(None),
            Err(refused @ (AccountError::NoDelegation(_) | AccountError::ActAsExceeds { .. })) => {
                Ok(Some(Obstacle::ActAs(refused.to_string())))
            }
            Err(AccountError::Identity(error)) => Err(error),
            Err(other) => Ok(Some(Obstacle::ActAs(other.to_string()))),
        }
    }
}

/// Whom somebody has been let act as, and what good it does for a permission.
async fn delegations(
    connection: &mut PgConnection,
    by: &Principal,
    actor: &Subject,
    roles: &[Role],
    permission: &str,
) -> Result<Vec<Delegation>, Error> {
    let mut found = Vec::new();
    for known in accounts::store::list_delegations(connection, &by.tenant, (Some(actor.member.id), None)).await? {
        let target = users::find_any_member(connection, &by.tenant, &known.target.to_string()).await?;
        let Some(target) = target else { continue };
        let target = Subject::load(connection, by, target, roles).await?;
        let lacks = actor.held.exceeded_by(&target.held).map(str::to_owned);
        // Nobody acts as an account that is switched off, whatever it holds.
        let holds = !target.member.disabled && target.held.allows(permission);
        let (granted_at, granted_by) = (known.granted_at, known.granted_by);
        found.push(Delegation { target: target.member, granted_at, granted_by, holds, lacks });
    }
    Ok(found)
}

/// A member with what was given to it.
struct Subject {
    member: Member,
    given: Vec<Given>,
    held: PermissionSet,
}

impl Subject {
    async fn load(connection: &mut sqlx::PgConnection, by: &Principal, member: Member, roles: &[Role]) -> Result<Self, Error> {
        let given = store::list_given(connection, &by.tenant, member.id).await?;
        let held = reach(&given, roles).into_iter().flat_map(|(role, _)| role.permissions.iter().cloned()).collect();
        Ok(Self { member, given, held })
    }
}

/// Every grant that covers `permission`, by the shortest way to its role.
fn grants(given: &[Given], roles: &[Role], permission: &str) -> Vec<Grant> {
    let mut found = Vec::new();
    for (role, path) in reach(given, roles) {
        let assignment = path.first().and_then(|first| given.iter().find(|given| given.role == *first));
        let Some(assignment) = assignment else { continue };
        for key in &role.permissions {
            if PermissionSet::from_iter([key.clone()]).allows(permission) {
                found.push(Grant {
                    role: role.name.clone(),
                    key: key.clone(),
                    path: path.clone(),
                    assigned_at: assignment.assigned_at,
                    assigned_by: assignment.assigned_by,
                });
            }
        }
    }
    found
}

/// The roles that somebody holds, nearest first, each with the names on the shortest way to it.
fn reach<'a>(given: &[Given], roles: &'a [Role]) -> Vec<(&'a Role, Vec<String>)> {
    let by_name: HashMap<&str, &Role> = roles.iter().map(|role| (role.name.as_str(), role)).collect();
    let mut open: VecDeque<Vec<String>> = given.iter().map(|given| vec![given.role.clone()]).collect();
    let mut reached: Vec<(&Role, Vec<String>)> = Vec::new();
    while let Some(path) = open.pop_front() {
        let Some(role) = path.last().and_then(|name| by_name.get(name.as_str())) else { continue };
        if reached.iter().any(|(known, _)| known.name == role.name) {
            continue;
        }
        open.extend(role.inherits.iter().map(|parent| [path.as_slice(), std::slice::from_ref(parent)].concat()));
        reached.push((role, path));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, inherits: &[&str], permissions: &[&str]) -> Role {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Role { name: name.to_owned(), description: None, inherits: owned(inherits), permissions: owned(permissions) }
    }

    fn given(role: &str) -> Given {
        Given { role: role.to_owned(), assigned_at: DateTime::UNIX_EPOCH, assigned_by: None }
    }

    fn ways(given: &[Given], roles: &[Role], permission: &str) -> Vec<String> {
        grants(given, roles, permission).into_iter().map(|grant| format!("{}={}", grant.path.join(">"), grant.key)).collect()
    }

    #[test]
    fn a_grant_is_shown_with_the_shortest_way_to_its_role() {
        let roles = [
            role("high", &["middle", "low"], &[]),
            role("middle", &["low", "gone"], &["app:crm:*"]),
            role("low", &["high"], &["app:crm:invoke", "app:other:invoke"]),
        ];
        assert_eq!(ways(&[given("high")], &roles, "app:crm:invoke"), ["high>middle=app:crm:*", "high>low=app:crm:invoke"]);
        assert_eq!(ways(&[given("middle")], &roles, "app:other:invoke"), ["middle>low=app:other:invoke"]);
        assert_eq!(ways(&[given("gone")], &roles, "app:crm:invoke"), [""; 0]);
        assert_eq!(ways(&[], &roles, "app:crm:invoke"), [""; 0]);
    }
}
