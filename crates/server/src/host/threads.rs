//! The threads that carry the server's tasks, and their precedence over everything else on the machine.

use std::{
    fs, io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};

/// In front of the number of a thread, in the order in which they were started.
const NAME: &str = "weft-";

/// Above that of workers, which lose theirs when they burn: the server has to be able to look.
const PRIORITY: u8 = 2;

const PAUSE: Duration = Duration::from_millis(5);
const ATTEMPTS: u32 = 1000;

/// The runtime of the program. The first threads that it starts are those that carry tasks; those that block come later.
pub fn runtime() -> io::Result<Runtime> {
    // What a service manager grants the server is not for its database and the backends. Older kernels have nothing to clear.
    let _ = weft_jail::clear_ambient_capabilities();
    let started = AtomicUsize::new(0);
    Builder::new_multi_thread().enable_all().thread_name_fn(move || format!("{NAME}{}", started.fetch_add(1, Relaxed))).build()
}

/// Gives real-time priority to the threads that carry tasks, so that nothing else on the machine makes a call wait.
pub async fn go_first() -> anyhow::Result<()> {
    let carriers = Handle::current().metrics().num_workers();
    // A thread takes its name once it runs, which may take a while on a busy machine.
    for _ in 0..ATTEMPTS {
        let threads = carrying(carriers).context("workers.real_time: only on Linux, for now")?;
        if threads.len() == carriers {
            return threads.into_iter().try_for_each(|thread| weft_jail::real_time(thread, PRIORITY)).context(
                "workers.real_time: the server may not have real-time priority. Run it as root, give it the capability CAP_SYS_NICE \
                 (systemd: AmbientCapabilities=CAP_SYS_NICE), or set workers.real_time to false",
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("workers.real_time: the server's own threads were not found below /proc/self/task")
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
