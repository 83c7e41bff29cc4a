//! The calls a process is working on, by their unguessable ids.
//!
//! An entry lives from just before its line is queued until the first of: its reply, its caller giving up, the death of the
//! process. Whoever presents an id afterwards finds nothing, which is what makes an id a proof of "on behalf of this call".

use crate::{Death, DeathKind, Failure};
use ahash::RandomState;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dashmap::DashMap;
use serde_json::value::RawValue;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

const ID_LENGTH: usize = 22;

/// 16 random bytes as 22 base64url characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CallId([u8; ID_LENGTH]);

impl CallId {
    fn random() -> Self {
        let mut text = [b'A'; ID_LENGTH];
        let written = URL_SAFE_NO_PAD.encode_slice(rand::random::<[u8; 16]>(), &mut text);
        debug_assert_eq!(written, Ok(ID_LENGTH));
        Self(text)
    }

    /// Takes any 22 bytes: whether the id is real is a question for [`InFlight`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.as_bytes().try_into().ok().map(Self)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// How a call ended on the worker's side.
pub(crate) enum Reply {
    Result(Box<RawValue>),
    Error(Failure),
    /// There is no handler for it.
    Unhandled,
    Died(Death),
}

struct Entry<C> {
    reply: oneshot::Sender<Reply>,
    /// Nothing for a probe: its id proves nothing.
    context: Option<Arc<C>>,
}

pub(crate) struct InFlight<C> {
    calls: DashMap<CallId, Entry<C>, RandomState>,
    /// Counts tickets rather than entries, so that a call is seen before its entry exists.
    tickets: AtomicUsize,
    retired: AtomicBool,
    death: OnceLock<Death>,
    idle: Notify,
    born: Instant,
    /// When the last call ended, in milliseconds after `born`.
    last_end: AtomicU64,
}

impl<C> InFlight<C> {
    pub(crate) fn new() -> Self {
        Self {
            calls: DashMap::default(),
            tickets: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            death: OnceLock::new(),
            idle: Notify::new(),
            born: Instant::now(),
            last_end: AtomicU64::new(0),
        }
    }

    /// Registers a call; nothing if this process takes no more calls.
    pub(crate) fn open(&self, context: Option<Arc<C>>) -> Option<Ticket<'_, C>> {
        self.tickets.fetch_add(1, SeqCst);
        let (reply, answer) = oneshot::channel();
        // From here on dropping the ticket undoes everything.
        let ticket = Ticket { table: self, id: CallId::random(), answer };
        if self.is_closed() {
            return None;
        }
        self.calls.insert(ticket.id, Entry { reply, context });
        // `bury` may have emptied the table between the check and the insertion.
        (!self.is_closed()).then_some(ticket)
    }

    fn is_closed(&self) -> bool {
        self.retired.load(SeqCst) || self.death.get().is_some()
    }

    /// Delivers a reply; false if the call is over or never was.
    pub(crate) fn settle(&self, id: &CallId, reply: Reply) -> bool {
        match self.calls.remove(id) {
            Some((_, entry)) => entry.reply.send(reply).is_ok(),
            None => false,
        }
    }

    /// The context of a call that is in flight.
    pub(crate) fn context(&self, id: &CallId) -> Option<Arc<C>> {
        self.calls.get(id).and_then(|entry| entry.context.clone())
    }

    /// The context of the call in flight, if it is the only one.
    pub(crate) fn only(&self) -> Option<Arc<C>> {
        let mut entries = self.calls.iter();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => entry.context.clone(),
            _ => None,
        }
    }

    /// Refuses new calls; those in flight go on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, SeqCst);
    }

    /// How many calls are in flight.
    pub(crate) fn count(&self) -> usize {
        self.tickets.load(SeqCst)
    }

    /// Begins the time without calls anew.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_end.store(now, SeqCst);
    }

    /// Since when no call is in flight; nothing while there is one.
    pub(crate) fn unused_since(&self) -> Option<Instant> {
        (self.count() == 0).then(|| self.born + Duration::from_millis(self.last_end.load(SeqCst)))
    }

    /// Waits until no call is in flight. For one waiter, after [`Self::retire`].
    pub(crate) async fn idle(&self) {
        while self.count() > 0 {
            self.idle.notified().await;
        }
    }

    /// Ends all calls with the reason why the process is gone.
    pub(crate) fn bury(&self, death: &Death) {
        let _ = self.death.set(death.clone());
        let ids: Vec<CallId> = self.calls.iter().map(|entry| *entry.key()).collect();
        for id in ids {
            self.settle(&id, Reply::Died(death.clone()));
        }
    }
}

/// A registered call. Dropping it makes its id worthless.
pub(crate) struct Ticket<'a, C> {
    table: &'a InFlight<C>,
    id: CallId,
    answer: oneshot::Receiver<Reply>,
}

impl<C> Ticket<'_, C> {
    pub(crate) fn id(&self) -> &CallId {
        &self.id
    }

    pub(crate) async fn answer(mut self) -> Reply {
        match (&mut self.answer).await {
            Ok(reply) => reply,
            // The table never drops an entry unanswered; if it did, the process is what is lost.
            Err(_) => Reply::Died(Death::new(DeathKind::Unknown, "its reply was lost")),
        }
    }
}

impl<C> Drop for Ticket<'_, C> {
    fn drop(&mut self) {
        self.table.calls.remove(&self.id);
        // Before the count, so that whoever sees no call sees when the last one ended.
        self.table.touch();
        if self.table.tickets.fetch_sub(1, SeqCst) == 1 {
            self.table.idle.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_22_characters_and_differ() {
        let (one, two) = (CallId::random(), CallId::random());
        assert_eq!(one.as_str().len(), 22);
        assert_ne!(one, two);
        assert_eq!(CallId::parse(one.as_str()), Some(one));
        assert_eq!(CallId::parse("short"), None);
    }

    #[test]
    fn an_id_is_worthless_once_its_ticket_is_dropped() {
        let table = InFlight::new();
        let id = table.open(Some(Arc::new(7))).map(|ticket| {
            assert_eq!(table.context(ticket.id()).as_deref(), Some(&7));
            *ticket.id()
        });
        let Some(id) = id else { unreachable!("an open table takes calls") };
        assert!(table.context(&id).is_none());
        assert!(!table.settle(&id, Reply::Error(Failure::new("late"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_is_unused_from_the_end_of_its_last_call() {
        let table = InFlight::new();
        let Some(ticket) = table.open(Some(Arc::new(()))) else { unreachable!("an open table takes calls") };
        assert_eq!((table.count(), table.unused_since()), (1, None));
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(ticket);
        let ended = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((table.count(), table.unused_since()), (0, Some(ended)));
    }

    #[test]
    fn what_happens_belongs_to_a_call_only_while_it_is_alone() {
        let table = InFlight::new();
        assert_eq!(table.only(), None);
        let first = table.open(Some(Arc::new(1)));
        assert_eq!(table.only().as_deref(), Some(&1));
        let second = table.open(Some(Arc::new(2)));
        assert_eq!(table.only(), None);
        drop(first);
        assert_eq!(table.only().as_deref(), Some(&2));
        drop(second);
        assert_eq!(table.only(), None);
    }

    #[tokio::test]
    async fn a_buried_table_ends_its_calls_and_takes_no_more() {
        let table = InFlight::new();
        let Some(ticket) = table.open(Some(Arc::new(()))) else { unreachable!("an open table takes calls") };
        table.bury(&Death::new(DeathKind::Exit, "gone"));
        assert!(matches!(ticket.answer().await, Reply::Died(death) if &*death.reason == "gone"));
        assert!(table.open(Some(Arc::new(()))).is_none());
        table.idle().await;
    }
}
