//! `/api/v1/apps/{app_id}/frontend`, and the files themselves below `/apps/{app_id}/`.

use std::sync::Arc;

use axum::{
    Json as Body,
    body::Body as RawBody,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use weft_model::AppId;

use super::{content, service::File};
use crate::{
    apps::versions::upload,
    http::{
        BODY_LIMIT, Problems,
        extract::{Authorized, Path, rights},
        problem::{Code, Problem},
    },
    node::Node,
};

/// What a multipart body has besides the archive.
const FORM: usize = 64 * 1024;

/// What every file says besides: a page runs its own scripts only, talks to its own server only, and shows in no other's frame.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob: https:; \
         font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    ),
];

pub fn router() -> OpenApiRouter<Arc<Node>> {
    let upload = OpenApiRouter::new().routes(routes!(deploy)).layer(DefaultBodyLimit::max(BODY_LIMIT + FORM));
    OpenApiRouter::new().merge(upload).routes(routes!(bare)).routes(routes!(index)).routes(routes!(file))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body in the API reference")]
struct FrontendForm {
    /// A gzip-compressed tar with `index.html` at its root.
    #[schema(format = Binary, content_media_type = "application/gzip")]
    archive: String,
}

#[derive(Serialize, ToSchema)]
struct DeployedFrontend {
    message: String,
    /// Where it is, on this server.
    url: String,
    files: usize,
}

/// Deploy the frontend of an app
///
/// The archive's files take the place of all that were there. Whoever knows the address can load them; the API still asks who they are.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/frontend", tag = "apps", params(("app_id" = AppId, Path)),
    request_body(content = FrontendForm, content_type = "multipart/form-data"), responses((status = 200, body = DeployedFrontend), Problems))]
async fn deploy(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
    request: Request<RawBody>,
) -> Result<Body<DeployedFrontend>, Problem> {
    node.apps.get(&caller.tenant, &id).await?;
    let mut form = upload::form(request).await?;
    let archive = upload::receive(&node.apps, upload::part(&mut form).await?).await?;
    let files = node.apps.deploy_frontend(caller.principal(), &id, archive).await?;
    Ok(Body(DeployedFrontend { message: format!("frontend for '{id}' deployed"), url: format!("/apps/{id}/"), files }))
}

/// The way to an app's frontend
#[utoipa::path(get, path = "/apps/{app_id}", tag = "apps", security(()), params(("app_id" = String, Path)),
    responses((status = 308, description = "To the same address with a slash"), Problems))]
async fn bare(Path(id): Path<String>) -> Result<Redirect, Problem> {
    let id: AppId = id.parse().map_err(|_| missing())?;
    Ok(Redirect::permanent(&format!("/apps/{id}/")))
}

/// The index of an app's frontend
#[utoipa::path(get, path = "/apps/{app_id}/", tag = "apps", security(()), params(("app_id" = String, Path)),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"), Problems))]
async fn index(State(node): State<Arc<Node>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    serve(&node, &id, "", &headers).await
}

/// A file of an app's frontend
///
/// A path without a file of that name and without an extension is the index: the app's own script shows what belongs there.
#[utoipa::path(get, path = "/apps/{app_id}/{*path}", tag = "apps", security(()), params(("app_id" = String, Path), ("path" = String, Path)),
    responses((status = 200, description = "The file"), (status = 304, description = "It is still as `If-None-Match` says"), Problems))]
async fn file(
    State(node): State<Arc<Node>>,
    Path((id, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(&node, &id, &path, &headers).await
}

async fn serve(node: &Node, id: &str, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let id: AppId = id.parse().map_err(|_| missing())?;
    let found = node.apps.frontend_file(&id, path).await?;
    let file = found.ok_or_else(missing)?;
    Ok(answer(&file, headers))
}

fn missing() -> Problem {
    Problem::new(Code::NotFound, "There is no such file. A frontend is deployed with `weft deploy`.")
}

fn answer(file: &File, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", file.tag);
    let holds = |name: HeaderName, wanted: &str| {
        asked
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|part| part.trim() == wanted))
    };
    let is_known = holds(header::IF_NONE_MATCH, &tag) || holds(header::IF_NONE_MATCH, &format!("W/{tag}"));
    let takes_gzip = asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let takes_gzip = takes_gzip.is_some_and(|value| value.split(',').any(|part| part.trim().split(';').next() == Some("gzip")));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match file.gzipped.as_ref().filter(|_| takes_gzip) {
            Some(body) => ([(header::CONTENT_ENCODING, "gzip")], body.clone()).into_response(),
            None => file.body.clone().into_response(),
        }
    };
    let headers = response.headers_mut();
    let keep = if content::is_fingerprinted(&file.path) { content::FOREVER } else { content::SOON };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content::media_type(&file.path)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
