//! cluster-autoscaler: a loop over node groups, one of them grows at a time, unneeded nodes go.

use std::time::Duration;

use crate::compose::cast::PoolId;
use crate::compose::spec::Expander;
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::pack::{self, Estimate, Wanted};
use crate::compose::world::words::{EVENTS, STATUS, STATUS_UID, object};
use crate::compose::world::{Due, World};
use crate::domain::node::NodeShape;
use crate::domain::signal::{Fact, NodeRequested};

/// `--max-nodes-per-scaleup`.
const NODES_PER_STEP: u32 = 1000;

/// `--max-empty-bulk-delete`.
const EMPTY_AT_ONCE: usize = 10;

/// The cloud's answer to a request, after which pods are told (the recordings: 0.5 to 1.3 s).
const CLOUD: Duration = Duration::from_millis(800);

/// Object of the group events.
pub(super) const SUBJECT: &str = "kube-system/cluster-autoscaler-status";

/// A pool that could take what waits.
struct Choice {
    pool: PoolId,
    wanted: Vec<Wanted>,
    places: Vec<bool>,
    estimate: Estimate,
}

impl World<'_> {
    /// One loop.
    pub(super) fn scan(&mut self) {
        let wanted = self.unplaced();
        let grown = !wanted.is_empty() && self.grow(&wanted);
        let quiet = self.cast.autoscaler.delay_after_add.0.as_secs_f64();
        let goers = self.goers();
        if !grown && self.now.secs_since(self.last_add) > quiet {
            self.shrink(&goers);
        }
        self.after(self.cast.autoscaler.scan.0.as_secs_f64(), Due::Scan);
    }

    fn grow(&mut self, wanted: &[Wanted]) -> bool {
        let mut choices = Vec::new();
        for pool in (0..self.pools.len()).filter(|pool| self.may_grow(*pool)) {
            let (taken, places) = self.for_pool(pool, wanted);
            let cast = &self.cast.pools[pool];
            let most = (cast.spec.max - self.pools[pool].size()).min(NODES_PER_STEP);
            let estimate = pack::estimate(&cast.room_for_pods, &taken, most);
            if estimate.nodes > 0 {
                choices.push(Choice {
                    pool,
                    wanted: taken,
                    places,
                    estimate,
                });
            }
        }
        let Some(choice) = self.expand(choices) else {
            return false;
        };
        for _ in 0..choice.estimate.nodes {
            self.ask(choice.pool, &choice.places);
        }
        self.say_scale_up(&choice);
        true
    }

    /// The expander's choice.
    fn expand(&mut self, mut choices: Vec<Choice>) -> Option<Choice> {
        if choices.is_empty() {
            return None;
        }
        let best = match self.cast.autoscaler.expander {
            Expander::Random => self.draws.scheduler.below(choices.len()),
            expander => {
                let key = |index: &usize| {
                    let choice = &choices[*index];
                    let waste = choice.estimate.waste;
                    let pods: u32 = choice.estimate.placed.iter().sum();
                    let score = match expander {
                        Expander::Priority => f64::from(self.cast.pools[choice.pool].spec.priority),
                        Expander::MostPods => f64::from(pods),
                        _ => -waste.0 - waste.1,
                    };
                    ((score * 1e6) as i64, std::cmp::Reverse(*index))
                };
                (0..choices.len()).max_by_key(key)?
            }
        };
        Some(choices.swap_remove(best))
    }

    /// The decision's own event, then one for each pod that it is for, after the cloud's answer.
    fn say_scale_up(&mut self, choice: &Choice) {
        if !self.tape.is_live() {
            return;
        }
        let pool = &self.cast.pools[choice.pool].name;
        let requested = NodeRequested {
            pool: pool.clone(),
            count: choice.estimate.nodes,
            target: Some(self.pools[choice.pool].size()),
            shape: NodeShape::default(),
            ..NodeRequested::default()
        };
        let what = format!("requested:{pool}");
        let stamp = Stamp::Event;
        let uid = self.draws.names.uid();
        let note = Note {
            stamp,
            ..object(EVENTS, &uid, &what, SUBJECT)
        };
        self.tape
            .note(self.now, &note, Fact::NodeRequested(requested.clone()));
        for (one, placed) in choice.wanted.iter().zip(&choice.estimate.placed) {
            for pod in self.first_waiting(one.class, *placed) {
                // client-go lets an object's source say 25 at once; pods are different objects.
                if !self.may_say(20.0) {
                    return;
                }
                let uid = self.draws.names.uid();
                let name = self.pods[pod].name.clone();
                let fact = Fact::NodeRequested(NodeRequested {
                    pods: vec![name.clone()],
                    ..requested.clone()
                });
                let note = Note {
                    stamp,
                    ..object(EVENTS, &uid, &what, &name)
                };
                self.tape.note(self.now + CLOUD, &note, fact);
            }
        }
    }

    /// Takes nodes away: empty ones together, others one at a time.
    fn shrink(&mut self, goers: &[(usize, bool)]) {
        let mut empties = 0;
        let mut drained = false;
        for (node, empty) in goers {
            let pool = self.nodes[*node].pool;
            if self.pools[pool].nodes.len() as u32 <= self.cast.pools[pool].spec.min {
                continue;
            }
            let goes = if *empty {
                empties < EMPTY_AT_ONCE
            } else {
                !drained && empties == 0
            };
            if !goes {
                continue;
            }
            empties += usize::from(*empty);
            drained |= !*empty;
            self.interrupt(*node, "ToBeDeletedByClusterAutoscaler", None);
            self.drain(*node, None);
            self.say_target(pool);
        }
    }

    /// The status ConfigMap tells a smaller target.
    pub(super) fn say_target(&mut self, pool: PoolId) {
        if !self.tape.is_live() || !self.cast.autoscaler.status || self.has_claims() {
            return;
        }
        let fact = self.target_fact(pool, 0);
        let what = format!("target:{}", self.cast.pools[pool].name);
        let note = object(STATUS, STATUS_UID, &what, SUBJECT);
        let stamp = Stamp::Seen;
        self.tape.note(self.now, &Note { stamp, ..note }, fact);
    }
}
