//! What the product is compared with: a bare axum echo, and a raw ping over the pipes of the same Bun.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{Router, body::Bytes, routing::post};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
};

const PING: &str = r"
let rest = '';
const decoder = new TextDecoder();
for await (const chunk of Bun.stdin.stream()) {
  rest += decoder.decode(chunk, { stream: true });
  const end = rest.lastIndexOf('\n') + 1;
  if (end > 0) { process.stdout.write(rest.slice(0, end)); rest = rest.slice(end); }
}";

/// Serves `POST /echo` on a free port, which it prints, until its standard input ends.
pub async fn echo() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let service = Router::new().route("/echo", post(async |body: Bytes| ([("content-type", "application/json")], body)));
    let (mut stdin, mut nowhere) = (tokio::io::stdin(), tokio::io::sink());
    tokio::select! {
        served = axum::serve(listener, service) => served?,
        _ = tokio::io::copy(&mut stdin, &mut nowhere) => {}
    }
    Ok(())
}

/// The median of a line's way to Bun and back, in microseconds: one at a time, nothing around it.
pub async fn ping(bun: &Path, line: &str) -> anyhow::Result<f64> {
    let script = tempfile::Builder::new().suffix(".ts").tempfile()?;
    std::fs::write(script.path(), PING)?;
    let mut child =
        Command::new(bun).arg(script.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    let mut stdout = BufReader::new(child.stdout.take().context("piped")?);
    let (mut times, mut answer) = (Vec::new(), String::new());
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let begin = Instant::now();
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        answer.clear();
        stdout.read_line(&mut answer).await?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6))
}
