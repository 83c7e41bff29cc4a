//! A way to a database that a test can break: between the server and PostgreSQL's socket, knowing nothing of what passes.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::database::TestDatabase;

/// What the name of PostgreSQL's socket ends in.
const SOCKET: &str = ".s.PGSQL.5432";

/// The socket of a database, with somebody in between.
pub struct Proxy {
    /// Reaches the database through the proxy.
    pub url: String,
    state: Arc<State>,
    _folder: TempDir,
}

struct State {
    target: PathBuf,
    /// Whether connections pass; those that are open when it becomes false are cut.
    open: watch::Sender<bool>,
    /// The reply to what holds this is lost, and the connection with it.
    doomed: Mutex<Option<Vec<u8>>>,
    /// What PostgreSQL says that holds this waits.
    held: watch::Sender<Option<Vec<u8>>>,
}

impl Proxy {
    /// Starts to pass everything on.
    pub fn start(database: &TestDatabase) -> Self {
        let options: PgConnectOptions = database.url.parse().expect("a URL");
        let target = options.get_socket().expect("tests reach PostgreSQL over its socket").join(SOCKET);
        let folder = tempfile::Builder::new().prefix("weft-proxy-").tempdir().expect("a temporary folder");
        let encoded = |path: &str| path.replace('/', "%2F");
        let real = target.parent().and_then(|folder| folder.to_str()).expect("text").to_owned();
        let own = folder.path().to_str().expect("text").to_owned();
        let url = database.url.replacen(&encoded(&real), &encoded(&own), 1);
        assert_ne!(url, database.url, "the URL names the socket's folder");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
        let state =
            Arc::new(State { target, open: watch::Sender::new(true), doomed: Mutex::default(), held: watch::Sender::default() });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { url, state, _folder: folder }
    }

    /// Cuts every connection and lets no new one through.
    pub fn cut(&self) {
        self.state.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn restore(&self) {
        self.state.open.send_replace(true);
    }

    /// Keeps what PostgreSQL says and holds `text` to itself, with all that it says after it on the same connection.
    pub fn hold(&self, text: &str) {
        self.state.held.send_replace(Some(text.as_bytes().to_vec()));
    }

    /// Passes on what was held.
    pub fn release(&self) {
        self.state.held.send_replace(None);
    }

    /// Loses the reply to the next request that holds `text`: PostgreSQL carries it out, and nobody learns of it.
    pub fn lose_reply_to(&self, text: &str) {
        *self.state.doomed() = Some(text.as_bytes().to_vec());
    }
}

impl State {
    fn doomed(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the reply to this is to be lost. Once for each wish.
    fn dooms(&self, request: &[u8]) -> bool {
        let mut doomed = self.doomed();
        let hit = doomed.as_ref().is_some_and(|text| contains(request, text));
        if hit {
            *doomed = None;
        }
        hit
    }
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if *state.open.borrow() {
            tokio::spawn(pass(client, Arc::clone(&state)));
        }
    }
}

async fn pass(client: UnixStream, state: Arc<State>) {
    let Ok(server) = UnixStream::connect(&state.target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let deaf = Arc::new(AtomicBool::new(false));
    let mut open = state.open.subscribe();
    tokio::select! {
        () = requests(from_client, to_server, &state, &deaf) => {}
        () = replies(from_server, to_client, &state, &deaf) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, deaf: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let request = buffer.get(..length).unwrap_or_default();
        if state.dooms(request) {
            deaf.store(true, SeqCst);
        }
        if to.write_all(request).await.is_err() {
            return;
        }
    }
}

/// Ends with the first reply that is to be lost: by then PostgreSQL has done what was asked.
async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, deaf: &AtomicBool) {
    let (mut buffer, mut held) = (vec![0; 64 * 1024], state.held.subscribe());
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let reply = buffer.get(..length).unwrap_or_default();
        let may_pass = |held: &Option<Vec<u8>>| held.as_ref().is_none_or(|text| !contains(reply, text));
        let passes = held.wait_for(may_pass).await.is_ok();
        if !passes || deaf.load(SeqCst) || to.write_all(reply).await.is_err() {
            return;
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
