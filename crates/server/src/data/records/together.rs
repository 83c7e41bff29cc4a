//! Records that are asked for one by one, read together. While statements on an entity are under way, whoever comes waits for the next one
//! and shares it with all who came meanwhile: under load one statement answers many, and a lone caller waits for nobody.
//!
//! Nobody is shown what was there before it asked: a statement begins after everyone who shares it came.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sqlx::Row;
use tokio::sync::oneshot;
use uuid::Uuid;
use weft_data::{Entity, Sql, read};

use super::collection;
use crate::{apps::App, data::Error, node::Node};

/// Statements on one entity that are under way at once: each processor core keeps one busy, and more would have less to share.
const AT_ONCE: usize = 2;

/// What may be read together: the columns of a table, of whose records alone.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    table: String,
    columns: String,
    owner: Option<Uuid>,
}

type Asked = (Uuid, oneshot::Sender<Result<Option<String>, Error>>);

/// Who waits at one entity.
#[derive(Default)]
struct Waiting {
    asked: Vec<Asked>,
    under_way: usize,
}

/// All who wait.
#[derive(Default)]
struct Queues(HashMap<Kind, Waiting>);

impl Queues {
    fn leave(&mut self, kind: &Kind) {
        let Some(here) = self.0.get_mut(kind) else { return };
        here.under_way -= 1;
        if here.under_way == 0 {
            self.0.remove(kind);
        }
    }
}

#[derive(Default)]
pub struct Together {
    waiting: Mutex<Queues>,
}

impl Together {
    /// One record as JSON text.
    pub async fn get(
        node: &Arc<Node>,
        (app, name): (&Arc<App>, &str),
        (id, owner): (Uuid, Option<Uuid>),
    ) -> Result<Option<String>, Error> {
        let Some(entity) = app.entities.get(name) else { return Ok(None) };
        let kind = Kind { table: entity.table.clone(), columns: entity.all.clone(), owner };
        let (sender, answer) = oneshot::channel();
        if node.records.together.ask(kind.clone(), (id, sender)) {
            // A task of its own, because others wait for it when this caller goes away.
            tokio::spawn(serve(Turn { node: Arc::clone(node), kind, over: false }, Arc::clone(app), name.to_owned()));
        }
        // The task ends without an answer only when the server stops, or a statement panics.
        answer.await.unwrap_or(Err(Error::Busy))
    }

    /// Queues up; whether a statement has to be begun for it.
    fn ask(&self, kind: Kind, asked: Asked) -> bool {
        let mut waiting = self.lock();
        let here = waiting.0.entry(kind).or_default();
        here.asked.push(asked);
        let free = here.under_way < AT_ONCE;
        here.under_way += usize::from(free);
        free
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the statements that may be under way at once.
struct Turn {
    node: Arc<Node>,
    kind: Kind,
    over: bool,
}

impl Turn {
    /// Those who wait, or none: then the turn is over.
    fn next(&mut self) -> Vec<Asked> {
        let mut waiting = self.node.records.together.lock();
        let asked = waiting.0.get_mut(&self.kind).map(|here| mem::take(&mut here.asked)).unwrap_or_default();
        if asked.is_empty() {
            waiting.leave(&self.kind);
            self.over = true;
        }
        asked
    }
}

impl Drop for Turn {
    /// One that a panic ends leaves its place too; who still waits then, with nobody else to serve them, is told to come again.
    fn drop(&mut self) {
        if !self.over {
            self.node.records.together.lock().leave(&self.kind);
        }
    }
}

/// Answers those who wait at an entity until nobody does.
async fn serve(mut turn: Turn, app: Arc<App>, name: String) {
    loop {
        let asked = turn.next();
        if asked.is_empty() {
            return;
        }
        let (node, kind) = (&turn.node, &turn.kind);
        let found = match app.entities.get(&name) {
            Some(entity) => read(node, &app, statement(entity, &asked, kind.owner)).await,
            None => Ok(HashMap::new()),
        };
        for (id, sender) in asked {
            // Who went away does not need it.
            let _ = sender.send(match &found {
                Ok(found) => Ok(found.get(&id).cloned()),
                Err(error) => Err(same(error)),
            });
        }
    }
}

/// PostgreSQL plans what is about a list each time, which a lone caller need not wait for.
fn statement(entity: &Entity, asked: &[Asked], owner: Option<Uuid>) -> Sql {
    match asked {
        [(id, _)] => read::get_one(entity, *id, owner),
        asked => read::get_all(entity, asked.iter().map(|(id, _)| *id), owner),
    }
}

async fn read(node: &Node, app: &App, sql: Sql) -> Result<HashMap<Uuid, String>, Error> {
    let rows = collection::rows(node, &mut *node.records.acquire(&app.id).await?, sql).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// What one learns is what all of them learn.
fn same(error: &Error) -> Error {
    match error {
        Error::Moved => Error::Moved,
        Error::TooSlow => Error::TooSlow,
        Error::Database(sqlx::Error::Database(cause)) => Error::Database(sqlx::Error::Protocol(cause.to_string())),
        Error::Database(_) => Error::Database(sqlx::Error::PoolTimedOut),
        _ => Error::Busy,
    }
}
