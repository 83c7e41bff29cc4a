//! The content of a file as it lies in the store: pieces of one size, each sealed by itself.
//!
//! A piece opens only at its place in its file, and the last one says that it is: nothing can be exchanged, left out or cut off unseen.

use std::sync::Arc;

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

/// What is being opened.
struct Opening {
    seal: Seal,
    version: i32,
    source: BoxStream<'static, Result<Bytes, Error>>,
    waiting: BytesMut,
    number: u64,
    is_over: bool,
}

/// The content again.
pub fn opened(
    seal: Seal,
    version: i32,
    source: BoxStream<'static, Result<Bytes, Error>>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    let opening = Opening { seal, version, source, waiting: BytesMut::new(), number: 0, is_over: false };
    futures::stream::try_unfold(opening, |mut opening| async move {
        let piece = opening.next().await?;
        Ok(piece.map(|piece| (piece, opening)))
    })
}

impl Opening {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.is_over {
            return Ok(None);
        }
        // One byte more than a piece tells that it is not the last.
        while self.waiting.len() <= PIECE + ADDED {
            let Some(more) = self.source.next().await else {
                self.is_over = true;
                break;
            };
            self.waiting.extend_from_slice(&more?);
        }
        let length = self.waiting.len().min(PIECE + ADDED);
        let sealed = self.waiting.split_to(length).to_vec();
        let piece = self.seal.open(self.version, sealed, (self.number, self.is_over))?;
        self.number += 1;
        Ok(Some(piece))
    }
}
