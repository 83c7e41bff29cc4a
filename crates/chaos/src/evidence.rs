//! What is left of a round where callers cannot look: the database and the effects that backends wrote down.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde::Deserialize;
use sqlx::{PgConnection, Row};

use crate::{
    apps::WITH_EFFECTS,
    history::{Attempt, Operation, Outcome},
    site::Site,
};

/// One execution of a handler that has an effect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Effect {
    pub kind: String,
    pub nonce: String,
    pub execution: String,
}

/// What the checks need to know.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The effects of this round.
    pub effects: Vec<Effect>,
    /// The status of runs, by their trace.
    pub runs_by_trace: HashMap<String, Vec<String>>,
    /// Which of the runs that answers named are recorded.
    pub recorded: HashSet<String>,
    /// Which of the deliveries that were acknowledged are stored, by the run that they named.
    pub deliveries: HashSet<String>,
    /// Runs that are still `running`, anywhere.
    pub running: i64,
    /// Stored deliveries without a finished run, anywhere.
    pub unhandled: i64,
}

/// Reads effect files on from where they were read before.
#[derive(Default)]
pub struct Effects(HashMap<PathBuf, u64>);

impl Effects {
    pub fn read(&mut self, site: &Site) -> anyhow::Result<Vec<Effect>> {
        let mut effects = Vec::new();
        for path in site.nodes.iter().flat_map(|node| WITH_EFFECTS.map(|app| node.scratch(app).join("effects"))) {
            let Ok(mut file) = std::fs::File::open(&path) else { continue };
            let position = self.0.entry(path).or_default();
            file.seek(SeekFrom::Start(*position))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            // A line that is not finished yet is read the next time.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *position += u64::try_from(whole)?;
            for line in text.get(..whole).unwrap_or_default().lines() {
                effects.push(serde_json::from_str(line)?);
            }
        }
        Ok(effects)
    }
}

/// How much is still under way.
pub async fn unsettled(connection: &mut PgConnection) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query(
        "select (select count(*) from runs where status = 'running') as running,
                (select count(*) from webhook_deliveries where not exists
                    (select from runs where runs.id = run_id and status <> 'running')) as unhandled",
    )
    .fetch_one(connection)
    .await?;
    Ok((row.try_get("running")?, row.try_get("unhandled")?))
}

/// Reads everything about a round's attempts.
pub async fn gather(connection: &mut PgConnection, attempts: &[Attempt], effects: Vec<Effect>) -> sqlx::Result<Evidence> {
    let (running, unhandled) = unsettled(connection).await?;
    let traces: Vec<String> = attempts.iter().map(|attempt| attempt.trace.clone()).collect();
    let mut runs_by_trace: HashMap<String, Vec<String>> = HashMap::new();
    for row in
        sqlx::query("select trace_id, status from runs where trace_id = any($1)").bind(traces).fetch_all(&mut *connection).await?
    {
        runs_by_trace.entry(row.try_get("trace_id")?).or_default().push(row.try_get("status")?);
    }
    let named = named_runs(attempts, |_| true);
    let recorded = texts(connection, "select id::text from runs where id = any($1::text[]::uuid[])", named).await?;
    let acknowledged = named_runs(attempts, |operation| operation == Operation::Webhook);
    let query = "select run_id::text from webhook_deliveries where run_id = any($1::text[]::uuid[])";
    let deliveries = texts(connection, query, acknowledged).await?;
    Ok(Evidence { effects, runs_by_trace, recorded, deliveries, running, unhandled })
}

async fn texts(connection: &mut PgConnection, query: &'static str, ids: Vec<String>) -> sqlx::Result<HashSet<String>> {
    Ok(sqlx::query_scalar(query).bind(ids).fetch_all(connection).await?.into_iter().collect())
}

fn named_runs(attempts: &[Attempt], which: impl Fn(Operation) -> bool) -> Vec<String> {
    let run = |attempt: &Attempt| match &attempt.outcome {
        Outcome::Ok { run, .. } => run.clone(),
        _ => None,
    };
    attempts.iter().filter(|attempt| which(attempt.operation)).filter_map(run).collect()
}
