//! The thread from which all children are started.
//!
//! The kernel kills a jailed child when the *thread* that started it ends. Threads of a runtime come and go, so children are
//! started from one that stays as long as the process.

use std::{
    io,
    sync::{OnceLock, mpsc},
    thread,
};

use tokio::{runtime::Handle, sync::oneshot};

type Job = Box<dyn FnOnce() + Send>;

static KEEPER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

/// Runs a job on the thread, inside the caller's tokio runtime.
pub(super) async fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let runtime = Handle::current();
    let job = move || {
        let _inside = runtime.enter();
        // A caller that gave up drops what it was given, a child included.
        let _ = done.send(job());
    };
    keeper()?.send(Box::new(job)).map_err(|_| io::ErrorKind::BrokenPipe)?;
    result.await.map_err(io::Error::other)
}

fn keeper() -> io::Result<&'static mpsc::Sender<Job>> {
    if let Some(keeper) = KEEPER.get() {
        return Ok(keeper);
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new().name("jail-keeper".to_owned()).spawn(move || jobs.iter().for_each(|job| job()))?;
    // If two came here at once, the thread of the second ends, with nothing started from it.
    Ok(KEEPER.get_or_init(|| sender))
}
