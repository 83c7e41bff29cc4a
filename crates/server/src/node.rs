//! One running server and everything its parts share.

use std::sync::{Arc, Weak};

use anyhow::Context;
use chrono::{DateTime, Utc};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    apps::Apps,
    audit::Audit,
    authority::Authority,
    clock::Clock,
    config::Settings,
    connections::Connections,
    data::{BackendSql, Records},
    db::notify::Change,
    files::Files,
    hooks::Hooks,
    host::{Accounts, Keys},
    http::outbound::Outbound,
    identity::{Identity, Oidc},
    integrations::{Indexes, Integrations},
    jobs::{Crons, Jobs},
    namespaces::Namespaces,
    polls::Polls,
    runs::{Admission, Runs},
    secrets::Vault,
    tenants::Tenants,
    webhooks::Webhooks,
};

/// The parts of a running server. Handlers get it as their state.
pub struct Node {
    pub settings: Settings,
    pub clock: Clock,
    pub pool: PgPool,
    /// For records of apps alone.
    pub records: Arc<Records>,
    pub keys: Keys,
    pub account: Option<Accounts>,
    pub started_at: DateTime<Utc>,
    pub metrics: PrometheusHandle,
    /// Cancelled when the node begins to shut down.
    pub stopping: CancellationToken,
    /// Work that outlives the request that began it; shutting down waits for it.
    pub background: TaskTracker,
    pub identity: Arc<Identity>,
    pub oidc: Oidc,
    /// For addresses that come from outside.
    pub outbound: Arc<Outbound>,
    /// Integrations that do not come with the server.
    pub catalog: Indexes,
    pub authority: Arc<Authority>,
    pub audit: Arc<Audit>,
    pub vault: Arc<Vault>,
    pub apps: Arc<Apps>,
    pub sql: Arc<BackendSql>,
    pub tenants: Tenants,
    pub namespaces: Namespaces,
    pub integrations: Arc<Integrations>,
    pub connections: Arc<Connections>,
    pub runs: Runs,
    pub admission: Admission,
    pub jobs: Jobs,
    pub crons: Crons,
    pub hooks: Hooks,
    pub polls: Polls,
    pub files: Files,
    pub webhooks: Webhooks,
}

impl Node {
    /// A URL of this server as others reach it.
    pub fn url(&self, path: &str) -> String {
        let base = self.settings.public_url.as_ref().map_or("", Url::as_str);
        format!("{}{path}", base.trim_end_matches('/'))
    }

    /// Drops what is remembered of something that changed, here or on another node.
    pub fn apply(self: &Arc<Self>, change: &Change) {
        self.jobs.apply(change);
        match change {
            // Of interest to jobs only.
            Change::Ready(_) | Change::Nodes => {}
            Change::Events => self.hooks.wake(),
            Change::Identity => self.identity.forget(),
            Change::Connection(id) => self.connections.forget(*id),
            Change::Connections(tenant, by) => self.connections.hear_of_choices(tenant, *by),
            Change::Secrets => self.forget_configurations(),
            Change::Vault => {
                self.forget_configurations();
                self.follow_vault();
            }
            Change::SigningKeys => self.follow_signing_keys(),
            Change::AppSecrets(app) => {
                self.forget_configurations();
                self.apps.restart(app);
            }
            Change::App(app) => {
                self.sql.forget(app);
                self.files.wake();
                self.apps.forget_frontend(app);
                self.forget_apps();
                self.apps.follow(app);
            }
            Change::Everything => {
                self.hooks.wake();
                self.identity.forget();
                self.connections.forget_all();
                self.sql.forget_all();
                self.apps.forget_frontends();
                self.forget_apps();
                self.follow_vault();
                self.apps.follow_all();
                self.follow_signing_keys();
            }
        }
    }

    /// Learns of the keys of new tenants and forgets those of deleted ones.
    fn follow_vault(self: &Arc<Self>) {
        let node = Arc::clone(self);
        self.background.spawn(async move {
            if let Err(error) = node.vault.reload().await {
                tracing::warn!(%error, "cannot load the keys of the vault");
            }
        });
    }

    /// Loads the signing keys anew and forgets what was checked with the ones before.
    fn follow_signing_keys(self: &Arc<Self>) {
        let node = Arc::clone(self);
        self.background.spawn(async move {
            if let Err(error) = node.authority.reload().await {
                tracing::warn!(%error, "cannot load the signing keys");
            }
            node.identity.forget();
        });
    }

    fn forget_apps(&self) {
        self.apps.forget();
        self.forget_configurations();
        self.webhooks.forget();
    }

    fn forget_configurations(&self) {
        self.integrations.forget();
        self.admission.answers.forget();
    }
}

/// A way back to the node for parts that are made before it.
#[derive(Default)]
pub struct NodeHandle(std::sync::OnceLock<Weak<Node>>);

impl NodeHandle {
    pub fn set(&self, node: &Arc<Node>) -> anyhow::Result<()> {
        self.0.set(Arc::downgrade(node)).ok().context("the node is set once")
    }

    /// The node, unless it is not ready yet or gone already.
    pub fn get(&self) -> Option<Arc<Node>> {
        self.0.get().and_then(Weak::upgrade)
    }
}
