//! What goes out: targets from the desk, as writes, with what became of them.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use crate::api::PolicyMode;
use crate::controller::desk::{Outcome, Shown};
use crate::controller::driver::{Done, Driver};
use crate::controller::policy::Verdict;
use crate::controller::publish::{Found, PublishError};
use crate::domain::plan::{Plan, Target};
use crate::domain::time::Timestamp;

/// Pause before published plans are listed again, after that has failed.
const LIST_AGAIN: Duration = Duration::from_secs(1);
/// Pause before it is looked again whether the definitions have been installed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

enum Draft {
    Apply(Plan),
    Remove,
    Nothing,
}

impl Driver {
    pub(super) fn has_room(&self) -> bool {
        self.writing < self.options.concurrency.max(1)
    }

    pub(super) fn write_due(&mut self, now: Timestamp) {
        while self.epoch.is_some()
            && self.has_room()
            && let Some((target, shown)) = self.desk.take(now)
        {
            let draft = self.draft(&target, shown, now);
            let publisher = self.publisher.clone();
            match draft {
                Draft::Nothing => {
                    self.desk.finish(&target, Outcome::Idle, now);
                    if shown == Shown::Absent && self.engine.plan(&target).is_none() {
                        self.desk.forget(&target);
                    }
                }
                Draft::Remove => {
                    self.writing += 1;
                    self.beside.spawn(async move {
                        let outcome = publisher.remove(&target, now).await;
                        Done::Write(target, outcome)
                    });
                }
                Draft::Apply(plan) => {
                    self.writing += 1;
                    let owner = self.roster.get(target.name()).cloned();
                    self.beside.spawn(async move {
                        let owner = owner.filter(|_| matches!(target, Target::Node(_)));
                        let outcome = publisher.apply(&plan, owner.as_ref()).await;
                        Done::Write(target, outcome)
                    });
                }
            }
        }
    }

    pub(super) fn pool_of<'a>(&'a self, target: &'a Target) -> &'a str {
        match target {
            Target::Pool(pool) => pool,
            Target::Node(node) => self.roster.get(node).map_or("", |member| &member.pool),
        }
    }

    fn draft(&self, target: &Target, shown: Shown, now: Timestamp) -> Draft {
        let Some(plan) = self.engine.plan(target) else {
            return match shown {
                Shown::Absent => Draft::Nothing,
                // A new leader's engine may not know yet what the old one planned: entries die by
                // themselves, and the list that is under way tells what there is.
                Shown::Unknown => Draft::Nothing,
                Shown::Full if self.allowed(target) && !self.pace.begun => Draft::Nothing,
                Shown::Empty | Shown::Full => Draft::Remove,
            };
        };
        let is_node = matches!(target, Target::Node(_));
        if is_node && self.roster.get(target.name()).is_none() {
            return Draft::Nothing;
        }
        let policies = self.policies.borrow();
        match policies.judge(self.pool_of(target), plan) {
            Verdict::Publish(plan) => Draft::Apply(plan),
            Verdict::Wait => Draft::Nothing,
            Verdict::Withhold(_) => match shown {
                Shown::Full => Draft::Apply(Plan::empty(target.clone(), 0, now)),
                Shown::Unknown | Shown::Absent | Shown::Empty => Draft::Nothing,
            },
        }
    }

    pub(super) fn conclude(&mut self, done: Done) {
        let now = self.options.clock.now();
        match done {
            Done::Write(target, outcome) => {
                self.writing -= 1;
                self.written(&target, outcome, now);
            }
            Done::Listed(Ok(found)) => self.listed(found, now),
            Done::Listed(Err(PublishError::Missing(reason))) => {
                if !std::mem::replace(&mut self.undefined, true) {
                    warn!(%reason, "the definitions are not installed: nothing can be published");
                }
                if self.epoch.is_some() {
                    self.list(LOOK_AGAIN);
                }
            }
            Done::Listed(Err(reason)) => {
                warn!(%reason, "published plans cannot be listed");
                if self.epoch.is_some() {
                    self.list(LIST_AGAIN);
                }
            }
            Done::Loaded(Ok(Some(stored))) if stored.saved > self.loaded => self.adopt(stored),
            Done::Loaded(Ok(_)) => {}
            Done::Loaded(Err(reason)) => warn!(%reason, "stored state cannot be read"),
            Done::Saved(text, outcome) => self.saved(text, outcome, now),
            Done::Reported => {}
        }
    }

    fn written(&mut self, target: &Target, outcome: Result<Shown, PublishError>, now: Timestamp) {
        match outcome {
            Ok(shown) => {
                if shown != Shown::Absent {
                    self.options.instruments.published(target);
                }
                debug!(target = target.name(), ?shown, "written");
                self.desk.finish(target, Outcome::Written(shown), now);
            }
            Err(error) => self.failed(target, &error, now),
        }
    }

    fn failed(&mut self, target: &Target, error: &PublishError, now: Timestamp) {
        self.options.instruments.refused(error);
        if matches!(error, PublishError::Missing(_)) {
            // Said once, for all, where the objects are listed.
            debug!(target = target.name(), %error, "plan not written");
        } else {
            warn!(target = target.name(), %error, "plan not written");
        }
        let outcome = match error {
            PublishError::Refused(_) => Outcome::Refused,
            PublishError::NotLeading | PublishError::Missing(_) | PublishError::Unavailable(_) => {
                Outcome::Failed
            }
            PublishError::Outdated(_) => {
                self.seat.step_down();
                // Its epoch is needed before this replica can lead again.
                self.list(Duration::ZERO);
                Outcome::Failed
            }
        };
        self.desk.finish(target, outcome, now);
    }

    pub(super) fn list(&mut self, pause: Duration) {
        let publisher = self.publisher.clone();
        self.beside.spawn(async move {
            sleep(pause).await;
            Done::Listed(publisher.list().await)
        });
    }

    fn listed(&mut self, found: Vec<Found>, now: Timestamp) {
        let newest = found.iter().map(|one| one.epoch).max().unwrap_or(0);
        self.seat.raise_floor(newest);
        for one in &found {
            // A pool that nobody plans for: its object goes when its entries are void anyway.
            let is_void = one.expires.is_none_or(|at| at <= now);
            if is_void || self.engine.plan(&one.target).is_some() || !self.allowed(&one.target) {
                self.desk.found(&one.target, one.shown, now);
            }
        }
        self.desk.listed();
        if std::mem::take(&mut self.undefined) {
            self.desk.mark_all(now);
        }
    }

    fn allowed(&self, target: &Target) -> bool {
        let mode = self.policies.borrow().mode(self.pool_of(target));
        mode.is_none_or(|mode| mode == PolicyMode::On)
    }
}
