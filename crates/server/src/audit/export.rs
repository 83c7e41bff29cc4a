//! The log as a file that is checked without the server.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::value::RawValue;
use weft_attest::{
    Link,
    export::{END, End, Entry, FORMAT, Header, Line, Signed},
};
use weft_model::TenantId;

use super::{
    service::{Audit, Error},
    store::{self, Extent, Head},
};

/// Events that are read at once.
const PAGE: i64 = 500;

/// An export under way.
pub struct Export {
    tenant: TenantId,
    from: i64,
    /// The chain before `from`.
    previous: Link,
    /// The chain as it was when the export began. What comes later is not in it.
    head: Head,
    /// The last event that there was then.
    last: i64,
    /// Checkpoints over events that were not there. They are what tells that an end was cut off.
    orphans: Vec<String>,
}

impl Audit {
    /// Begins an export with the event `from`, which may be the next one that there will be.
    pub async fn begin_export(&self, tenant: &TenantId, from: i64) -> Result<Export, Error> {
        let mut connection = self.pool.acquire().await?;
        let start = Link::start(tenant.as_str());
        let Extent { head, last, orphans } = store::find_extent(&mut connection, tenant).await?;
        let head = head.unwrap_or(Head { seq: 0, hash: start });
        if from < 1 || from > head.seq + 1 {
            return Err(Error::WrongStart(head.seq + 1));
        }
        let before = store::list_range(&mut connection, tenant, (from - 1, from - 1), 1).await?.pop();
        let previous = before.map_or(start, |event| event.hash);
        Ok(Export { tenant: tenant.clone(), from, previous, head, last, orphans })
    }

    /// The lines of an export, in portions.
    pub fn export(self: Arc<Self>, export: Export) -> impl Stream<Item = Result<Bytes, Error>> {
        let next = Some(export.from);
        stream::try_unfold((self, export, next), async move |(audit, export, next)| {
            let Some(next) = next else { return Ok(None) };
            let mut text = if next == export.from { written(&audit.header(&export))? } else { String::new() };
            let following = audit.page(&export, next, &mut text).await?;
            if following.is_none() {
                for signature in &export.orphans {
                    text += &written(&Line::Checkpoint(Signed { signature: signature.clone() }))?;
                }
                text += &written(&audit.end(&export)?)?;
            }
            Ok(Some((Bytes::from(text), (audit, export, following))))
        })
    }

    fn header(&self, export: &Export) -> Line {
        Line::Header(Header {
            format: FORMAT.to_owned(),
            chain: export.tenant.to_string(),
            from: export.from.unsigned_abs(),
            previous: export.previous,
            keys: self.authority.all_keys(),
        })
    }

    /// Adds a page of events with the checkpoints among them. Returns the event to go on with.
    async fn page(&self, export: &Export, from: i64, text: &mut String) -> Result<Option<i64>, Error> {
        let mut connection = self.pool.acquire().await?;
        let events = store::list_range(&mut connection, &export.tenant, (from, export.last), PAGE).await?;
        let Some(last) = events.last().map(|event| event.seq) else { return Ok(None) };
        let checkpoints = store::list_checkpoints(&mut connection, &export.tenant, (from, last)).await?;
        let mut checkpoints = checkpoints.into_iter().peekable();
        for event in events {
            let (seq, hash) = (event.seq, event.hash);
            let entry = RawValue::from_string(event.entry).map_err(|error| sqlx::Error::Decode(error.into()))?;
            *text += &written(&Line::Entry(Entry { hash, entry }))?;
            while let Some((_, signature)) = checkpoints.next_if(|(at, _)| *at <= seq) {
                *text += &written(&Line::Checkpoint(Signed { signature }))?;
            }
        }
        Ok((last < export.last).then_some(last + 1))
    }

    fn end(&self, export: &Export) -> Result<Line, Error> {
        let claims = End {
            iss: self.issuer.clone(),
            chain: export.tenant.to_string(),
            from: export.from.unsigned_abs(),
            previous: export.previous,
            to: export.head.seq.unsigned_abs(),
            hash: export.head.hash,
            iat: self.clock.now().timestamp(),
        };
        Ok(Line::End(Signed { signature: self.authority.sign(END, &claims)? }))
    }
}

fn written(line: &Line) -> Result<String, Error> {
    Ok(line.write().map_err(|error| sqlx::Error::Encode(error.into()))?)
}
