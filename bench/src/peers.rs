//! What the product is compared with: a bare axum echo, a bare axum and reqwest proxy, and a worker process spoken to over its pipes without a server.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, Uri},
    routing::post,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    load::Measured,
    subject::{BACKEND, INPUT},
};

/// Answers every line with itself.
const RAW: &str = r"
let rest = '';
const decoder = new TextDecoder();
for await (const chunk of Bun.stdin.stream()) {
  rest += decoder.decode(chunk, { stream: true });
  const end = rest.lastIndexOf('\n') + 1;
  if (end > 0) { process.stdout.write(rest.slice(0, end)); rest = rest.slice(end); }
}";

/// Serves `POST /echo` on a free port, until its standard input ends.
pub async fn echo() -> anyhow::Result<()> {
    serve(Router::new().route("/echo", post(async |body: Bytes| ([("content-type", "application/json")], body)))).await
}

/// Passes on what is posted to it to the same path at another address, until its standard input ends.
pub async fn forward(to: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let base = format!("http://{to}");
    let service = post(async move |uri: Uri, body: Bytes| {
        let request = client.post(format!("{base}{uri}")).header("content-type", "application/json").body(body);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let body = match answer {
            Ok(answer) => answer.bytes().await,
            Err(error) => Err(error),
        };
        body.map(|body| ([("content-type", "application/json")], body)).map_err(|_| StatusCode::BAD_GATEWAY)
    });
    serve(Router::new().route("/{*path}", service)).await
}

/// Prints the address.
async fn serve(service: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (mut stdin, mut nowhere) = (tokio::io::stdin(), tokio::io::sink());
    tokio::select! {
        served = axum::serve(listener, service) => served?,
        _ = tokio::io::copy(&mut stdin, &mut nowhere) => {}
    }
    Ok(())
}

/// Starts one of these in a process of its own, by its command; it ends when the child is dropped. Also its address.
pub async fn start(command: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let address = lines.next_line().await?.context("it prints its address")?;
    Ok((child, address))
}

/// Which program answers the lines.
#[derive(Debug, Clone, Copy)]
pub enum Pinged {
    /// Bun with a script that sends back what it gets.
    Raw,
    /// The same worker that the server starts: the prelude and the no-op integration.
    Worker,
}

/// A line's way to Bun and back, `in_flight` at a time, nothing around it.
pub async fn ping(pinged: Pinged, in_flight: usize, time: Duration) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir()?;
    let entry = folder.path().join("index.ts");
    let mut command = Command::new(bun()?);
    match pinged {
        Pinged::Raw => std::fs::write(&entry, RAW)?,
        Pinged::Worker => {
            std::fs::write(&entry, BACKEND)?;
            command.arg(repository().join("js/worker/src/prelude.ts"));
        }
    }
    let child = command.arg(&entry).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut pipes = Pipes::new(child)?;
    if let Pinged::Worker = pinged {
        let discover = json!({ "type": "discover", "app_id": "noop", "runtime_url": "", "credentials": {}, "manifest": {} });
        pipes.stdin.write_all(format!("{discover}\n").as_bytes()).await?;
        ensure!(pipes.read().await?.contains("discover"), "the worker says that it is ready");
    }
    pipes.ping(in_flight, time / 10).await?;
    pipes.ping(in_flight, time).await
}

/// A process and its two ends, which are dropped together.
struct Pipes {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Pipes {
    fn new(mut child: Child) -> anyhow::Result<Self> {
        let stdin = child.stdin.take().context("piped")?;
        let stdout = BufReader::with_capacity(65536, child.stdout.take().context("piped")?);
        Ok(Self { _child: child, stdin, stdout })
    }

    async fn read(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line).await? > 0, "Bun ended");
        Ok(line)
    }

    /// Sends as many lines at once as there is room for, as the server does.
    async fn ping(&mut self, in_flight: usize, time: Duration) -> anyhow::Result<Measured> {
        let line = format!("{}\n", message());
        let (start, mut times) = (Instant::now(), Vec::new());
        let (mut sent, mut room) = (VecDeque::with_capacity(in_flight), in_flight);
        while start.elapsed() < time || !sent.is_empty() {
            if start.elapsed() < time && room > 0 {
                sent.extend(std::iter::repeat_n(Instant::now(), room));
                self.stdin.write_all(line.repeat(room).as_bytes()).await?;
            }
            room = 0;
            loop {
                self.read().await?;
                times.push(sent.pop_front().context("as many answers as lines")?.elapsed());
                room += 1;
                if !self.stdout.buffer().contains(&b'\n') {
                    break;
                }
            }
        }
        Ok(Measured::of(times, start.elapsed(), 0))
    }
}

/// What the server sends to a worker for one call.
fn message() -> String {
    let user = "00000000-0000-7000-8000-000000000001";
    let input: serde_json::Value = serde_json::from_str(INPUT).unwrap_or_default();
    let params = json!({ "action": "echo", "input": input, "config": {}, "userCredentials": null, "userId": user });
    let caller = json!({ "userId": user, "email": "bench@example.com" });
    let id = "AAAAAAAAAAAAAAAAAAAAAA";
    json!({ "type": "rpc", "id": id, "method": "__integration", "params": params, "caller": caller, "timeout_ms": 30_000 })
        .to_string()
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Bun that the server uses.
fn bun() -> anyhow::Result<PathBuf> {
    let scope = repository().join("runtime/node_modules/@oven");
    let mut packages = std::fs::read_dir(scope)?.flatten().map(|package| package.path().join("bin/bun"));
    packages.find(|bun| bun.is_file()).context("Bun is not installed: run `make runtime`")
}
