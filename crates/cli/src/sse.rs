//! Reads a `text/event-stream`: only the `data` of each event, which is all that our streams carry.
//!
//! Bytes arrive in any portions, so lines (and characters) may be split between them.

/// Collects bytes and hands out the data of finished events.
#[derive(Default)]
pub struct EventReader {
    pending: Vec<u8>,
    data: Vec<String>,
}

impl EventReader {
    /// Takes the next portion and returns the events that it completed.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            events.extend(self.line(line.trim_end_matches(['\n', '\r'])));
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then(|| data.join("\n"));
        }
        if let Some(value) = line.strip_prefix("data:") {
            self.data.push(value.strip_prefix(' ').unwrap_or(value).to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut() {
        let stream = ": keep-alive\n\nevent: log\ndata: héllo\r\n\r\ndata: a\ndata: b\n\n".as_bytes();
        for cut in 0..stream.len() {
            let mut reader = EventReader::default();
            let mut events = reader.push(&stream[..cut]);
            events.extend(reader.push(&stream[cut..]));
            assert_eq!(events, ["héllo", "a\nb"], "cut at {cut}");
        }
    }
}
