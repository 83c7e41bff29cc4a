//! Records of an app through the API against the same statement sent by pgbench, on the same cluster.

use std::{fmt::Write, path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    load::{self, Method, Plan},
    starts::database,
    subject::{self, Launch, Subject},
    throughput::{Effort, median},
};

const CALLERS: usize = 32;
/// Rows of the table when a list is measured: few, and many, because a list has to cost the same.
const SIZES: [usize; 2] = [7_300, 100_000];
const PAGE: usize = 100;

/// One thing that is measured both ways.
struct Race {
    name: String,
    method: Method,
    path: String,
    body: String,
    statement: String,
}

pub async fn report(effort: Effort) -> anyhow::Result<String> {
    let pgbench = pgbench()?;
    let folder = subject::folder()?;
    let cluster = database(folder.path()).await?;
    let url = cluster.connection().url();
    let subject = Subject::start(Launch { database_url: Some(url.clone()), ..Launch::default() }).await?;
    subject.install(&manifest()).await?;
    let mut text = String::from(
        "| what, at 32 callers | calls/s | p50 µs | p99 µs | pgbench/s | calls/s ÷ pgbench |\n|---|---:|---:|---:|---:|---:|\n",
    );
    let mut rows = 0;
    for size in SIZES {
        rows = fill(&subject, rows, size).await?;
        for race in races(&subject, size).await? {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..effort.rounds {
                ours.push(load::run(&plan(&subject, &race, effort.time)).await?);
                bare.push(bench(&pgbench, &url, folder.path(), (&race.statement, effort.time)).await?);
            }
            bare.sort_by(f64::total_cmp);
            let (ours, bare) = (median(&ours), bare.get(bare.len() / 2).copied().unwrap_or_default());
            let ratio = ours.per_second / bare;
            let Race { name, .. } = race;
            writeln!(text, "| {name} | {:.0} | {:.0} | {:.0} | {bare:.0} | {ratio:.2} |", ours.per_second, ours.p50, ours.p99)?;
        }
    }
    drop(subject);
    cluster.stop().await?;
    Ok(text)
}

fn manifest() -> Value {
    let fields = json!([
        { "name": "name", "type": "text", "required": true },
        { "name": "email", "type": "text" },
        { "name": "age", "type": "number" },
        { "name": "notes", "type": "json" },
        { "name": "vip", "type": "boolean" },
    ]);
    json!({ "appId": "bench", "name": "Bench", "dataContract": [{ "entityName": "contacts", "fields": fields }] })
}

fn contact(number: usize) -> Value {
    json!({ "name": format!("Contact {number}"), "email": format!("c{number}@example.com"), "age": number % 90, "notes": { "n": number }, "vip": number.is_multiple_of(7) })
}

/// Fills the table up to `size` rows.
async fn fill(subject: &Subject, from: usize, size: usize) -> anyhow::Result<usize> {
    let path = "/api/v1/apps/bench/collections/contacts/bulk";
    let numbers: Vec<_> = (from..size).collect();
    for some in numbers.chunks(1000) {
        subject.post(path, &some.iter().map(|number| contact(*number)).collect()).await?;
    }
    Ok(size)
}

async fn races(subject: &Subject, size: usize) -> anyhow::Result<Vec<Race>> {
    let path = "/api/v1/apps/bench/collections/contacts";
    let list = Race {
        name: format!("list of {PAGE}, from {size} rows"),
        method: Method::Get,
        path: format!("{path}?limit={PAGE}"),
        body: String::new(),
        statement: format!(
            "select json_agg(t) from (select * from bench.contacts order by created_at desc, id desc limit {PAGE}) t;"
        ),
    };
    if size != SIZES[0] {
        return Ok(vec![list]);
    }
    let first = subject.get(&format!("{path}?limit=1")).await?;
    let id = first.pointer("/0/id").and_then(Value::as_str).context("a record")?.to_owned();
    let get = Race {
        name: "get by id".to_owned(),
        method: Method::Get,
        path: format!("{path}/{id}"),
        body: String::new(),
        statement: format!("select row_to_json(t) from bench.contacts t where id = '{id}';"),
    };
    let create = Race {
        name: "create".to_owned(),
        method: Method::Post,
        path: path.to_owned(),
        body: contact(1).to_string(),
        statement: "insert into bench.contacts as t (name, email, age, notes, vip) values ('Contact 1', 'c1@example.com', 1, \
                    '{\"n\":1}', false) returning row_to_json(t);"
            .to_owned(),
    };
    // What creates rows comes last.
    Ok(vec![get, list, create])
}

fn plan(subject: &Subject, race: &Race, time: Duration) -> Plan {
    Plan {
        address: subject.address.clone(),
        method: race.method,
        path: race.path.clone(),
        token: subject.token.clone(),
        body: race.body.clone(),
        callers: CALLERS,
        rate: None,
        time,
    }
}

/// pgbench of the system; PostgreSQL's npm packages come without it.
fn pgbench() -> anyhow::Result<std::path::PathBuf> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let found =
        std::env::split_paths(&own).chain(packaged).map(|folder| folder.join("pgbench")).find(|program| program.is_file());
    found.context("pgbench is missing: on Debian and Ubuntu apt install postgresql, or leave this part out with --only")
}

/// Transactions per second of one statement.
async fn bench(program: &Path, url: &str, folder: &Path, (statement, time): (&str, Duration)) -> anyhow::Result<f64> {
    let script = folder.join("statement.sql");
    std::fs::write(&script, statement)?;
    let mut command = Command::new(program);
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]).arg(format!("--client={CALLERS}"));
    command.arg(format!("--time={}", time.as_secs().max(1))).arg("--file").arg(script).arg(url);
    let output = command.output().await?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.context("pgbench says how fast it was")
}
