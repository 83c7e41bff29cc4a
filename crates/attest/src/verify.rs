//! Checking an export without asking anybody: the chain, the checkpoints, the end, and that it goes on where an earlier one ended.

use std::{collections::BTreeSet, io};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    KeySet, Link,
    export::{CHECKPOINT, Checkpoint, END, End, Entry, FORMAT, Header, Line, Signed},
};

/// More than this many findings say nothing new.
const MOST_FINDINGS: usize = 50;
/// Missing events that are remembered one by one, in case they come later.
const MOST_GAPS: usize = 10_000;

/// What is wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("line {line} is not understood: {reason}")]
    NotUnderstood { line: usize, reason: String },
    #[error("event {0} does not fit what stands before it: its text or its hash was changed, or the event before was replaced")]
    Changed(u64),
    #[error("events {from} to {to} are missing")]
    Missing { from: u64, to: u64 },
    #[error("event {seq} stands in the wrong place: after event {after}")]
    Moved { seq: u64, after: u64 },
    #[error("event {0} is there twice: one of the two was inserted")]
    Repeated(u64),
    #[error("events {from} to {to} were added behind the end that was signed")]
    Added { from: u64, to: u64 },
    #[error("the checkpoint over event {0} stands in the wrong place")]
    CheckpointMoved(u64),
    #[error("event {seq} is of another log: {chain}")]
    OfAnotherLog { seq: u64, chain: String },
    #[error("the file breaks off after event {last}: it has no signed end")]
    NoEnd { last: u64 },
    #[error("the end was cut off: the log went on to event {to}, the file ends with event {last}")]
    CutOff { last: u64, to: u64 },
    #[error("the checkpoint at event {0} was signed over other events than these: some up to it were rewritten")]
    Rewritten(u64),
    #[error("the signed end vouches for other events than these")]
    EndDiffers,
    #[error("the signature on line {0} was not made by any of the keys")]
    BadSignature(usize),
    #[error("the beginning does not fit: a log begins with event 1 and its own name")]
    WrongStart,
    #[error("the earlier export ended with event {seq}, and this one has another event {seq}: the past was rewritten")]
    AnotherPast { seq: u64 },
    #[error("the earlier export ended with event {seq}, and this one does not have it")]
    PastNotCovered { seq: u64 },
    #[error("the earlier export is of another log: {0}")]
    PastOfAnotherLog(String),
}

/// An entry as one knew it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub chain: String,
    pub seq: u64,
    pub hash: Link,
}

/// What one takes for granted.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The keys to check signatures with; those that the file names itself when absent.
    pub keys: Option<KeySet>,
    /// Where an earlier export ended.
    pub earlier: Option<Known>,
}

/// What there is in an export, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    pub chain: String,
    /// Who signed, as the end says.
    pub issuer: Option<String>,
    pub events: u64,
    pub checkpoints: u64,
    /// The names of the keys that signed.
    pub signed_by: BTreeSet<String>,
    /// The last entry, to hold a later export against. Absent when something is wrong.
    pub head: Option<Known>,
    /// In the order of the places in the log: the first one names the first place where something is wrong.
    pub findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Position {
    seq: u64,
    chain: String,
}

/// Checks an export line by line. Fails only when a line cannot be read; everything else is a finding.
pub fn verify(lines: impl Iterator<Item = io::Result<String>>, trust: &Trust) -> io::Result<Report> {
    let mut check = Check::new(trust);
    for (index, line) in lines.enumerate() {
        let (line, number) = (line?, index + 1);
        match Line::read(&line) {
            Ok(Line::Header(header)) if number == 1 && header.format == FORMAT => check.begin(header),
            Ok(Line::Entry(entry)) if check.is_open() => check.entry(number, &entry),
            Ok(Line::Checkpoint(signed)) if check.is_open() => check.checkpoint(number, &signed),
            Ok(Line::End(signed)) if check.is_open() => check.end(number, &signed),
            Ok(_) => check.find_here(Finding::NotUnderstood { line: number, reason: "it does not belong here".to_owned() }),
            Err(error) => check.find_here(Finding::NotUnderstood { line: number, reason: error.to_string() }),
        }
    }
    Ok(check.finish())
}

struct Check<'a> {
    trust: &'a Trust,
    header: Option<Header>,
    /// The entry on the line before.
    before: Option<(u64, Link)>,
    /// The entry that should come next.
    expected: u64,
    /// Entries that did not come in their turn and may still come later.
    gaps: BTreeSet<u64>,
    end: Option<End>,
    /// The last event that a checkpoint vouches for.
    vouched: u64,
    past_seen: bool,
    /// Each with the event where it is.
    findings: Vec<(u64, Finding)>,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(trust: &'a Trust) -> Self {
        let (gaps, findings, report) = (BTreeSet::new(), Vec::new(), Report::default());
        Self { trust, header: None, before: None, expected: 1, gaps, end: None, vouched: 0, past_seen: false, findings, report }
    }

    fn is_open(&self) -> bool {
        self.header.is_some() && self.end.is_none()
    }

    fn find(&mut self, place: u64, finding: Finding) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push((place, finding));
        }
    }

    /// Notes something about the line between the last event and the next one.
    fn find_here(&mut self, finding: Finding) {
        self.find(self.expected, finding);
    }

    fn begin(&mut self, header: Header) {
        self.report.chain.clone_from(&header.chain);
        if header.from == 0 || header.from == 1 && header.previous != Link::start(&header.chain) {
            self.find(0, Finding::WrongStart);
        }
        self.expected = header.from;
        self.before = header.from.checked_sub(1).map(|before| (before, header.previous));
        self.header = Some(header);
        self.compare_with_past();
    }

    fn entry(&mut self, number: usize, line: &Entry) {
        let text = line.entry.get();
        let position = match serde_json::from_str::<Position>(text) {
            Ok(position) => position,
            Err(error) => return self.find_here(Finding::NotUnderstood { line: number, reason: error.to_string() }),
        };
        self.report.events += 1;
        let seq = position.seq;
        if position.chain != self.report.chain {
            self.find(seq, Finding::OfAnotherLog { seq, chain: position.chain });
        }
        self.place(seq);
        if self.before.is_some_and(|(before, link)| before.checked_add(1) == Some(seq) && link.then(text) != line.hash) {
            self.find(seq, Finding::Changed(seq));
        }
        self.before = Some((seq, line.hash));
        self.compare_with_past();
    }

    /// Notes whether an entry comes in its turn.
    fn place(&mut self, seq: u64) {
        let after = self.before.map_or(0, |(before, _)| before);
        if seq == self.expected {
            self.expected = seq.saturating_add(1);
        } else if seq > self.expected {
            self.gaps.extend((self.expected..seq).take(MOST_GAPS));
            self.expected = seq.saturating_add(1);
        } else if self.gaps.remove(&seq) {
            self.find(seq, Finding::Moved { seq, after });
        } else {
            self.find(seq, Finding::Repeated(seq));
        }
    }

    fn compare_with_past(&mut self) {
        let (Some(known), Some((seq, hash))) = (&self.trust.earlier, self.before) else { return };
        if known.seq == seq {
            self.past_seen = true;
            if known.hash != hash {
                self.find(seq, Finding::AnotherPast { seq });
            }
        }
    }

    fn checkpoint(&mut self, number: usize, signed: &Signed) {
        let Some(checkpoint) = self.signed::<Checkpoint>(number, CHECKPOINT, signed) else { return };
        self.report.checkpoints += 1;
        let seq = checkpoint.seq;
        self.vouched = self.vouched.max(seq);
        match self.before {
            _ if checkpoint.chain != self.report.chain => self.find(seq, Finding::Rewritten(seq)),
            Some((before, hash)) if before == seq && hash != checkpoint.hash => self.find(seq, Finding::Rewritten(seq)),
            // That its event is missing is said of the event.
            Some((before, _)) if before > seq && !self.gaps.contains(&seq) => self.find(seq, Finding::CheckpointMoved(seq)),
            _ => {}
        }
    }

    fn end(&mut self, number: usize, signed: &Signed) {
        if let Some(end) = self.signed::<End>(number, END, signed) {
            self.report.issuer = Some(end.iss.clone());
            self.end = Some(end);
        }
    }

    fn signed<T: DeserializeOwned>(&mut self, number: usize, kind: &str, signed: &Signed) -> Option<T> {
        let named = self.header.as_ref().map(|header| &header.keys);
        let keys = self.trust.keys.as_ref().or(named)?;
        if let Ok((claims, key)) = keys.verify_named::<T>(kind, &signed.signature) {
            self.report.signed_by.insert(key);
            Some(claims)
        } else {
            self.find_here(Finding::BadSignature(number));
            None
        }
    }

    fn finish(mut self) -> Report {
        let missing = ranges(&self.gaps).into_iter().map(|(from, to)| (from, Finding::Missing { from, to }));
        self.findings.extend(missing);
        match self.header.take() {
            Some(header) => self.finish_end(&header),
            None if self.findings.is_empty() => {
                self.find(0, Finding::NotUnderstood { line: 1, reason: "this is no export of an audit log".to_owned() });
            }
            None => {}
        }
        self.finish_past();
        self.findings.sort_by_key(|(place, _)| *place);
        self.report.findings = self.findings.into_iter().map(|(_, finding)| finding).take(MOST_FINDINGS).collect();
        if self.report.findings.is_empty() {
            let chain = self.report.chain.clone();
            self.report.head = self.before.map(|(seq, hash)| Known { chain, seq, hash });
        }
        self.report
    }

    fn finish_end(&mut self, header: &Header) {
        let last = self.expected.saturating_sub(1);
        let mut known = self.vouched;
        match self.end.take() {
            None => self.find(self.expected, Finding::NoEnd { last }),
            Some(end) if end.to > last => known = known.max(end.to),
            Some(end) if end.to < last => self.find(end.to + 1, Finding::Added { from: end.to + 1, to: last }),
            Some(end) => {
                let same = end.chain == header.chain && end.from == header.from && end.previous == header.previous;
                let in_order = self.gaps.is_empty() && self.before.is_some_and(|(seq, _)| seq == last);
                if !same || in_order && self.before != Some((end.to, end.hash)) {
                    self.find(last, Finding::EndDiffers);
                }
            }
        }
        if known > last {
            self.find(self.expected, Finding::CutOff { last, to: known });
        }
    }

    fn finish_past(&mut self) {
        let Some(known) = self.trust.earlier.clone() else { return };
        if known.chain != self.report.chain {
            self.find(0, Finding::PastOfAnotherLog(known.chain));
        } else if !self.past_seen {
            self.find(known.seq, Finding::PastNotCovered { seq: known.seq });
        }
    }
}

/// Numbers in a row as one range each.
fn ranges(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == *number => *to = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
