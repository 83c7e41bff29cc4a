//! The load: callers that send one request after another over a kept connection, and what each took.
//!
//! HTTP is written by hand, because a full client would cost more than what is measured. It reads only what the servers measured
//! here send: a status line and a body with Content-Length, or in chunks, the last of which ends it.

use std::{
    io::Read,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{MissedTickBehavior, interval_at},
};

use crate::machine;

/// Requests per measurement at most.
const MAX_REQUESTS: usize = 2_000_000;

/// How a request begins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Method {
    Get,
    Post,
}

/// What to send, where and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Address and port.
    pub address: String,
    pub method: Method,
    pub path: String,
    pub token: String,
    pub body: String,
    pub callers: usize,
    /// Requests per second of all callers together; absent: each sends as soon as it has its answer.
    pub rate: Option<u32>,
    pub time: Duration,
}

/// What a measurement found. Times in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Measured {
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub requests: usize,
    pub failures: usize,
    /// Processor time that sending took, per request.
    pub own_work: f64,
}

impl Measured {
    /// From the single times, in any order, and how long it all took.
    pub fn of(mut times: Vec<Duration>, elapsed: Duration, failures: usize) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let per_second = times.len() as f64 / elapsed.as_secs_f64();
        Self { per_second, p50: at(50), p99: at(99), requests: times.len(), failures, own_work: 0.0 }
    }
}

/// Runs a plan in a process of its own. A failed request makes the measurement worthless.
pub async fn run(plan: &Plan) -> anyhow::Result<Measured> {
    let measured = start(plan).await?.await?;
    ensure!(measured.failures == 0, "{} of {} requests failed", measured.failures, measured.requests);
    Ok(measured)
}

/// Starts a plan in a process of its own; the future waits for its end.
pub async fn start(plan: &Plan) -> anyhow::Result<impl Future<Output = anyhow::Result<Measured>> + use<>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("load")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    stdin.write_all(&serde_json::to_vec(plan)?).await?;
    drop(stdin);
    Ok(async move {
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "the load failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    })
}

/// What the process of the load does: a warm-up of a tenth of the time, then the measurement.
pub async fn main() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let plan: Plan = serde_json::from_str(&text)?;
    measure(&plan, plan.time / 10).await?;
    let used = machine::processor_time(std::process::id());
    let mut measured = measure(&plan, plan.time).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let requests = measured.requests as f64;
    measured.own_work = (machine::processor_time(std::process::id()) - used) / requests * 1e6;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

async fn measure(plan: &Plan, time: Duration) -> anyhow::Result<Measured> {
    let start = Instant::now();
    let limit = MAX_REQUESTS / plan.callers.max(1);
    let callers: Vec<_> =
        (0..plan.callers).map(|number| tokio::spawn(caller(plan.clone(), number, start + time, limit))).collect();
    let (mut times, mut failures) = (Vec::new(), 0);
    for task in callers {
        let (own, failed) = task.await??;
        times.extend(own);
        failures += failed;
    }
    Ok(Measured::of(times, start.elapsed(), failures))
}

async fn caller(plan: Plan, number: usize, until: Instant, limit: usize) -> anyhow::Result<(Vec<Duration>, usize)> {
    let mut stream = TcpStream::connect(&plan.address).await.context("the server does not accept connections")?;
    stream.set_nodelay(true)?;
    let request = request(&plan);
    let mut pace = plan.rate.map(|rate| pace(rate, plan.callers, number));
    let (mut times, mut failures) = (Vec::new(), 0);
    let mut buffer = Vec::new();
    while Instant::now() < until && times.len() < limit {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        if !answered(&mut stream, &mut buffer).await? {
            failures += 1;
        }
        times.push(begin.elapsed());
    }
    Ok((times, failures))
}

/// The beat of one caller of several that have a rate together: spread evenly, not all of them at once.
fn pace(rate: u32, callers: usize, number: usize) -> tokio::time::Interval {
    let whole = |count| u32::try_from(count).unwrap_or(u32::MAX);
    let gap = Duration::from_secs(1) / rate.max(1);
    let mut pace = interval_at(tokio::time::Instant::now() + gap * whole(number), gap * whole(callers));
    // Who is late catches up: the rate is what was asked for as long as the server keeps up.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    pace
}

fn request(plan: &Plan) -> String {
    let authorization = if plan.token.is_empty() { String::new() } else { format!("authorization: Bearer {}\r\n", plan.token) };
    let method = match plan.method {
        Method::Get => "GET",
        Method::Post => "POST",
    };
    format!(
        "{method} {} HTTP/1.1\r\nhost: {}\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        plan.path,
        plan.address,
        plan.body.len(),
        plan.body
    )
}

/// Reads one answer; whether it is a success.
async fn answered(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<bool> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        if let Some(length) = whole_length(buffer)?
            && buffer.len() >= length
        {
            return Ok(buffer.starts_with(b"HTTP/1.1 2"));
        }
    }
}

/// The length of an answer, once its head is there, and with chunks all of it.
fn whole_length(buffer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head_text = std::str::from_utf8(buffer.get(..head).unwrap_or_default())?;
    if head_text.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked")) {
        return Ok(buffer.ends_with(b"\r\n0\r\n\r\n").then_some(buffer.len()));
    }
    let length = head_text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    Ok(Some(head + 4 + length.context("answers have a content-length")??))
}
