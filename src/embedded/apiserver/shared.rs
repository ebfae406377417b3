//! The machine behind its lock, and the signals that its drivers wait for.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::Options;
use super::machine::Machine;
use super::status::ApiError;
use crate::domain::time::Timestamp;

/// What requests, watches and handles share.
pub(super) struct Shared {
    machine: Mutex<Machine>,
    /// Version of the last write.
    pub(super) changed: watch::Sender<u64>,
    /// No answer leaves the server.
    pub(super) paused: watch::Sender<bool>,
    /// Watches are to end.
    pub(super) closing: watch::Sender<bool>,
    /// Watches that may still begin.
    pub(super) watches: Arc<Semaphore>,
    /// How the server was set up.
    pub(super) options: Options,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let machine = Machine::new(&options, options.clock.now());
        Self {
            changed: watch::Sender::new(machine.version()),
            machine: Mutex::new(machine),
            paused: watch::Sender::new(false),
            closing: watch::Sender::new(false),
            watches: Arc::new(Semaphore::new(options.watches_max)),
            options,
        }
    }

    /// Runs `work` with the machine and the time; watches learn of what it wrote.
    pub(super) fn change<T>(
        &self,
        work: impl FnOnce(&mut Machine, Timestamp) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let now = self.options.clock.now();
        // A panic in another request leaves the store whole: every write is one insertion.
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.collect(now);
        let result = work(&mut machine, now);
        let version = machine.version();
        drop(machine);
        self.changed
            .send_if_modified(|seen| std::mem::replace(seen, version) != version);
        result
    }

    /// Like `change`, for work that only reads.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Machine, Timestamp) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.change(|machine, now| work(machine, now))
    }

    /// Waits while the server is paused.
    pub(super) async fn running(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        drop(self.paused.subscribe().wait_for(|paused| !paused).await);
    }
}
