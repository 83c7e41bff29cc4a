//! `/api/v1/hooks/{token}` and the list of an app's webhooks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json as Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{AppId, EndpointId};
use weft_workers::{CallError, Category};

use super::{
    deliver,
    service::{Error, Incoming},
};
use crate::{
    apps,
    http::{
        Problems,
        extract::{Authorized, Path, body_bytes, rights},
        problem::{Code, Problem},
    },
    node::Node,
    runs,
};

/// The largest webhook body, in bytes: what the most generous senders send.
const BODY_LIMIT: usize = 25 * 1024 * 1024;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(receive))
}

/// An inbound webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    id: EndpointId,
    name: String,
    /// The method of the backend that receives the request.
    method: String,
    /// The beginning of the token, to tell webhooks apart.
    prefix: String,
    token: String,
    /// Where the sender has to post. Whoever knows it can post.
    url: String,
    created_at: DateTime<Utc>,
}

/// List the webhooks of an app
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/webhooks", tag = "webhooks", params(("app_id" = AppId, Path)),
    responses((status = 200, body = Vec<Webhook>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadWebhooks>,
    Path(app): Path<AppId>,
) -> Result<Body<Vec<Webhook>>, Problem> {
    node.apps.get(&caller.tenant, &app).await?;
    let webhooks = node.webhooks.list(&caller.tenant, &app).await?;
    let webhooks = webhooks.into_iter().map(|(endpoint, token)| Webhook {
        id: endpoint.id,
        name: endpoint.name,
        method: endpoint.method,
        prefix: endpoint.token_prefix,
        url: node.url(&format!("/api/v1/hooks/{}", token.expose())),
        token: token.expose().clone(),
        created_at: endpoint.created_at,
    });
    Ok(Body(webhooks.collect()))
}

/// Receive a webhook
///
/// The request is on disk before it is handed to the backend; the answer is what the backend's handler returns. When the server
/// dies before it answers, the next one hands the request over again.
#[utoipa::path(post, path = "/api/v1/hooks/{token}", tag = "webhooks", security(()), params(("token" = String, Path)),
    request_body(content = Object, description = "Whatever the sender sends"),
    responses((status = 200, description = "What the handler returned"), Problems))]
async fn receive(State(node): State<Arc<Node>>, Path(token): Path<String>, request: Request) -> Result<Response, Problem> {
    let headers = text_headers(request.headers());
    let incoming = Incoming { headers, body: body_bytes(request, BODY_LIMIT).await? };
    Ok(apps::raw_json(deliver::receive(&node, token, incoming).await?))
}

/// What senders may not learn about our side stays out: they get a status and the backend's own words.
fn refusal(error: runs::Error) -> Problem {
    let code = match &error.cause {
        runs::Cause::Failed(failure) if failure.category == Category::Auth => Some(Code::Unauthenticated),
        runs::Cause::Failed(failure) if failure.category == Category::Validation => Some(Code::InvalidRequest),
        runs::Cause::App(apps::Error::Call(CallError::UnknownMethod { .. })) => Some(Code::ActionFailed),
        _ => None,
    };
    let message = error.cause.to_string();
    let run = error.run;
    let problem = code.map_or_else(|| error.into(), |code| Problem::new(code, message));
    match run {
        Some(run) => problem.with_run(run),
        None => problem,
    }
}

fn text_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    const HIDDEN: [&str; 2] = ["cookie", "proxy-authorization"];
    let text = |(name, value): (&HeaderName, &http::HeaderValue)| {
        let value = value.to_str().ok().filter(|_| !HIDDEN.contains(&name.as_str()))?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownToken => Self::new(Code::NotFound, "No webhook has this address."),
            Error::NotWritten(_) => not_stored(),
            Error::Run(runs::Error { run, cause: runs::Cause::NotWritten(_), .. }) => match run {
                Some(run) => not_stored().with_run(run),
                None => not_stored(),
            },
            Error::Run(error) => refusal(error),
            Error::Secrets(cause) => cause.into(),
            Error::Database(cause) => cause.into(),
        }
    }
}

fn not_stored() -> Problem {
    let message = "The delivery could not be stored. Send it again in a moment.";
    Problem::new(Code::Unavailable, message).with_retry_after(Some(Duration::from_secs(1)))
}
