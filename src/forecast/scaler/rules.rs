//! The autoscaler's own arithmetic, one synchronisation at a time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::signal::ScaleLimit;
use crate::domain::time::Timestamp;
use crate::forecast::scaler::Observed;

/// How a scaler moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// Time between two looks (`--horizontal-pod-autoscaler-sync-period`).
    pub sync: Duration,
    /// Relative distance of the ratio from 1 that is left alone.
    pub tolerance: f64,
    /// Limits of growth; the larger of its two policies counts.
    pub up: Policy,
    /// Limits of shrinking, likewise.
    pub down: Policy,
}

/// Most change in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Per cent of the replicas at the period's start.
    pub percent: f64,
    /// Pods; 0 where only `percent` counts.
    pub pods: u32,
    /// Length of the period.
    pub period: Duration,
    /// Stabilisation: the most cautious wish of so long counts.
    pub window: Duration,
}

impl Default for Behaviour {
    /// What an HPA without a `behavior` does: up by 100 % or 4 pods per 15 s at once, down by all of
    /// it per 15 s after 300 s.
    fn default() -> Self {
        let period = Duration::from_secs(15);
        Self {
            sync: period,
            tolerance: 0.1,
            up: Policy {
                percent: 100.0,
                pods: 4,
                period,
                window: Duration::ZERO,
            },
            down: Policy {
                percent: 100.0,
                pods: 0,
                period,
                window: Duration::from_mins(5),
            },
        }
    }
}

/// The wish before limits: `ceil(load)`, or what there is within the tolerance.
pub(super) fn raw(load: f64, current: u32, tolerance: f64) -> u32 {
    if current > 0 && (load / f64::from(current) - 1.0).abs() <= tolerance {
        return current;
    }
    // As the controller, which counts with floats: 3.0000000001 pods are three.
    (load - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// A scaler that is played forward.
pub(super) struct Game<'a> {
    behaviour: &'a Behaviour,
    bounds: (u32, u32),
    window: Duration,
    known: &'a VecDeque<(Timestamp, u32)>,
    /// Raw wishes since, oldest first.
    wanted: Vec<(Timestamp, u32)>,
    /// Replicas after each synchronisation; the first is now.
    replicas: Vec<u32>,
}

impl<'a> Game<'a> {
    pub(super) fn new(
        last: &Observed,
        known: &'a VecDeque<(Timestamp, u32)>,
        behaviour: &'a Behaviour,
        window: Option<Duration>,
    ) -> Self {
        let most = if last.max == 0 { u32::MAX } else { last.max };
        let mut replicas = vec![last.desired];
        if last.limited == Some(ScaleLimit::ScaleUpLimit) && last.desired > last.current {
            // The step has just been taken: the period began below it.
            replicas.insert(0, last.current);
        }
        Self {
            behaviour,
            bounds: (last.min.min(most), most),
            window: window.map_or(behaviour.down.window, |seen| {
                seen.min(behaviour.down.window)
            }),
            known,
            wanted: Vec::new(),
            replicas,
        }
    }

    pub(super) fn replicas(&self) -> u32 {
        self.replicas.last().copied().unwrap_or(0)
    }

    /// One look at a load of so many pods' targets.
    pub(super) fn sync(&mut self, now: Timestamp, load: f64) {
        let current = self.replicas();
        let raw = raw(load, current, self.behaviour.tolerance);
        let raw = raw.clamp(self.bounds.0, self.bounds.1);
        self.wanted.push((now, raw));
        // Between the least that was wanted in the window of growth and the most in that of
        // shrinking, replicas stay.
        let least = self.extreme(now - self.behaviour.up.window, raw, u32::min);
        let most = self.extreme(now - self.window, raw, u32::max);
        let steady = if current < least {
            least
        } else {
            current.min(most)
        };
        let limited = if steady > current {
            steady.min(self.most(current))
        } else {
            steady.max(self.least(current))
        };
        self.replicas
            .push(limited.clamp(self.bounds.0, self.bounds.1));
    }

    /// Both are in the order of time: what is older than the window is not looked at.
    fn extreme(&self, since: Timestamp, raw: u32, pick: impl Fn(u32, u32) -> u32) -> u32 {
        let known = self.known.iter().rev().take_while(|(at, _)| *at > since);
        let wanted = self.wanted.iter().rev().take_while(|(at, _)| *at > since);
        let all = known.chain(wanted).map(|(_, wanted)| *wanted);
        all.fold(raw, pick)
    }

    fn most(&self, current: u32) -> u32 {
        let policy = &self.behaviour.up;
        let start = self.start(policy.period).min(current);
        let scaled = (f64::from(start) * (1.0 + policy.percent / 100.0)).ceil();
        let scaled = scaled.clamp(0.0, f64::from(u32::MAX)) as u32;
        scaled.max(start.saturating_add(policy.pods))
    }

    fn least(&self, current: u32) -> u32 {
        let policy = &self.behaviour.down;
        let start = self.start(policy.period).max(current);
        let scaled = (f64::from(start) * (1.0 - policy.percent / 100.0)).floor();
        let scaled = scaled.clamp(0.0, f64::from(u32::MAX)) as u32;
        scaled.min(start.saturating_sub(policy.pods))
    }

    /// Replicas when the period that ends now began.
    fn start(&self, period: Duration) -> u32 {
        let sync_s = self.behaviour.sync.as_secs_f64().max(1.0);
        let back = (period.as_secs_f64() / sync_s).ceil().max(1.0) as usize;
        let at = self.replicas.len().saturating_sub(back);
        self.replicas[at.min(self.replicas.len() - 1)]
    }
}
