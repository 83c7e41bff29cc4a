//! Where the messages of polls are in the queue, and what is in them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use weft_model::{AppId, TenantId};

/// What tells the lane from that of the app's jobs. No app's name holds it.
const MARK: &str = ":polls";

/// The lane of an integration's polls.
pub fn lane(tenant: &TenantId, app: &AppId) -> Arc<str> {
    format!("{tenant}/{app}{MARK}").into()
}

/// Whether a lane is that of polls.
pub fn is_lane(lane: &str) -> bool {
    lane.ends_with(MARK)
}

/// The tenant and the app of a lane.
pub fn owner(lane: &str) -> Option<(TenantId, AppId)> {
    let (tenant, app) = lane.strip_suffix(MARK)?.split_once('/')?;
    Some((tenant.parse().ok()?, app.parse().ok()?))
}

/// A message: it stands for a poll for as long as there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    pub poll: Uuid,
    pub kind: Kind,
    pub name: String,
    pub connection: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SyncKind)]
pub enum Kind {
    /// Keeps records.
    Sync,
    /// Tells of what is new.
    Trigger,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Trigger => "trigger",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sync, Self::Trigger].into_iter().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_of_polls_is_not_that_of_jobs() {
        let (tenant, app): (TenantId, AppId) = ("acme".parse().expect("a name"), "crm".parse().expect("a name"));
        let lane = lane(&tenant, &app);
        assert_eq!((is_lane(&lane), owner(&lane)), (true, Some((tenant, app))));
        assert_eq!((is_lane("acme/crm"), owner("acme/crm")), (false, None));
    }
}
