//! Requests to a store that speaks S3, made by the client that all addresses from outside are asked with.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use axum::body::Body;
use futures::StreamExt;
use http::Response;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService},
};
use tokio::time::timeout;

use crate::http::outbound::{self, Outbound};

/// How long a store may say nothing, at the beginning of an answer and within it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to one store.
#[derive(Clone)]
pub struct Way(pub Arc<Outbound>);

impl fmt::Debug for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Way")
    }
}

impl HttpConnector for Way {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

type Answered<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Way {
    fn call<'service, 'answer>(&'service self, request: HttpRequest) -> Answered<'answer>
    where
        'service: 'answer,
        Self: 'answer,
    {
        let request = request.map(Body::new);
        Box::pin(async move {
            let answer = timeout(PATIENCE, self.0.exchange(request)).await;
            let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
            answer.map(answered).map_err(|error| HttpError::new(kind(&error), error))
        })
    }
}

/// What may have arrived is not asked for again without looking.
const fn kind(error: &outbound::Error) -> HttpErrorKind {
    match error {
        outbound::Error::Timeout { .. } => HttpErrorKind::Timeout,
        outbound::Error::Unreachable { connected: true, .. } => HttpErrorKind::Interrupted,
        outbound::Error::Unreachable { .. } | outbound::Error::Unresolved { .. } => HttpErrorKind::Connect,
        _ => HttpErrorKind::Unknown,
    }
}

fn answered(response: Response<Incoming>) -> HttpResponse {
    response.map(|body| {
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        let frames = tokio_stream::StreamExt::timeout(BodyStream::new(body), PATIENCE);
        let frames = frames.map(|frame| frame.unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late))));
        HttpResponseBody::new(StreamBody::new(frames))
    })
}
