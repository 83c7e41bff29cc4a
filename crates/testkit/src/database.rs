//! A PostgreSQL for the tests of one binary, and a database of its own for each test.
//!
//! The cluster lives in memory, where the machine has a file system for that, else in the temporary folder: cloning a database makes
//! hundreds of files, which costs a disk more than all else about a test. It is kept between runs, because creating one takes longer
//! than most tests. One process uses it at a time. A test's database is a clone of one that was migrated once, and goes with the test.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::sys::statvfs::statvfs;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Mutex,
};
use weft_postgres::{Binaries, Cluster, Settings};

const TEMPLATE: &str = "weft_template";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// The cluster outlives the runtime of any single test.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime for the cluster"));

static SHARED: Mutex<Weak<SharedCluster>> = Mutex::const_new(Weak::new());
static COUNTER: AtomicU32 = AtomicU32::new(0);

struct SharedCluster {
    cluster: Option<Cluster>,
    _lock: File,
}

impl Drop for SharedCluster {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // The last test may end inside a runtime, where blocking is not allowed; a thread of its own may block.
            let stopping = std::thread::spawn(move || RUNTIME.block_on(cluster.stop()));
            let _ = stopping.join();
        }
    }
}

/// A database that one test has to itself.
pub struct TestDatabase {
    pub url: String,
    name: String,
    cluster: Arc<SharedCluster>,
}

impl Drop for TestDatabase {
    /// Waits until it is gone: what went on in the background might have the cluster last, and nobody would stop that.
    fn drop(&mut self) {
        let (address, name) = (url(&self.cluster, "weft"), std::mem::take(&mut self.name));
        let removing = std::thread::spawn(move || {
            RUNTIME.block_on(async move {
                let mut admin = PgConnection::connect(&address).await?;
                sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await
            })
        });
        // What stays is removed by the next run.
        let _ = removing.join();
    }
}

impl TestDatabase {
    /// A migrated, empty database.
    pub async fn create() -> Self {
        RUNTIME.spawn(create()).await.expect("creating a database does not panic")
    }

    /// Brings about what the product has no route for.
    pub async fn execute(&self, statement: &'static str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database accepts connections");
        sqlx::raw_sql(statement).execute(&mut connection).await.expect("the statement runs");
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database accepts connections");
        let statement = AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("the table can be read")
    }
}

async fn create() -> TestDatabase {
    let cluster = shared().await;
    let name = format!("test_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::connect(&url(&cluster, "weft")).await.expect("the cluster accepts connections");
    let statement = format!("create database {name} template {TEMPLATE} strategy file_copy");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.expect("the template can be cloned");
    TestDatabase { url: url(&cluster, &name), name, cluster }
}

async fn shared() -> Arc<SharedCluster> {
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(start().await);
    *shared = Arc::downgrade(&cluster);
    cluster
}

async fn start() -> SharedCluster {
    let folder = folder();
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let lock = File::create(folder.join("lock")).expect("the temporary folder is writable");
    let lock =
        tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.expect("locking does not panic").expect("a lock");
    let binaries = Binaries::find(&[runtime_dir()]).expect("PostgreSQL is installed: run `make runtime`");
    let mut settings = Settings::new(folder, binaries);
    for (name, value) in
        [("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off"), ("max_connections", "300")]
    {
        settings.options.insert(name.to_owned(), value.to_owned());
    }
    let cluster = SharedCluster { cluster: Some(Cluster::start(settings).await.expect("the cluster starts")), _lock: lock };
    prepare(&cluster).await;
    cluster
}

/// Removes what earlier runs left and migrates the template.
async fn prepare(cluster: &SharedCluster) {
    let mut admin = PgConnection::connect(&url(cluster, "weft")).await.expect("the cluster accepts connections");
    let old: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname like 'test\\_%' or datname = 'weft_template'")
            .fetch_all(&mut admin)
            .await
            .expect("databases can be listed");
    for name in old {
        sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await.expect("dropped");
    }
    sqlx::raw_sql(AssertSqlSafe(format!("create database {TEMPLATE}"))).execute(&mut admin).await.expect("created");
    let template = PgPool::connect(&url(cluster, TEMPLATE)).await.expect("the template accepts connections");
    MIGRATIONS.run(&template).await.expect("the migrations run");
    // What every server does at its first start, once for all of them.
    sqlx::raw_sql("select weft_sql.close_doors()").execute(&template).await.expect("closed");
    template.close().await;
}

fn url(cluster: &SharedCluster, database: &str) -> String {
    let mut connection = cluster.cluster.as_ref().expect("present until dropped").connection();
    database.clone_into(&mut connection.database);
    connection.url()
}

/// One folder for each test binary of each checkout, within reach of the account that PostgreSQL runs as.
fn folder() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    std::env::current_exe().unwrap_or_default().parent().map(Path::to_path_buf).hash(&mut hasher);
    let program = std::env::current_exe().unwrap_or_default();
    let name = program.file_stem().unwrap_or_default().to_string_lossy().split('-').next().unwrap_or("test").to_owned();
    let user = std::env::var_os("USER").unwrap_or_else(|| "anybody".into()).to_string_lossy().into_owned();
    place().join(format!("weft-tests-{user}-{name}-{:08x}", hasher.finish() & 0xffff_ffff))
}

/// In memory, where there is room: containers often have a few megabytes only.
fn place() -> PathBuf {
    const ROOM: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let free = statvfs(memory).map(|system| system.blocks_available() * system.fragment_size());
    if free.is_ok_and(|free| free >= ROOM) { memory.to_owned() } else { std::env::temp_dir() }
}

/// The folder with Bun and PostgreSQL.
pub fn runtime_dir() -> PathBuf {
    let configured = std::env::var_os("WEFT_RUNTIME_DIR").map(PathBuf::from);
    configured.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime"))
}
