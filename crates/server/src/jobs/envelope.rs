//! What is in a message of the queue: the payload, for whom it is done, and how often it is tried.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weft_model::{AppId, PermissionSet, Principal, Proof, TenantId, UserId};

/// A job as it lies in the queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// As whom it is done.
    pub user: UserId,
    /// Who wanted it, when that is somebody else who acts as `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// What it may do at most, when the token that enqueued it could do less than its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
    /// What else they have to be allowed for it to be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// How many reactions to changes led here; 0 for what somebody wanted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
    pub max_attempts: i32,
    /// For one attempt, in seconds.
    pub timeout: u32,
    pub payload: Box<RawValue>,
}

/// As whom something is done later: looked at when it is done.
#[derive(Debug, Clone)]
pub struct Standing {
    pub user: UserId,
    pub by: Option<UserId>,
    pub only: Option<Vec<String>>,
}

impl Standing {
    /// What `caller` wants done as `owner`. A token may allow less than what its owner may do.
    pub fn of(caller: &Principal, owner: &Principal) -> Self {
        let only = matches!(caller.proof, Proof::Credential(_)).then(|| owner.permissions.iter().map(str::to_owned).collect());
        Self { user: owner.id, by: (caller.id != owner.id).then_some(caller.id), only }
    }
}

/// Whoever says what jobs get answers for them: has to be allowed to act for their owner, and cannot do more with them than the token
/// at hand allows. Returns who that is, where it is not the owner, and what they may do at most; `only` is what they might before.
pub fn answered_by(
    caller: &Principal,
    owner: Option<UserId>,
    only: Option<Vec<String>>,
) -> (Option<UserId>, Option<Vec<String>>) {
    let by = (owner != Some(caller.id)).then_some(caller.id);
    if !matches!(caller.proof, Proof::Credential(_)) {
        return (by, only);
    }
    let before = only.map(|keys| keys.into_iter().collect::<PermissionSet>());
    let only = before.map_or_else(|| caller.permissions.clone(), |before| before.intersection(&caller.permissions));
    (by, Some(only.iter().map(str::to_owned).collect()))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

/// The lane of an app's jobs.
pub fn lane(tenant: &TenantId, app: &AppId) -> Arc<str> {
    format!("{tenant}/{app}").into()
}

/// The tenant and the app of a lane.
pub fn owner(lane: &str) -> Option<(TenantId, AppId)> {
    let (tenant, app) = lane.split_once('/')?;
    Some((tenant.parse().ok()?, app.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_names_its_tenant_and_its_app() {
        let (tenant, app): (TenantId, AppId) = ("acme".parse().expect("a name"), "crm".parse().expect("a name"));
        assert_eq!(owner(&lane(&tenant, &app)), Some((tenant, app)));
        assert_eq!(owner("something else"), None);
    }
}
