//! A file as an answer: all of it, or the part that was asked for. Whatever it is, no browser shows it as a page of this server.

use std::{io, ops::Range};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use weft_model::TenantId;

use super::{
    content,
    range::{Asked, asked},
    service::Error,
    store::File,
};
use crate::{http::problem::Problem, node::Node};

/// What a request asks for of a file that its caller may read.
pub async fn requested(
    node: &Node,
    tenant: &TenantId,
    file: &File,
    (method, headers): (&Method, &HeaderMap),
) -> Result<Response, Problem> {
    let mut told = told(file)?;
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if method == Method::HEAD {
        // Nothing of it is read, and parts are asked for with GET only.
        return Ok((told, Body::empty()).into_response());
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let tag = tag(file);
    match asked(text(header::RANGE), text(header::IF_RANGE), tag.as_deref(), file.bytes()) {
        Asked::Whole => Ok((told, body(node.files.read(tenant, file, None).await?).await?).into_response()),
        Asked::Beyond => Ok(beyond(file, &told)),
        Asked::Part(part) => {
            let of = format!("bytes {}-{}/{}", part.start, part.end - 1, file.size);
            told.insert(header::CONTENT_RANGE, HeaderValue::from_str(&of).map_err(Problem::internal)?);
            told.insert(header::CONTENT_LENGTH, HeaderValue::from(length(&part)));
            Ok((StatusCode::PARTIAL_CONTENT, told, body(node.files.read(tenant, file, Some(part)).await?).await?).into_response())
        }
    }
}

/// All of a file, as something that cannot be asked for again.
pub async fn whole(file: &File, content: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Result<Response, Problem> {
    let mut told = told(file)?;
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    Ok((told, body(content).await?).into_response())
}

fn length(part: &Range<u64>) -> u64 {
    part.end - part.start
}

/// What a file never changes about: the digest of its content.
fn tag(file: &File) -> Option<String> {
    file.digest.as_ref().map(|digest| format!("\"{}\"", hex::encode(digest)))
}

fn told(file: &File) -> Result<HeaderMap, Problem> {
    let text = |text: &str| HeaderValue::from_str(text).map_err(Problem::internal);
    let mut told = HeaderMap::from_iter([
        (header::CONTENT_TYPE, text(&file.content_type)?),
        (header::CONTENT_LENGTH, HeaderValue::from(file.size)),
        (header::CONTENT_DISPOSITION, text(&content::disposition(&file.name))?),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ]);
    if let Some(tag) = tag(file) {
        told.insert(header::ETAG, text(&tag)?);
    }
    Ok(told)
}

/// No such part. The size says what could be asked for.
fn beyond(file: &File, told: &HeaderMap) -> Response {
    let mut answer = Problem::from(Error::Beyond(file.bytes())).into_response();
    let size = HeaderValue::from_str(&format!("bytes */{}", file.size));
    if let Ok(size) = size {
        answer.headers_mut().insert(header::CONTENT_RANGE, size);
    }
    for name in [header::ACCEPT_RANGES, header::ETAG] {
        if let Some(value) = told.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

async fn body(content: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Result<Body, Problem> {
    let mut content = Box::pin(content.peekable());
    // What cannot be read at all is told as such, and not by an answer that breaks off.
    if let Some(Err(error)) = content.as_mut().next_if(Result::is_err).await {
        return Err(error.into());
    }
    Ok(Body::from_stream(content.map_err(|error| {
        tracing::error!(%error, "a file breaks off in the middle");
        io::Error::other("the file breaks off")
    })))
}
