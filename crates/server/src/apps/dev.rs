//! Deployments that somebody is working on (`weft dev`): their workers report every call and its outgoing HTTP to the live log,
//! and the server what it refuses.
//!
//! Only this node's memory knows them, so a restart of the server ends it, as does the next ordinary deployment. What is reported
//! may hold personal data: it is never stored, and only those who may deploy the app see it.

use serde_json::json;
use weft_model::{AppId, DeploymentId, Principal, RunId, TenantId};
use weft_workers::{Level, LogLine};

use super::service::Apps;

/// Events of this kind come from the worker prelude, never from a backend.
const RESERVED: &str = "weft.";

/// What a deployment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Serve,
    /// Somebody watches: calls are reported.
    Develop,
}

/// The deployments of this node that report their calls.
#[derive(Debug, Default)]
pub struct Developed {
    deployments: dashmap::DashMap<AppId, DeploymentId>,
}

impl Developed {
    /// Notes a deployment that took over.
    pub fn record(&self, app: &AppId, deployment: DeploymentId, purpose: Purpose) {
        match purpose {
            Purpose::Serve => self.deployments.remove(app).map(|(_, deployment)| deployment),
            Purpose::Develop => self.deployments.insert(app.clone(), deployment),
        };
    }

    pub fn forget(&self, app: &AppId) {
        self.deployments.remove(app);
    }

    pub fn purpose(&self, app: &AppId, deployment: DeploymentId) -> Purpose {
        let developed = self.deployments.get(app).is_some_and(|known| *known == deployment);
        if developed { Purpose::Develop } else { Purpose::Serve }
    }
}

/// A call of an action that the server refused, or whose result it refused: the process says nothing of that.
pub struct Refusal<'a> {
    /// Of whoever called.
    pub email: &'a str,
    pub action: &'a str,
    pub code: &'a str,
    pub category: &'a str,
    pub message: &'a str,
}

impl Apps {
    /// Whether it is worth asking if calls of the app are reported to its live log.
    pub fn may_be_developed(&self, id: &AppId) -> bool {
        self.developed.deployments.contains_key(id)
    }

    /// Reports a refused call of an app that somebody works on, as the process reports those that reach it.
    pub async fn report(&self, (tenant, app): (&TenantId, &AppId), refusal: &Refusal<'_>) {
        let Ok(known) = self.get(tenant, app).await else { return };
        let Some(serving) = &known.deployment else { return };
        if self.developed.purpose(app, serving.id) == Purpose::Serve {
            return;
        }
        let Refusal { email, action, code, category, message } = refusal;
        let id = RunId::generate(self.clock.now()).to_string();
        let error = json!({ "message": message, "code": code, "category": category });
        for report in [
            json!({ "phase": "begin", "id": id, "kind": "action", "name": action, "by": email }),
            json!({ "phase": "end", "id": id, "ms": 0, "error": error }),
        ] {
            self.workers.tell(app.as_str(), Level::Event, &format!("{RESERVED}call: {report}"));
        }
    }
}

/// Whether a line of the log is a report on a call.
pub fn is_report(line: &LogLine) -> bool {
    line.level == Level::Event && line.message.starts_with(RESERVED)
}

/// Whether somebody may see the input and output of other people's calls while an app is developed.
pub fn may_watch(by: &Principal) -> bool {
    by.permissions.allows("admin:apps.deploy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_deployment_ends_the_reports() {
        let (developed, app) = (Developed::default(), "crm".parse::<AppId>().expect("an id"));
        let now = chrono::DateTime::UNIX_EPOCH;
        let (first, second) = (DeploymentId::generate(now), DeploymentId::generate(now));
        developed.record(&app, first, Purpose::Develop);
        assert_eq!(developed.purpose(&app, first), Purpose::Develop);
        assert_eq!(developed.purpose(&app, second), Purpose::Serve, "only the deployment that was made for it");
        developed.record(&app, second, Purpose::Serve);
        assert_eq!(developed.purpose(&app, first), Purpose::Serve);
    }
}
