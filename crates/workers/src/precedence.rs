//! Who goes first where processors are short. While they are, and somebody calls a backend that takes little of them, such backends and
//! the server's threads have real-time priority: they do not wait behind what takes much. A backend that burns loses that at the next
//! look, and gets it back after some quiet seconds. Otherwise nobody has it: what nobody interrupts handles more messages in one go.
//!
//! The server has the higher priority, gets it first and gives it up last: a backend that burns cannot keep it from looking.

use crate::Limits;
use std::{
    fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Above that of backends: the server has to be able to look.
const SERVER: u8 = 2;
const BACKEND: u8 = 1;
/// How often it is looked at how busy the processors are.
const LOOK: Duration = Duration::from_millis(200);
/// For how much of the time, in percent, processors are busy that are short: of two, one and a fifth.
const SHORT: u64 = 60;
/// While somebody has priority all is a little dearer, and that alone must not keep it up.
const STILL_SHORT: u64 = 67;
/// For how long processors count as short and a backend as called after they last were.
const KEPT: Duration = Duration::from_secs(3);
/// The part of one processor's time that a backend may take for good: a twelfth.
const SHARE: u32 = 12;
/// Each takes priority from all threads of a backend; one that is busy ending others may hide from a few, not from all of them.
const PASSES: u8 = 4;
/// What may be taken at once after a quiet time, in milliseconds of a processor.
const SAVED: i64 = 60;
/// What a backend starts from that burnt, in the same: to earn its way from here to the above takes four seconds and more.
const OWED: i64 = -300;
/// Where the kernel says what all processors did.
const MACHINE: &str = "/proc/stat";
/// The policy of a thread that has none in particular (`SCHED_OTHER`).
const ORDINARY: u32 = 0;
/// A tick of the kernel's accounting in milliseconds; userspace sees hundredths of a second everywhere.
const TICK: u64 = 10;

/// Decides for a whole server whether anybody goes first.
#[derive(Debug)]
pub struct Precedence {
    threads: Vec<u32>,
    machine: Mutex<Machine>,
}

#[derive(Debug)]
struct Machine {
    times: Times,
    looked: Instant,
    /// When processors were short for the last time.
    short: Option<Instant>,
    /// Quiet backends that were called lately.
    called: usize,
    /// Backends whose threads have priority, or may have.
    raised: usize,
    /// Whether the server's threads have it.
    first: bool,
}

impl Precedence {
    /// `threads` are those of this process that every call passes through. Fails where they may not have real-time priority, where there
    /// are none or they have a policy of their own, and where the process may not use all processors: the limit that says so would not
    /// hold them.
    pub fn new(threads: Vec<u32>) -> io::Result<Self> {
        let stat = fs::read_to_string(MACHINE)?;
        let (mine, all) = (std::thread::available_parallelism()?.get(), processors_in(&stat));
        if threads.is_empty() {
            return Err(io::Error::other("the server's own threads were not found"));
        }
        if mine < all {
            return Err(io::Error::other(format!("the server may use {mine} of {all} processors")));
        }
        for thread in &threads {
            let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat"))?;
            if policy_in(&stat) != Some(ORDINARY) {
                return Err(io::Error::other("the server has a scheduling policy of its own"));
            }
            weft_jail::real_time(*thread, SERVER)?;
            weft_jail::ordinary(*thread, None)?;
        }
        let (times, looked) = (times_in(&stat).unwrap_or_default(), Instant::now());
        let machine = Machine { times, looked, short: None, called: 0, raised: 0, first: false };
        Ok(Self { threads, machine: Mutex::new(machine) })
    }

    /// Whether quiet backends go first from now on, after one began or ceased to be called. If so, the server does already.
    fn needed(&self, change: Option<bool>) -> bool {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - machine.looked >= LOOK {
            machine.looked = now;
            // What cannot be read says nothing.
            if let Some(times) = fs::read_to_string(MACHINE).ok().as_deref().and_then(times_in) {
                machine.look(times, now);
            }
        }
        machine.called = counted(machine.called, change);
        let needed = machine.needed(now);
        self.server(&mut machine, needed);
        needed
    }

    /// After a backend's threads got priority, or cannot have it any more.
    fn changed(&self, raised: Option<bool>) {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.raised = counted(machine.raised, raised);
        let needed = machine.needed(Instant::now());
        self.server(&mut machine, needed);
    }

    /// What fails here fails for a thread that has just ended.
    fn server(&self, machine: &mut Machine, needed: bool) {
        let first = needed || machine.raised > 0;
        if std::mem::replace(&mut machine.first, first) != first {
            for thread in &self.threads {
                let _ = if first { weft_jail::real_time(*thread, SERVER) } else { weft_jail::ordinary(*thread, None) };
            }
        }
    }
}

/// A count after one came (`true`) or went.
fn counted(count: usize, change: Option<bool>) -> usize {
    match change {
        Some(true) => count + 1,
        Some(false) => count - 1,
        None => count,
    }
}

impl Machine {
    fn look(&mut self, times: Times, now: Instant) {
        if times.busy_since(&self.times) > if self.first { STILL_SHORT } else { SHORT } {
            self.short = Some(now);
        }
        self.times = times;
    }

    fn needed(&self, now: Instant) -> bool {
        self.called > 0 && self.short.is_some_and(|last| now - last < KEPT)
    }
}

/// What all processors did since the machine's start, in ticks; time that its host took away is neither.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    busy: u64,
    idle: u64,
}

impl Times {
    /// Percent.
    fn busy_since(&self, before: &Self) -> u64 {
        let (busy, idle) = (self.busy.saturating_sub(before.busy), self.idle.saturating_sub(before.idle));
        busy * 100 / (busy + idle).max(1)
    }
}

/// The place of one process among the backends.
pub(crate) struct Turn {
    precedence: Arc<Precedence>,
    process: u32,
    niceness: u8,
    looked: Instant,
    allowance: Allowance,
    /// When it was called for the last time, and whether that counts, because it is quiet and that was lately.
    called: Option<Instant>,
    counts: bool,
    /// How many passes are to come until its threads have no priority for sure.
    passes: u8,
}

impl Turn {
    /// Absent where nobody goes first.
    pub(crate) fn new(process: Option<u32>, limits: &Limits) -> Option<Self> {
        let precedence = Arc::clone(limits.precedence.as_ref()?);
        let (process, niceness, looked) = (process?, limits.niceness, Instant::now());
        let allowance = Allowance::default();
        Some(Self { precedence, process, niceness, looked, allowance, called: None, counts: false, passes: 0 })
    }

    /// Looks at what the process took of the processors, and gives or takes precedence. `called` is whether it has something to
    /// do.
    pub(crate) fn look(&mut self, called: bool) {
        let now = Instant::now();
        let passed = now - std::mem::replace(&mut self.looked, now);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap_or_default();
        // What cannot be looked at does not go first.
        let quiet = used_in(&stat).is_some_and(|used| self.allowance.look(used, passed));
        if called {
            self.called = Some(now);
        }
        let counts = quiet && self.called.is_some_and(|last| now - last < KEPT);
        let change = (std::mem::replace(&mut self.counts, counts) != counts).then_some(counts);
        let first = self.precedence.needed(change) && quiet;
        let before = self.passes > 0;
        if first {
            self.passes = PASSES;
            // Every time, for the threads that it began meanwhile.
            self.each_thread(|thread| weft_jail::real_time(thread, BACKEND));
        } else if before && self.give_way() {
            self.passes -= 1;
        }
        let after = self.passes > 0;
        self.precedence.changed((before != after).then_some(after));
    }

    /// Those that it began with priority have lost its niceness. Returns whether all could be asked for.
    fn give_way(&self) -> bool {
        self.each_thread(|thread| weft_jail::ordinary(thread, Some(self.niceness)))
    }

    /// What fails here fails for a thread that has just ended. Returns whether all that were found were changed.
    fn each_thread(&self, change: impl Fn(u32) -> io::Result<()>) -> bool {
        // The first one before all others: that is where a backend runs.
        let _ = change(self.process);
        let Ok(mut threads) = fs::read_dir(format!("/proc/{}/task", self.process)) else { return false };
        threads.all(|thread| {
            let Ok(thread) = thread else { return false };
            if let Ok(thread) = thread.file_name().to_string_lossy().parse() {
                let _ = change(thread);
            }
            true
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.passes > 0 {
            self.give_way();
        }
        self.precedence.needed(self.counts.then_some(false));
        self.precedence.changed((self.passes > 0).then_some(false));
    }
}

/// Milliseconds of a processor that a process may take.
#[derive(Default)]
struct Allowance {
    credit: i64,
    used: u64,
    quiet: bool,
}

impl Allowance {
    /// What it has used since its start, in milliseconds, and the time since the last look. Returns whether it takes little.
    fn look(&mut self, used: u64, passed: Duration) -> bool {
        let earned = i64::try_from((passed / SHARE).as_millis()).unwrap_or(SAVED);
        let taken = i64::try_from(used.saturating_sub(self.used)).unwrap_or(-OWED);
        self.used = used;
        let credit = (self.credit + earned).min(SAVED);
        if self.quiet && credit < taken {
            (self.quiet, self.credit) = (false, OWED);
            return false;
        }
        self.quiet |= credit == SAVED && taken <= SAVED;
        self.credit = (credit - taken).max(OWED);
        self.quiet
    }
}

/// The milliseconds that a process used, from `/proc/PID/stat`; the name before them may contain anything.
fn used_in(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some((times.next()? + times.next()?) * TICK)
}

/// The scheduling policy of a thread, from `/proc/PID/task/TID/stat`.
fn policy_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(38)?.parse().ok()
}

/// What all processors did, from the first line of `/proc/stat`.
fn times_in(stat: &str) -> Option<Times> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, waiting, interrupts, soft_interrupts, ..] = fields[..] else { return None };
    Some(Times { busy: user + nice + system + interrupts + soft_interrupts, idle: idle + waiting })
}

/// How many there are, from the lines `cpu0` and following.
fn processors_in(stat: &str) -> usize {
    stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: Duration = Duration::from_millis(240);

    /// Looks until something changes; how many that took, and what it is now.
    fn until_change(allowance: &mut Allowance, per_look: u64) -> Option<(u32, bool)> {
        let before = allowance.quiet;
        (1..=200).find_map(|look| {
            let quiet = allowance.look(allowance.used + per_look, PASSED);
            (quiet != before).then_some((look, quiet))
        })
    }

    #[test]
    fn what_takes_little_is_quiet_and_what_burns_is_not_at_once_and_for_a_while() {
        let mut allowance = Allowance::default();
        assert_eq!(until_change(&mut allowance, 0), Some((3, true)), "three quarters of a second after its start");
        assert_eq!(until_change(&mut allowance, 20), None, "8 % of a processor");
        assert_eq!(until_change(&mut allowance, 240), Some((1, false)), "all of one");
        assert_eq!(until_change(&mut allowance, 240), None);
        assert_eq!(until_change(&mut allowance, 0), Some((18, true)));
        assert_eq!(until_change(&mut allowance, 30), Some((5, false)), "12 %");
        assert_eq!(until_change(&mut allowance, 30), None);
        assert_eq!(until_change(&mut allowance, 10), Some((35, true)), "one that works need not stop to be quiet again");
    }

    #[test]
    fn it_is_needed_while_processors_are_short_and_somebody_quiet_is_called() {
        let now = Instant::now();
        let mut machine = Machine { times: Times::default(), looked: now, short: None, called: 0, raised: 0, first: false };
        machine.look(Times { busy: 61, idle: 39 }, now);
        assert!(!machine.needed(now), "nobody is called");
        machine.called = 1;
        assert!(machine.needed(now));
        machine.look(Times { busy: 100, idle: 100 }, now + LOOK);
        assert!(machine.needed(now + LOOK), "it is kept for a moment");
        assert!(!machine.needed(now + KEPT), "there is enough for everybody");
        machine.first = true;
        machine.look(Times { busy: 165, idle: 135 }, now + KEPT);
        assert!(!machine.needed(now + KEPT), "what priority itself costs does not keep it up");
        machine.look(Times { busy: 240, idle: 160 }, now + KEPT);
        assert!(machine.needed(now + KEPT));
    }

    #[test]
    fn times_are_read_behind_a_name_of_any_kind_and_of_all_processors_together() {
        let stat = "17 (a) b 9 (c) S 1 17 17 0 -1 4194304 100 0 0 0 7 5 3 3 5 -15 9 0 99";
        assert_eq!(used_in(stat), Some(120));
        assert_eq!(used_in(""), None);
        let thread =
            "17 (weft-0) S 1 17 17 0 -1 4194304 100 0 0 0 7 5 3 3 20 0 9 0 99 1 2 3 4 5 6 7 8 9 0 0 0 0 0 0 17 1 7 2 0 0 0";
        assert_eq!((policy_in(thread), policy_in("")), (Some(2), None));
        let machine = "cpu  10 2 3 100 50 4 1 99 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 5\n";
        assert_eq!(times_in(machine).map(|times| (times.busy, times.idle)), Some((20, 150)));
        assert_eq!((times_in("").is_none(), processors_in(machine)), (true, 2));
    }
}
