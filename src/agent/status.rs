//! What is said of the plan, and when it is worth a write.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::{ImagePhase, ImageStatus, NodePrefetchStatus, Phase as PlanPhase, Timings};
use crate::domain::image::Digest;
use crate::domain::plan::Priority;
use crate::domain::time::Timestamp;
use crate::engine::node::{EntryProgress, Phase};

/// Shortest time between two writes to an API server, whatever changed: a plan of small images would otherwise
/// write once per image.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest list that the API takes.
const IMAGES_MAX: usize = 256;

/// Why an image waits for room.
const OVER_BUDGET: &str = "waits for room within the disk budget (agent.disk_budget)";
const OVER_DISK: &str =
    "waits for room on the disk: unpacked, it would have the kubelet remove images";

/// What the last write said, and what the next one would.
#[derive(Debug)]
pub(super) struct Journal {
    pause: Duration,
    written: Option<(NodePrefetchStatus, Timestamp)>,
    /// After a failed write: not before this.
    retry_at: Timestamp,
    timings: Timings,
    finished: BTreeMap<Digest, Timestamp>,
}

/// What a status is made of.
pub(super) struct Facts<'a> {
    pub(super) progress: &'a [EntryProgress],
    pub(super) priorities: &'a BTreeMap<Digest, Priority>,
    pub(super) messages: &'a BTreeMap<Digest, String>,
    pub(super) generation: Option<i64>,
}

impl Journal {
    /// Nothing written; `pause` is the shortest time between writes that only change numbers. Without one every
    /// change is due at once: for whoever is told in this process.
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause,
            written: None,
            retry_at: Timestamp::ZERO,
            timings: Timings::default(),
            finished: BTreeMap::new(),
        }
    }

    /// The object is gone: the next one begins anew.
    pub(super) fn forget(&mut self) {
        self.written = None;
        self.timings = Timings::default();
        self.finished.clear();
    }

    /// The status now.
    pub(super) fn status(&mut self, facts: &Facts<'_>, now: Timestamp) -> NodePrefetchStatus {
        let progress = facts.progress;
        let count = |phase| progress.iter().filter(|e| e.phase == phase).count() as u32;
        let (present, failed) = (count(Phase::Recorded), count(Phase::Failed));
        let settled = progress.iter().all(is_settled);
        let phase = match (settled, failed) {
            (true, 0) => PlanPhase::Ready,
            (true, _) => PlanPhase::Degraded,
            (false, _) => PlanPhase::Fetching,
        };
        self.timings.seen.get_or_insert(now);
        let moving = progress.iter().any(|e| e.phase != Phase::Queued);
        if moving {
            self.timings.started.get_or_insert(now);
        }
        self.timings.finished = settled.then(|| self.timings.finished.unwrap_or(now));
        for entry in progress.iter().filter(|e| e.phase == Phase::Recorded) {
            self.finished.entry(entry.digest.clone()).or_insert(now);
        }
        let images = progress.iter().take(IMAGES_MAX);
        NodePrefetchStatus {
            phase,
            observed_generation: facts.generation,
            wanted: progress.len() as u32,
            present,
            failed,
            bytes_present: progress.iter().map(|e| e.bytes_present).sum(),
            bytes_total: progress.iter().map(|e| e.bytes_total).sum(),
            timings: self.timings.clone(),
            images: images.map(|entry| self.image(entry, facts)).collect(),
            conditions: vec![self.ready(facts, now)],
            // Written by itself, and only what has changed of it.
            inventory: None,
        }
    }

    /// Whether it is time to write `status`, and otherwise when it will be; `None` when there is
    /// nothing new.
    pub(super) fn due(&self, status: &NodePrefetchStatus, now: Timestamp) -> Option<Timestamp> {
        let Some((old, at)) = &self.written else {
            return Some(now.max(self.retry_at));
        };
        if old == status {
            return None;
        }
        let weighty = old.phase != status.phase
            || old.observed_generation != status.observed_generation
            || old.failed != status.failed
            || old.conditions.first().map(|c| &c.status)
                != status.conditions.first().map(|c| &c.status);
        let due = *at
            + if weighty {
                PAUSE.min(self.pause)
            } else {
                self.pause
            };
        Some(due.max(self.retry_at))
    }

    /// Whether the API server has a status of the object that there is now.
    pub(super) fn is_told(&self) -> bool {
        self.written.is_some()
    }

    /// The API server has it.
    pub(super) fn wrote(&mut self, status: NodePrefetchStatus, now: Timestamp) {
        self.written = Some((status, now));
    }

    /// The API server did not take it: it is told again after a pause.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.retry_at = now + self.pause;
    }

    fn image(&self, entry: &EntryProgress, facts: &Facts<'_>) -> ImageStatus {
        ImageStatus {
            image: entry.image.clone(),
            digest: entry.digest.clone(),
            phase: match entry.phase {
                Phase::Queued | Phase::LeftOut | Phase::Cramped => ImagePhase::Queued,
                Phase::Fetching | Phase::Recording => ImagePhase::Fetching,
                Phase::Recorded => ImagePhase::Present,
                Phase::Failed => ImagePhase::Failed,
            },
            bytes_total: entry.bytes_total,
            bytes_present: entry.bytes_present,
            finished_at: self.finished.get(&entry.digest).copied(),
            message: match entry.phase {
                Phase::LeftOut => Some(OVER_BUDGET.to_owned()),
                Phase::Cramped => Some(OVER_DISK.to_owned()),
                Phase::Recorded => None,
                _ => facts.messages.get(&entry.digest).cloned(),
            },
        }
    }

    /// `Ready`: every image that a pod waits for is there.
    fn ready(&self, facts: &Facts<'_>, now: Timestamp) -> Condition {
        let waited_for = facts.progress.iter().filter(|entry| {
            facts.priorities.get(&entry.digest) == Some(&Priority::Pending)
                && entry.phase != Phase::Recorded
        });
        let missing = waited_for.count();
        let (status, reason) = match missing {
            0 => ("True", "ImagesPresent"),
            _ => ("False", "ImagesMissing"),
        };
        let old = self
            .written
            .as_ref()
            .and_then(|(s, _)| s.conditions.first());
        let since = old
            .filter(|condition| condition.status == status)
            .map_or_else(|| Time(instant(now)), |c| c.last_transition_time.clone());
        Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: format!("{missing} images that pods wait for are missing"),
            last_transition_time: since,
            observed_generation: facts.generation,
        }
    }
}

fn is_settled(entry: &EntryProgress) -> bool {
    matches!(
        entry.phase,
        Phase::Recorded | Phase::Failed | Phase::LeftOut | Phase::Cramped
    )
}

/// Whole seconds, as API servers keep them.
fn instant(at: Timestamp) -> jiff::Timestamp {
    let seconds = at.as_micros().div_euclid(1_000_000);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::ByteSize;

    fn entry(phase: Phase, present: u64) -> EntryProgress {
        EntryProgress {
            image: "web:1".parse().unwrap(),
            digest: Digest::from_sha256(&[1; 32]),
            phase,
            bytes_total: ByteSize(100),
            bytes_present: ByteSize(present),
        }
    }

    fn status(journal: &mut Journal, entry: EntryProgress, now: Timestamp) -> NodePrefetchStatus {
        let priorities = BTreeMap::from([(entry.digest.clone(), Priority::Pending)]);
        let facts = Facts {
            progress: &[entry],
            priorities: &priorities,
            messages: &BTreeMap::new(),
            generation: Some(1),
        };
        journal.status(&facts, now)
    }

    #[test]
    fn a_preparation_costs_a_handful_of_writes() {
        let start = Timestamp::from_secs_f64(1e9);
        let mut journal = Journal::new(Duration::from_secs(10));
        let mut writes = 0;
        // Forty seconds of transfer, looked at ten times a second.
        for tick in 0..500u64 {
            let now = start + Duration::from_millis(tick * 100);
            let phase = if tick < 400 {
                Phase::Fetching
            } else {
                Phase::Recorded
            };
            let status = status(&mut journal, entry(phase, (tick / 4).min(100)), now);
            if journal.due(&status, now).is_some_and(|at| at <= now) {
                journal.wrote(status, now);
                writes += 1;
            }
        }
        assert!((3..=6).contains(&writes), "{writes}");
        let (last, _) = journal.written.unwrap();
        assert_eq!((last.phase, last.present), (PlanPhase::Ready, 1));
        assert_eq!(last.conditions[0].status, "True");
        let took = last.timings.finished.unwrap().secs_since(start);
        assert!((took - 40.0).abs() < 0.2, "{took}");
    }

    #[test]
    fn what_waits_for_room_says_whose() {
        let now = Timestamp::from_secs_f64(1e9);
        let said = |phase| {
            let mut journal = Journal::new(Duration::from_secs(10));
            let status = status(&mut journal, entry(phase, 0), now);
            assert_eq!(status.images[0].phase, ImagePhase::Queued);
            status.images[0].message.clone().unwrap()
        };
        assert!(said(Phase::LeftOut).contains("agent.disk_budget"));
        let disk = said(Phase::Cramped);
        assert!(disk.contains("disk") && !disk.contains("budget"), "{disk}");
    }

    #[test]
    fn an_image_that_was_given_up_makes_the_plan_degraded() {
        let mut journal = Journal::new(Duration::from_secs(10));
        let status = status(
            &mut journal,
            entry(Phase::Failed, 0),
            Timestamp::from_secs_f64(1e9),
        );
        assert_eq!((status.phase, status.failed), (PlanPhase::Degraded, 1));
        assert_eq!(status.conditions[0].status, "False");
    }
}
