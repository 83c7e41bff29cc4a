//! Deployments while a file system is really full. Mounting one needs root; for others these tests have nothing to say.

use std::{fs, io::Write, path::PathBuf, process::Command};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use weft_server::ServeArgs;
use weft_testkit::{
    Answer, Api, TestServer,
    api::archive,
    npm::{FakeRegistry, Release},
};

use crate::fixtures::{eventually, integration};

/// A small file system of its own, gone when dropped.
struct Small {
    path: PathBuf,
}

impl Small {
    /// Mounts one of this many KiB; nothing where that is not allowed.
    fn mount(path: PathBuf, size: u32) -> Option<Self> {
        fs::create_dir_all(&path).expect("the data directory is writable");
        let options = format!("size={size}k,mode=0711");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "weft-test"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { path })
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).expect("a file");
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("removed");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

fn backend(version: &str) -> String {
    format!("defineIntegration({{ actions: {{ version: () => '{version}' }} }});")
}

async fn version(api: &Api) -> Value {
    api.call("chat", "version", json!({})).await.expect(200).json
}

#[track_caller]
fn assert_full(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (507, "storage_full"), "{answer:?}");
}

fn entries(server: &TestServer, folder: &str) -> usize {
    fs::read_dir(server.data_path(folder)).expect("a folder").count()
}

async fn rows(server: &TestServer) -> i64 {
    let mut connection = PgConnection::connect(&server.database.url).await.expect("connected");
    let count = sqlx::query_scalar("select (select count(*) from deployments) + (select count(*) from deployment_chunks)");
    count.fetch_one(&mut connection).await.expect("counted")
}

/// Version "one" serves, and nothing is there of any other.
async fn assert_untouched(server: &TestServer, admin: &Api) {
    assert_eq!(version(admin).await, "one");
    eventually("nothing half-written stays", async || {
        (entries(server, "apps/chat") == 1 && entries(server, "uploads") == 0 && rows(server).await == 2).then_some(())
    })
    .await;
    assert_eq!(admin.get("/api/v1/apps/chat/versions").await.expect(200).value("/data/1"), Value::Null);
}

/// Text of this many letters that hardly compresses.
fn noise(letters: usize) -> String {
    let mut bytes = vec![0; letters / 2];
    rand::fill(bytes.as_mut_slice());
    hex::encode(bytes)
}

/// A server with a small file system in place of a folder, on which version "one" is deployed.
async fn server(folder: &str, size: u32) -> Option<(TestServer, Small, Api)> {
    let mut server = TestServer::prepare(ServeArgs::default()).await;
    let small = Small::mount(server.data_path(folder), size)?;
    server.restart().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    Some((server, small, admin))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_for_the_files_of_a_version_leaves_the_one_before_serving() {
    let Some((server, small, admin)) = server("apps", 1024).await else { return };
    let (code, more) = (backend("two"), noise(100_000));
    small.fill();
    assert_full(&admin.deploy("chat", &[("index.ts", &code), ("more.txt", &more)]).await);
    assert_full(&admin.deploy("chat", &[("index.ts", &code)]).await);
    small.make_room();
    assert_untouched(&server, &admin).await;
    admin.deploy("chat", &[("index.ts", &code), ("more.txt", &more)]).await.expect(200);
    assert_eq!(version(&admin).await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_for_an_upload_leaves_the_version_before_serving() {
    let Some((server, _small, admin)) = server("uploads", 256).await else { return };
    let large = noise(1_000_000);
    assert_full(&admin.deploy("chat", &[("index.ts", &backend("two")), ("more.txt", &large)]).await);
    assert_untouched(&server, &admin).await;
    admin.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_for_packages_leaves_the_version_before_serving() {
    let registry = FakeRegistry::start().await;
    registry.publish(&Release::new("left", "1.0.0").with("ballast", json!(noise(2_000_000))));
    let arguments = ServeArgs { package_registry: Some(registry.url()), ..ServeArgs::default() };
    let mut server = TestServer::prepare(arguments).await;
    let Some(small) = Small::mount(server.data_path("packages"), 512) else { return };
    server.restart().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    let package = r#"{ "name": "app", "dependencies": { "left": "1.0.0" } }"#;
    let files = [("index.ts", &*backend("two")), ("package.json", package)];
    assert_full(&admin.deploy("chat", &files).await);
    assert_untouched(&server, &admin).await;
    drop(small);
    fs::create_dir_all(server.data_path("packages")).expect("the folder below the mount");
    admin.deploy("chat", &files).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_room_leaves_the_version_before_serving() {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &integration("chat", &["version"]), &backend("one")).await;
    let full = "create function full_disk() returns trigger language plpgsql as
            $$ begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
        create trigger full_disk before insert on deployment_chunks execute function full_disk()";
    let mut connection = PgConnection::connect(&server.database.url).await.expect("connected");
    sqlx::raw_sql(AssertSqlSafe(full)).execute(&mut connection).await.expect("done");
    assert_full(&admin.deploy_archive("chat", archive(&[("index.ts", &backend("two"))])).await);
    assert_untouched(&server, &admin).await;
    sqlx::raw_sql("drop trigger full_disk on deployment_chunks").execute(&mut connection).await.expect("done");
    admin.deploy("chat", &[("index.ts", &backend("two"))]).await.expect(200);
}
