//! `/api/v1/apps/{app_id}/deploy`, `/versions` and `/rollback`.

use std::sync::Arc;

use axum::{
    Json as Body,
    body::Body as RawBody,
    extract::{DefaultBodyLimit, Request, State, multipart::Field},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, DeploymentId, Principal};

use super::{
    service::{Activated, Release},
    store::Listed,
    upload::{broken, form, part, receive},
};
use crate::{
    apps::{dev::Purpose, service::Error},
    data::Consent,
    db::notify::Change,
    http::{
        BODY_LIMIT, Problems,
        extract::{Authorized, Json, Path, Query, Right, denied, parse, rights},
        page,
        problem::{Code, Problem},
        trace,
    },
    node::Node,
};

/// The name of the field that holds a manifest.
const MANIFEST: &str = "manifest";
const LARGEST_MANIFEST: usize = 1024 * 1024;
/// What a multipart body has besides the archive.
const FORM: usize = LARGEST_MANIFEST + 64 * 1024;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    let upload = OpenApiRouter::new().routes(routes!(deploy)).layer(DefaultBodyLimit::max(BODY_LIMIT + FORM));
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rollback)).merge(upload)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeployOptions {
    /// Report every call, its input and output and its outgoing HTTP to the app's live log until the next deployment.
    #[serde(default)]
    dev: bool,
    /// Agree to losing the data that the manifest's data contract drops.
    #[serde(default, rename = "acceptLoss")]
    accept_loss: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Deployed {
    message: String,
    /// The files below `migrations/` that were applied now.
    migrations_applied: Vec<String>,
    deployment_id: DeploymentId,
    /// The number of the version, counted from 1.
    version: i32,
    /// Where the backend begins.
    entry_point: String,
    /// What is no fault and hardly meant: keys without a meaning, actions without a handler. Absent: nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the multipart body in the API reference")]
struct ReleaseForm {
    /// A manifest to install with the new version, and only if that starts; before the archive. Without one, what is installed
    /// stays. With one, the app need not be installed yet.
    #[schema(value_type = Option<Object>, content_media_type = "application/json")]
    manifest: Option<Value>,
    /// A gzip-compressed tar whose root is the backend's folder.
    #[schema(format = Binary, content_media_type = "application/gzip")]
    archive: String,
}

/// Which version to go back to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RollbackRequest {
    /// The number of a version. Absent: the latest one before the one that serves.
    version: Option<i32>,
    /// Agree to losing the data that the earlier data contract does not keep.
    #[serde(default, rename = "acceptLoss")]
    accept_loss: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RolledBack {
    message: String,
    deployment_id: DeploymentId,
    /// The number of the version that serves now.
    version: i32,
    /// The version that its manifest names; this manifest is installed again.
    manifest_version: String,
    /// Where the backend begins.
    entry_point: String,
}

/// A version of an app's backend.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the version of the manifest is another thing than this one")]
struct Version {
    /// Also the app's `deploymentId` while it serves.
    id: Uuid,
    /// Counts from 1 per app.
    number: i32,
    /// Whether it is the one that serves.
    active: bool,
    /// Whether its code is kept, so that one can go back to it.
    can_roll_back: bool,
    /// Made by `weft dev`. Its code is kept only while it serves.
    developed: bool,
    /// The version that its manifest names.
    manifest_version: String,
    entry_point: String,
    /// SHA-256 of the archive, in hexadecimal.
    digest: String,
    /// Bytes of the archive.
    size: i64,
    created_at: DateTime<Utc>,
    created_by: Option<Person>,
    /// When it was last made the one that serves: deployed, or gone back to.
    activated_at: Option<DateTime<Utc>>,
    activated_by: Option<Person>,
}

/// Who did something; absent when the user was removed.
#[derive(Serialize, ToSchema)]
struct Person {
    id: Uuid,
    email: Option<String>,
}

/// A page of versions, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct VersionPage {
    data: Vec<Version>,
    /// Pass as `cursor` to get the next page; absent on the last one.
    next_cursor: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListFilter {
    /// How many, 1 to 200; 50 when absent.
    limit: Option<i64>,
    cursor: Option<String>,
}

impl From<Listed> for Version {
    fn from(row: Listed) -> Self {
        let person = |id: Option<Uuid>, email| id.map(|id| Person { id, email });
        Self {
            id: row.id,
            number: row.number,
            active: row.active,
            can_roll_back: row.kept && !row.active,
            developed: row.developed,
            manifest_version: row.manifest_version,
            entry_point: row.entry_point,
            digest: hex::encode(row.digest),
            size: row.size,
            created_at: row.created_at,
            created_by: person(row.created_by, row.created_by_email),
            activated_at: row.activated_at,
            activated_by: person(row.activated_by, row.activated_by_email),
        }
    }
}

/// Deploy the backend of an app
///
/// Dependencies are installed without running their scripts. The new version serves once its process is ready; when it does
/// not get there, the version before goes on serving, and a manifest that was sent along is not installed. Tables follow the
/// manifest's data contract; what loses data needs `acceptLoss`.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/deploy", tag = "apps", params(("app_id" = AppId, Path), DeployOptions),
    request_body(content = ReleaseForm, content_type = "multipart/form-data"), responses((status = 200, body = Deployed), Problems))]
async fn deploy(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
    Query(options): Query<DeployOptions>,
    request: Request<RawBody>,
) -> Result<Body<Deployed>, Problem> {
    let mut form = form(request).await?;
    let first = part(&mut form).await?;
    let (manifest, field) = if first.name() == Some(MANIFEST) {
        let manifest = read_manifest(first).await?;
        (Some(manifest), part(&mut form).await?)
    } else {
        (None, first)
    };
    match &manifest {
        Some(_) => may_install(&caller)?,
        None => _ = node.apps.get(&caller.tenant, &id).await?,
    }
    let archive = receive(&node.apps, field).await?;
    let purpose = if options.dev { Purpose::Develop } else { Purpose::Serve };
    let (apps, by, app) = (Arc::clone(&node.apps), Arc::clone(caller.principal()), id.clone());
    let release = Release { archive, manifest, purpose, consent: Consent::given(options.accept_loss) };
    let deployed = finish(&node, &id, async move { apps.deploy(&by, &app, release).await }).await?;
    Ok(Body(Deployed {
        message: format!("app '{id}' deployed and started"),
        migrations_applied: deployed.migrations,
        deployment_id: deployed.deployment.id,
        version: deployed.number,
        entry_point: deployed.deployment.entry_point,
        warnings: deployed.warnings,
    }))
}

/// Go back to an earlier version of an app
///
/// Its code and the manifest that was installed when it was deployed come back: actions, permissions and webhooks with it. It
/// serves once its process is ready; when it does not get there, everything stays as it is. Going to the version that serves
/// changes nothing. Tables go back with the manifest; what loses data needs `acceptLoss`.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/rollback", tag = "apps", params(("app_id" = AppId, Path)),
    request_body = RollbackRequest, responses((status = 200, body = RolledBack), Problems))]
async fn rollback(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
    Json(request): Json<RollbackRequest>,
) -> Result<Body<RolledBack>, Problem> {
    let (apps, by, app) = (Arc::clone(&node.apps), Arc::clone(caller.principal()), id.clone());
    let (number, consent) = (request.version, Consent::given(request.accept_loss));
    let serving = finish(&node, &id, async move { apps.roll_back(&by, &app, number, consent).await }).await?;
    Ok(Body(RolledBack {
        message: format!("app '{id}' is back at version {}", serving.number),
        deployment_id: serving.deployment.id,
        version: serving.number,
        manifest_version: serving.manifest_version,
        entry_point: serving.deployment.entry_point,
    }))
}

/// List the versions of an app, newest first
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/versions", tag = "apps", params(("app_id" = AppId, Path), ListFilter),
    responses((status = 200, body = VersionPage), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::DeployApps>,
    Path(id): Path<AppId>,
    Query(filter): Query<ListFilter>,
) -> Result<Body<VersionPage>, Problem> {
    let limit = page::limit(filter.limit)?;
    let before = filter.cursor.map(|cursor| page::read(&cursor).map(i32::from_be_bytes)).transpose()?;
    let mut rows = node.apps.versions(&caller.tenant, &id, before, limit + page::ONE_MORE).await?;
    let next_cursor = page::cut(&mut rows, limit, |row| row.number.to_be_bytes());
    Ok(Body(VersionPage { data: rows.into_iter().map(Version::from).collect(), next_cursor }))
}

/// Goes on when the client hangs up: half a deployment helps nobody. Then drops what is remembered of the app.
async fn finish(
    node: &Arc<Node>,
    id: &AppId,
    work: impl Future<Output = Result<Activated, Error>> + Send + 'static,
) -> Result<Activated, Problem> {
    let activated = node.background.spawn(trace::carry(work)).await.map_err(Problem::internal)??;
    node.apply(&Change::App(id.clone()));
    node.identity.forget();
    Ok(activated)
}

async fn read_manifest(mut field: Field<'_>) -> Result<Value, Problem> {
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        text.extend_from_slice(&chunk);
        if text.len() > LARGEST_MANIFEST {
            return Err(Problem::new(Code::PayloadTooLarge, "The manifest is larger than 1 MiB."));
        }
    }
    parse(&text)
}

/// Installing a manifest needs its own right, as it does without an archive.
fn may_install(caller: &Principal) -> Result<(), Problem> {
    let keys = rights::InstallApps::KEYS;
    if keys.iter().any(|key| caller.permissions.allows(key)) { Ok(()) } else { Err(denied(&keys.join(" or "))) }
}
