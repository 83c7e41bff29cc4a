//! Starting a server, serving, and shutting it down in order.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::{ServiceExt, extract::Request};
use chrono::{DateTime, Utc};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;
use uuid::Uuid;
use weft_jail::SystemResolver;
use weft_model::{RunId, Secret};
use weft_postgres::Binaries;
use weft_workers::{Confinement, Endpoint, Host, HostSettings, Limits};

use crate::{
    apps::{self, Apps, Backend, Installer, Machine},
    audit::Audit,
    authority::Authority,
    clock::Clock,
    config::{DEFAULT, Jail, ServeArgs, Settings},
    connections::Connections,
    data::{self, BackendSql, Records},
    db::{self, embedded::Embedded, notify},
    events,
    files::{Files, Storage},
    hooks::{self, Hooks},
    host::{Accounts, DataDir, Keys, Runtime, Signals, find_bun, precedence},
    http::{self, outbound::Outbound},
    identity::{Identity, Oidc, Policy},
    integrations::{Indexes, Integrations},
    jobs::{self, Crons, Jobs},
    namespaces::Namespaces,
    node::Node,
    polls::Polls,
    runs::{Admission, Company, Runs},
    secrets::Vault,
    telemetry::{self, Telemetry},
    tenants::Tenants,
    webhooks::{self, Webhooks},
};

/// How long requests in flight may take to finish once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How often expired sessions, old keys and abandoned runs are tidied up.
const TIDY: Duration = Duration::from_secs(30);

/// A server that is running.
pub struct Server {
    address: SocketAddr,
    node: Arc<Node>,
    serving: JoinHandle<std::io::Result<()>>,
    writers: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    database: Option<Embedded>,
    node_id: Uuid,
    /// Ends the wait for requests.
    hurry: CancellationToken,
    _data_dir: DataDir,
}

/// Runs a server until it is told to stop by SIGTERM, SIGINT or SIGHUP. A second one ends the wait for requests.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    if args.print_config {
        print!("{DEFAULT}");
        return Ok(());
    }
    let mut settings = Settings::load(args)?;
    let telemetry = Telemetry::start(&settings)?;
    if settings.workers.real_time {
        settings.precedence = precedence().await;
    }
    let mut server = Server::start(settings, Clock::default()).await?;
    println!("Weft is ready at {}", server.node.url("/"));
    println!("API reference: {}   Next: weft login {}", server.node.url("/docs"), server.node.url(""));
    let mut signals = Signals::listen()?;
    let ended = server.until_stopped(&mut signals).await;
    let hurry = server.hurry.clone();
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!("server.stop: {name} once more, requests are not waited for");
        hurry.cancel();
    });
    server.stop().await?;
    telemetry.stop();
    ended
}

impl Server {
    /// Starts everything in order: data directory, keys, database, vault, workers, HTTP.
    pub async fn start(settings: Settings, clock: Clock) -> anyhow::Result<Self> {
        let data_dir = DataDir::take(&settings.data_dir)?;
        let keys = Keys::new(data_dir.path());
        let candidates = Runtime::candidates(settings.runtime_dir.as_deref())?;
        let accounts = Accounts::if_root();
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!("cannot listen on {}: is another server running there? Choose another with --listen", settings.listen)
        })?;
        // Workers upload files here; they reach nothing else of the server.
        let side = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen for uploads of workers")?;
        let (address, door) = (listener.local_addr()?, side.local_addr()?);
        let settings = with_public_url(settings, address)?;
        let (database, options) = database(&settings, &data_dir, &candidates).await?;
        let pool = db::connect(options.clone(), settings.max_connections).await?;
        let records = Arc::new(Records::open(options.clone(), settings.max_connections / 2));
        let vault = Arc::new(open_vault(&pool, &clock, &keys, &settings).await?);
        let authority = Arc::new(Authority::open((pool.clone(), clock.clone()), Arc::clone(&vault)).await?);
        let runtime = Runtime::prepare(&data_dir, &candidates, accounts.map(|accounts| accounts.any_worker()))?;
        let background = TaskTracker::new();

        let backend = Arc::new(Backend::default());
        let workers = Host::new(worker_settings(&runtime, (address, door), &settings, &options), Arc::clone(&backend));
        let machine = machine(&data_dir, runtime.bun, (accounts, clock.clone()), &settings)?;
        let shared = || (pool.clone(), clock.clone());
        let sql = Arc::new(BackendSql::open(shared(), &vault, &options, settings.sql).await);
        let keeping = (Arc::clone(&vault), Arc::clone(&sql));
        let apps = Arc::new(Apps::new(shared(), keeping, machine, workers, background.clone()));
        apps.make_missing_tables().await?;
        if let Err(error) = data::tidy(&pool, clock.now(), settings.records_kept).await {
            tracing::warn!(%error, "cannot make room for the audit of records");
        }
        let node_id = RunId::generate(clock.now()).as_uuid();
        let company = if database.is_some() { Company::Alone } else { Company::Others };
        let (runs, mut writers) = Runs::start(shared(), node_id, company);
        let (webhooks, delivering) = Webhooks::start(shared(), Arc::clone(&vault), node_id);
        let (audit, noticing) = Audit::start(shared(), Arc::clone(&authority), issuer(&settings));
        let audit = Arc::new(audit);
        writers.extend([delivering, noticing]);
        let (admission, taking) = Admission::start(pool.clone(), clock.clone());
        writers.push(taking);
        let (jobs, queueing) = Jobs::start(pool.clone(), clock.clone(), node_id);
        writers.extend(queueing);
        let policy = Policy { registration_open: settings.registration_open, password_login: settings.password_login };
        let named = (Arc::clone(&authority), Arc::clone(&audit), issuer(&settings));
        let identity = Arc::new(Identity::new(shared(), keys.signing(&settings)?, named, policy));
        let outbound = Arc::new(Outbound::new(Arc::clone(&settings.egress_allow), SystemResolver)?);
        let public_url = settings.public_url.clone().context("the public URL follows from the address")?;
        let integrations = Arc::new(Integrations::new(shared(), Arc::clone(&vault), Arc::clone(&apps)));
        let outside = (Arc::clone(&outbound), public_url.clone());
        let connections = Connections::new(shared(), Arc::clone(&vault), Arc::clone(&integrations), outside, background.clone());
        let storage = Storage::open(&settings.files.target, data_dir.path().join("files"))
            .context("cannot open the store of files (settings [files])")?;
        let node = Arc::new(Node {
            files: Files::new(shared(), Arc::clone(&vault), (storage, settings.files.limits), door),
            oidc: Oidc::new(Arc::clone(&identity), Arc::clone(&vault), (Arc::clone(&outbound), clock.clone()), public_url),
            catalog: Indexes::new(settings.catalog.clone(), Arc::clone(&outbound), clock.clone()),
            outbound,
            identity,
            integrations,
            connections: Arc::new(connections),
            crons: Crons::new(pool.clone(), clock.clone()),
            hooks: Hooks::new(pool.clone(), clock.clone()),
            polls: Polls::new(pool.clone(), clock.clone()),
            tenants: Tenants::new(shared(), Arc::clone(&vault), Arc::clone(&apps)),
            namespaces: Namespaces::new(shared()),
            metrics: telemetry::metrics()?,
            started_at: clock.now(),
            stopping: CancellationToken::new(),
            account: accounts,
            settings,
            clock,
            pool,
            records,
            keys,
            background,
            authority,
            audit,
            vault,
            apps,
            sql,
            runs,
            admission,
            jobs,
            webhooks,
        });
        backend.node.set(&node)?;
        let mut background = start_background(&node, node_id).await?;
        background.push(tokio::spawn(serve_door(side, Arc::clone(&node))));
        let serving = tokio::spawn(serve(listener, Arc::clone(&node)));
        tracing::info!(%address, data_dir = %data_dir.path().display(), node.id = %node_id, "server.start");
        Ok(Self {
            address,
            node,
            serving,
            writers,
            background,
            database,
            node_id,
            hurry: CancellationToken::new(),
            _data_dir: data_dir,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The time, as this server sees it. For tests.
    pub fn now(&self) -> DateTime<Utc> {
        self.node.clock.now()
    }

    /// How many passwords were checked. For tests.
    pub fn password_checks(&self) -> u64 {
        self.node.identity.password_checks()
    }

    /// Waits for a signal, or for a part to fail that the server cannot be without.
    async fn until_stopped(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        let database = async {
            match &mut self.database {
                Some(database) => database.given_up().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            name = signals.next() => tracing::info!("server.stop: {name}"),
            reason = database => bail!("the embedded database does not run any more: {reason}"),
        }
        Ok(())
    }

    /// Stops accepting, lets requests finish, ends workers, writes what is left, stops the database.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.node.stopping.cancel();
        let abort = self.serving.abort_handle();
        let hurry = self.hurry;
        if in_time(&hurry, self.serving).await.is_none() {
            tracing::warn!("some requests did not finish in time");
            abort.abort();
        }
        self.node.background.close();
        in_time(&hurry, self.node.background.wait()).await;
        self.node.apps.stop_all().await;
        let mut background = self.background;
        if !ended(&mut background).await {
            tracing::warn!("something in the background did not finish in time");
            background.iter().for_each(JoinHandle::abort);
        }
        let (pool, records) = (self.node.pool.clone(), Arc::clone(&self.node.records));
        // The writers end when the node, which holds their other halves, is gone.
        drop(self.node);
        let mut writers = self.writers;
        if !ended(&mut writers).await {
            tracing::warn!("records were not written in time");
        }
        match tokio::time::timeout(DRAIN, Runs::leave(&pool, self.node_id)).await {
            Ok(Ok(())) => {}
            failed => tracing::warn!(?failed, "cannot sign off at the database"),
        }
        // A database that hangs does not take leave of anybody.
        if tokio::time::timeout(DRAIN, async { tokio::join!(records.close(), pool.close()) }).await.is_err() {
            tracing::warn!("the connections to the database did not end in time");
        }
        if let Some(database) = self.database {
            database.stop().await?;
        }
        tracing::info!("server.stopped");
        Ok(())
    }
}

/// Whether all tasks end within [`DRAIN`].
async fn ended(tasks: &mut [JoinHandle<()>]) -> bool {
    tokio::time::timeout(DRAIN, futures::future::join_all(tasks)).await.is_ok()
}

/// What comes of it, unless that takes longer than [`DRAIN`] or there is a hurry.
async fn in_time<T>(hurry: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    hurry.run_until_cancelled(tokio::time::timeout(DRAIN, work)).await?.ok()
}

async fn serve(listener: TcpListener, node: Arc<Node>) -> std::io::Result<()> {
    let stopping = node.stopping.clone();
    let service = ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(http::router(&node));
    drop(node);
    axum::serve(listener, service).with_graceful_shutdown(async move { stopping.cancelled().await }).await
}

async fn serve_door(listener: TcpListener, node: Arc<Node>) {
    let stopping = node.stopping.clone();
    let service = http::door(&node).into_make_service_with_connect_info::<SocketAddr>();
    drop(node);
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move { stopping.cancelled().await });
    if let Err(error) = serving.await {
        tracing::error!(%error, "workers cannot upload files any more");
    }
}

async fn start_background(node: &Arc<Node>, id: Uuid) -> sqlx::Result<Vec<JoinHandle<()>>> {
    let weak = Arc::downgrade(node);
    let listening = notify::listen(node.pool.clone(), (id, node.started_at), node.stopping.clone(), move |change| {
        if let Some(node) = weak.upgrade() {
            node.apply(&change);
        }
    });
    let listening = listening.await?;
    let starting = {
        let node = Arc::clone(node);
        async move {
            let stop = node.stopping.clone();
            tokio::select! { () = stop.cancelled() => {} () = node.apps.start_kept() => {} }
        }
    };
    let working = tokio::spawn(jobs::run(Arc::clone(node)));
    let ticking = tokio::spawn(jobs::run_crons(Arc::clone(node)));
    let relaying = tokio::spawn(hooks::run(Arc::clone(node)));
    let files = {
        let node = Arc::clone(node);
        tokio::spawn(async move { node.files.keep_tidy(&node.stopping).await })
    };
    let looking = {
        let node = Arc::clone(node);
        tokio::spawn(async move { node.catalog.keep_fresh(&node.stopping).await })
    };
    let (starting, tidying) = (tokio::spawn(starting), tokio::spawn(tidy(Arc::clone(node))));
    Ok(vec![listening, starting, tidying, working, ticking, relaying, files, looking])
}

async fn tidy(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(TIDY);
    loop {
        tokio::select! { () = node.stopping.cancelled() => return, _ = ticks.tick() => {} }
        match node.runs.tidy(node.settings.runs_kept).await {
            Ok(adopted) if adopted.is_empty() => {}
            Ok(adopted) => {
                let shared = Arc::clone(&node);
                node.background.spawn(async move { webhooks::repeat(&shared, adopted).await });
            }
            Err(error) => tracing::warn!(%error, "cannot tidy up runs"),
        }
        if let Err(error) = node.webhooks.tidy(node.settings.deliveries_kept).await {
            tracing::warn!(%error, "cannot tidy up webhook deliveries");
        }
        if let Err(error) = node.admission.tidy().await {
            tracing::warn!(%error, "cannot tidy up budgets");
        }
        if let Err(error) = node.connections.tidy().await {
            tracing::warn!(%error, "cannot tidy up connections");
        }
        if let Err(error) = node.jobs.tidy(node.settings.runs_kept).await {
            tracing::warn!(%error, "cannot tidy up jobs");
        }
        if let Err(error) = node.crons.tidy(node.settings.runs_kept).await {
            tracing::warn!(%error, "cannot tidy up the history of crons");
        }
        if let Err(error) = events::tidy(&node.pool).await {
            tracing::warn!(%error, "cannot remove events that everybody has had");
        }
        if let Err(error) = node.identity.tidy().await {
            tracing::warn!(%error, "cannot tidy up sessions");
        }
        if let Err(error) = node.oidc.tidy().await {
            tracing::warn!(%error, "cannot tidy up logins");
        }
        if let Err(error) = data::tidy(&node.pool, node.clock.now(), node.settings.records_kept).await {
            tracing::warn!(%error, "cannot tidy up the audit of records");
        }
        if let Err(error) = node.tenants.erase().await {
            tracing::warn!(%error, "cannot erase a deleted tenant yet");
        }
        if let Err(error) = node.audit.tidy().await {
            tracing::warn!(%error, "cannot sign checkpoints of the audit log");
        }
        if let Err(error) = node.authority.tidy().await {
            tracing::warn!(%error, "cannot tidy up signing keys");
        }
    }
}

/// The name of this server in tokens of machines: its address as others know it.
fn issuer(settings: &Settings) -> String {
    settings.public_url.as_ref().map_or("", Url::as_str).trim_end_matches('/').to_owned()
}

fn with_public_url(mut settings: Settings, address: SocketAddr) -> anyhow::Result<Settings> {
    if settings.public_url.is_none() {
        settings.public_url = Some(Url::parse(&format!("http://{address}"))?);
    }
    Ok(settings)
}

/// The database to use: the one that is named, else the embedded cluster.
async fn database(
    settings: &Settings,
    data_dir: &DataDir,
    candidates: &[PathBuf],
) -> anyhow::Result<(Option<Embedded>, PgConnectOptions)> {
    // Before anything is made that another runtime could not use.
    find_bun(candidates)?;
    if let Some(url) = &settings.database_url {
        return Ok((None, db::options(url.expose())?));
    }
    let binaries = Binaries::find(candidates)?;
    let (database, connection) = Embedded::start(weft_postgres::Settings::new(data_dir.path().to_owned(), binaries)).await?;
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&connection.socket_dir)
        .port(connection.port)
        .username(&connection.user)
        .password(Secret::new(connection.password).expose())
        .database(&connection.database);
    Ok((Some(database), options))
}

/// Opens the vault, taking over the key of a rotation that was interrupted after the database had changed.
async fn open_vault(pool: &PgPool, clock: &Clock, keys: &Keys, settings: &Settings) -> anyhow::Result<Vault> {
    let (current, next) = keys.master(settings)?;
    match Vault::open(pool.clone(), clock.clone(), current).await {
        Err(crate::secrets::Error::WrongMasterKey { given, expected }) => match next {
            Some(next) if next.id() == expected => {
                let vault = Vault::open(pool.clone(), clock.clone(), next).await?;
                keys.master_file().promote()?;
                Ok(vault)
            }
            _ => Err(crate::secrets::Error::WrongMasterKey { given, expected }.into()),
        },
        other => Ok(other?),
    }
}

fn worker_settings(
    runtime: &Runtime,
    (address, door): (SocketAddr, SocketAddr),
    all: &Settings,
    database: &PgConnectOptions,
) -> HostSettings {
    let mut settings = HostSettings::new(&runtime.bun, &runtime.prelude, format!("http://{address}"));
    settings.limits = Limits { precedence: all.precedence.clone(), ..all.workers.limits() };
    settings.confinement = (all.workers.jail != Jail::Off).then(|| Confinement {
        required: all.workers.jail == Jail::Require,
        guard: Arc::clone(&all.egress_allow),
        resolver: Arc::new(weft_jail::SystemResolver),
        own: door,
        closed: vec![Endpoint { host: database.get_host().to_lowercase(), port: database.get_port() }],
        readable: runtime.prelude.parent().map(Path::to_owned).into_iter().collect(),
    });
    settings
}

fn machine(
    data_dir: &DataDir,
    bun: PathBuf,
    (accounts, clock): (Option<Accounts>, Clock),
    settings: &Settings,
) -> anyhow::Result<Machine> {
    let (caches, uploads) = (data_dir.folder("packages", 0o711)?, data_dir.folder("uploads", 0o700)?);
    apps::tidy_uploads(&uploads).context("cannot tidy up the folder of uploads")?;
    let installer = accounts.map(|accounts| accounts.installer);
    Ok(Machine {
        apps: data_dir.folder("apps", 0o711)?,
        uploads,
        scratch: data_dir.folder("scratch", 0o711)?,
        installer: Installer::new((bun, caches), installer, settings, clock),
        accounts,
        versions_kept: settings.versions_kept,
    })
}
