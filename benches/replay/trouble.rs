//! The pack with signals lost, doubled, late and reordered, and with a controller that dies.

use std::time::Duration;

use forelay::domain::time::Timestamp;
use forelay::forecast::model::Model;
use forelay::sim::facts::Facts;
use forelay::sim::perturb::{Trouble, perturbed};
use forelay::sim::policy::{Policy, run};
use forelay::sim::world::{Notes, Rules, Stage};
use serde::Serialize;

use crate::crew;
use crate::pack::Played;

/// Part of the messages that is lost, doubled, reordered; a tenth is late whatever the delay.
const SHARE: f64 = 0.1;

/// How late.
const DELAY: Duration = Duration::from_secs(30);

/// Of the choice of what is lost.
const SEED: u64 = 1;

/// "Back within a minute" is asked of pods whose node joined so long after the death; a successor
/// comes 15 s after it.
const BACK: Duration = Duration::from_mins(1);

/// Gains under trouble; a fall is the gain without it less the gain with it.
#[derive(Debug, Serialize)]
pub struct Robustness {
    /// Without trouble.
    gain: f64,
    /// A tenth of the messages lost.
    drop: Fall,
    /// Doubled.
    duplicate: Fall,
    /// Changed places with the next.
    reorder: Fall,
    /// 30 s late, and watches that stall as long a tenth of the time.
    delay: Fall,
    /// All four at once.
    together: Fall,
    /// The largest fall of the four.
    pub worst_fall: f64,
    /// The controller dies when half of the scored pods are bound.
    restart: Fall,
    /// The same, for pods whose node joined more than a minute after the death.
    pub after_a_minute: Fall,
    /// How many these are.
    after_a_minute_pods: usize,
}

/// What trouble does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fall {
    gain: f64,
    pub fall: f64,
}

/// Sums of waits over scenarios.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    reactive_s: f64,
    oracle_s: f64,
    calm_s: f64,
    troubled_s: f64,
    pods: usize,
}

/// Plays forelay again under each trouble.
pub fn measure(pack: &[Played]) -> anyhow::Result<Robustness> {
    let calm = Trouble {
        seed: SEED,
        ..Trouble::default()
    };
    let of = |trouble: Trouble| under(pack, &trouble);
    let drop = of(Trouble {
        drop: SHARE,
        ..calm.clone()
    })?;
    let duplicate = of(Trouble {
        duplicate: SHARE,
        ..calm.clone()
    })?;
    let reorder = of(Trouble {
        reorder: SHARE,
        ..calm.clone()
    })?;
    let delay = of(Trouble {
        delay: DELAY,
        ..calm.clone()
    })?;
    let together = of(Trouble {
        drop: SHARE,
        duplicate: SHARE,
        reorder: SHARE,
        delay: DELAY,
        seed: SEED,
    })?;
    let (restart, after) = restarted(pack)?;
    let singles = [drop, duplicate, reorder, delay];
    Ok(Robustness {
        gain: drop.gain + drop.fall,
        drop,
        duplicate,
        reorder,
        delay,
        together,
        worst_fall: singles
            .map(|one| one.fall)
            .into_iter()
            .fold(f64::NEG_INFINITY, f64::max),
        restart: restart.fall(),
        after_a_minute: after.fall(),
        after_a_minute_pods: after.pods,
    })
}

fn under(pack: &[Played], trouble: &Trouble) -> anyhow::Result<Fall> {
    let all = crew::map(pack, |played| {
        let header = &played.scenario.header;
        let heard = perturbed(&played.scenario.signals, header.start, trouble);
        let rules = Rules {
            deduplicates: trouble.duplicate > 0.0,
            ..Rules::default()
        };
        let stage = Stage {
            header,
            facts: &played.replay.facts,
            signals: &heard,
            rules,
        };
        let notes = run(stage, Policy::Forelay, &Model::default()).notes;
        Ok(Waits::of(played, &notes, Timestamp::from_micros(i64::MIN)))
    })?;
    Ok(Waits::sum(&all).fall())
}

/// All pods, then those that come when it should be over.
fn restarted(pack: &[Played]) -> anyhow::Result<(Waits, Waits)> {
    let all = crew::map(pack, |played| {
        let facts = &played.replay.facts;
        let dies = middle(facts);
        let stage = Stage {
            header: &played.scenario.header,
            facts,
            signals: &played.scenario.signals,
            rules: Rules {
                restart_at: Some(dies),
                ..Rules::default()
            },
        };
        let notes = run(stage, Policy::Forelay, &Model::default()).notes;
        let whole = Waits::of(played, &notes, Timestamp::from_micros(i64::MIN));
        Ok((whole, Waits::of(played, &notes, dies + BACK)))
    })?;
    let (whole, after): (Vec<Waits>, Vec<Waits>) = all.into_iter().unzip();
    Ok((Waits::sum(&whole), Waits::sum(&after)))
}

/// When half of the scored pods are bound; half of the time where there are none.
fn middle(facts: &Facts) -> Timestamp {
    let scored = (0..facts.pods.len()).filter(|pod| facts.is_scored(*pod));
    let mut bound: Vec<Timestamp> = scored.map(|pod| facts.pods[pod].bound).collect();
    bound.sort_unstable();
    let half = facts.start + facts.end.since(facts.start) / 2;
    bound.get(bound.len() / 2).copied().unwrap_or(half)
}

// === impl Waits ===

impl Waits {
    /// Of scored pods whose node joined after `from`.
    fn of(played: &Played, troubled: &Notes, from: Timestamp) -> Self {
        let facts = &played.replay.facts;
        let scored = (0..facts.pods.len()).filter(|pod| facts.is_scored(*pod));
        let late = |pod: &usize| facts.nodes[facts.pods[*pod].node].joined > from;
        let pods: Vec<usize> = scored.filter(late).collect();
        let wait_s = |notes: &Notes| -> f64 {
            let ready = |pod: &usize| Some((*pod, notes.pods[*pod]?.ready));
            let ready = pods.iter().filter_map(ready);
            ready
                .map(|(pod, ready)| ready.secs_since(facts.waits_from(pod)).max(0.0))
                .sum()
        };
        let notes = |policy| &played.run(policy).notes;
        Self {
            reactive_s: wait_s(notes(Policy::Reactive)),
            oracle_s: wait_s(notes(Policy::Oracle)),
            calm_s: wait_s(notes(Policy::Forelay)),
            troubled_s: wait_s(troubled),
            pods: pods.len(),
        }
    }

    fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, one| Self {
            reactive_s: sum.reactive_s + one.reactive_s,
            oracle_s: sum.oracle_s + one.oracle_s,
            calm_s: sum.calm_s + one.calm_s,
            troubled_s: sum.troubled_s + one.troubled_s,
            pods: sum.pods + one.pods,
        })
    }

    fn fall(&self) -> Fall {
        let possible = self.reactive_s - self.oracle_s;
        let gain = |wait_s: f64| (self.reactive_s - wait_s) / possible;
        Fall {
            gain: gain(self.troubled_s),
            fall: gain(self.calm_s) - gain(self.troubled_s),
        }
    }
}
