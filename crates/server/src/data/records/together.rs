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

#[derive(Default)]
pub struct Together {
    waiting: Mutex<HashMap<Kind, Waiting>>,
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
            tokio::spawn(serve(Arc::clone(node), Arc::clone(app), name.to_owned(), kind));
        }
        // The task ends without an answer only while the server stops.
        answer.await.unwrap_or(Err(Error::Busy))
    }

    /// Queues up; whether a statement has to be begun for it.
    fn ask(&self, kind: Kind, asked: Asked) -> bool {
        let mut waiting = self.lock();
        let here = waiting.entry(kind).or_default();
        here.asked.push(asked);
        let free = here.under_way < AT_ONCE;
        here.under_way += usize::from(free);
        free
    }

    /// Those who wait, or none: then the turn is over.
    fn next(&self, kind: &Kind) -> Vec<Asked> {
        let mut waiting = self.lock();
        let Some(here) = waiting.get_mut(kind) else { return Vec::new() };
        let asked = mem::take(&mut here.asked);
        if asked.is_empty() {
            here.under_way -= 1;
            if here.under_way == 0 {
                waiting.remove(kind);
            }
        }
        asked
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers those who wait at an entity until nobody does.
async fn serve(node: Arc<Node>, app: Arc<App>, name: String, kind: Kind) {
    loop {
        let asked = node.records.together.next(&kind);
        if asked.is_empty() {
            return;
        }
        let found = match app.entities.get(&name) {
            Some(entity) => read(&node, &app, statement(entity, &asked, kind.owner)).await,
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
