//! What a lane has of one priority, and the word that something in it became ready.

use std::{str::FromStr, sync::Arc};

/// Where it is said that messages became ready; the payload is a [`Ready`]. `weft_channel` in the database has the whole name.
pub const CHANNEL: &str = "weft_queue";

/// The messages of a lane that have the same priority. They are leased in the order in which they became ready.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    pub lane: Arc<str>,
    pub priority: i16,
}

impl Stream {
    pub fn new(lane: impl Into<Arc<str>>, priority: i16) -> Self {
        Self { lane: lane.into(), priority }
    }
}

/// Messages that became ready in a stream, from this position on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub stream: Stream,
    pub position: i64,
}

impl FromStr for Ready {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ' ');
        let (priority, position, lane) = (parts.next(), parts.next(), parts.next());
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let (Some(priority), Some(position), Some(lane)) = (number(priority), number(position), lane) else {
            return Err(UnknownForm);
        };
        let priority = i16::try_from(priority).map_err(|_| UnknownForm)?;
        Ok(Self { stream: Stream::new(lane, priority), position })
    }
}

/// A notification that this version does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownForm;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_names_stream_and_position_whatever_the_lane_is_called() {
        let ready = Ready { stream: Stream::new("a tenant/b", -3), position: 42 };
        assert_eq!("-3 42 a tenant/b".parse(), Ok(ready));
        for odd in ["", "1 2", "x 1 lane", "70000 1 lane"] {
            assert_eq!(odd.parse::<Ready>(), Err(UnknownForm), "{odd}");
        }
    }
}
