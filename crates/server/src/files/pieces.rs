//! The content of a file as it lies in the store: pieces of one size, each sealed by itself.
//!
//! A piece opens only at its place in its file, and the last one says that it is: nothing can be exchanged, left out or cut off unseen.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream::BoxStream};
use weft_model::{FileId, TenantId};

use super::service::Error;
use crate::secrets::{Sealed, Vault};

/// Bytes of content in a piece; the last one may have fewer.
const PIECE: usize = 256 * 1024;
/// What sealing adds.
const ADDED: usize = 28;

/// Whose pieces these are.
#[derive(Clone)]
pub struct Seal {
    pub vault: Arc<Vault>,
    pub tenant: TenantId,
    pub file: FileId,
}

impl Seal {
    fn place(&self, number: u64, is_last: bool) -> [String; 4] {
        ["file".to_owned(), self.file.to_string(), number.to_string(), if is_last { "last" } else { "more" }.to_owned()]
    }

    fn close(&self, piece: &[u8], (number, is_last): (u64, bool)) -> Result<(i32, Bytes), Error> {
        let place = self.place(number, is_last);
        let (version, sealed) = self.vault.seal(&self.tenant, &place.each_ref().map(String::as_str), piece)?;
        Ok((version, sealed.0.into()))
    }

    fn open(&self, version: i32, sealed: Vec<u8>, (number, is_last): (u64, bool)) -> Result<Bytes, Error> {
        let place = self.place(number, is_last);
        let place = place.each_ref().map(String::as_str);
        Ok(self.vault.open_sealed(&self.tenant, &place, version, &Sealed(sealed))?.into())
    }
}

/// Makes sealed pieces of what comes.
pub struct Sealing {
    seal: Seal,
    waiting: BytesMut,
    number: u64,
    /// Of the key; a key that is replaced in the middle of a file would be a fault of the caller's.
    pub version: Option<i32>,
}

impl Sealing {
    pub fn new(seal: Seal) -> Self {
        Self { seal, waiting: BytesMut::new(), number: 0, version: None }
    }

    /// Takes in some content and gives back a piece that is full. Call it with nothing until it gives none.
    pub fn push(&mut self, content: &[u8]) -> Result<Option<Bytes>, Error> {
        self.waiting.extend_from_slice(content);
        // The last piece must not be empty, so something stays.
        if self.waiting.len() <= PIECE {
            return Ok(None);
        }
        let piece = self.waiting.split_to(PIECE);
        self.close(&piece, false).map(Some)
    }

    pub fn finish(&mut self) -> Result<Bytes, Error> {
        let piece = self.waiting.split();
        self.close(&piece, true)
    }

    fn close(&mut self, piece: &[u8], is_last: bool) -> Result<Bytes, Error> {
        let (version, sealed) = self.seal.close(piece, (self.number, is_last))?;
        if *self.version.get_or_insert(version) != version {
            return Err(Error::Interrupted("the tenant's key was replaced meanwhile".to_owned()));
        }
        self.number += 1;
        Ok(sealed)
    }
}

/// Bytes of a file's content, and where they lie in its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Of the whole content.
    size: u64,
    wanted: Range<u64>,
}

impl Extent {
    pub const fn whole(size: u64) -> Self {
        Self { size, wanted: 0..size }
    }

    /// A part, which has to be within the content and not empty.
    pub const fn part(size: u64, wanted: Range<u64>) -> Self {
        Self { size, wanted }
    }

    /// The first and the last piece that are needed, and the last one that there is.
    fn pieces(&self) -> (u64, u64, u64) {
        let piece_of = |byte: u64| byte / PIECE as u64;
        (piece_of(self.wanted.start), piece_of(self.wanted.end.saturating_sub(1)), piece_of(self.size.saturating_sub(1)))
    }

    /// The bytes of the object that hold them: whole pieces.
    pub fn sealed(&self) -> Range<u64> {
        let (first, until, last) = self.pieces();
        let sealed = (PIECE + ADDED) as u64;
        let end = if until == last { self.size + (last + 1) * ADDED as u64 } else { (until + 1) * sealed };
        first * sealed..end
    }
}

/// What is being opened.
struct Opening {
    seal: Seal,
    version: i32,
    source: BoxStream<'static, Result<Bytes, Error>>,
    waiting: BytesMut,
    /// The next piece, the last one that is wanted, and the last one that there is.
    pieces: (u64, u64, u64),
    /// What of the next piece comes before the content that is wanted.
    skip: usize,
    left: u64,
}

/// The content again: what the source has of the object's bytes is what [`Extent::sealed`] says.
pub fn opened(
    seal: Seal,
    version: i32,
    extent: &Extent,
    source: BoxStream<'static, Result<Bytes, Error>>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    let (pieces, waiting) = (extent.pieces(), BytesMut::new());
    let skip = usize::try_from(extent.wanted.start % PIECE as u64).unwrap_or_default();
    let left = extent.wanted.end - extent.wanted.start;
    let opening = Opening { seal, version, source, waiting, pieces, skip, left };
    futures::stream::try_unfold(opening, |mut opening| async move {
        let piece = opening.next().await?;
        Ok(piece.map(|piece| (piece, opening)))
    })
}

impl Opening {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let (number, until, last) = self.pieces;
        if number > until {
            return Ok(None);
        }
        while self.waiting.len() < PIECE + ADDED {
            let Some(more) = self.source.next().await else { break };
            self.waiting.extend_from_slice(&more?);
        }
        // What was cut off does not open: the last piece says that it is the last.
        let length = self.waiting.len().min(PIECE + ADDED);
        let sealed = self.waiting.split_to(length).to_vec();
        let mut piece = self.seal.open(self.version, sealed, (number, number == last))?;
        self.pieces.0 += 1;
        let mut piece = piece.split_off(std::mem::take(&mut self.skip).min(piece.len()));
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= piece.len() as u64;
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = PIECE as u64;
    const SEALED: u64 = (PIECE + ADDED) as u64;

    #[test]
    fn only_the_pieces_that_hold_a_part_are_read() {
        let size = 3 * ONE + 5;
        let sealed = |start, end| Extent::part(size, start..end).sealed();
        assert_eq!(Extent::whole(size).sealed(), 0..3 * SEALED + 5 + ADDED as u64);
        assert_eq!(sealed(0, 1), 0..SEALED);
        assert_eq!(sealed(ONE - 1, ONE), 0..SEALED);
        assert_eq!(sealed(ONE - 1, ONE + 1), 0..2 * SEALED);
        assert_eq!(sealed(ONE, 2 * ONE), SEALED..2 * SEALED);
        assert_eq!(sealed(3 * ONE, size), 3 * SEALED..3 * SEALED + 5 + ADDED as u64);
        assert_eq!(Extent::whole(ONE).sealed(), 0..SEALED, "the last piece may be a full one");
    }
}
