//! The threads that carry the server's tasks, and their precedence where processors are short.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};
use weft_workers::Precedence;

/// In front of the number of a thread, in the order in which they were started.
const NAME: &str = "weft-";

const PAUSE: Duration = Duration::from_millis(5);
const ATTEMPTS: u32 = 1000;

/// The runtime of the program. The first threads that it starts are those that carry tasks; those that block come later.
pub fn runtime() -> io::Result<Runtime> {
    // What a service manager grants the server is not for its database and the backends. Older kernels have nothing to clear.
    let _ = weft_jail::clear_ambient_capabilities();
    let started = AtomicUsize::new(0);
    Builder::new_multi_thread().enable_all().thread_name_fn(move || format!("{NAME}{}", started.fetch_add(1, Relaxed))).build()
}

/// Who goes first where processors are short: the threads that carry tasks, and quiet backends. Nobody where that is not allowed.
pub async fn precedence() -> Option<Arc<Precedence>> {
    match Precedence::new(carriers().await) {
        Ok(precedence) => Some(Arc::new(precedence)),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ". Run the server as root, or give it the capability CAP_SYS_NICE (systemd: AmbientCapabilities=CAP_SYS_NICE)"
                }
                _ => "",
            };
            tracing::info!("server.real_time: nobody goes first where processors are short (workers.real_time): {error}{remedy}");
            None
        }
    }
}

/// A thread takes its name once it runs, which may take a while on a busy machine.
async fn carriers() -> Vec<u32> {
    let wanted = Handle::current().metrics().num_workers();
    for _ in 0..ATTEMPTS {
        match carrying(wanted) {
            Ok(threads) if threads.len() == wanted => return threads,
            Ok(_) => {}
            // Another system than Linux.
            Err(_) => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Vec::new()
}

/// The threads that carry tasks, as far as they have their names.
fn carrying(carriers: usize) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let number = name.trim().strip_prefix(NAME).and_then(|number| number.parse::<usize>().ok());
        let id = thread.file_name().to_string_lossy().parse::<u32>().ok();
        found.extend(id.filter(|_| number.is_some_and(|number| number < carriers)));
    }
    Ok(found)
}
