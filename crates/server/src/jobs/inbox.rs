//! What the dispatcher is told between two of its rounds.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use weft_queue::Ready;

/// What happened.
#[derive(Debug, Default)]
pub struct News {
    pub ready: Vec<Ready>,
    /// Lanes of jobs that are no longer at work.
    pub ended: Vec<Arc<str>>,
    /// Notifications may have been missed, or lanes may be served that were not before.
    pub look_around: bool,
    /// Which nodes there are may be another now, or by which roll they work.
    pub nodes: bool,
}

/// Where it is put.
#[derive(Debug, Default)]
pub struct Inbox {
    news: Mutex<News>,
    bell: Notify,
}

impl Inbox {
    pub fn put(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    /// Waits for news, or for as long as `patience`, and takes what there is.
    pub async fn take(&self, patience: Duration) -> News {
        let _ = tokio::time::timeout(patience, self.bell.notified()).await;
        mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
