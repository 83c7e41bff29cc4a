//! Who goes first where processors are short: a process that takes little of them has real-time priority, so that it does not wait
//! behind one that takes much. A backend that begins to burn loses it at the next look, and gets it back after ten quiet seconds.

use crate::Limits;
use std::time::{Duration, Instant};

/// Below the server, which has to be able to look.
const PRIORITY: u8 = 1;
/// The part of one processor's time that may be taken for good: a twentieth.
const SHARE: u32 = 20;
/// What may be taken at once after a quiet time, in milliseconds of a processor.
const SAVED: i64 = 100;
/// What a process starts from that burnt, in the same: to earn its way from here to the above takes ten seconds.
const OWED: i64 = -400;
/// A tick of the kernel's accounting in milliseconds; userspace sees hundredths of a second everywhere.
const TICK: u64 = 10;

/// The precedence of one process.
pub(crate) struct Precedence {
    process: u32,
    niceness: u8,
    looked: Instant,
    allowance: Allowance,
}

impl Precedence {
    /// Absent where the settings do not ask for it.
    pub(crate) fn new(process: Option<u32>, limits: &Limits) -> Option<Self> {
        let process = process.filter(|_| limits.real_time)?;
        Some(Self { process, niceness: limits.niceness, looked: Instant::now(), allowance: Allowance::default() })
    }

    /// Looks at what the process took of the processors, and gives or takes precedence.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        let passed = now - std::mem::replace(&mut self.looked, now);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap_or_default();
        let change = match used_in(&stat) {
            Some(used) => self.allowance.look(used, passed),
            // What cannot be looked at does not go first.
            None => self.allowance.lose(),
        };
        match change {
            // A process that is just ending has no thread any more.
            Some(true) => _ = weft_jail::real_time(self.process, PRIORITY),
            Some(false) => self.give_way(),
            None => {}
        }
    }

    /// Every thread, the one with real-time priority first: those that it began have lost its niceness.
    fn give_way(&self) {
        let _ = weft_jail::ordinary(self.process, self.niceness);
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process)).into_iter().flatten().flatten() {
            if let Ok(thread) = thread.file_name().to_string_lossy().parse() {
                let _ = weft_jail::ordinary(thread, self.niceness);
            }
        }
    }
}

/// Milliseconds of a processor that a process may take.
#[derive(Default)]
struct Allowance {
    credit: i64,
    used: u64,
    first: bool,
}

impl Allowance {
    /// What it has used since its start, in milliseconds, and the time since the last look. Returns whether it goes first from now on,
    /// if that changes.
    fn look(&mut self, used: u64, passed: Duration) -> Option<bool> {
        let earned = i64::try_from((passed / SHARE).as_millis()).unwrap_or(SAVED);
        let taken = i64::try_from(used.saturating_sub(self.used)).unwrap_or(-OWED);
        self.used = used;
        self.credit = ((self.credit + earned).min(SAVED) - taken).max(OWED);
        match self.first {
            true if self.credit < 0 => self.lose(),
            false if self.credit == SAVED => {
                self.first = true;
                Some(true)
            }
            _ => None,
        }
    }

    /// It starts again with all that can be owed, however it was lost.
    fn lose(&mut self) -> Option<bool> {
        self.credit = OWED;
        std::mem::take(&mut self.first).then_some(false)
    }
}

/// The milliseconds that a process used, from `/proc/PID/stat`; the name before them may contain anything.
fn used_in(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some((times.next()? + times.next()?) * TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    /// Looks until something changes; how many that took.
    fn until_change(allowance: &mut Allowance, per_look: u64) -> Option<(u32, bool)> {
        (1..=200).find_map(|look| {
            let used = allowance.used + per_look;
            allowance.look(used, LOOK).map(|first| (look, first))
        })
    }

    #[test]
    fn what_takes_little_goes_first_and_what_burns_loses_that_at_once_and_for_ten_seconds() {
        let mut allowance = Allowance::default();
        assert_eq!(until_change(&mut allowance, 0), Some((9, true)), "two seconds after its start");
        assert_eq!(until_change(&mut allowance, 10), None, "4 % of a processor");
        assert_eq!(until_change(&mut allowance, 250), Some((1, false)), "all of one");
        assert_eq!(until_change(&mut allowance, 250), None);
        assert_eq!(until_change(&mut allowance, 0), Some((42, true)));
        assert_eq!(until_change(&mut allowance, 30), Some((5, false)), "12 %");
        assert_eq!(until_change(&mut allowance, 30), None);
    }

    #[test]
    fn time_is_read_behind_a_name_of_any_kind() {
        let stat = "17 (a) b 9 (c) S 1 17 17 0 -1 4194304 100 0 0 0 7 5 3 3 5 -15 9 0 99";
        assert_eq!(used_in(stat), Some(120));
        assert_eq!(used_in(""), None);
    }
}
