//! Making, changing and looking at crons, and what a manifest declares.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use weft_model::{
    AppId, CronId, Fault, Principal, UserId,
    manifest::{self, OverlapPolicy, PAYLOAD_LIMIT},
    schedule::Schedule,
};
use weft_queue::{Message, NewMessage, Sent};

use super::store::{self, Cron, Fired, Firing, Seen, Wanted};
use crate::{
    audit,
    clock::Clock,
    jobs::{
        envelope::{Envelope, Standing, answered_by, lane},
        service::{DEFAULT_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_TIMEOUT, OnBehalf},
    },
};

const LONGEST_NAME: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cron breaks its rules")]
    Invalid(Vec<Fault>),
    #[error("app '{app}' has a cron named '{name}' already")]
    Exists { app: AppId, name: String },
    #[error("cron '{0}'")]
    Unknown(CronId),
    #[error("whoever this cron acts for was deleted: make it anew")]
    NoOwner,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A cron that somebody wants.
#[derive(Debug)]
pub struct NewCron {
    pub name: String,
    pub schedule: String,
    pub timezone: Option<String>,
    pub payload: Value,
    pub overlap_policy: OverlapPolicy,
    pub enabled: bool,
}

/// The name of a time zone; none for UTC.
#[derive(Debug, Clone)]
pub struct Zone(pub Option<String>);

/// What is to change; absent stays.
#[derive(Debug, Default)]
pub struct Changes {
    pub schedule: Option<String>,
    pub timezone: Option<Zone>,
    pub payload: Option<Value>,
    pub overlap_policy: Option<OverlapPolicy>,
    pub enabled: Option<bool>,
}

/// Crons and their history.
pub struct Crons {
    pool: PgPool,
    clock: Clock,
}

impl Crons {
    pub fn new(pool: PgPool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    pub async fn create(&self, app: &AppId, who: &OnBehalf, new: NewCron) -> Result<Cron, Error> {
        let now = self.clock.now();
        let mut faults = Vec::new();
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if new.name.is_empty() || new.name.len() > LONGEST_NAME || !new.name.bytes().all(named) {
            faults.push(Fault::new("$.name", "must be 1 to 64 letters, digits, _ or -"));
        }
        let schedule = checked(&new.schedule, new.timezone.as_deref(), &new.payload, &mut faults);
        let Some(schedule) = schedule.filter(|_| faults.is_empty()) else { return Err(Error::Invalid(faults)) };
        let wanted = Wanted {
            id: CronId::generate(now),
            name: new.name,
            schedule: new.schedule,
            timezone: new.timezone,
            payload: new.payload,
            overlap_policy: new.overlap_policy.as_str().to_owned(),
            next_tick: schedule.next_after(now).filter(|_| new.enabled),
        };
        let owner = Standing::of(&who.caller, &who.acting_as);
        let mut transaction = self.pool.begin().await?;
        let place = (&who.caller.tenant, app);
        let stored = store::insert(&mut transaction, place, &wanted, (&owner, new.enabled), now).await?;
        let Some(cron) = stored else { return Err(Error::Exists { app: app.clone(), name: wanted.name }) };
        self.note(&mut transaction, &who.caller, audit::Action::CronCreated, &cron).await?;
        transaction.commit().await?;
        Ok(cron)
    }

    /// The crons that `caller` sees in apps whose crons it may read, by app and name.
    pub async fn list(&self, caller: &Principal, apps: Vec<String>, after: (&str, &str), limit: i64) -> Result<Vec<Cron>, Error> {
        let others = apps.iter().filter(|app| sees_all(caller, app)).cloned().collect();
        let seen = Seen { apps, others, own: caller.id };
        Ok(store::list(&mut *self.pool.acquire().await?, &caller.tenant, &seen, after, limit).await?)
    }

    pub async fn change(&self, caller: &Principal, app: &AppId, id: CronId, changes: Changes) -> Result<Cron, Error> {
        let mut transaction = self.pool.begin().await?;
        let mut cron = own(&mut transaction, caller, app, id).await?;
        let Changes { schedule, timezone, payload, overlap_policy, enabled } = changes;
        if payload.is_some() {
            let (by, only) = answered_by(caller, cron.created_by.map(UserId::from), cron.only_permissions.take());
            (cron.set_up_by, cron.only_permissions) = (by.map(UserId::as_uuid), only);
        }
        cron.schedule = schedule.unwrap_or(cron.schedule);
        cron.timezone = timezone.map_or(cron.timezone, |Zone(name)| name);
        cron.payload = payload.unwrap_or(cron.payload);
        cron.overlap_policy = overlap_policy.map_or(cron.overlap_policy, |policy| policy.as_str().to_owned());
        cron.enabled = enabled.unwrap_or(cron.enabled);
        let mut faults = Vec::new();
        let schedule = checked(&cron.schedule, cron.timezone.as_deref(), &cron.payload, &mut faults);
        let Some(schedule) = schedule.filter(|_| faults.is_empty()) else { return Err(Error::Invalid(faults)) };
        let now = self.clock.now();
        cron.next_tick = schedule.next_after(now).filter(|_| cron.enabled);
        let stored = store::update(&mut transaction, &cron, now).await?.ok_or(Error::Unknown(id))?;
        self.note(&mut transaction, caller, audit::Action::CronChanged, &stored).await?;
        transaction.commit().await?;
        Ok(stored)
    }

    pub async fn delete(&self, caller: &Principal, app: &AppId, id: CronId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        let cron = own(&mut transaction, caller, app, id).await?;
        store::delete(&mut transaction, cron.id).await?;
        self.note(&mut transaction, caller, audit::Action::CronDeleted, &cron).await?;
        Ok(transaction.commit().await?)
    }

    /// Fires a cron now, whatever its schedule and its other jobs are. Returns the job.
    pub async fn trigger(&self, caller: &Principal, app: &AppId, id: CronId) -> Result<i64, Error> {
        let mut transaction = self.pool.begin().await?;
        let cron = own(&mut transaction, caller, app, id).await?;
        let now = self.clock.now();
        let message = message(&cron, now)?.ok_or(Error::NoOwner)?;
        let sent = weft_queue::send(&mut transaction, now, &[message]).await?;
        let job = sent.first().copied().map(Sent::id);
        let tenant = cron.tenant_id.clone();
        let firing = Firing { tenant, cron: cron.id, tick: None, outcome: "enqueued", message: job, note: None };
        store::insert_firings(&mut transaction, &[firing], now).await?;
        self.note(&mut transaction, caller, audit::Action::CronTriggered, &cron).await?;
        transaction.commit().await?;
        job.ok_or(Error::Database(sqlx::Error::RowNotFound))
    }

    /// The last firings of a cron, newest first, each with its job while that is kept.
    pub async fn runs(
        &self,
        caller: &Principal,
        app: &AppId,
        id: CronId,
        limit: i64,
    ) -> Result<Vec<(Fired, Option<Message>)>, Error> {
        let mut transaction = self.pool.begin().await?;
        own(&mut transaction, caller, app, id).await?;
        let fired = store::list_firings(&mut transaction, (&caller.tenant, id), limit).await?;
        let ids: Vec<i64> = fired.iter().filter_map(|firing| firing.message_id).collect();
        let mut jobs = weft_queue::find_many(&mut transaction, &lane(&caller.tenant, app), &ids).await?;
        transaction.commit().await?;
        let mut job = |firing: &Fired| {
            let place = jobs.iter().position(|job| Some(job.id) == firing.message_id)?;
            Some(jobs.swap_remove(place))
        };
        Ok(fired.into_iter().map(|firing| (job(&firing), firing)).map(|(job, firing)| (firing, job)).collect())
    }

    /// Records who did something with a cron, as the last statement of its transaction.
    async fn note(
        &self,
        connection: &mut PgConnection,
        caller: &Principal,
        action: audit::Action,
        cron: &Cron,
    ) -> Result<(), Error> {
        let event = audit::Event::by(caller, action)
            .on("cron", cron.id)
            .with("app", cron.app_id.clone())
            .with("name", cron.name.clone())
            .with("schedule", cron.schedule.clone())
            .with("enabled", cron.enabled);
        Ok(audit::record(connection, &event, self.clock.now()).await?)
    }

    /// Forgets firings from before `kept`. Run now and then.
    pub async fn tidy(&self, kept: chrono::TimeDelta) -> sqlx::Result<()> {
        let mut connection = self.pool.acquire().await?;
        while store::delete_older(&mut connection, self.clock.now() - kept).await? > 0 {}
        Ok(())
    }
}

/// The schedule, unless something is wrong.
fn checked(text: &str, zone: Option<&str>, payload: &Value, faults: &mut Vec<Fault>) -> Option<Schedule> {
    if !payload.is_object() {
        faults.push(Fault::new("$.payload", "must be an object: the job gets more members in it"));
    } else if payload.to_string().len() > PAYLOAD_LIMIT {
        faults.push(Fault::new("$.payload", "has more than 1 MiB: pass a reference instead"));
    }
    let schedule = Schedule::parse(text, zone);
    schedule.map_err(|error| faults.push(Fault::new(format!("$.{}", error.key()), error.to_string()))).ok()
}

/// A cron that `caller` may see and change, for as long as the transaction lasts: its own, and others' with the permission.
async fn own(connection: &mut PgConnection, caller: &Principal, app: &AppId, id: CronId) -> Result<Cron, Error> {
    let cron = store::lock(connection, (&caller.tenant, app), id).await?.ok_or(Error::Unknown(id))?;
    let me = Some(caller.id.as_uuid());
    let may = cron.created_by == me || cron.set_up_by == me || sees_all(caller, app.as_str());
    if may { Ok(cron) } else { Err(Error::Unknown(id)) }
}

/// Whether `caller` sees the crons of others.
fn sees_all(caller: &Principal, app: &str) -> bool {
    caller.permissions.allows(&format!("app:{app}:cron.manage_others"))
}

/// The job of a cron; none when nobody owns it.
pub fn message(cron: &Cron, now: DateTime<Utc>) -> Result<Option<NewMessage>, sqlx::Error> {
    let Some(user) = cron.created_by else { return Ok(None) };
    let mut payload: Map<String, Value> = cron.payload.as_object().cloned().unwrap_or_default();
    payload.insert("cron_id".to_owned(), Value::String(cron.id.to_string()));
    let encode = |error: serde_json::Error| sqlx::Error::Encode(error.into());
    let envelope = Envelope {
        user: user.into(),
        by: cron.set_up_by.map(UserId::from),
        only: cron.only_permissions.clone(),
        needs: Vec::new(),
        hops: 0,
        max_attempts: DEFAULT_ATTEMPTS,
        timeout: DEFAULT_TIMEOUT,
        payload: serde_json::value::to_raw_value(&payload).map_err(encode)?,
    };
    Ok(Some(NewMessage {
        lane: format!("{}/{}", cron.tenant_id, cron.app_id).into(),
        priority: DEFAULT_PRIORITY,
        visible_at: now,
        tag: Some(tag(cron.id)),
        key: None,
        order: None,
        body: serde_json::to_string(&envelope).map_err(encode)?,
    }))
}

/// What the unfinished jobs of a cron are found by.
pub fn tag(cron: Uuid) -> String {
    cron.to_string()
}

/// Makes the declared crons of an app those of its manifest. They act for whoever installs it.
pub async fn declare(
    connection: &mut PgConnection,
    by: &Principal,
    app: &AppId,
    crons: &[manifest::Cron],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let wanted: Vec<Wanted> = crons
        .iter()
        .map(|cron| Wanted {
            id: CronId::generate(now),
            name: cron.name.clone(),
            schedule: cron.schedule.clone(),
            timezone: cron.timezone.clone(),
            payload: Value::Object(cron.merged_payload()),
            overlap_policy: cron.overlap_policy.as_str().to_owned(),
            // A manifest is checked before, so this is a schedule.
            next_tick: Schedule::parse(&cron.schedule, cron.timezone.as_deref())
                .ok()
                .and_then(|schedule| schedule.next_after(now)),
        })
        .collect();
    store::replace_declared(connection, (&by.tenant, app), &wanted, &Standing::of(by, by), now).await
}
