//! What the queue carries: messages sent, leased and completed per second, in batches, against the statements of pgmq.
//!
//! Each is measured alone, beside a transaction that stays open the whole time (vacuum removes nothing then), and with a million
//! messages waiting in front. Nothing is done with a message: this is what the database costs.

use std::{fmt::Write, sync::Arc, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::Mutex;
use uuid::Uuid;
use weft_postgres::{Binaries, Cluster, Settings};
use weft_queue::{Cursors, NewMessage, Settlement, Stream, Want};

const OURS: &str = concat!(
    include_str!("../../migrations/0060_queue.sql"),
    include_str!("../../migrations/0082_queue_order.sql"),
    include_str!("../../migrations/0100_queue_holders.sql")
);
/// The tables and indexes of a queue of pgmq.
const PGMQ: &str = "
    create table q_jobs (msg_id bigint primary key generated always as identity, read_ct int default 0 not null,
        enqueued_at timestamptz default now() not null, vt timestamptz not null, message jsonb);
    create table a_jobs (msg_id bigint primary key, read_ct int default 0 not null, enqueued_at timestamptz default now() not null,
        archived_at timestamptz default now() not null, vt timestamptz not null, message jsonb);
    create index q_jobs_vt_idx on q_jobs (vt asc);
    create index archived_at_idx_jobs on a_jobs (archived_at)";
const BODY: &str = r#"{"user":"3fa85f64-5717-4562-b3fc-2c963f66afa6","max_attempts":5,"timeout":900,"payload":{"n":1}}"#;
const WORKERS: usize = 2;
const HOLDER: Uuid = Uuid::nil();

/// How much to do.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Amount {
    /// Messages per measurement
    #[arg(long, default_value_t = 300_000)]
    messages: usize,
    /// Messages per statement
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Messages that wait in front in the third measurement
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
}

#[derive(Debug, Clone, Copy)]
enum Queue {
    Ours,
    Pgmq,
}

/// What goes on meanwhile.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Nothing,
    LongTransaction,
    Backlog,
}

/// Measures and returns a table.
pub async fn report(amount: Amount) -> anyhow::Result<String> {
    let mut text = String::from(
        "| messages/s, sent, leased and completed | alone | beside an open transaction | the last tenth of that | behind a backlog |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for (queue, name) in [(Queue::Ours, "weft-queue"), (Queue::Pgmq, "the statements of pgmq")] {
        let (alone, _) = measure(queue, Beside::Nothing, amount).await?;
        let (beside, last) = measure(queue, Beside::LongTransaction, amount).await?;
        let (behind, _) = measure(queue, Beside::Backlog, amount).await?;
        writeln!(text, "| {name} | {alone:.0} | {beside:.0} | {last:.0} | {behind:.0} |")?;
        eprintln!("{text}");
    }
    Ok(text)
}

/// Messages per second over all, and in the last tenth.
async fn measure(queue: Queue, beside: Beside, amount: Amount) -> anyhow::Result<(f64, f64)> {
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let runtime = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime");
    let cluster = Cluster::start(Settings::new(folder.path().to_owned(), Binaries::find(&[runtime])?)).await?;
    let url = cluster.connection().url();
    let measured = on(&url, queue, beside, amount).await;
    cluster.stop().await?;
    measured
}

async fn on(url: &str, queue: Queue, beside: Beside, amount: Amount) -> anyhow::Result<(f64, f64)> {
    let pool = PgPoolOptions::new().max_connections(8).connect(url).await?;
    for statement in [OURS, PGMQ] {
        sqlx::raw_sql(statement).execute(&pool).await?;
    }
    let mut long = None;
    match beside {
        Beside::Nothing => {}
        Beside::LongTransaction => {
            let mut connection = PgConnection::connect(url).await?;
            sqlx::raw_sql("begin isolation level repeatable read; select count(*) from queue_messages")
                .execute(&mut connection)
                .await?;
            long = Some(connection);
        }
        Beside::Backlog => {
            let sender = Sender { pool: pool.clone(), queue, batch: 5000 };
            sender.send(amount.backlog).await?;
        }
    }
    let begin = Instant::now();
    let sending = {
        let sender = Sender { pool: pool.clone(), queue, batch: amount.batch };
        tokio::spawn(async move { sender.send(amount.messages).await })
    };
    let worker = Arc::new(Worker { pool: pool.clone(), queue, batch: amount.batch, cursors: Mutex::default() });
    let done = Arc::new(Mutex::new((0_usize, None)));
    let working = (0..WORKERS).map(|_| tokio::spawn(work(Arc::clone(&worker), Arc::clone(&done), amount.messages)));
    for worker in futures::future::join_all(working).await {
        worker??;
    }
    let took = begin.elapsed().as_secs_f64();
    sending.await??;
    let tenth = done.lock().await.1.map_or(f64::NAN, |since: Instant| since.elapsed().as_secs_f64());
    drop(long);
    pool.close().await;
    let count = u32::try_from(amount.messages).map_or(f64::NAN, f64::from);
    Ok((count / took, count / 10.0 / tenth))
}

async fn work(worker: Arc<Worker>, done: Arc<Mutex<(usize, Option<Instant>)>>, messages: usize) -> anyhow::Result<()> {
    loop {
        let count = worker.work().await?;
        let mut done = done.lock().await;
        done.0 += count;
        if done.0 >= messages - messages / 10 && done.1.is_none() {
            done.1 = Some(Instant::now());
        }
        if done.0 >= messages {
            return Ok(());
        }
        drop(done);
        if count == 0 {
            tokio::task::yield_now().await;
        }
    }
}

struct Sender {
    pool: PgPool,
    queue: Queue,
    batch: usize,
}

impl Sender {
    async fn send(&self, count: usize) -> anyhow::Result<()> {
        let mut connection = self.pool.acquire().await?;
        for _ in 0..count.div_ceil(self.batch) {
            match self.queue {
                Queue::Ours => {
                    let mut transaction = connection.begin().await?;
                    weft_queue::send(&mut transaction, now(), &vec![message(); self.batch]).await?;
                    transaction.commit().await?;
                }
                Queue::Pgmq => {
                    sqlx::query("insert into q_jobs (vt, message) select clock_timestamp(), unnest($1::jsonb[])")
                        .bind(vec![sqlx::types::Json(serde_json::from_str::<serde_json::Value>(BODY)?); self.batch])
                        .execute(&mut *connection)
                        .await?;
                }
            }
        }
        Ok(())
    }
}

struct Worker {
    pool: PgPool,
    queue: Queue,
    batch: usize,
    cursors: Mutex<Cursors>,
}

impl Worker {
    /// Leases and completes a batch. Returns how many there were.
    async fn work(&self) -> anyhow::Result<usize> {
        match self.queue {
            Queue::Ours => self.ours().await,
            Queue::Pgmq => self.pgmq().await,
        }
    }

    async fn ours(&self) -> anyhow::Result<usize> {
        let mut connection = self.pool.acquire().await?;
        let stream = Stream::new("default/crm", 5);
        let after = self.cursors.lock().await.after(&stream, Instant::now());
        let want = Want { stream, after, most: i32::try_from(self.batch)? };
        let leased = weft_queue::lease(&mut connection, HOLDER, &[want], now() + TimeDelta::seconds(120)).await?;
        self.cursors.lock().await.advance(&leased, Instant::now());
        let done = || Settlement::Complete { result: Some("null".to_owned()), note: None };
        let settlements: Vec<_> = leased.iter().map(|message| (message.lease(), done())).collect();
        if !settlements.is_empty() {
            weft_queue::settle(&mut connection, now(), &settlements).await?;
        }
        Ok(settlements.len())
    }

    async fn pgmq(&self) -> anyhow::Result<usize> {
        let mut connection = self.pool.acquire().await?;
        let ids: Vec<i64> = sqlx::query_scalar(
            "with cte as (select msg_id from q_jobs where vt <= clock_timestamp() order by msg_id asc limit $1 for update skip locked)
             update q_jobs m set vt = clock_timestamp() + interval '120 seconds', read_ct = read_ct + 1 from cte
             where m.msg_id = cte.msg_id returning m.msg_id",
        )
        .bind(i64::try_from(self.batch)?)
        .fetch_all(&mut *connection)
        .await?;
        sqlx::query(
            "with archived as (delete from q_jobs where msg_id = any($1) returning msg_id, vt, read_ct, enqueued_at, message)
             insert into a_jobs (msg_id, vt, read_ct, enqueued_at, message) select msg_id, vt, read_ct, enqueued_at, message from archived",
        )
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
        Ok(ids.len())
    }
}

fn message() -> NewMessage {
    NewMessage {
        lane: "default/crm".into(),
        priority: 5,
        visible_at: DateTime::UNIX_EPOCH,
        tag: None,
        key: None,
        order: None,
        body: BODY.to_owned(),
    }
}

#[expect(clippy::disallowed_methods, reason = "what is measured is not a server, whose clock tests move")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
