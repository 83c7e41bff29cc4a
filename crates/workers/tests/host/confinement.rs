//! Workers in their jail: what they can read, whom they can contact, and on whose account that goes.
//!
//! Where a part of the jail is not available on this machine there is nothing to test, and `support()` says so.

use crate::rig::{APP, Rig, TestResult, Watch, repository};
use serde_json::{Value, json};
use std::{fs::Permissions, os::unix::fs::PermissionsExt, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use weft_jail::{Resolver, Resolving};
use weft_workers::{Account, Allows, Confinement, Endpoint, WorkerSpec};

/// Every name is at 127.0.0.1.
struct Here;

impl Resolver for Here {
    fn resolve<'a>(&'a self, _host: &'a str) -> Resolving<'a> {
        Box::pin(async { Ok(vec![[127, 0, 0, 1].into()]) })
    }
}

/// Jailed, with these inward addresses opened and this port closed all the same.
pub fn rig(open: &[&str], closed: Option<u16>) -> TestResult<Option<Rig>> {
    if !weft_jail::support().is_complete() {
        return Ok(None);
    }
    let open: Vec<_> = open.iter().map(|&rule| rule.to_owned()).collect();
    let guard = Arc::new(weft_jail::AddressGuard::new(&open)?);
    let closed = closed.map(|port| Endpoint { host: "db.example".to_owned(), port }).into_iter().collect();
    let readable = vec![repository().join("js/worker/src")];
    let resolver = Arc::new(Here);
    let rig = Rig::with(|settings| {
        settings.confinement =
            Some(Confinement { required: true, guard, resolver, own: ([127, 0, 0, 1], 9).into(), closed, readable });
    })?;
    std::fs::set_permissions(rig.folder.path(), Permissions::from_mode(0o777))?;
    Ok(Some(rig))
}

/// Starts a backend with these handlers, under an account of its own where the test may change to one.
async fn serve(rig: &Rig, handlers: &str, egress: Option<Arc<Allows>>) -> TestResult {
    let account = weft_jail::support().own_account.then_some(Account { uid: 65_534, gid: 65_534 });
    let backend = format!("{ATTEMPT}\nserve({{ rpc: {{ {handlers} }} }});");
    Ok(rig.host.start(WorkerSpec { account, egress, ..rig.spec(&backend)? }).await?)
}

/// Gives a value, or the code of what went wrong.
const ATTEMPT: &str = r#"
const attempt = async (work) => { try { return await work(); } catch (error) { return error?.code ?? String(error); } };
const fs = require("node:fs");
"#;

const GET: &str = "get: (url) => attempt(async () => (await fetch(url, { keepalive: false })).text()),";

/// An HTTP server that answers every request with these headers and bytes. Ends with the test.
async fn web(head: &'static str, body: &'static str) -> TestResult<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0_u8; 4096];
                let _ = stream.read(&mut request).await;
                let length = body.len();
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(port)
}

#[tokio::test]
async fn a_backend_reads_its_own_folder_and_nothing_else() -> TestResult {
    let Some(rig) = rig(&[], None)? else { return Ok(()) };
    let other = tempfile::tempdir()?;
    std::fs::set_permissions(other.path(), Permissions::from_mode(0o755))?;
    std::fs::write(other.path().join("secret"), "of another app")?;
    let handlers = "read: (path) => attempt(() => fs.readFileSync(path, 'utf8').length > 0),
        write: () => attempt(() => { fs.writeFileSync(process.env.TMPDIR + '/kept', 'x'); return true; }),
        spawn: () => attempt(() => Bun.spawnSync([process.execPath, '--version']).exitCode),
        parent: () => process.ppid,";
    serve(&rig, handlers, None).await?;
    assert_eq!(rig.call("read", json!("index.ts")).await?, json!(true));
    assert_eq!(rig.call("write", Value::Null).await?, json!(true));
    let server = std::process::id();
    let closed = [
        "/etc/passwd".to_owned(),
        "/etc/shadow".to_owned(),
        "/etc/resolv.conf".to_owned(),
        format!("/proc/{server}/environ"),
        format!("/proc/{server}/mem"),
        format!("/proc/{server}/cmdline"),
        other.path().join("secret").to_string_lossy().into_owned(),
    ];
    for path in closed {
        let said = rig.call("read", json!(path)).await?;
        assert!(said == "EACCES" || said == "ENOENT" || said == "EPERM", "{path}: {said}");
    }
    assert_eq!(rig.call("spawn", Value::Null).await?, json!("EPERM"));
    Ok(())
}

#[tokio::test]
async fn only_the_hosts_that_are_listed_are_contacted_and_the_log_names_the_others() -> TestResult {
    let Some(rig) = rig(&[], None)? else { return Ok(()) };
    let mut log = Watch::new(&rig);
    serve(&rig, GET, Some(Arc::new(|host, _| host == "api.example.com"))).await?;
    let refused = rig.call("get", json!("http://evil.example.com/")).await?;
    assert_ne!(refused, json!("hello"));
    let line = log.line("kept from contacting evil.example.com").await?;
    assert!(line.message.contains("`egress`"), "{line:?}");
    assert!(rig.platform.attributed().iter().any(|(caller, message)| caller == "ann" && message.contains("evil.example.com")));
    Ok(())
}

#[tokio::test]
async fn inward_addresses_are_refused_even_by_way_of_a_redirect() -> TestResult {
    let (inside, open) = (web("200 OK", "inside").await?, "127.0.0.2");
    let Some(rig) = rig(&[open], None)? else { return Ok(()) };
    // The one address that is open sends its visitors to one that is not.
    let redirect = TcpListener::bind((open, 0)).await?;
    let port = redirect.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = redirect.accept().await {
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inside}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.read(&mut [0_u8; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    serve(&rig, GET, None).await?;
    let addresses = [
        format!("http://127.0.0.1:{inside}/"),
        format!("http://localhost:{inside}/"),
        format!("http://2130706433:{inside}/"),
        format!("http://0177.0.0.1:{inside}/"),
        format!("http://[::ffff:127.0.0.1]:{inside}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://{open}:{port}/"),
    ];
    for address in addresses {
        let said = rig.call("get", json!(address)).await?;
        assert!(said != "inside" && said.as_str().is_some_and(|said| !said.is_empty()), "{address}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn the_database_stays_closed_where_everything_around_it_is_open() -> TestResult {
    let (database, other) = (web("200 OK", "rows").await?, web("200 OK", "hello").await?);
    let Some(rig) = rig(&["127.0.0.0/8"], Some(database))? else { return Ok(()) };
    serve(&rig, GET, None).await?;
    assert_eq!(rig.call("get", json!(format!("http://127.0.0.1:{other}/"))).await?, json!("hello"));
    for host in ["127.0.0.1", "127.0.0.7", "localhost", "db.example"] {
        let said = rig.call("get", json!(format!("http://{host}:{database}/"))).await?;
        assert_ne!(said, json!("rows"), "{host}");
    }
    Ok(())
}

#[tokio::test]
async fn a_contact_goes_on_the_account_of_a_call_that_was_alone_and_of_the_worker_always() -> TestResult {
    let port = web("200 OK", "hello").await?;
    let Some(rig) = rig(&["127.0.0.1"], None)? else { return Ok(()) };
    let rig = Arc::new(rig);
    let handlers = format!(
        "{GET} hold: () => new Promise((done) => {{ globalThis.release = done; console.log('holding'); }}), release: () => release(1),"
    );
    let mut log = Watch::new(&rig);
    serve(&rig, &handlers, None).await?;
    let url = json!(format!("http://127.0.0.1:{port}/"));
    rig.call_as("ann", "get", url.clone(), crate::rig::LONG).await?;
    assert_eq!(rig.platform.contacts(), [("ann".to_owned(), format!("127.0.0.1:{port}"))]);
    let holding = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.call_as("bob", "hold", Value::Null, crate::rig::LONG).await }
    });
    log.line("holding").await?;
    rig.call_as("ann", "get", url, crate::rig::LONG).await?;
    assert_eq!(rig.platform.contacts().len(), 1, "with two calls in flight nobody knows whose it was");
    rig.call("release", Value::Null).await?;
    holding.await??;
    let report = rig.host.reports().remove(APP).ok_or("a report")?;
    assert_eq!(report.contacted, [format!("127.0.0.1:{port}")]);
    Ok(())
}
