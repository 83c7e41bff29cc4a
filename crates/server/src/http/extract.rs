//! Extractors whose rejections are problems: JSON bodies, path and query parameters, and the caller with its right.
//!
//! A handler names the right it needs in its signature: [`Authorized<R>`] for a permission, [`Caller`] for any valid token.
//! A handler with neither is public and has to say so in its OpenAPI annotation.

use std::{borrow::Cow, marker::PhantomData, ops::Deref, sync::Arc};

use axum::{
    body::{HttpBody, to_bytes},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use weft_model::{Fault, Principal, TenantId, manifest::fields::Piece};

use super::{
    BODY_LIMIT,
    problem::{Code, Problem},
};
use crate::node::Node;

/// A JSON body. Wrong syntax and wrong types answer 400 with the JSONPath of the fault.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonBytes(body) = JsonBytes::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

/// A body that says it is JSON, not parsed yet. An empty body counts as `{}`.
pub struct JsonBytes(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let typed = is_json(request.headers());
        let body = body_bytes(request, BODY_LIMIT).await?;
        if body.is_empty() {
            return Ok(Self(Bytes::from_static(b"{}")));
        }
        if typed {
            Ok(Self(body))
        } else {
            Err(Problem::new(
                Code::UnsupportedMediaType,
                "Send the body as JSON, with the header Content-Type: application/json.",
            ))
        }
    }
}

/// A body of any type, of `limit` bytes at most.
pub async fn body_bytes(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::PayloadTooLarge, "The body is larger than this route takes.");
    let body = request.into_body();
    // What is announced beyond the limit is refused before it is sent.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    to_bytes(body, limit).await.map_err(|error| {
        if error.into_inner().is::<LengthLimitError>() {
            too_large()
        } else {
            Problem::new(Code::InvalidRequest, "The body ended before it was complete.")
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// A header as text, when there is one.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| Problem::new(Code::InvalidRequest, format!("{name} must be visible ASCII characters.")))
}

/// Parses JSON and names the place of the first fault.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Keeping track of the place costs more than reading, so only who has a fault to name does it.
    serde_json::from_slice(body).or_else(|_| parse_with_path(body))
}

fn parse_with_path<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // A dot stands for the whole, a question mark for a member whose name never came.
        let path = match path.trim_end_matches(['.', '?']) {
            "" => "$".to_owned(),
            path => format!("$.{path}"),
        };
        let cause = error.into_inner();
        let code = if cause.is_data() { Code::ValidationFailed } else { Code::InvalidRequest };
        let what = if cause.is_data() { "The body is JSON but not of the expected shape" } else { "The body is not valid JSON" };
        Problem::new(code, format!("{what}: {cause}.")).with_faults(vec![Fault::new(path, cause.to_string())])
    })?;
    deserializer.end().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("The body has something after its JSON document: {error}."))
    })?;
    Ok(value)
}

/// Path parameters.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

impl From<axum::extract::rejection::PathRejection> for Problem {
    fn from(rejection: axum::extract::rejection::PathRejection) -> Self {
        Self::new(Code::InvalidRequest, format!("The path does not fit: {}.", rejection.body_text()))
    }
}

/// Query parameters.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

impl From<axum::extract::rejection::QueryRejection> for Problem {
    fn from(rejection: axum::extract::rejection::QueryRejection) -> Self {
        Self::new(Code::InvalidRequest, format!("The query string does not fit: {}.", rejection.body_text()))
    }
}

/// Anybody with a valid token.
pub struct Caller(pub Arc<Principal>);

impl FromRequestParts<Arc<Node>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let principal = node.identity.authenticate(token).await?;
        match parts.headers.get("x-tenant-id") {
            Some(named) if named.as_bytes() != principal.tenant.as_str().as_bytes() => Err(mismatch(&principal)),
            _ => Ok(Self(principal)),
        }
    }
}

/// Refuses a request that names another tenant than its token does.
pub fn same_tenant(caller: &Principal, named: Option<&TenantId>) -> Result<(), Problem> {
    match named {
        Some(named) if *named != caller.tenant => Err(mismatch(caller)),
        _ => Ok(()),
    }
}

fn mismatch(caller: &Principal) -> Problem {
    let message = format!("The token is for the tenant '{}', the request names another one.", caller.tenant);
    Problem::new(Code::TenantMismatch, message)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| {
            Problem::new(
                Code::Unauthenticated,
                "No access token. Log in with POST /api/v1/auth/login and send the header Authorization: Bearer <accessToken>.",
            )
        })
}

/// A right that a route needs: permission keys of which one must be held. `{name}` stands for the path parameter of that name.
pub trait Right: Send + Sync {
    const KEYS: &'static [&'static str];
    /// Whether it acts on the server as a whole, so that only members of the server's own tenant can have it.
    const OF_THE_INSTANCE: bool;

    /// The keys in their parts.
    fn patterns() -> &'static [Vec<Piece<'static>>];
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $([$of:ident])? $($key:literal)|+),* $(,)?) => {
        /// The rights that routes name.
        pub mod rights {
            use std::sync::LazyLock;

            use weft_model::manifest::fields::{Piece, pieces};

            use super::Right;

            $(
                $(#[$doc])*
                pub struct $name;
                impl Right for $name {
                    const KEYS: &'static [&'static str] = &[$($key),+];
                    const OF_THE_INSTANCE: bool = rights!(@ $($of)?);

                    fn patterns() -> &'static [Vec<Piece<'static>>] {
                        static PATTERNS: LazyLock<Vec<Vec<Piece<'static>>>> =
                            LazyLock::new(|| $name::KEYS.iter().map(|key| pieces(key)).collect());
                        &PATTERNS
                    }
                }
            )*
        }
    };
    (@ instance) => { true };
    (@) => { false };
}

rights! {
    /// Everything.
    Administrator = "*",
    InstallApps = "admin:apps.install" | "platform:apps.create",
    RemoveApps = "admin:apps.install",
    /// Deploying and removing what the catalog offers.
    ManageCatalog = "admin:apps.install",
    DeployApps = "admin:apps.deploy",
    InvokeApp = "app:{app_id}:invoke",
    /// The list of everybody's jobs.
    ReadJobs = "app:{app_id}:job.read",
    /// A job: one's own, or everybody's.
    SeeJob = "app:{app_id}:invoke" | "app:{app_id}:job.read" | "app:{app_id}:job.manage",
    ReadCrons = "app:{app_id}:cron.read",
    WriteCrons = "app:{app_id}:cron.write",
    TriggerCrons = "app:{app_id}:cron.trigger",
    ReadFiles = "app:{app_id}:file.read",
    WriteFiles = "app:{app_id}:file.write",
    ListBuckets = "storage:read" | "storage:*:read",
    CreateBuckets = "storage:admin" | "storage:*:admin",
    DeleteBuckets = "storage:admin" | "storage:{bucket}:admin",
    ReadObjects = "storage:read" | "storage:{bucket}:read",
    WriteObjects = "storage:write" | "storage:{bucket}:write",
    DeleteObjects = "storage:delete" | "storage:{bucket}:delete",
    ReadHooks = "app:{app_id}:hook.read",
    WriteHooks = "app:{app_id}:hook.write",
    ChangeJob = "app:{app_id}:invoke" | "app:{app_id}:job.manage",
    ReadRecords = "app:{app_id}:{entity}.read",
    CreateRecords = "app:{app_id}:{entity}.create",
    UpdateRecords = "app:{app_id}:{entity}.update",
    DeleteRecords = "app:{app_id}:{entity}.delete",
    ReadWebhooks = "app:{app_id}:webhook.read",
    ConfigureIntegration = "admin:integrations.configure" | "integration:{integration_id}:manage",
    CallAction = "integration:{integration_id}:{action_id}",
    ProxyIntegration = "integration:{integration_id}:proxy",
    ManageSecrets = "admin:secrets.manage",
    ManageServiceAccounts = "admin:service_accounts.manage",
    ReadAudit = "admin:audit.read",
    /// `canManageNamespaces`, for all of them.
    ManageNamespaces = "namespaces:manage",
    /// `canManageNamespaces`, for one.
    ManageNamespace = "namespaces:manage" | "namespace:{namespace_id}:manage",
    ManageTenants = [instance] "platform:tenants.manage",
    RotateVault = [instance] "admin:vault.rotate",
    RotateSigningKeys = [instance] "admin:signing_keys.rotate",
    /// Setting up single sign-on. Whoever can do that can make a provider that vouches for anybody, so it is not given alone.
    ManageSignOn = "*",
    /// Making links that log somebody in.
    Invite = "auth.invite",
}

/// A caller that holds the right `R`.
pub struct Authorized<R: Right> {
    principal: Arc<Principal>,
    right: PhantomData<R>,
}

impl<R: Right> Authorized<R> {
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }
}

impl<R: Right> Deref for Authorized<R> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<R: Right> FromRequestParts<Arc<Node>> for Authorized<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Problem> {
        let Caller(principal) = Caller::from_request_parts(parts, node).await?;
        let parameters = RawPathParams::from_request_parts(parts, node)
            .await
            .map_err(|_| Problem::new(Code::InvalidRequest, "The path is not valid UTF-8."))?;
        let keys: Vec<String> = R::patterns().iter().map(|key| fill(key, &parameters)).collect();
        if !keys.iter().any(|key| principal.permissions.allows(key)) {
            return Err(lacking(keys));
        }
        if R::OF_THE_INSTANCE && !principal.tenant.is_default() {
            let message = "This acts on the server as a whole: only administrators of its own tenant, 'default', may do it.";
            return Err(Problem::new(Code::Forbidden, message).requiring(keys));
        }
        Ok(Self { principal, right: PhantomData })
    }
}

/// The problem of a caller that lacks a permission.
pub fn denied(key: &str) -> Problem {
    lacking(vec![key.to_owned()])
}

/// The problem of a caller that has none of several permissions.
pub fn lacking(keys: Vec<String>) -> Problem {
    let named: Vec<_> = keys.iter().map(|key| if key == "*" { "* (administrator)" } else { key }).collect();
    let message = format!("Permission denied: {}. Ask an administrator for a role that grants it.", named.join(" or "));
    Problem::new(Code::Forbidden, message).requiring(keys)
}

/// In one go: what a parameter holds is never taken for the name of another.
fn fill(key: &[Piece], parameters: &RawPathParams) -> String {
    let value = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let text = |piece| match piece {
        Piece::Literal(text) => Cow::Borrowed(text),
        // A parameter that the path does not have is a key that nobody holds.
        Piece::Field(name) => value(name).map_or_else(|| format!("{{{name}}}").into(), Cow::Borrowed),
    };
    key.iter().copied().map(text).collect()
}
