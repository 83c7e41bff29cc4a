//! Whole collections as streams: page after page goes out as it is read, and records come in a batch at a time. No connection to the
//! database is held while a client reads or writes.

use std::sync::Arc;

use axum::{
    Json as Body,
    body::{Body as RawBody, Bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_data::{
    read::{Query, parse_cursor},
    write::{self, Values},
};
use weft_model::{AppId, Fault};

use super::{
    bulk::unique,
    collection::{Collection, Shapes},
    options::{lines, listing},
    routes::{ListParameters, json},
};
use crate::{
    data::Error,
    http::{
        Problems,
        extract::{self, Authorized, Path, rights},
        problem::{Code, Problem},
    },
    node::Node,
};

/// Records that are stored together on their way in.
const BATCH: usize = 500;
/// The longest line on the way in, in bytes.
const LONGEST_LINE: usize = 1024 * 1024;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(export)).routes(routes!(import))
}

/// Every record that a query finds as one JSON array.
pub async fn array(collection: Collection, query: Query, shapes: Shapes) -> Result<Response, Error> {
    let pages = Pages { collection, query: lines(query), shapes };
    let (first, rest) = pages.first().await?;
    let Some(rest) = rest else { return Ok(json(StatusCode::OK, format!("[{}]", first.replace('\n', ",")))) };
    let begin = stream::once(std::future::ready(Ok(Bytes::from(format!("[{}", first.replace('\n', ","))))));
    // What was behind a cursor may be gone by now.
    let more = |page: String| if page.is_empty() { Bytes::new() } else { Bytes::from(format!(",{}", page.replace('\n', ","))) };
    let middle = rest.chunks().map(move |page| page.map(more));
    let end = stream::once(std::future::ready(Ok(Bytes::from_static(b"]"))));
    let body = RawBody::from_stream(begin.chain(middle).chain(end));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// What is still to be read of a list.
struct Pages {
    collection: Collection,
    query: Query,
    shapes: Shapes,
}

impl Pages {
    /// The next page, and the rest if there is more.
    async fn first(mut self) -> Result<(String, Option<Self>), Error> {
        let page = self.collection.page(self.query.clone(), &self.shapes).await?;
        self.query.offset = 0;
        let unreadable = || sqlx::Error::Decode("a value of the order cannot be read".into());
        let after = page.next.as_deref().map(|next| parse_cursor(&self.query.order, next).ok_or_else(unreadable));
        self.query.after = after.transpose()?;
        let rest = self.query.after.is_some().then_some(self);
        Ok((page.data, rest))
    }

    /// One page after the other. A failure ends the stream, which the client sees as a broken answer.
    fn chunks(self) -> impl Stream<Item = Result<String, Error>> {
        stream::try_unfold(Some(self), async |pages| match pages {
            Some(pages) => pages.first().await.map(Some),
            None => Ok(None),
        })
    }
}

/// Export records, a line of JSON each
///
/// Filters, `sort`, `select` and `expand` are those of the list. The answer is sent as it is read; it is not a snapshot: what changes
/// meanwhile may be in it or not.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/collections/{entity}/export", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path), ListParameters),
    responses((status = 200, description = "Lines of JSON", body = String, content_type = "application/x-ndjson"), Problems))]
async fn export(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    extract::Query(parameters): extract::Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let query = lines(listing(collection.entity()?, &parameters)?.query);
    let shapes = collection.view(&query).await?;
    let (first, rest) = Pages { collection, query, shapes }.first().await?;
    let ended = |page: String| Bytes::from(if page.is_empty() { page } else { page + "\n" });
    let begin = stream::once(std::future::ready(Ok::<_, Error>(ended(first))));
    let rest = rest.map(|rest| rest.chunks().map(move |page| page.map(ended)));
    let body = RawBody::from_stream(begin.chain(stream::iter(rest).flatten()));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ImportOptions {
    /// Fields of a unique field or index, separated by commas: records that are there already are changed. Importing the same
    /// again then makes no second ones.
    on: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Imported {
    created: i64,
    updated: i64,
}

/// Import records, a line of JSON each
///
/// Stored 500 at a time while they arrive. The first line with a fault ends it; the message says how many lines before it are
/// stored. Changing records that are there takes the right to do that too.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/collections/{entity}/import", tag = "data",
    params(("app_id" = AppId, Path), ("entity" = String, Path), ImportOptions),
    request_body(content = String, content_type = "application/x-ndjson"), responses((status = 200, body = Imported), Problems))]
async fn import(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::CreateRecords>,
    Path((app, entity)): Path<(AppId, String)>,
    extract::Query(options): extract::Query<ImportOptions>,
    request: Request,
) -> Result<Body<Imported>, Problem> {
    let collection = Collection::open(&node, caller.principal(), &app, entity).await?;
    let on: Option<Vec<_>> = options.on.map(|on| on.split(',').map(str::to_owned).collect());
    let mut import = Import { collection, on, batch: Vec::new(), begun: 1, line: 0, done: Imported { created: 0, updated: 0 } };
    let (mut body, mut buffer) = (request.into_body().into_data_stream(), Vec::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::InvalidRequest, "The body ended before it was complete."))?;
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            buffer.extend_from_slice(part);
            if buffer.len() > LONGEST_LINE {
                let message = format!("Line {} is longer than {LONGEST_LINE} bytes.", import.line + 1);
                return Err(Problem::new(Code::PayloadTooLarge, message));
            }
            if part.ends_with(b"\n") {
                import.line(&std::mem::take(&mut buffer)).await?;
            }
        }
    }
    import.line(&buffer).await?;
    import.store().await?;
    Ok(Body(import.done))
}

/// An import under way.
struct Import {
    collection: Collection,
    on: Option<Vec<String>>,
    batch: Vec<Values>,
    /// The line that the batch begins with.
    begun: usize,
    line: usize,
    done: Imported,
}

impl Import {
    async fn line(&mut self, line: &[u8]) -> Result<(), Error> {
        self.line += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let place = format!("line {}", self.line);
        let record: Value = match serde_json::from_slice(line) {
            Ok(record) => record,
            Err(error) => return self.fail(vec![Fault::new(place, error.to_string())]).await,
        };
        match write::new_values(self.collection.entity()?, &record, &place) {
            Ok(values) => self.batch.push(values),
            Err(faults) => return self.fail(faults).await,
        }
        if self.batch.len() == BATCH { self.store().await } else { Ok(()) }
    }

    /// Stores what came before, then says what is wrong.
    async fn fail(&mut self, mut faults: Vec<Fault>) -> Result<(), Error> {
        self.store().await?;
        let stored = self.done.created + self.done.updated;
        if let Some(first) = faults.first_mut() {
            first.message = format!("{} ({stored} records before it are stored)", first.message);
        }
        Err(Error::Invalid(faults))
    }

    async fn store(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        let stored = match &self.on {
            Some(on) => match unique(self.collection.entity()?, on, &batch) {
                Ok(on) => self.collection.upsert(batch, &on).await.map(|(_, created, updated)| (created, updated)),
                Err(error) => Err(error),
            },
            None => self.collection.create_all(batch).await.map(|_| (count, 0)),
        };
        let (created, updated) = stored.map_err(|error| self.within(error))?;
        self.done.created += created;
        self.done.updated += updated;
        self.begun = self.line + 1;
        Ok(())
    }

    /// What the database refuses is somewhere in the batch.
    fn within(&self, error: Error) -> Error {
        let stored = self.done.created + self.done.updated;
        let place = format!("lines {} to {} ({stored} records before them are stored)", self.begun, self.line);
        match error {
            Error::Conflict(message) => Error::Conflict(format!("{place}: {message}")),
            Error::Invalid(faults) => Error::Invalid(faults.into_iter().map(|fault| Fault::new(&place, fault.message)).collect()),
            other => other,
        }
    }
}
