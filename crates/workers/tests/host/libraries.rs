//! The libraries that integrations use, each against a real server: in the jail all of them work, under the names they asked
//! for, and none of them gets anywhere that is not allowed.
//!
//! The libraries and the servers are in `tests/libraries`; `make js` installs them.

use crate::{
    confinement::rig,
    rig::{APP, LONG, Rig, TestResult, repository},
};
use serde_json::{Value, json};
use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, UnixStream},
    process::{Child, Command},
    time::timeout,
};
use weft_postgres::{Binaries, Cluster, Settings};
use weft_workers::{Account, Allows, WorkerSpec};

/// The servers, and where they listen.
struct Servers {
    ports: Value,
    _others: Child,
    cluster: Cluster,
    _folder: TempDir,
}

fn folder() -> TestResult<PathBuf> {
    Ok(repository().join("crates/workers/tests/libraries").canonicalize()?)
}

impl Servers {
    async fn start() -> TestResult<Self> {
        let data = tempfile::tempdir()?;
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o711))?;
        let binaries = Binaries::find(&[crate::rig::runtime()])?;
        let cluster = Cluster::start(Settings::new(data.path().to_owned(), binaries)).await?;
        let (mut ports, others) = others(&data).await?;
        let connection = cluster.connection();
        ports["database"] = json!(forward(connection.socket_dir.join(format!(".s.PGSQL.{}", connection.port))).await?);
        ports["login"] = json!({ "user": connection.user, "password": connection.password, "database": connection.database });
        Ok(Self { ports, _others: others, cluster, _folder: data })
    }
}

/// Everything but PostgreSQL.
async fn others(data: &TempDir) -> TestResult<(Value, Child)> {
    let made = rcgen::generate_simple_self_signed(["vendor.test".to_owned()])?;
    let (key, certificate) = (data.path().join("key.pem"), data.path().join("certificate.pem"));
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    std::fs::write(&certificate, made.cert.pem())?;
    let mut command = Command::new(crate::rig::bun()?);
    command.arg("servers.ts").args([key, certificate]).current_dir(folder()?).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    timeout(LONG, output.read_line(&mut line)).await??;
    Ok((serde_json::from_str(&line)?, child))
}

/// A port of 127.0.0.1 that leads to the cluster, which itself listens on no network.
async fn forward(socket: PathBuf) -> TestResult<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut inside) = UnixStream::connect(socket).await {
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                }
            });
        }
    });
    Ok(port)
}

async fn attempt(rig: &Rig, servers: &Servers, egress: Option<Arc<Allows>>) -> TestResult<Value> {
    let account = weft_jail::support().own_account.then_some(Account { uid: 65_534, gid: 65_534 });
    let spec = WorkerSpec { account, egress, directory: folder()?, ..rig.spec("")? };
    rig.host.start(spec).await?;
    Ok(rig.call_as("ann", "try", servers.ports.clone(), Duration::from_mins(3)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_library_works_in_the_jail_and_none_gets_out_of_it() -> TestResult {
    let Some(open) = rig(&["vendor.test"], None)? else { return Ok(()) };
    let servers = Servers::start().await?;
    let said = attempt(&open, &servers, Some(Arc::new(|host, _| host == "vendor.test"))).await?;
    let expected = json!({
        "fetch": "hello", "fetch over TLS": "hello", "node:http": "hello", "node:https": "hello", "axios": "hello", "got": "hello",
        "undici": "hello", "slack": "weft", "googleapis": "plan.txt", "nodemailer": "b@example.com", "imapflow": true,
        "postgres": 42, "TCP": "HTTP/1.1 200 OK", "TLS": "HTTP/1.1 200 OK", "WebSocket": "echo hi", "ws": "echo hi",
    });
    assert_eq!(said, expected);
    let contacted = open.host.reports().remove(APP).ok_or("a report")?.contacted;
    for name in ["web", "secure", "smtp", "imap", "database"] {
        let host = format!("vendor.test:{}", servers.ports[name]);
        assert!(contacted.contains(&host), "{name}: {host} is not among {contacted:?}");
    }

    let closed = rig(&[], None)?.ok_or("a jail")?;
    let said = attempt(&closed, &servers, None).await?;
    let reached: Vec<_> =
        said.as_object().ok_or("an object")?.iter().filter(|(_, outcome)| !outcome["failed"].is_string()).collect();
    assert!(reached.is_empty(), "vendor.test is not on the public internet: {reached:?}");
    servers.cluster.stop().await?;
    Ok(())
}
