//! Where leasing begins in each stream.
//!
//! A lease looks for the first ready messages of a stream. While some transaction stays open for long, PostgreSQL keeps the index
//! entries of all messages that were leased since, and they are all in front. So whoever leases remembers how far it came. What
//! becomes ready behind that point is announced with its position; what nobody heard of is found when the cursor goes back to
//! the beginning, which it does now and then.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{Leased, Ready, Stream};

/// How often a stream is looked through from its beginning.
const FROM_THE_BEGINNING: Duration = Duration::from_secs(30);
/// Streams that are remembered. One that is not is looked through from its beginning.
const REMEMBERED: usize = 20_000;

/// The cursors of one process.
#[derive(Debug, Default)]
pub struct Cursors(HashMap<Stream, Cursor>);

#[derive(Debug)]
struct Cursor {
    after: i64,
    began: Instant,
}

impl Cursors {
    /// The position after which to lease.
    pub fn after(&mut self, stream: &Stream, now: Instant) -> i64 {
        let Some(cursor) = self.0.get_mut(stream) else { return 0 };
        if now.duration_since(cursor.began) >= FROM_THE_BEGINNING {
            *cursor = Cursor { after: 0, began: now };
        }
        cursor.after
    }

    /// Goes on behind what was leased.
    pub fn advance(&mut self, leased: &[Leased], now: Instant) {
        for message in leased {
            if self.0.len() >= REMEMBERED && !self.0.contains_key(&message.stream) {
                self.0.clear();
            }
            let cursor = self.0.entry(message.stream.clone()).or_insert(Cursor { after: 0, began: now });
            cursor.after = cursor.after.max(message.position);
        }
    }

    /// Goes back for what became ready.
    pub fn go_back(&mut self, ready: &Ready) {
        if let Some(cursor) = self.0.get_mut(&ready.stream) {
            cursor.after = cursor.after.min(ready.position - 1);
        }
    }

    /// Forgets everything: notifications may have been missed.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn leased(stream: &Stream, position: i64) -> Leased {
        let enqueued_at = DateTime::UNIX_EPOCH;
        let (tag, body) = (None, String::new());
        Leased {
            stream: stream.clone(),
            id: position,
            token: position + 100,
            position,
            read_count: 1,
            enqueued_at,
            tag,
            order: None,
            body,
        }
    }

    #[test]
    fn leasing_goes_on_behind_what_was_leased_and_back_for_what_is_announced() {
        let (stream, now, mut cursors) = (Stream::new("a", 0), Instant::now(), Cursors::default());
        assert_eq!(cursors.after(&stream, now), 0);
        cursors.advance(&[leased(&stream, 7), leased(&stream, 5)], now);
        assert_eq!(cursors.after(&stream, now), 7);
        cursors.go_back(&Ready { stream: stream.clone(), position: 9 });
        assert_eq!(cursors.after(&stream, now), 7, "what comes later is ahead anyway");
        cursors.go_back(&Ready { stream: stream.clone(), position: 4 });
        assert_eq!(cursors.after(&stream, now), 3);
        cursors.forget();
        assert_eq!(cursors.after(&stream, now), 0);
    }

    #[test]
    fn now_and_then_a_stream_is_looked_through_from_its_beginning() {
        let (stream, now, mut cursors) = (Stream::new("a", 0), Instant::now(), Cursors::default());
        cursors.advance(&[leased(&stream, 7)], now);
        assert_eq!(cursors.after(&stream, now + FROM_THE_BEGINNING / 2), 7);
        assert_eq!(cursors.after(&stream, now + FROM_THE_BEGINNING), 0);
        cursors.advance(&[leased(&stream, 8)], now + FROM_THE_BEGINNING);
        assert_eq!(cursors.after(&stream, now + FROM_THE_BEGINNING * 3 / 2), 8);
    }
}
