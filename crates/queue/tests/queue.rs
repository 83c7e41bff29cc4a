//! What the queue promises, on a real PostgreSQL.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, postgres::PgListener};
use uuid::Uuid;
use weft_queue::{
    CHANNEL, Key, Leased, NewMessage, Ready, Sent, Settlement, State, Stream, Want, Which, bury, cancel, delete_older, extend,
    find, forsake, lease, list, pending, ready_streams, remove_lane, replay, send, settle, sweep, wake,
};
use weft_testkit::database::TestDatabase;

const HOLDER: Uuid = Uuid::from_u128(1);

struct Rig {
    database: TestDatabase,
    connection: PgConnection,
    now: DateTime<Utc>,
}

impl Rig {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let connection = connect(&database).await;
        Self { database, connection, now: "2026-01-01T00:00:00Z".parse().expect("a time") }
    }

    fn message(&self, lane: &str, body: &str) -> NewMessage {
        NewMessage {
            lane: lane.into(),
            priority: 0,
            visible_at: self.now,
            tag: None,
            key: None,
            order: None,
            body: body.to_owned(),
        }
    }

    async fn send(&mut self, messages: &[NewMessage]) -> Vec<Sent> {
        send(&mut self.connection, self.now, messages).await.expect("sent")
    }

    async fn send_plain(&mut self, lane: &str, bodies: &[&str]) -> Vec<i64> {
        let messages: Vec<_> = bodies.iter().map(|body| self.message(lane, body)).collect();
        self.send(&messages).await.into_iter().map(Sent::id).collect()
    }

    async fn lease(&mut self, lane: &str, most: i32) -> Vec<Leased> {
        let until = self.now + TimeDelta::seconds(120);
        lease(&mut self.connection, HOLDER, &[want(lane, 0, most)], until).await.expect("leased")
    }

    async fn settle(&mut self, leased: &Leased, settlement: Settlement) -> bool {
        settle(&mut self.connection, self.now, &[(leased.lease(), settlement)]).await.expect("settled") == [true]
    }

    async fn sweep(&mut self) -> usize {
        sweep(&mut self.connection, DateTime::UNIX_EPOCH, self.now, 100).await.expect("swept")
    }

    async fn state(&mut self, lane: &str, id: i64) -> Option<State> {
        find(&mut self.connection, lane, id).await.expect("read").map(|message| message.state)
    }

    fn pass(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }
}

async fn connect(database: &TestDatabase) -> PgConnection {
    PgConnection::connect(&database.url).await.expect("the database accepts connections")
}

fn want(lane: &str, priority: i16, most: i32) -> Want {
    Want { stream: Stream::new(lane, priority), after: 0, most }
}

fn bodies(leased: &[Leased]) -> Vec<&str> {
    leased.iter().map(|message| message.body.as_str()).collect()
}

fn done() -> Settlement {
    Settlement::Complete { result: Some("1".to_owned()), note: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_the_order_in_which_they_were_sent_and_end_in_the_archive() {
    let mut rig = Rig::new().await;
    let ids = rig.send_plain("a", &["1", "2", "3"]).await;
    assert!(ids.is_sorted() && ids.len() == 3);
    let leased = rig.lease("a", 2).await;
    assert_eq!((bodies(&leased), leased[0].read_count), (vec!["1", "2"], 1));
    assert!(rig.settle(&leased[0], done()).await);
    assert_eq!(bodies(&rig.lease("a", 9).await), ["3"]);
    assert_eq!(rig.state("a", ids[0]).await, Some(State::Completed));
    assert_eq!(rig.state("a", ids[1]).await, Some(State::Leased));
    let archived = list(&mut rig.connection, "a", Which::Archived, None, 10).await.expect("listed");
    assert_eq!(archived.iter().map(|message| (message.id, message.result.as_deref())).collect::<Vec<_>>(), [(ids[0], Some("1"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_settled_in_time_comes_again_and_the_lost_lease_settles_nothing() {
    let mut rig = Rig::new().await;
    let ids = rig.send_plain("a", &["1"]).await;
    let first = rig.lease("a", 1).await.remove(0);
    rig.pass(119);
    assert_eq!((rig.sweep().await, rig.lease("a", 1).await.len()), (0, 0));
    rig.pass(2);
    assert_eq!(rig.sweep().await, 1);
    let second = rig.lease("a", 1).await.remove(0);
    assert_eq!((second.id, second.read_count), (ids[0], 2));
    assert!(!rig.settle(&first, done()).await, "the first lease is lost");
    assert_eq!(extend(&mut rig.connection, &[first.lease()], rig.now).await.expect("asked"), Vec::<i64>::new());
    assert!(rig.settle(&second, done()).await);
    assert!(!rig.settle(&second, done()).await, "and what is settled is settled once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_extended_holds() {
    let mut rig = Rig::new().await;
    rig.send_plain("a", &["1"]).await;
    let leased = rig.lease("a", 1).await.remove(0);
    rig.pass(100);
    let until = rig.now + TimeDelta::seconds(120);
    assert_eq!(extend(&mut rig.connection, &[leased.lease()], until).await.expect("extended"), [leased.id]);
    rig.pass(100);
    assert_eq!(rig.sweep().await, 0);
    assert!(rig.settle(&leased, done()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_and_counts_and_a_release_does_not_count() {
    let mut rig = Rig::new().await;
    let ids = rig.send_plain("a", &["1"]).await;
    let leased = rig.lease("a", 1).await.remove(0);
    let at = rig.now + TimeDelta::seconds(10);
    assert!(rig.settle(&leased, Settlement::Retry { at, note: "no luck".to_owned() }).await);
    assert_eq!(rig.state("a", ids[0]).await, Some(State::Waiting));
    rig.pass(10);
    rig.sweep().await;
    let leased = rig.lease("a", 1).await.remove(0);
    assert_eq!(leased.read_count, 2);
    let at = rig.now;
    assert!(rig.settle(&leased, Settlement::Release { at, note: None }).await);
    let leased = rig.lease("a", 1).await.remove(0);
    assert_eq!(leased.read_count, 2);
    let kept = find(&mut rig.connection, "a", ids[0]).await.expect("read").expect("there");
    assert_eq!(kept.note.as_deref(), Some("no luck"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_says_why_and_can_be_replayed() {
    let mut rig = Rig::new().await;
    let ids = rig.send_plain("a", &["1"]).await;
    let leased = rig.lease("a", 1).await.remove(0);
    assert!(rig.settle(&leased, Settlement::Bury { note: "poison".to_owned() }).await);
    let dead = list(&mut rig.connection, "a", Which::Dead, None, 10).await.expect("listed");
    assert_eq!(dead.iter().map(|message| message.note.as_deref()).collect::<Vec<_>>(), [Some("poison")]);
    let (id, now) = (ids[0], rig.now);
    assert!(replay(&mut rig.connection, "a", id, now).await.expect("replayed"));
    assert!(!replay(&mut rig.connection, "a", id, now).await.expect("asked"), "once");
    assert_eq!((rig.lease("a", 1).await[0].id, rig.lease("a", 1).await.len()), (id, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_waits_for_its_time_or_for_somebody_to_wake_it() {
    let mut rig = Rig::new().await;
    let delayed = |rig: &Rig| NewMessage { visible_at: rig.now + TimeDelta::hours(1), ..rig.message("a", "later") };
    let messages = [delayed(&rig), delayed(&rig)];
    let sent = rig.send(&messages).await;
    assert_eq!((rig.sweep().await, rig.lease("a", 9).await.len()), (0, 0));
    let now = rig.now;
    assert!(wake(&mut rig.connection, "a", sent[1].id(), now).await.expect("woken"));
    assert_eq!(rig.lease("a", 9).await.iter().map(|leased| leased.id).collect::<Vec<_>>(), [sent[1].id()]);
    rig.pass(3600);
    assert_eq!(rig.sweep().await, 2, "the lease ran out meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_for_one_message_even_within_one_batch() {
    let mut rig = Rig::new().await;
    let keyed = |rig: &Rig, digest: u8| {
        let key = Some(Key { name: "k".to_owned(), digest: vec![digest] });
        NewMessage { key, ..rig.message("a", "x") }
    };
    let batch = [keyed(&rig, 1), keyed(&rig, 1), rig.message("a", "y")];
    let sent = rig.send(&batch).await;
    let Sent::New(id) = sent[0] else { panic!("{sent:?}") };
    assert_eq!(sent[1], Sent::Again(id));
    assert!(matches!(sent[2], Sent::New(_)));
    let more = [keyed(&rig, 1), keyed(&rig, 2)];
    assert_eq!(rig.send(&more).await, [Sent::Again(id), Sent::Mismatch(id)]);
    let elsewhere = [NewMessage { lane: "b".into(), ..keyed(&rig, 2) }];
    assert!(matches!(rig.send(&elsewhere).await[..], [Sent::New(_)]), "keys are a lane's own");
    assert_eq!(rig.lease("a", 9).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_not_leased_and_what_is_leased_is_not_cancelled() {
    let mut rig = Rig::new().await;
    let ids = rig.send_plain("a", &["1", "2"]).await;
    let leased = rig.lease("a", 1).await;
    let now = rig.now;
    assert!(!cancel(&mut rig.connection, "a", leased[0].id, now).await.expect("asked"));
    assert!(cancel(&mut rig.connection, "a", ids[1], now).await.expect("cancelled"));
    assert_eq!((rig.state("a", ids[1]).await, rig.lease("a", 1).await.len()), (Some(State::Cancelled), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_lease_at_once_never_get_the_same_message() {
    let mut rig = Rig::new().await;
    let messages: Vec<_> = (0..400).map(|number| rig.message("a", &number.to_string())).collect();
    rig.send(&messages).await;
    let until = rig.now + TimeDelta::seconds(120);
    let leasing = (0..8).map(|_| async {
        let (mut connection, mut mine) = (connect(&rig.database).await, Vec::new());
        loop {
            let leased = lease(&mut connection, HOLDER, &[want("a", 0, 7)], until).await.expect("leased");
            if leased.is_empty() {
                return mine;
            }
            mine.extend(leased.into_iter().map(|message| message.id));
        }
    });
    let all: Vec<i64> = futures::future::join_all(leasing).await.into_iter().flatten().collect();
    // Whoever found everything locked by others stopped early; what is left is nobody's twice.
    let left = rig.lease("a", 400).await.len();
    assert_eq!((all.len() + left, all.iter().collect::<BTreeSet<_>>().len()), (400, all.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_takes_from_many_streams_and_from_each_no_more_than_wanted() {
    let mut rig = Rig::new().await;
    let urgent = NewMessage { priority: 9, ..rig.message("a", "urgent") };
    let messages = [rig.message("a", "a1"), rig.message("a", "a2"), urgent, rig.message("b", "b1")];
    rig.send(&messages).await;
    let wants = [want("a", 0, 1), want("a", 9, 5), want("b", 0, 5), want("c", 0, 5)];
    let leased = lease(&mut rig.connection, HOLDER, &wants, rig.now).await.expect("leased");
    assert_eq!(bodies(&leased), ["urgent", "a1", "b1"]);
    let ready = ready_streams(&mut rig.connection).await.expect("listed");
    assert_eq!(ready, [Stream::new("a", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_is_told_of_what_was_committed_and_where_it_is() {
    let mut rig = Rig::new().await;
    let mut listener = PgListener::connect(&rig.database.url).await.expect("listening");
    let name = sqlx::query_scalar("select weft_channel($1)").bind(CHANNEL).fetch_one(&mut rig.connection).await;
    let name: String = name.expect("a name");
    listener.listen(&name).await.expect("listening");
    let mut transaction = rig.connection.begin().await.expect("begun");
    let message = NewMessage {
        lane: "lost".into(),
        priority: 0,
        visible_at: rig.now,
        tag: None,
        key: None,
        order: None,
        body: String::new(),
    };
    send(&mut transaction, rig.now, &[message]).await.expect("sent");
    transaction.rollback().await.expect("rolled back");
    rig.send_plain("a", &["1", "2"]).await;
    let heard: Ready = listener.recv().await.expect("told").payload().parse().expect("understood");
    assert_eq!(heard.stream, Stream::new("a", 0));
    let first = rig.lease("a", 1).await.remove(0);
    assert_eq!(first.position, heard.position, "the first of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_pending_until_their_message_is_over() {
    let mut rig = Rig::new().await;
    let tagged = [NewMessage { tag: Some("t".to_owned()), ..rig.message("a", "1") }];
    rig.send(&tagged).await;
    let asked = [("a".to_owned(), "t".to_owned()), ("a".to_owned(), "u".to_owned()), ("b".to_owned(), "t".to_owned())];
    assert_eq!(pending(&mut rig.connection, &asked).await.expect("asked").len(), 1);
    let leased = rig.lease("a", 1).await.remove(0);
    assert_eq!(pending(&mut rig.connection, &asked).await.expect("asked").len(), 1);
    rig.settle(&leased, done()).await;
    assert_eq!(pending(&mut rig.connection, &asked).await.expect("asked").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_and_what_belongs_to_a_removed_lane_goes() {
    let mut rig = Rig::new().await;
    rig.send_plain("a", &["1", "2"]).await;
    rig.send_plain("b", &["3"]).await;
    let leased = rig.lease("a", 1).await.remove(0);
    rig.settle(&leased, done()).await;
    let (hour, now) = (TimeDelta::hours(1), rig.now);
    assert_eq!(delete_older(&mut rig.connection, now - hour, now - hour).await.expect("tidied"), 0);
    assert_eq!(delete_older(&mut rig.connection, now + hour, now + hour).await.expect("tidied"), 1);
    remove_lane(&mut rig.connection, "a").await.expect("removed");
    assert_eq!((rig.lease("a", 9).await.len(), rig.lease("b", 9).await.len()), (0, 1));
}

fn ordered(rig: &Rig, key: &str, body: &str) -> NewMessage {
    NewMessage { order: Some(key.to_owned()), ..rig.message("a", body) }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_the_same_key_come_one_after_the_other_and_wait_for_retries_of_those_before() {
    let mut rig = Rig::new().await;
    let batch = [ordered(&rig, "x", "x1"), ordered(&rig, "x", "x2"), ordered(&rig, "y", "y1")];
    let ids: Vec<i64> = rig.send(&batch).await.into_iter().map(Sent::id).collect();
    let third = [ordered(&rig, "x", "x3")];
    rig.send(&third).await;
    let first = rig.lease("a", 9).await;
    assert_eq!(bodies(&first), ["x1", "y1"]);
    assert_eq!(rig.state("a", ids[1]).await, Some(State::HeldBack));
    let at = rig.now + TimeDelta::seconds(5);
    assert!(rig.settle(&first[0], Settlement::Retry { at, note: "no luck".to_owned() }).await);
    assert!(rig.settle(&first[1], done()).await);
    assert_eq!(rig.lease("a", 9).await.len(), 0, "what failed is still the first");
    rig.pass(6);
    rig.sweep().await;
    let again = rig.lease("a", 9).await;
    assert_eq!(bodies(&again), ["x1"]);
    assert!(rig.settle(&again[0], Settlement::Bury { note: "no".to_owned() }).await);
    let second = rig.lease("a", 9).await;
    assert_eq!(bodies(&second), ["x2"], "a dead letter holds nobody back");
    let now = rig.now;
    assert!(!cancel(&mut rig.connection, "a", second[0].id, now).await.expect("asked"));
    assert!(rig.settle(&second[0], done()).await);
    assert_eq!(bodies(&rig.lease("a", 9).await), ["x3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_a_message_and_whoever_sends_the_next_never_miss_each_other() {
    let mut rig = Rig::new().await;
    let (rounds, mut other) = (100, connect(&rig.database).await);
    let first = [ordered(&rig, "x", "0")];
    rig.send(&first).await;
    for number in 1..=rounds {
        let leased = rig.lease("a", 1).await;
        let lease = leased.first().unwrap_or_else(|| panic!("message {number} is ready")).lease();
        let (next, now) = ([ordered(&rig, "x", &number.to_string())], rig.now);
        let (sent, ended) =
            tokio::join!(transact_send(&mut other, now, &next), transact_settle(&mut rig.connection, now, (lease, done())));
        assert!(sent && ended);
    }
}

async fn transact_send(connection: &mut PgConnection, now: DateTime<Utc>, messages: &[NewMessage]) -> bool {
    let mut transaction = connection.begin().await.expect("begun");
    send(&mut transaction, now, messages).await.expect("sent");
    transaction.commit().await.is_ok()
}

async fn transact_settle(connection: &mut PgConnection, now: DateTime<Utc>, ended: (weft_queue::Lease, Settlement)) -> bool {
    let mut transaction = connection.begin().await.expect("begun");
    let held = settle(&mut transaction, now, &[ended]).await.expect("settled");
    transaction.commit().await.is_ok() && held == [true]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_message_lets_the_next_of_its_key_through() {
    let mut rig = Rig::new().await;
    let batch = [ordered(&rig, "x", "x1"), ordered(&rig, "x", "x2"), ordered(&rig, "x", "x3")];
    let ids: Vec<i64> = rig.send(&batch).await.into_iter().map(Sent::id).collect();
    let now = rig.now;
    for id in &ids[..2] {
        assert!(cancel(&mut rig.connection, "a", *id, now).await.expect("cancelled"));
    }
    assert_eq!(bodies(&rig.lease("a", 9).await), ["x3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_is_to_work_on_lies_with_the_dead_letters_and_says_why() {
    let mut rig = Rig::new().await;
    let (message, now) = (rig.message("a", "x"), rig.now);
    bury(&mut rig.connection, now, &[(message, "a loop".to_owned())]).await.expect("buried");
    let dead = list(&mut rig.connection, "a", Which::Dead, None, 10).await.expect("listed");
    assert_eq!(dead.iter().map(|letter| letter.note.as_deref()).collect::<Vec<_>>(), [Some("a loop")]);
    assert!(replay(&mut rig.connection, "a", dead[0].id, now).await.expect("raised"));
}

#[tokio::test]
async fn what_a_holder_that_is_gone_has_leased_is_ready_again_at_once_and_its_leases_settle_nothing() {
    let mut rig = Rig::new().await;
    rig.send_plain("a", &["1", "2", "3"]).await;
    let gone = rig.lease("a", 2).await;
    let until = rig.now + TimeDelta::seconds(120);
    let other = lease(&mut rig.connection, Uuid::from_u128(2), &[want("a", 0, 1)], until).await.expect("leased");
    assert_eq!(forsake(&mut rig.connection, HOLDER).await.expect("forsaken"), 2);
    assert!(!rig.settle(&gone[0], Settlement::Complete { result: None, note: None }).await);
    assert_eq!(rig.lease("a", 9).await.iter().map(|leased| leased.read_count).collect::<Vec<_>>(), [2, 2]);
    assert!(rig.settle(&other[0], Settlement::Complete { result: None, note: None }).await, "nobody else lost anything");
}
