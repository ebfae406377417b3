//! Which target is written next: one write per target at a time, the latest plan wins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::domain::plan::Target;
use crate::domain::time::Timestamp;

/// First pause after a write that failed; doubles with each failure.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// Failures after which a target waits for its next plan: the pauses add up to about a minute.
const ATTEMPTS: u32 = 12;

/// What the API server holds for a target, as far as this replica knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Not known: written by somebody else, or never looked at.
    #[default]
    Unknown,
    /// No object.
    Absent,
    /// An object without entries.
    Empty,
    /// An object with entries.
    Full,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server now holds this.
    Written(Shown),
    /// There was nothing to write.
    Idle,
    /// It may work later.
    Failed,
    /// It will not work with this plan.
    Refused,
}

#[derive(Debug, Default)]
struct Slot {
    shown: Shown,
    /// Waits in `ready` or `later`.
    queued: bool,
    /// Being written.
    busy: bool,
    /// Marked while it was being written.
    again: bool,
    failures: u32,
    not_before: Timestamp,
}

/// Targets, and who of them waits to be written.
#[derive(Debug)]
pub struct Desk {
    slots: BTreeMap<Target, Slot>,
    ready: VecDeque<Target>,
    later: BTreeSet<(Timestamp, Target)>,
    /// Shortest time between two writes of one target: the first is at once, revisions gather.
    gap: Duration,
    open: bool,
}

impl Desk {
    /// A closed desk.
    #[must_use]
    pub fn new(gap: Duration) -> Self {
        Self {
            slots: BTreeMap::new(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            gap,
            open: false,
        }
    }

    /// This replica writes from now on: everything that it knows of is due, and nothing is known
    /// of what others have written.
    pub fn open(&mut self, now: Timestamp) {
        self.open = true;
        for slot in self.slots.values_mut() {
            slot.shown = Shown::Unknown;
            slot.failures = 0;
            slot.not_before = now;
        }
        self.mark_all(now);
    }

    /// This replica writes no more. Targets are kept: they may be due another time.
    pub fn close(&mut self) {
        self.open = false;
        self.ready.clear();
        self.later.clear();
        for slot in self.slots.values_mut() {
            slot.queued = false;
            slot.again = false;
        }
    }

    /// The target's plan has changed, or has been withdrawn.
    pub fn mark(&mut self, target: &Target, now: Timestamp) {
        let slot = self.slots.entry(target.clone()).or_default();
        slot.failures = 0;
        if !self.open {
            return;
        }
        if slot.busy {
            slot.again = true;
        } else if !slot.queued {
            slot.queued = true;
            if slot.not_before <= now {
                self.ready.push_back(target.clone());
            } else {
                self.later.insert((slot.not_before, target.clone()));
            }
        }
    }

    /// Everything may have changed (a policy).
    pub fn mark_all(&mut self, now: Timestamp) {
        let targets: Vec<Target> = self.slots.keys().cloned().collect();
        for target in &targets {
            self.mark(target, now);
        }
    }

    /// What a list of the objects showed, for a target that has not been written since.
    pub fn found(&mut self, target: &Target, shown: Shown, now: Timestamp) {
        let slot = self.slots.entry(target.clone()).or_default();
        if slot.shown == Shown::Unknown && !slot.busy {
            slot.shown = shown;
            self.mark(target, now);
        }
    }

    /// A list of the objects is complete: what it did not name is not there.
    pub fn listed(&mut self) {
        for slot in self.slots.values_mut() {
            if slot.shown == Shown::Unknown && !slot.busy {
                slot.shown = Shown::Absent;
            }
        }
    }

    /// The next target to write, and what is there now. To be answered with `finish`.
    pub fn take(&mut self, now: Timestamp) -> Option<(Target, Shown)> {
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((_, target)) = self.later.pop_first()
        {
            self.ready.push_back(target);
        }
        let target = self.ready.pop_front()?;
        let slot = self.slots.get_mut(&target)?;
        slot.queued = false;
        slot.busy = true;
        Some((target, slot.shown))
    }

    /// How the write that `take` began has ended.
    pub fn finish(&mut self, target: &Target, outcome: Outcome, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(target) else {
            return;
        };
        slot.busy = false;
        let mut again = std::mem::take(&mut slot.again);
        match outcome {
            Outcome::Written(shown) => {
                slot.shown = shown;
                slot.failures = 0;
                slot.not_before = now + self.gap;
            }
            Outcome::Idle => slot.failures = 0,
            Outcome::Refused => slot.not_before = now + self.gap,
            Outcome::Failed => {
                slot.shown = Shown::Unknown;
                let pause = BACK_OFF * 2u32.saturating_pow(slot.failures.min(10));
                slot.not_before = now + pause.min(BACK_OFF_MAX);
                slot.failures += 1;
                again |= slot.failures < ATTEMPTS;
            }
        }
        let failures = slot.failures;
        if again {
            self.mark(target, now);
            if let Some(slot) = self.slots.get_mut(target) {
                slot.failures = failures;
            }
        }
    }

    /// The target is gone for good.
    pub fn forget(&mut self, target: &Target) {
        if self
            .slots
            .get(target)
            .is_some_and(|slot| !slot.busy && !slot.queued)
        {
            self.slots.remove(target);
        }
    }

    /// When `take` has something that it has not now.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Targets that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ready.len() + self.later.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: u8) -> Target {
        Target::Node(format!("n{name}"))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    fn desk() -> Desk {
        let mut desk = Desk::new(Duration::from_secs(1));
        desk.open(at(0));
        desk
    }

    #[test]
    fn the_first_plan_is_written_at_once_and_revisions_a_gap_apart() {
        let mut desk = desk();
        desk.mark(&node(1), at(0));
        assert_eq!(desk.take(at(0)), Some((node(1), Shown::Unknown)));
        desk.finish(&node(1), Outcome::Written(Shown::Full), at(5));
        desk.mark(&node(1), at(10));
        assert_eq!(desk.take(at(10)), None);
        assert_eq!(desk.wake_at(), Some(at(1005)));
        assert_eq!(desk.take(at(1005)), Some((node(1), Shown::Full)));
    }

    #[test]
    fn a_plan_that_changes_while_it_is_written_is_written_again() {
        let mut desk = desk();
        desk.mark(&node(1), at(0));
        desk.take(at(0));
        desk.mark(&node(1), at(1));
        assert_eq!(desk.take(at(1)), None);
        desk.finish(&node(1), Outcome::Written(Shown::Full), at(2));
        assert!(desk.take(at(2000)).is_some());
    }

    #[test]
    fn a_closed_desk_remembers_its_targets_and_writes_none() {
        let mut desk = Desk::new(Duration::ZERO);
        desk.mark(&node(1), at(0));
        assert_eq!(desk.take(at(1)), None);
        desk.open(at(2));
        assert!(desk.take(at(2)).is_some());
        desk.finish(&node(1), Outcome::Failed, at(3));
        desk.close();
        assert_eq!(desk.take(at(100_000)), None);
    }

    #[test]
    fn failures_pause_longer_each_time_and_end() {
        let mut desk = desk();
        desk.mark(&node(1), at(0));
        let mut now = at(0);
        let mut last = Duration::ZERO;
        for _ in 1..ATTEMPTS {
            desk.take(now).unwrap();
            desk.finish(&node(1), Outcome::Failed, now);
            let next = desk.wake_at().unwrap();
            assert!(next.since(now) >= last);
            (last, now) = (next.since(now), next);
        }
        desk.take(now).unwrap();
        desk.finish(&node(1), Outcome::Failed, now);
        assert_eq!(desk.wake_at(), None);
        desk.mark(&node(1), now + BACK_OFF_MAX);
        assert!(desk.take(now + BACK_OFF_MAX).is_some());
    }

    proptest! {
        #[test]
        fn a_target_is_never_written_twice_at_once_and_the_last_mark_is_never_lost(
            steps in proptest::collection::vec((0u8..4, 0u8..4, 0u64..3000), 1..200)
        ) {
            let mut desk = desk();
            let mut busy = BTreeSet::new();
            let mut owed = BTreeSet::new();
            let mut now = 0;
            for (action, who, pause) in steps {
                now += pause;
                match action {
                    0 => {
                        desk.mark(&node(who), at(now));
                        owed.insert(node(who));
                    }
                    1 => if let Some((target, _)) = desk.take(at(now)) {
                        owed.remove(&target);
                        prop_assert!(busy.insert(target));
                    }
                    2 => if busy.remove(&node(who)) {
                        desk.finish(&node(who), Outcome::Written(Shown::Full), at(now));
                    }
                    _ => if busy.remove(&node(who)) {
                        desk.finish(&node(who), Outcome::Failed, at(now));
                        owed.insert(node(who));
                    }
                }
            }
            for target in std::mem::take(&mut busy) {
                desk.finish(&target, Outcome::Written(Shown::Full), at(now));
            }
            now += 1_000_000;
            while let Some((target, _)) = desk.take(at(now)) {
                owed.remove(&target);
                desk.finish(&target, Outcome::Written(Shown::Full), at(now));
                now += 1_000_000;
            }
            prop_assert!(owed.is_empty(), "never written: {owed:?}");
        }
    }
}
