//! What this process costs the machine, as its kernel counts it.

use std::time::Duration;

use anyhow::Context as _;

/// CPU time of this thread: the first number of `schedstat`, nanoseconds (proc(5)).
pub fn thread_cpu() -> anyhow::Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).context(path)?;
    let first = text.split_whitespace().next().and_then(|n| n.parse().ok());
    Ok(Duration::from_nanos(first.context(path)?))
}

/// `VmRSS` of this process, MiB.
pub fn resident_mib() -> anyhow::Result<f64> {
    let path = "/proc/self/status";
    let text = std::fs::read_to_string(path).context(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}
