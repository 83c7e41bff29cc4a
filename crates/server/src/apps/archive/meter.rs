//! Counts what comes out of a decompressor and stops it before a small archive becomes a large one.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use super::{Limits, MIB};

/// Why reading was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// All files together are too much.
    Total,
    /// The archive unpacks into too many times its own size.
    Ratio,
    /// What describes an entry, names and attributes, is larger than the largest description that makes sense.
    Description,
}

/// What is known of the reading so far; shared, because the reader itself belongs to the tar archive.
#[derive(Debug, Clone)]
pub(super) struct Meter(Rc<State>);

#[derive(Debug)]
struct State {
    total: Cell<u64>,
    total_limit: u64,
    ratio_limit: u64,
    description_limit: u64,
    description_left: Cell<Option<u64>>,
    excess: Cell<Option<Excess>>,
}

impl Meter {
    /// A meter for an archive of `compressed` bytes.
    pub(super) fn new(limits: &Limits, compressed: u64) -> Self {
        Self(Rc::new(State {
            total: Cell::new(0),
            // Descriptions and padding come on top of what the files hold: a few blocks an entry, and what follows the last one.
            total_limit: limits.bytes.saturating_add((limits.entries as u64).saturating_mul(4 * 512)).saturating_add(MIB),
            ratio_limit: compressed.saturating_mul(limits.ratio).max(limits.ratio_floor),
            description_limit: limits.description,
            description_left: Cell::new(Some(limits.description)),
            excess: Cell::new(None),
        }))
    }

    pub(super) fn reader<R: Read>(&self, inner: R) -> Metered<R> {
        Metered { inner, meter: self.clone() }
    }

    /// What is read from here on describes the next entry.
    pub(super) fn expect_description(&self) {
        self.0.description_left.set(Some(self.0.description_limit));
    }

    /// What is read from here on is content.
    pub(super) fn expect_content(&self) {
        self.0.description_left.set(None);
    }

    pub(super) fn excess(&self) -> Option<Excess> {
        self.0.excess.get()
    }

    fn count(&self, read: usize) -> Option<Excess> {
        let (state, read) = (&self.0, read as u64);
        let total = state.total.get().saturating_add(read);
        state.total.set(total);
        let description = state.description_left.get().map(|left| left.checked_sub(read));
        if let Some(Some(left)) = description {
            state.description_left.set(Some(left));
        }
        let excess = match description {
            Some(None) => Some(Excess::Description),
            _ if total > state.total_limit => Some(Excess::Total),
            _ if total > state.ratio_limit => Some(Excess::Ratio),
            _ => None,
        };
        state.excess.set(excess);
        excess
    }
}

/// A reader that fails once its meter says so.
pub(super) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.meter.count(read) {
            Some(excess) => Err(io::Error::other(format!("{excess:?}"))),
            None => Ok(read),
        }
    }
}
