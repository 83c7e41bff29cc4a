//! `[workers]`: what one worker may use, and how it is kept to itself.

use std::time::Duration;

use serde::Deserialize;
use weft_workers::Limits;

/// Less than this is not enough for the runtime itself.
const LEAST_MEMORY: u64 = 64;
const MIB: u64 = 1024 * 1024;

/// The section as written; what is absent comes from the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkersFile {
    memory_mib: Option<u64>,
    max_calls: Option<usize>,
    max_queue: Option<usize>,
    idle_minutes: Option<f64>,
    niceness: Option<u8>,
    real_time: Option<bool>,
    jail: Option<String>,
}

/// Whether workers run in a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Jail {
    /// In as much of one as this machine offers.
    Auto,
    /// In a complete one, or not at all.
    Require,
    Off,
}

/// Settings of workers that have been checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workers {
    pub memory_mib: u64,
    pub max_calls: usize,
    pub max_queue: usize,
    /// `None`: a worker is never stopped for want of calls.
    pub idle: Option<Duration>,
    pub niceness: u8,
    /// Whether the server, and workers that take little of the processors, go before everything else where processors are short.
    pub real_time: bool,
    pub jail: Jail,
}

impl Workers {
    pub fn limits(&self) -> Limits {
        Limits {
            memory: self.memory_mib.saturating_mul(MIB),
            calls: self.max_calls,
            queue: self.max_queue,
            idle: self.idle,
            niceness: self.niceness,
            ..Limits::default()
        }
    }
}

impl WorkersFile {
    /// The settings, and what is wrong with them. `jail` is what the flag or the environment says.
    pub(super) fn check(self, default: &Self, jail: Option<&str>) -> (Workers, Vec<String>) {
        let memory_mib = self.memory_mib.or(default.memory_mib).unwrap_or(LEAST_MEMORY);
        let max_calls = self.max_calls.or(default.max_calls).unwrap_or(1);
        let minutes = self.idle_minutes.or(default.idle_minutes).unwrap_or(0.0);
        let idle = Duration::try_from_secs_f64(minutes * 60.0);
        let mut problems = Vec::new();
        if memory_mib < LEAST_MEMORY {
            problems
                .push(format!("workers.memory_mib: {memory_mib} is not enough for the runtime itself: at least {LEAST_MEMORY}"));
        }
        if max_calls == 0 {
            problems.push("workers.max_calls: with 0 no call could ever be made: at least 1".to_owned());
        }
        if idle.is_err() {
            problems.push(format!("workers.idle_minutes: {minutes} is no number of minutes"));
        }
        let idle = idle.ok().filter(|idle| !idle.is_zero());
        let max_queue = self.max_queue.or(default.max_queue).unwrap_or(0);
        let niceness = self.niceness.or(default.niceness).unwrap_or(0);
        let real_time = self.real_time.or(default.real_time).unwrap_or(false);
        if niceness > 19 {
            problems.push(format!("workers.niceness: {niceness} is more than 19"));
        }
        let word = jail.or(self.jail.as_deref()).or(default.jail.as_deref()).unwrap_or_default();
        let jail = match word {
            "require" => Jail::Require,
            "off" => Jail::Off,
            "auto" => Jail::Auto,
            other => {
                problems.push(format!("workers.jail: '{other}' is neither \"auto\", \"require\" nor \"off\""));
                Jail::Require
            }
        };
        (Workers { memory_mib, max_calls, max_queue, idle, niceness, real_time, jail }, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Workers, Vec<String>) {
        let default = "memory_mib = 256\nmax_calls = 9\nmax_queue = 8\nidle_minutes = 15\nniceness = 5\njail = 'auto'";
        let read = |text| toml::from_str::<WorkersFile>(text).expect("TOML");
        read(text).check(&read(default), None)
    }

    #[test]
    fn what_is_absent_comes_from_the_defaults_and_zero_minutes_mean_never() {
        let (workers, problems) = check("max_calls = 3\nidle_minutes = 0\nreal_time = true");
        let (real_time, jail) = (true, Jail::Auto);
        assert_eq!(workers, Workers { memory_mib: 256, max_calls: 3, max_queue: 8, idle: None, niceness: 5, real_time, jail });
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(check("idle_minutes = 0.5").0.idle, Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_no_worker_can_live_with_is_a_problem_each() {
        let (_, problems) = check("memory_mib = 1\nmax_calls = 0\nidle_minutes = -1\nniceness = 20\njail = 'maybe'");
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}
