//! Starting, stopping and starting again: keys, settings, the data directory, the database.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use weft_server::{Clock, ServeArgs, Server, Settings};
use weft_testkit::{
    Api, TestServer,
    database::{TestDatabase, runtime_dir},
    server::{PASSWORD, url},
};
use weft_vault::MasterKey;

use crate::fixtures::eventually;

const ME: &str = "/api/v1/auth/me";

/// A data directory that the accounts of the server's children can pass through.
pub fn data_dir() -> TempDir {
    let folder = tempfile::Builder::new().prefix("weft-data-").tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("permissions can be set");
    folder
}

/// What a server on this data directory is started with; it runs a database of its own.
pub fn arguments(data_dir: &Path) -> ServeArgs {
    ServeArgs {
        listen: Some("127.0.0.1:0".to_owned()),
        data_dir: Some(data_dir.to_owned()),
        runtime_dir: Some(runtime_dir()),
        ..ServeArgs::default()
    }
}

pub async fn start(arguments: ServeArgs) -> anyhow::Result<Server> {
    Server::start(Settings::load(arguments)?, Clock::default()).await
}

/// The whole of why a server does not start on the data of `test`.
async fn refusal(test: &TestServer, change: impl FnOnce(ServeArgs) -> ServeArgs) -> String {
    let arguments = ServeArgs { database_url: Some(test.database.url.clone()), ..arguments(test.data_dir.path()) };
    let error = start(change(arguments)).await.err().expect("the server does not start");
    format!("{error:#}")
}

fn read(test: &TestServer, name: &str) -> String {
    fs::read_to_string(test.data_path(name)).expect("the file can be read")
}

fn write(test: &TestServer, name: &str, content: &str) {
    fs::write(test.data_path(name), content).expect("the file can be written");
}

fn id(key: &str) -> String {
    MasterKey::from_hex(key).expect("a key").id()
}

async fn register(api: &Api) {
    api.post("/api/v1/auth/register", json!({ "email": "alice@example.com", "password": PASSWORD })).await.expect(201);
}

async fn login(api: &Api) -> Api {
    let body = json!({ "email": "alice@example.com", "password": PASSWORD });
    api.clone().with_token(api.post("/api/v1/auth/login", body).await.expect(200).text("/accessToken"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_knows_its_users_and_their_sessions() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    server.restart().await;
    let alice = alice.at(server.url());
    assert_eq!(alice.get(ME).await.expect(200).text("/email"), "alice@example.com");
    alice.post("/api/v1/auth/refresh", json!({ "refreshToken": alice.refresh_token })).await.expect(200);
    assert_eq!(server.login("alice@example.com").await.get("/api/v1/permissions").await.value("/permissions"), json!(["*"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_master_key_stops_the_server_from_starting_and_both_keys_are_named() {
    let mut server = TestServer::start().await;
    server.stop().await;
    let right = read(&server, "master.key");
    let wrong = "5".repeat(64);
    write(&server, "master.key", &wrong);
    let from_file = refusal(&server, |arguments| arguments).await;
    write(&server, "master.key", &right);
    let from_environment = refusal(&server, |arguments| ServeArgs { master_key: Some(wrong.clone()), ..arguments }).await;
    for message in [from_file, from_environment] {
        for part in [&id(&wrong), &id(&right), "WEFT_MASTER_KEY", "master.key"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains(&wrong) && !message.contains(right.trim()), "{message}");
    }
    server.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_without_a_whole_key_stops_the_server_from_starting() {
    let mut server = TestServer::start().await;
    server.stop().await;
    for name in ["master.key", "jwt.key"] {
        let whole = read(&server, name);
        for broken in ["", "\n", &whole[..32], "not a key"] {
            write(&server, name, broken);
            let message = refusal(&server, |arguments| arguments).await;
            assert!(message.contains(name) && message.contains("64 hexadecimal digits"), "{name} {broken:?}: {message}");
        }
        write(&server, name, &whole);
    }
    server.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_files_are_for_the_server_alone() {
    let server = TestServer::start().await;
    for name in ["master.key", "jwt.key"] {
        let mode = fs::metadata(server.data_path(name)).expect("the file exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_the_environment_leave_no_files() {
    let arguments = ServeArgs { master_key: Some("a".repeat(64)), jwt_secret: Some("b".repeat(64)), ..ServeArgs::default() };
    let server = TestServer::start_with(arguments).await;
    server.user("alice").await.get(ME).await.expect(200);
    assert!(!server.data_path("master.key").exists() && !server.data_path("jwt.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_interrupted_after_its_commit_is_finished_at_the_next_start() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let old = read(&server, "master.key");
    alice.post("/api/v1/vault/rotate-key", json!({})).await.expect(200);
    server.stop().await;
    // As if the process had ended between the commit and the renaming of the file.
    let new = read(&server, "master.key");
    assert_ne!(new, old);
    write(&server, "master.key", &old);
    write(&server, "master.key.next", &new);
    server.restart().await;
    assert_eq!(read(&server, "master.key"), new);
    assert!(!server.data_path("master.key.next").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_interrupted_before_its_commit_left_everything_as_it_was() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let key = read(&server, "master.key");
    server.stop().await;
    write(&server, "master.key.next", &"7".repeat(64));
    server.restart().await;
    assert_eq!(read(&server, "master.key"), key);
    alice.at(server.url()).post("/api/v1/vault/rotate-key", json!({})).await.expect(200);
    server.restart().await;
    assert_ne!(read(&server, "master.key").trim(), "7".repeat(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_directory_is_refused() {
    let server = TestServer::start().await;
    let message = refusal(&server, |arguments| arguments).await;
    for part in ["another server", &std::process::id().to_string(), &server.data_path("").display().to_string(), "--data-dir"] {
        assert!(message.contains(part.trim_end_matches('/')), "{message}");
    }
    server.anonymous().get("/health/ready").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_what_to_do() {
    let server = TestServer::start().await;
    let address = server.url().replace("http://", "");
    let (other, listen) = (data_dir(), Some(address.clone()));
    let taken = start(ServeArgs { listen, ..arguments(other.path()) }).await.err().expect("taken");
    let message = format!("{taken:#}");
    assert!(message.contains(&address) && message.contains("--listen"), "{message}");
}

#[test]
fn all_problems_of_the_settings_are_reported_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weft.toml");
    fs::write(&file, "registration = \"sometimes\"\negress_allow = [\"10.0.0.0/99\"]\ncors_origins = [\"*\"]\n")
        .expect("written");
    let arguments = ServeArgs {
        listen: Some("everywhere".into()),
        public_url: Some("ftp://example.com".into()),
        database_url: Some("hunter2".into()),
        log_format: Some("xml".into()),
        log: Some("info,=".into()),
        otlp_endpoint: Some("collector".into()),
        master_key: Some("hunter2".into()),
        jwt_secret: Some("hunter2".into()),
        config: Some(file),
        ..ServeArgs::default()
    };
    let message = Settings::load(arguments).expect_err("wrong settings").to_string();
    for setting in [
        "listen:",
        "public_url:",
        "database_url:",
        "registration:",
        "egress_allow:",
        "cors_origins:",
        "log.format:",
        "log.filter:",
        "telemetry.otlp_endpoint:",
        "WEFT_MASTER_KEY:",
        "WEFT_JWT_SECRET:",
        "the settings have 11 problems",
    ] {
        assert!(message.contains(setting), "{setting} {message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_settings_file_that_does_not_parse_is_refused_without_quoting_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weft.toml");
    fs::write(&file, "listen = \"127.0.0.1:1\"\ndatabase_url = \"postgres://weft:hunter2@db/weft\n").expect("written");
    let arguments = |config| ServeArgs { config: Some(config), ..ServeArgs::default() };
    let message = Settings::load(arguments(file.clone())).expect_err("a typing mistake").to_string();
    assert!(message.contains(&file.display().to_string()) && message.contains("line 2"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let absent = Settings::load(arguments(folder.path().join("absent.toml"))).expect_err("no file").to_string();
    assert!(absent.contains("absent.toml"), "{absent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_start_at_the_same_time_on_one_empty_database() {
    let database = TestDatabase::create().await;
    let (base, name) = database.url.rsplit_once('/').expect("a URL with a path");
    let mut admin = PgConnection::connect(&database.url).await.expect("connected");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}_empty"))).execute(&mut admin).await.expect("created");
    let folders = [data_dir(), data_dir()];
    let node = |folder: &TempDir| {
        start(ServeArgs {
            database_url: Some(format!("{base}/{name}_empty")),
            master_key: Some("a".repeat(64)),
            jwt_secret: Some("b".repeat(64)),
            ..arguments(folder.path())
        })
    };
    let (first, second) = tokio::join!(node(&folders[0]), node(&folders[1]));
    let (first, second) = (first.expect("the first one starts"), second.expect("the second one starts"));
    register(&Api::new(url(&first))).await;
    let alice = login(&Api::new(url(&second))).await;
    alice.at(url(&first)).get(ME).await.expect(200);
    for server in [first, second] {
        server.stop().await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_database_of_its_own_survives_stopping_and_being_killed() {
    let folder = data_dir();
    let first = start(arguments(folder.path())).await.expect("started");
    let alice = Api::new(url(&first));
    register(&alice).await;
    let alice = login(&alice).await;
    assert_eq!(alice.get("/api/v1/status").await.expect(200).value("/postgres"), json!({ "state": "online", "embedded": true }));
    first.stop().await.expect("stopped");

    let path = folder.path().to_owned();
    let killed = std::thread::spawn(move || {
        // A runtime that is dropped takes every task of the server with it, wherever it is.
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let server = runtime.block_on(start(arguments(&path))).expect("started again");
        let status = runtime.block_on(alice.clone().at(url(&server)).get(ME)).status;
        drop(server);
        (alice, status)
    });
    let (alice, status) = killed.join().expect("no panic");
    assert_eq!(status, 200);

    let last = start(arguments(folder.path())).await.expect("started after being killed");
    alice.at(url(&last)).get(ME).await.expect(200);
    last.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_database_that_is_killed_comes_back_by_itself() {
    let folder = data_dir();
    let server = start(arguments(folder.path())).await.expect("started");
    let api = Api::new(url(&server));
    register(&api).await;
    let alice = login(&api).await;
    let postmaster = || -> Option<i32> {
        fs::read_to_string(folder.path().join("postgres/postmaster.pid")).ok()?.lines().next()?.parse().ok()
    };
    for _ in 0..2 {
        let killed = postmaster().expect("PostgreSQL runs");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed), nix::sys::signal::Signal::SIGKILL).expect("killed");
        eventually("PostgreSQL runs again", async || postmaster().filter(|now| *now != killed)).await;
        let me = async || Some(alice.get(ME).await).filter(|answer| answer.status == 200);
        let me = eventually("the database answers", me).await;
        assert_eq!(me.text("/email"), "alice@example.com");
    }
    server.stop().await.expect("stopped in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_folder_that_is_none_is_refused_before_anything_is_made() {
    let folder = data_dir();
    let nowhere = folder.path().join("nowhere");
    let error =
        start(ServeArgs { runtime_dir: Some(nowhere), ..arguments(folder.path()) }).await.err().expect("it does not start");
    let message = format!("{error:#}");
    assert!(message.contains("nowhere") && message.contains("--runtime-dir"), "{message}");
    let made: Vec<_> = fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(made, ["lock"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_a_newer_server_is_refused_in_plain_words() {
    let mut server = TestServer::start().await;
    server.stop().await;
    let mut connection = PgConnection::connect(&server.database.url).await.expect("connected");
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (999999, 'later', true, '', 0)";
    sqlx::raw_sql(newer).execute(&mut connection).await.expect("done");
    let message = refusal(&server, |arguments| arguments).await;
    assert!(message.contains("newer Weft") && message.contains("999999"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_out_of_reach_is_said_to_be_that() {
    let folder = data_dir();
    let url = Some("postgres://weft:a-password@127.0.0.1:1/weft".to_owned());
    let error = start(ServeArgs { database_url: url, ..arguments(folder.path()) }).await.err().expect("it does not start");
    let message = format!("{error:#}");
    assert!(message.contains("refused") && !message.contains("a-password"), "{message}");
}
