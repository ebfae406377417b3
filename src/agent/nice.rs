//! Lets other processes have the cores first while nothing is brought that a pod waits for.

use std::fs;
use std::io;
use std::thread;

use rustix::process::{Pid, getpriority_process, setpriority_process};

/// The weakest there is: beside a process of the usual 0 it has 15 of 1,039 parts of a core, and all of it
/// where nobody else wants it (sched(7); kernel/sched/core.c, `sched_prio_to_weight`).
const YIELDING: i32 = 19;

/// The priority of this process's threads.
#[derive(Debug)]
pub struct Niceness {
    set: fn(i32),
    /// As it was started.
    usual: i32,
    yields: Option<bool>,
}

impl Niceness {
    /// Of this process; of none at all where what was given up could not be taken back, which takes
    /// `CAP_SYS_NICE` or a limit (`RLIMIT_NICE`).
    #[must_use]
    pub fn of_process() -> Self {
        let may = thread::spawn(|| {
            let usual = getpriority_process(None)?;
            set_thread(None, YIELDING)?;
            set_thread(None, usual)?;
            io::Result::Ok(usual)
        });
        if let Ok(Ok(usual)) = may.join() {
            return Self {
                set: set_all,
                usual,
                yields: None,
            };
        }
        tracing::debug!("this process may not change its priority");
        Self::none()
    }

    /// Of nobody: several agents in one process, or tests.
    #[must_use]
    pub fn none() -> Self {
        Self {
            set: |_| {},
            usual: 0,
            yields: None,
        }
    }

    /// Gives way, or does not any more. Threads that begin later are as the one that begins them.
    pub(super) fn yields(&mut self, yields: bool) {
        if self.yields.replace(yields) != Some(yields) {
            (self.set)(if yields { YIELDING } else { self.usual });
        }
    }
}

/// Linux has a priority per thread (setpriority(2), "C library/kernel differences").
fn set_all(priority: i32) {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return;
    };
    for thread in threads.flatten() {
        let id = thread.file_name();
        let id = id.to_str().and_then(|text| text.parse().ok());
        // One that has ended meanwhile needs none.
        if let Some(id) = id.and_then(Pid::from_raw) {
            let _ = set_thread(Some(id), priority);
        }
    }
}

fn set_thread(thread: Option<Pid>, priority: i32) -> io::Result<()> {
    Ok(setpriority_process(thread, priority)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    #[test]
    fn a_priority_is_set_when_it_changes_and_not_again() {
        static SET: AtomicI32 = AtomicI32::new(-100);
        let mut nice = Niceness {
            set: |to| {
                assert_ne!(SET.swap(to, Ordering::Relaxed), to);
            },
            usual: -3,
            yields: None,
        };
        for (yields, expected) in [(true, 19), (true, 19), (false, -3), (false, -3)] {
            nice.yields(yields);
            assert_eq!(SET.load(Ordering::Relaxed), expected);
        }
    }

    #[test]
    fn a_thread_has_the_priority_that_it_was_given() {
        let found = thread::spawn(|| {
            set_thread(None, 7).unwrap();
            getpriority_process(None).unwrap()
        });
        assert_eq!(found.join().unwrap(), 7);
    }
}
