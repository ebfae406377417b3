//! The driver in office: what begins with a term, and what was learned before.

use std::time::Duration;

use tracing::{info, warn};

use crate::controller::driver::{Done, Driver};
use crate::controller::state::{StoreError, Stored};
use crate::domain::time::Timestamp;

impl Driver {
    pub(super) fn look_at_seat(&mut self) {
        let now = self.options.clock.now();
        let epoch = self.seat.epoch_now();
        let instruments = &self.options.instruments;
        instruments.leader.set(f64::from(u8::from(epoch.is_some())));
        instruments.epoch.set(self.seat.claim().epoch as f64);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.desk.close();
        let Some(epoch) = epoch else {
            return;
        };
        self.engine.set_epoch(epoch);
        self.pace.save_at = now + self.options.state_interval;
        // Writing does not wait for either: a node may be joining just now.
        self.desk.open(now);
        self.list(Duration::ZERO);
        let store = self.store.clone();
        self.beside
            .spawn(async move { Done::Loaded(store.load().await) });
        let policies = self.policies.borrow().clone();
        self.report(policies, now);
    }

    pub(super) async fn load_first(&mut self) {
        match self.store.load().await {
            Ok(Some(stored)) => self.adopt(stored),
            Ok(None) => info!("no stored state: beginning with an empty history"),
            Err(reason) => warn!(%reason, "stored state cannot be read"),
        }
    }

    pub(super) fn adopt(&mut self, stored: Stored) {
        match self.engine.load(&stored.text) {
            Ok(()) => {
                info!(saved = %stored.saved, bytes = stored.text.len(), "state loaded");
                self.loaded = stored.saved;
                self.stored = Some(stored.text);
                self.refresh(self.options.clock.now());
            }
            Err(reason) => warn!(%reason, "stored state is not used"),
        }
    }

    pub(super) fn save(&mut self, now: Timestamp) {
        self.pace.save_at = now + self.options.state_interval;
        let text = self.engine.save(now);
        if self.saving || self.stored.as_ref() == Some(&text) {
            return;
        }
        self.saving = true;
        let store = self.store.clone();
        self.beside.spawn(async move {
            let outcome = store.save(text.clone(), now).await;
            Done::Saved(text, outcome)
        });
    }

    pub(super) fn saved(&mut self, text: String, outcome: Result<(), StoreError>, now: Timestamp) {
        self.saving = false;
        match outcome {
            Ok(()) => {
                self.loaded = now;
                self.stored = Some(text);
            }
            Err(StoreError::Outdated(epoch)) => {
                warn!(epoch, "a newer leader has stored its state");
                self.seat.raise_floor(epoch);
                self.seat.step_down();
            }
            Err(reason) => warn!(%reason, "state was not stored"),
        }
    }
}
