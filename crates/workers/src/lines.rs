//! Reads lines of limited length. A longer one is skipped without being kept in memory, and the stream goes on after it.

use tokio::io::{self, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

const BUFFER: usize = 64 * 1024;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Without its line end.
    Whole(&'a [u8]),
    /// The beginning of a line that exceeds the limit.
    TooLong(&'a [u8]),
    /// So many bytes of the rest of such a line, which are not kept.
    Skipped(usize),
}

pub(crate) struct Lines<R> {
    source: BufReader<R>,
    limit: usize,
    line: Vec<u8>,
    /// Within a line of which nothing more is kept.
    skips: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(source: R, limit: usize) -> Self {
        Self { source: BufReader::with_capacity(BUFFER, source), limit, line: Vec::new(), skips: false }
    }

    /// The next line or piece of one, or nothing at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        // One long line must not occupy its memory for ever.
        if self.line.capacity() > BUFFER {
            self.line = Vec::new();
        }
        self.line.clear();
        if self.skips {
            return self.skip().await;
        }
        if self.read_up_to_limit().await? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > self.limit {
            self.skips = true;
            return Ok(Some(Line::TooLong(self.line.get(..self.limit).unwrap_or_default())));
        }
        Ok(Some(Line::Whole(&self.line)))
    }

    async fn read_up_to_limit(&mut self) -> io::Result<usize> {
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        (&mut self.source).take(limit).read_until(b'\n', &mut self.line).await
    }

    /// Skips what has arrived of the rest, at most up to the line end.
    async fn skip(&mut self) -> io::Result<Option<Line<'_>>> {
        let buffered = self.source.fill_buf().await?;
        let end = buffered.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffered.len(), |end| end + 1);
        self.skips = end.is_none();
        self.source.consume(used);
        Ok((used > 0).then_some(Line::Skipped(used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_up_to_the_limit_pass_and_longer_ones_are_skipped() -> io::Result<()> {
        let text = [b"12345\n\n123456".as_slice(), &vec![b'x'; 200_000], b"\nlast"].concat();
        let mut lines = Lines::new(text.as_slice(), 5);
        assert_eq!(lines.next().await?, Some(Line::Whole(b"12345")));
        assert_eq!(lines.next().await?, Some(Line::Whole(b"")));
        assert_eq!(lines.next().await?, Some(Line::TooLong(b"12345")));
        let mut skipped = 0;
        let next = loop {
            match lines.next().await? {
                Some(Line::Skipped(bytes)) => skipped += bytes,
                next => break next,
            }
        };
        assert_eq!((skipped, next), (200_001, Some(Line::Whole(b"last"))));
        assert_eq!(lines.next().await?, None);
        Ok(())
    }
}
