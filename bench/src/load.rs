//! The load: callers that send one request after another over a kept connection, and what each took.
//!
//! HTTP is written by hand, because a full client would cost more than what is measured. It reads only what the servers measured
//! here send: a status line and a body with Content-Length.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Requests per measurement at most.
const MAX_REQUESTS: usize = 2_000_000;

/// What to send, where and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// Address and port
    #[arg(long)]
    pub address: String,
    #[arg(long)]
    pub path: String,
    #[arg(long, default_value = "")]
    pub token: String,
    #[arg(long, default_value = "{}")]
    pub body: String,
    #[arg(long, default_value_t = 1)]
    pub callers: usize,
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

/// What a measurement found. Times in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Measured {
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub requests: usize,
    pub failures: usize,
}

/// Runs a plan: a warm-up of a tenth of the time, then the measurement.
pub async fn run(plan: Plan) -> anyhow::Result<Measured> {
    let time = Duration::from_secs(plan.seconds.clamp(1, 60));
    measure(&plan, time / 10).await?;
    measure(&plan, time).await
}

async fn measure(plan: &Plan, time: Duration) -> anyhow::Result<Measured> {
    let start = Instant::now();
    let limit = MAX_REQUESTS / plan.callers.max(1);
    let callers: Vec<_> = (0..plan.callers).map(|_| tokio::spawn(caller(plan.clone(), start + time, limit))).collect();
    let (mut times, mut failures) = (Vec::new(), 0);
    for task in callers {
        let (own, failed) = task.await??;
        times.extend(own);
        failures += failed;
    }
    let elapsed = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let index = (times.len() as f64 * share) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_second = times.len() as f64 / elapsed;
    Ok(Measured { per_second, p50: at(0.5), p99: at(0.99), requests: times.len(), failures })
}

async fn caller(plan: Plan, until: Instant, limit: usize) -> anyhow::Result<(Vec<Duration>, usize)> {
    let stream = TcpStream::connect(&plan.address).await.context("the server does not accept connections")?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let authorization = if plan.token.is_empty() { String::new() } else { format!("authorization: Bearer {}\r\n", plan.token) };
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        plan.path,
        plan.address,
        plan.body.len(),
        plan.body
    );
    let (mut times, mut failures) = (Vec::new(), 0);
    let mut buffer = Vec::new();
    while Instant::now() < until && times.len() < limit {
        let begin = Instant::now();
        writer.write_all(request.as_bytes()).await?;
        if !answered(&mut reader, &mut buffer).await? {
            failures += 1;
        }
        times.push(begin.elapsed());
    }
    Ok((times, failures))
}

/// Reads one answer; whether its status is 200.
async fn answered(reader: &mut (impl AsyncBufReadExt + Unpin), buffer: &mut Vec<u8>) -> anyhow::Result<bool> {
    let (mut line, mut length, mut good) = (String::new(), 0, None);
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            bail!("the server closed the connection");
        }
        if good.is_none() {
            good = Some(line.starts_with("HTTP/1.1 200"));
        } else if line.trim().is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    buffer.resize(length, 0);
    reader.read_exact(buffer).await?;
    Ok(good.unwrap_or(false))
}
