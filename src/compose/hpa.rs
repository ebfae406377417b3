//! What an HPA asks for: Kubernetes' own arithmetic, from usage to replicas.
//!
//! Source: the Kubernetes documentation, "Horizontal Pod Autoscaling", "Algorithm details" and
//! "Configurable scaling behavior", and the controller's `replica_calculator.go` and `horizontal.go`.

use std::collections::VecDeque;

use crate::compose::spec::{Behaviour, Hpa, Metric, Policy, PolicyKind, Select};
use crate::domain::signal::ScaleLimit;
use crate::domain::time::Timestamp;

/// Kubernetes' default `stabilizationWindowSeconds` of scaling down; up it is 0.
const DOWN_WINDOW_S: f64 = 300.0;

/// What an HPA sees at a sync.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// `spec.replicas` of its target.
    pub replicas: u32,
    /// Pods of it that are ready and have a metric.
    pub ready: u32,
    /// Pods of it that are not ready yet.
    pub unready: u32,
    /// Load over what one replica carries at a usage of 1.
    pub load: f64,
}

/// What it makes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Replicas that it asks for.
    pub desired: u32,
    /// Metric over target, as its status shows it; `None` without a metric.
    pub ratio: Option<f64>,
    /// Why the wish was clipped.
    pub limited: Option<ScaleLimit>,
}

/// One HPA's memory.
#[derive(Clone, Debug, Default)]
pub struct Scaler {
    /// Raw wishes, for the stabilisation windows.
    wishes: VecDeque<(Timestamp, u32)>,
    /// Replicas added and removed, for the policies' periods.
    added: VecDeque<(Timestamp, u32)>,
    removed: VecDeque<(Timestamp, u32)>,
}

/// The raw wish of a metric, and the ratio that the status shows.
///
/// Pods that are not ready count as using nothing when more would be asked for; a wish that this
/// turns around is none (documentation: "not-yet-ready pods and missing metrics ... will further
/// dampen the magnitude").
#[must_use]
pub fn raw(hpa: &Hpa, look: Look) -> (u32, Option<f64>) {
    let Look {
        replicas,
        ready,
        unready,
        load,
    } = look;
    let leaves = |ratio: f64| (ratio - 1.0).abs() <= hpa.tolerance;
    let ceil = |pods: f64| pods.ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
    if hpa.metric == Metric::External {
        let ratio = load / (hpa.target * f64::from(replicas.max(1)));
        let wish = if leaves(ratio) {
            replicas
        } else {
            ceil(load / hpa.target)
        };
        return (wish, Some(ratio));
    }
    if ready == 0 {
        return (replicas, None); // no metrics: the HPA leaves everything as it is
    }
    let usage = load / f64::from(ready);
    let usage = hpa.saturation.map_or(usage, |most| usage.min(most));
    // Both are whole per cent in the API.
    let target = (hpa.target * 100.0).round().max(1.0);
    let ratio = (usage * 100.0).floor() / target;
    if unready == 0 || ratio <= 1.0 {
        let wish = if leaves(ratio) {
            replicas
        } else {
            ceil(ratio * f64::from(ready))
        };
        return (wish, Some(ratio));
    }
    let all = f64::from(ready + unready);
    let damped = (usage * f64::from(ready) / all * 100.0).floor() / target;
    let wish = ceil(damped * all);
    let turned = damped < 1.0 || wish < replicas;
    (
        if leaves(damped) || turned {
            replicas
        } else {
            wish
        },
        Some(ratio),
    )
}

// === impl Scaler ===

impl Scaler {
    /// One sync: the wish after stabilisation, policies and bounds. It is taken to be carried out.
    pub fn sync(&mut self, hpa: &Hpa, look: Look, now: Timestamp) -> Verdict {
        let current = look.replicas;
        if current == 0 {
            // `spec.replicas: 0` switches an HPA off.
            return Verdict {
                desired: 0,
                ratio: None,
                limited: None,
            };
        }
        let (wish, ratio) = raw(hpa, look);
        let (desired, limited) = if current > hpa.max {
            (hpa.max, Some(ScaleLimit::TooManyReplicas))
        } else if current < hpa.min {
            (hpa.min, Some(ScaleLimit::TooFewReplicas))
        } else {
            let steady = self.stabilised(hpa, current, wish, now);
            self.allowed(hpa, current, steady, now)
        };
        self.note(hpa, current, desired, now);
        Verdict {
            desired,
            ratio,
            limited,
        }
    }

    /// The lowest recent wish when going up, the highest when going down.
    fn stabilised(&mut self, hpa: &Hpa, current: u32, wish: u32, now: Timestamp) -> u32 {
        let window = |behaviour: &Behaviour, default: f64| {
            behaviour
                .stabilisation
                .map_or(default, |span| span.0.as_secs_f64())
        };
        let (up, down) = (window(&hpa.up, 0.0), window(&hpa.down, DOWN_WINDOW_S));
        self.wishes
            .retain(|(at, _)| now.secs_since(*at) < up.max(down));
        let within = |seconds: f64| {
            let recent = self.wishes.iter();
            recent
                .filter(move |(at, _)| now.secs_since(*at) < seconds)
                .map(|(_, wish)| *wish)
        };
        let lowest = within(up).fold(wish, u32::min);
        let highest = within(down).fold(wish, u32::max);
        self.wishes.push_back((now, wish));
        current.max(lowest).min(highest)
    }

    /// Policies and bounds.
    fn allowed(
        &self,
        hpa: &Hpa,
        current: u32,
        wish: u32,
        now: Timestamp,
    ) -> (u32, Option<ScaleLimit>) {
        if wish > current {
            let limit = self.limit_up(&hpa.up, current, now).max(current);
            let most = limit.min(hpa.max);
            if wish > most {
                let reason = if limit < hpa.max {
                    ScaleLimit::ScaleUpLimit
                } else {
                    ScaleLimit::TooManyReplicas
                };
                return (most, Some(reason));
            }
        } else {
            let limit = self.limit_down(&hpa.down, current, now).min(current);
            let least = limit.max(hpa.min);
            if wish < least {
                let reason = if limit > hpa.min {
                    ScaleLimit::ScaleDownLimit
                } else {
                    ScaleLimit::TooFewReplicas
                };
                return (least, Some(reason));
            }
            if wish > hpa.max {
                return (hpa.max, Some(ScaleLimit::TooManyReplicas));
            }
        }
        (wish, None)
    }

    fn limit_up(&self, behaviour: &Behaviour, current: u32, now: Timestamp) -> u32 {
        let proposal = |policy: &Policy| {
            let began = self.began_with(policy, current, now);
            match policy.kind {
                PolicyKind::Pods => began.saturating_add(policy.value),
                PolicyKind::Percent => {
                    let grown = f64::from(began) * (1.0 + f64::from(policy.value) / 100.0);
                    grown.ceil().min(f64::from(u32::MAX)) as u32
                }
            }
        };
        let proposals = behaviour.policies.iter().map(proposal);
        match behaviour.select {
            Select::Disabled => current,
            Select::Max => proposals.max().unwrap_or(u32::MAX),
            Select::Min => proposals.min().unwrap_or(u32::MAX),
        }
    }

    fn limit_down(&self, behaviour: &Behaviour, current: u32, now: Timestamp) -> u32 {
        let proposal = |policy: &Policy| {
            let began = self.began_with(policy, current, now);
            match policy.kind {
                PolicyKind::Pods => began.saturating_sub(policy.value),
                PolicyKind::Percent => {
                    let left = f64::from(began) * (1.0 - f64::from(policy.value) / 100.0);
                    left.max(0.0) as u32
                }
            }
        };
        let proposals = behaviour.policies.iter().map(proposal);
        match behaviour.select {
            Select::Disabled => current,
            Select::Max => proposals.min().unwrap_or(0),
            Select::Min => proposals.max().unwrap_or(0),
        }
    }

    /// Replicas when the policy's period began.
    fn began_with(&self, policy: &Policy, current: u32, now: Timestamp) -> u32 {
        let period = policy.period.0.as_secs_f64();
        let sum = |changes: &VecDeque<(Timestamp, u32)>| {
            let recent = changes
                .iter()
                .filter(|(at, _)| now.secs_since(*at) < period);
            recent.map(|(_, count)| *count).sum::<u32>()
        };
        (current + sum(&self.removed)).saturating_sub(sum(&self.added))
    }

    fn note(&mut self, hpa: &Hpa, current: u32, desired: u32, now: Timestamp) {
        let longest = |behaviour: &Behaviour| {
            let periods = behaviour.policies.iter().map(|p| p.period.0.as_secs_f64());
            periods.fold(0.0, f64::max)
        };
        let keep = longest(&hpa.up).max(longest(&hpa.down));
        for changes in [&mut self.added, &mut self.removed] {
            changes.retain(|(at, _)| now.secs_since(*at) < keep);
        }
        if desired > current {
            self.added.push_back((now, desired - current));
        } else if desired < current {
            self.removed.push_back((now, current - desired));
        }
    }
}

#[cfg(test)]
mod tests;
