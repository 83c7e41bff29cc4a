//! What the machine is, and what its processes use, as the kernel tells.

/// The unit of `/proc/<process>/stat`: a hundredth of a second on every Linux that this runs on.
const TICKS: f64 = 100.0;
/// Where the first line of `/proc/stat` has what processors work on: users, nice ones, the system, interrupts of both kinds.
const WORK: [usize; 5] = [0, 1, 2, 5, 6];

/// The machine, as it describes itself.
pub fn describe() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let (processor, memory) = (field(&file("/proc/cpuinfo"), "model name"), field(&file("/proc/meminfo"), "MemTotal"));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = file("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {processor}, {memory} of memory, Linux {}", kernel.trim())
}

/// Resident memory of a process, in MiB.
pub fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// The processor time that a process has used, in seconds. 0 when it is gone.
pub fn processor_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name before may hold spaces. What follows begins with the third field; user and system time are the 14th and 15th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// The processor time that the whole machine has used since its start, in seconds.
pub fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let times = times.enumerate().filter(|(place, _)| WORK.contains(place));
    times.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// The processes that a process started.
pub fn children(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The arguments of a process, separated by zero bytes.
pub fn command_line(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
}
