//! `weft why`: why somebody may or may not do something.

use clap::Args;
use serde::Deserialize;

use super::Context;
use crate::client::{decode, with_query};
use crate::error::Result;
use crate::output::{Output, Paint, moment, printable};

#[derive(Args)]
pub struct Arguments {
    /// Permission key, for example `app:crm:invoke`
    permission: String,
    /// About this person or service account, by id or e-mail address; about yourself when absent
    #[arg(long, value_name = "WHO")]
    of: Option<String>,
    /// As somebody who acts as this account
    #[arg(long, value_name = "ACCOUNT")]
    acting_as: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    principal: Named,
    acting_as: Option<Named>,
    permission: String,
    allowed: bool,
    grants: Vec<Grant>,
    obstacles: Vec<String>,
    delegations: Vec<Delegation>,
}

#[derive(Deserialize)]
struct Named {
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    key: String,
    path: Vec<String>,
    assigned_at: Option<String>,
    assigned_by: Option<String>,
}

#[derive(Deserialize)]
struct Delegation {
    target: Named,
    holds: bool,
    lacks: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let parameters = [
        ("permission", Some(arguments.permission.as_str())),
        ("principal", arguments.of.as_deref()),
        ("actAs", arguments.acting_as.as_deref()),
    ];
    let answer = client.get(with_query(client.api(&["permissions", "explain"]), parameters)).await?;
    let explanation: Explanation = decode(&answer)?;
    context.output.show(&answer, || explanation.describe(&context.output))
}

impl Explanation {
    fn describe(&self, output: &Output) -> String {
        let who = printable(&self.principal.email);
        let acting =
            self.acting_as.as_ref().map(|target| format!(", acting as {},", printable(&target.email))).unwrap_or_default();
        let verdict = if self.allowed { output.paint(Paint::Good, "may") } else { output.paint(Paint::Bad, "may not") };
        let mut lines = vec![format!("{who}{acting} {verdict} {}", printable(&self.permission))];
        lines.extend(self.obstacles.iter().map(|obstacle| format!("  because {}", printable(obstacle))));
        lines.extend(self.grants.iter().map(Grant::line));
        let useful = self.delegations.iter().filter(|delegation| delegation.holds && !self.allowed);
        lines.extend(useful.map(Delegation::line));
        lines.join("\n")
    }
}

impl Grant {
    fn line(&self) -> String {
        let by = self.assigned_by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let when = moment(self.assigned_at.as_deref());
        printable(&format!("  granted by {} through {}, assigned {when} UTC{by}", self.key, self.path.join(" > ")))
    }
}

impl Delegation {
    fn line(&self) -> String {
        let target = &self.target.email;
        printable(&match &self.lacks {
            None => format!("  {target} may, and they may act as it"),
            Some(lacks) => format!("  {target} may, but to act as it they would need {lacks} too"),
        })
    }
}
