//! Whether packages have been out long enough. Malicious versions are mostly found out and withdrawn within days, so those that
//! are younger than the operator asks for are not installed, whether a lockfile names them or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Error,
    lockfile::{Pinned, Release},
    tool::Tool,
};

/// Packages that the registry is asked about at once.
const AT_ONCE: usize = 4;
/// Packages that a message names at most.
const NAMED: usize = 10;

/// Packages that may not be installed, each with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct TooYoung {
    hours: f64,
    reasons: Vec<String>,
}

impl TooYoung {
    fn message(&self) -> String {
        let more = self.reasons.len().saturating_sub(NAMED);
        let named = self.reasons.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        let hours = self.hours;
        format!(
            "this server installs packages that have been out for {hours} hours (setting packages.minimum_age_hours): {named}{more}"
        )
    }
}

/// What is asked of packages.
pub(super) struct Rule<'a> {
    pub minimum: Duration,
    pub excludes: &'a [String],
    /// What was installed for the version before, so nothing new.
    pub known: BTreeSet<Release>,
    pub now: DateTime<Utc>,
}

impl Rule<'_> {
    pub(super) async fn check(&self, pinned: &Pinned, tool: &Tool<'_>) -> Result<(), Error> {
        let mut reasons: Vec<String> =
            pinned.elsewhere.iter().map(|package| format!("{package} is not from the registry, so its age is unknown")).collect();
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for release in pinned.releases.difference(&self.known).filter(|release| !self.excludes.contains(&release.name)) {
            versions.entry(&release.name).or_default().push(&release.version);
        }
        // One future after the other in a loop: a closure that borrows makes the whole deployment impossible to send to another thread.
        let mut asked = Vec::new();
        for (name, versions) in versions {
            asked.push(self.objections(tool, name, versions));
        }
        reasons.extend(stream::iter(asked).buffered(AT_ONCE).try_concat().await?);
        if reasons.is_empty() {
            return Ok(());
        }
        Err(TooYoung { hours: self.minimum.as_secs_f64() / 3600.0, reasons }.into())
    }

    async fn objections(&self, tool: &Tool<'_>, name: &str, versions: Vec<&str>) -> Result<Vec<String>, Error> {
        let times = published(tool, name).await?;
        Ok(versions.into_iter().filter_map(|version| self.objection(&times, name, version)).collect())
    }

    fn objection(&self, times: &BTreeMap<String, String>, name: &str, version: &str) -> Option<String> {
        let time = times.get(version).and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let Some(time) = time else { return Some(format!("the registry does not say since when {name}@{version} is out")) };
        let age = self.now.signed_duration_since(time);
        let old_enough = age >= TimeDelta::from_std(self.minimum).unwrap_or(TimeDelta::MAX);
        (!old_enough).then(|| format!("{name}@{version} is out since {} UTC", time.to_utc().format("%Y-%m-%d %H:%M")))
    }
}

/// When each version of a package came out, in the registry's words. Nothing for a registry that does not tell.
async fn published(tool: &Tool<'_>, name: &str) -> Result<BTreeMap<String, String>, Error> {
    match tool.run(&["pm", "view", name, "time", "--json"]).await {
        Ok(output) => Ok(serde_json::from_slice(&output).unwrap_or_default()),
        Err(Error::Failed(text)) if text.contains("Property not found") => Ok(BTreeMap::new()),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(time: Option<&str>) -> Option<String> {
        let rule = Rule {
            minimum: Duration::from_hours(72),
            excludes: &[],
            known: BTreeSet::new(),
            now: "2026-01-10T00:00:00Z".parse().expect("a time"),
        };
        let times = time.map(|time| ("1.0.0".to_owned(), time.to_owned())).into_iter().collect();
        rule.objection(&times, "left", "1.0.0")
    }

    #[test]
    fn a_version_is_old_enough_to_the_second() {
        assert_eq!(objection(Some("2026-01-07T00:00:00.000Z")), None);
        assert_eq!(objection(Some("2020-01-07T00:00:00.149000+00:00")), None);
        let young = objection(Some("2026-01-07T02:00:01+02:00")).expect("an objection");
        assert_eq!(young, "left@1.0.0 is out since 2026-01-07 00:00 UTC");
    }

    #[test]
    fn a_version_of_unknown_age_counts_as_too_young() {
        for time in [None, Some("yesterday")] {
            assert_eq!(objection(time).as_deref(), Some("the registry does not say since when left@1.0.0 is out"));
        }
    }

    #[test]
    fn a_message_names_some_and_counts_the_rest() {
        let reasons = (1..=12).map(|number| format!("p{number} is out since today")).collect();
        let message = TooYoung { hours: 72.0, reasons }.to_string();
        assert!(message.contains("for 72 hours") && message.contains("p10 is") && message.ends_with("; and 2 more"), "{message}");
    }
}
