//! What processes cost, as their kernel counts it.

use std::fs;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Ticks a second of `stat` (proc(5)): 100 on every Linux that has not been patched.
const TICKS: f64 = 100.0;

/// Between two looks at a process's memory; the peak that is read is the kernel's own.
const LOOK: Duration = Duration::from_millis(5);

/// How a process ended, and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub status: ExitStatus,
    pub wall_s: f64,
    pub cpu_s: f64,
    /// `VmHWM`, MiB.
    pub peak_mib: f64,
}

/// User and system seconds of a process and of its children that have ended.
pub fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // pid (name) state ..; utime to cstime are fields 14 to 17, and the name may hold anything.
    let (_, rest) = text.rsplit_once(')').context(path)?;
    let ticks = rest.split_whitespace().skip(11).take(4);
    let ticks: Result<Vec<f64>, _> = ticks.map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS)
}

/// CPU time of this thread, seconds: the first number of `schedstat`, nanoseconds (proc(5)).
pub fn thread_cpu_s() -> anyhow::Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).context(path)?;
    let first = text.split_whitespace().next().and_then(|n| n.parse().ok());
    let nanos: u64 = first.context(path)?;
    Ok(Duration::from_nanos(nanos).as_secs_f64())
}

/// A line of a process's `status`, MiB; none once it has ended.
pub fn memory_mib(pid: u32, line: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|text| text.strip_prefix(line))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Waits for a process that was started at `began`, and counts before it is gone.
pub fn wait(mut child: Child, began: Instant) -> anyhow::Result<Spent> {
    let pid = Pid::from_child(&child);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let mut peak_mib = 0.0_f64;
    while waitid(WaitId::Pid(pid), ended | WaitIdOptions::NOHANG)?.is_none() {
        peak_mib = peak_mib.max(memory_mib(child.id(), "VmHWM").unwrap_or(0.0));
        thread::sleep(LOOK);
    }
    let wall_s = began.elapsed().as_secs_f64();
    let cpu_s = cpu_s(child.id())?;
    Ok(Spent {
        status: child.wait()?,
        wall_s,
        cpu_s,
        peak_mib,
    })
}
