//! Looks after a running process: how much memory it uses, read from `/proc` four times a second, and whom it contacted. On
//! systems without `/proc` nothing is known of memory and nothing enforced ([`MEMORY_IS_WATCHED`] says so). Only the process
//! itself counts; in a jail it cannot start others.

use crate::{Limits, Platform, in_flight::InFlight, logs::Journal, precedence::Turn};
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_millis(250);

/// Whether memory limits are enforced on this system.
pub const MEMORY_IS_WATCHED: bool = cfg!(target_os = "linux");

/// Hosts of one process that are remembered; a process that contacts more has lost its way.
const CONTACTS: usize = 100;

/// What was measured last, and whom it contacted.
#[derive(Default)]
pub(crate) struct Vitals {
    resident: AtomicU64,
    contacts: Mutex<BTreeSet<String>>,
}

impl Vitals {
    /// Resident memory in bytes, once it is known.
    pub(crate) fn resident(&self) -> Option<u64> {
        Some(self.resident.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    pub(crate) fn contacted(&self, host: &str, port: u16) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        if contacts.len() < CONTACTS {
            contacts.insert(format!("{host}:{port}"));
        }
    }

    /// The hosts that it contacted, as `host:port`.
    pub(crate) fn contacts(&self) -> Vec<String> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Measures until the process uses more memory than it may; returns how many bytes. What else is to be looked at regularly has
    /// the same rhythm: the reports of its log, its precedence.
    pub(crate) async fn outgrown<P: Platform>(
        &self,
        process: Option<u32>,
        limits: &Limits,
        (calls, journal): (&InFlight<P::Context>, &Journal<P>),
    ) -> u64 {
        let mut turn = Turn::new(process, limits);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            journal.report_dropped();
            if let Some(turn) = &mut turn {
                turn.look(calls.unused_since().is_none_or(|since| since.elapsed() < PERIOD));
            }
            let Some(bytes) = process.and_then(resident) else { continue };
            self.resident.store(bytes, Relaxed);
            if bytes > limits.memory {
                return bytes;
            }
        }
    }
}

/// The caller holds the process unreaped, so its number is not somebody else's yet.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    resident_in(&status)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_a_status_and_absent_in_that_of_a_dead_process() {
        assert_eq!(resident_in("Name:\tbun\nVmHWM:\t   99 kB\nVmRSS:\t   64 kB\nThreads:\t3\n"), Some(65536));
        assert_eq!(resident_in("Name:\tbun\nState:\tZ (zombie)\n"), None);
    }
}
