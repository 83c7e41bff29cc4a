//! `[jobs]`: how many jobs one node works on at once.

use serde::Deserialize;

use super::Problems;
use crate::jobs::Limits;

/// The section as written; what is absent comes from the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are those of the settings file")]
pub(super) struct JobsFile {
    per_node: Option<usize>,
    per_tenant: Option<usize>,
    per_app: Option<usize>,
}

impl JobsFile {
    pub(super) fn check(&self, default: &Self, problems: &mut Problems) -> Limits {
        let mut limit = |name: &str, value: Option<usize>, default: Option<usize>| {
            let value = value.or(default).unwrap_or(1);
            if value == 0 {
                problems.add(format!("jobs.{name}: with 0 no job would ever be done: at least 1"));
            }
            value
        };
        Limits {
            node: limit("per_node", self.per_node, default.per_node),
            tenant: limit("per_tenant", self.per_tenant, default.per_tenant),
            app: limit("per_app", self.per_app, default.per_app),
        }
    }
}
