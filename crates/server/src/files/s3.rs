//! Requests to a store that speaks S3, made by the client that all addresses from outside are asked with.

use std::{fmt, pin::Pin, sync::Arc};

use futures::TryFutureExt;
use http_body_util::BodyExt;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService},
};
use reqwest::Body;

use crate::http::outbound::{self, Outbound};

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
        let request = request.map(Body::wrap);
        Box::pin(self.0.exchange(request).map_ok(answered).map_err(|error| {
            let kind = match &error {
                outbound::Error::Timeout { .. } => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Connect,
            };
            HttpError::new(kind, error)
        }))
    }
}

fn answered(response: reqwest::Response) -> HttpResponse {
    let response: axum::http::Response<Body> = response.into();
    response
        .map(|body| HttpResponseBody::new(body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error.without_url()))))
}
