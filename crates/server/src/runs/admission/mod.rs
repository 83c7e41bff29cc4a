//! Whether a call may go out now: the vendor's budget, whether it answers at all, and whether it has to be asked again.

mod account;
mod answers;
mod breaker;
mod budget;
mod line;
mod pace;
mod shared;
mod store;

use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;
use weft_model::{AppId, ConnectionId, TenantId, manifest::RateLimit};

use super::error::Cause;
use crate::clock::Clock;
pub use account::Left;
use answers::Answers;
pub use answers::{Asked, Audience, Question};
use breaker::Breakers;
use budget::Budgets;
pub use line::Asker;
pub use shared::Sharing;

/// Whose calls are counted together: an account at a vendor, or what a tenant's integration does without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub tenant: TenantId,
    pub integration: AppId,
    pub connection: Option<ConnectionId>,
}

/// What a result says of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// Be it with a refusal.
    Answered,
    Silent,
}

/// Why a call does not go out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    #[error("{integration} may be called {requests} times in {seconds} s, and that is used up: try again in {} s", whole(*.wait))]
    OverBudget { integration: AppId, requests: u32, seconds: u32, wait: Duration, left: Left },
    #[error("{integration} did not answer several times in a row, so it is left alone: the next call is tried in {} s", whole(*.wait))]
    NotAnswering { integration: AppId, wait: Duration },
}

impl Refused {
    /// What is left of the budget, where that is why.
    pub const fn left(&self) -> Option<Left> {
        match self {
            Self::OverBudget { left, .. } => Some(*left),
            Self::NotAnswering { .. } => None,
        }
    }

    /// How long to wait before the next call.
    pub const fn wait(&self) -> Duration {
        match self {
            Self::OverBudget { wait, .. } | Self::NotAnswering { wait, .. } => *wait,
        }
    }
}

fn whole(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

pub struct Admission {
    budgets: Budgets,
    breakers: Breakers,
    pub answers: Answers,
}

impl Admission {
    /// Starts what writes budgets that nodes share; it ends when this is dropped.
    pub fn start(pool: PgPool, clock: Clock) -> (Self, JoinHandle<()>) {
        let (budgets, taking) = Budgets::start(pool, clock);
        (Self { budgets, breakers: Breakers::new(), answers: Answers::new() }, taking)
    }

    /// Takes in whether budgets are shared with other nodes.
    pub async fn follow(&self, connection: &mut PgConnection, sharing: Sharing) -> sqlx::Result<()> {
        self.budgets.shared.follow(connection, sharing).await
    }

    /// Forgets what says nothing any more. Run now and then.
    pub async fn tidy(&self) -> sqlx::Result<()> {
        self.budgets.shared.tidy().await
    }

    /// Lets a call go out, or says why not and when. What is left of the budget, where there is one.
    pub async fn admit(&self, place: &Place, asker: Asker, limit: Option<&RateLimit>) -> Result<Option<Left>, Refused> {
        let integration = place.integration.clone();
        if let Err(wait) = self.breakers.admit(place, Instant::now()) {
            return Err(Refused::NotAnswering { integration, wait });
        }
        let Some(limit) = limit else { return Ok(None) };
        let (requests, seconds) = (limit.requests, limit.seconds);
        Box::pin(self.budgets.spend(place, asker, limit)).await.map(Some).map_err(|(wait, left)| {
            self.breakers.untried(place);
            Refused::OverBudget { integration, requests, seconds, wait, left }
        })
    }

    /// Takes note of what came of a call.
    pub fn heard<T>(&self, place: &Place, result: &Result<T, Cause>) {
        self.learnt(place, result.as_ref().map_or_else(Cause::of_vendor, |_| Some(Vendor::Answered)));
    }

    /// Takes note of what is known of a vendor after a call; nothing, where the call did not get as far.
    pub fn learnt(&self, place: &Place, vendor: Option<Vendor>) {
        match vendor {
            Some(Vendor::Answered) => self.breakers.answered(place),
            Some(Vendor::Silent) => self.breakers.failed(place, Instant::now()),
            None => self.breakers.untried(place),
        }
    }
}
