//! `/api/v1/integrations/{integration_id}/proxy/…`: any request to the vendor, with the integration's credential.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    response::Response,
};
use http_body_util::BodyExt;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::{AppId, ConnectionId};

use super::routes::named;
use crate::{
    connections::Chosen,
    http::{
        Problems,
        extract::{Authorized, Path, rights},
        problem::Problem,
        run_header, trace,
    },
    node::Node,
    runs::{self, Forwarded, ProxyCall},
};

/// What a vendor says to browsers about its own site does not hold for this server's.
const NOT_OURS: [HeaderName; 6] = [
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
    header::STRICT_TRANSPORT_SECURITY,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ALT_SVC,
];
/// A page of the vendor's is shown as what it is: somebody else's, without rights here.
const CONTENT_SECURITY: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(pass_on))
}

/// Send any request to an integration's vendor
///
/// The rest of the path is below the vendor's base address. Method, query, headers and body are passed on, with the
/// integration's credential in place of the caller's; so are status, headers and body of the answer. Only for integrations whose
/// manifest has a block `http`. The header `x-weft-run-id` tells answers of the vendor from problems of this server. `RateLimit` and
/// `RateLimit-Policy` are the vendor's, or else tell of the manifest's `rateLimit` as with actions.
#[utoipa::path(method(get, post, put, patch, delete), path = "/api/v1/integrations/{integration_id}/proxy/{*path}", tag = "integrations",
    params(("integration_id" = AppId, Path), ("path" = String, Path, description = "Below the vendor's base address"),
        ("x-app-id" = Option<AppId>, Header, description = "The app on whose behalf the request is made"),
        ("x-connection-id" = Option<ConnectionId>, Header, description = "Which of one's connections to use")),
    request_body(content = Vec<u8>, description = "Whatever the vendor takes", content_type = "*/*"),
    responses((status = 200, description = "What the vendor answered, with its status"), Problems))]
async fn pass_on(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ProxyIntegration>,
    Path(path_ids): Path<(AppId, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // As the caller wrote it: what is encoded stays so.
    let path = parts.uri.path().split_once("/proxy/").map(|(_, path)| path.to_owned()).unwrap_or_default();
    let call = ProxyCall {
        principal: Arc::clone(caller.principal()),
        provider: path_ids.0,
        calling_app: named(&parts.headers, "x-app-id")?,
        connection: named(&parts.headers, "x-connection-id")?.map(Chosen::Asked),
        method: parts.method,
        path,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body,
        trace: trace::current(),
    };
    let of_head = call.method == Method::HEAD;
    Ok(answer(runs::proxy(&node, call).await?, of_head))
}

fn answer(Forwarded { run, left, response }: Forwarded, of_head: bool) -> Response {
    let (mut head, body) = response.into_parts();
    let mut headers = weft_recipe::passable(&head.headers);
    // It tells of a body that does not come: the length of what comes would not be it.
    let body = if of_head { Body::from_stream(body.into_data_stream()) } else { Body::new(body) };
    if let Some(length) = head.headers.remove(header::CONTENT_LENGTH).filter(|_| of_head) {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    for name in NOT_OURS {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    run_header(&mut headers, run);
    if let Some(left) = left {
        runs::budget_headers(&mut headers, left);
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers;
    answer
}
