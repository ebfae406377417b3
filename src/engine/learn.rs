//! What the cluster's machine has learned, as one compact versioned text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::engine::cluster::{Cluster, StateError};
use crate::forecast::arrival::Leg;
use crate::forecast::calibrate::Calibration;
use crate::forecast::history::{Key, Record};
use crate::forecast::order::Order;
use crate::forecast::profile::Profile;
use crate::forecast::promise::Promises;

/// Version that this program writes, and the only one that it reads.
const VERSION: u32 = 1;

/// Largest text, in bytes: half of what etcd takes of one object, with room for its envelope.
pub const STATE_MAX: usize = 512 * 1024;

#[derive(Default, Serialize, Deserialize)]
struct Version {
    version: u32,
}

/// Members that a newer program has added are left aside, so that going back to an older one (from this
/// one on) loses no more than these.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// Every key of all histories; records name them by place.
    keys: Vec<String>,
    pools: BTreeMap<String, PoolState>,
    /// Nominations that held, and that did not.
    #[serde(default, skip_serializing_if = "is_default")]
    promises: Promises,
    /// Pods that were bound before younger ones, and before older ones.
    #[serde(default, skip_serializing_if = "is_default")]
    order: Order,
    /// How often what was said of new nodes came true, by kind of reason.
    #[serde(default, skip_serializing_if = "Calibration::is_empty")]
    calibration: Calibration,
}

#[derive(Serialize, Deserialize)]
struct PoolState {
    profile: Profile,
    /// (ended in microseconds, milliseconds)
    request: Vec<(i64, u64)>,
    boot: Vec<(i64, u64)>,
    /// The same of requests that were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    in_vain: Vec<(i64, u64)>,
    /// Refusals since a request was fulfilled, and when the last was (microseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stock_out: Option<(u32, i64)>,
    /// Newest first.
    nodes: Vec<RecordState>,
}

/// (node, Ready in microseconds, resident, places in `keys` of what ran, and of what came late)
type RecordState = (String, i64, bool, Vec<usize>, Vec<usize>);

fn is_default<T: Default + PartialEq>(counts: &T) -> bool {
    *counts == T::default()
}

impl Cluster {
    /// What was learned, as a compact versioned text (JSON), at most 512 KiB: when it would be
    /// larger, the oldest node of the pool that remembers most is left out until it fits.
    #[must_use]
    pub fn save(&self, _now: Timestamp) -> String {
        let mut keep: BTreeMap<&Arc<str>, usize> = self
            .pools
            .iter()
            .map(|(name, pool)| (name, pool.history.records().len()))
            .collect();
        loop {
            let text = serde_json::to_string(&self.state(&keep)).expect("maps have text keys");
            if text.len() <= STATE_MAX {
                return text;
            }
            let most = keep.values().copied().max().unwrap_or(0);
            if most == 0 {
                // Profiles alone do not fit: pools that nobody can count. Learn again.
                return serde_json::to_string(&self.state(&BTreeMap::new()))
                    .expect("maps have text keys");
            }
            for count in keep.values_mut().filter(|count| **count == most) {
                *count -= 1;
            }
        }
    }

    /// Takes over what was learned; refuses versions that it does not know.
    ///
    /// # Errors
    /// When the text is no state of a known version: what was found, and which versions are read.
    pub fn load(&mut self, state: &str) -> Result<(), StateError> {
        let form = |error: serde_json::Error| StateError::Form(error.to_string());
        let Version { version } = serde_json::from_str(state).map_err(form)?;
        if version != VERSION {
            return Err(StateError::Version {
                found: version,
                known: VERSION,
            });
        }
        let state: State = serde_json::from_str(state).map_err(form)?;
        let keys: Vec<Key> = state
            .keys
            .iter()
            .map(|key| key.parse().map_err(StateError::Form))
            .collect::<Result<_, _>>()?;
        let mut pools = Vec::new();
        for (name, pool) in state.pools {
            let records = records(&pool, &keys)?;
            pools.push((name, pool, records));
        }
        self.take_promises(state.promises);
        self.take_order(state.order);
        self.take_calibration(state.calibration);
        for (name, pool, records) in pools {
            self.take_over(&name, pool, records);
        }
        Ok(())
    }

    fn take_over(&mut self, name: &str, state: PoolState, records: Vec<Record>) {
        let (nodes, arrivals) = (self.model.history.nodes, self.model.history.arrivals);
        let pool = self.pools.entry(name.into()).or_default();
        if pool.nodes.is_empty() {
            pool.profile = state.profile;
        }
        for record in records {
            pool.history.note_node(record, nodes);
        }
        for (leg, durations) in [(Leg::Request, state.request), (Leg::Boot, state.boot)] {
            for (ended, millis) in durations {
                let seconds = millis as f64 / 1000.0;
                pool.arrivals
                    .note(leg, Timestamp::from_micros(ended), seconds, arrivals);
            }
        }
        for (at, millis) in state.in_vain {
            let (at, waited_s) = (Timestamp::from_micros(at), millis as f64 / 1000.0);
            pool.arrivals.give_up(Leg::Request, at, waited_s, arrivals);
        }
        if let Some((failures, last)) = state.stock_out {
            let last = Timestamp::from_micros(last);
            pool.arrivals.take_stock_out(failures, last);
        }
    }

    fn state(&self, keep: &BTreeMap<&Arc<str>, usize>) -> State {
        let kept = |name: &Arc<str>| keep.get(name).copied().unwrap_or(0);
        let named: BTreeSet<String> = self
            .pools
            .iter()
            .flat_map(|(name, pool)| pool.history.records().iter().take(kept(name)))
            .flat_map(|record| record.used.iter().map(Key::to_string))
            .collect();
        let place: BTreeMap<&str, usize> = named
            .iter()
            .enumerate()
            .map(|(place, key)| (key.as_str(), place))
            .collect();
        let pools = self
            .pools
            .iter()
            .filter(|(name, _)| keep.contains_key(*name))
            .map(|(name, pool)| {
                let durations = |leg| {
                    pool.arrivals
                        .durations(leg)
                        .map(|(ended, millis)| (ended.as_micros(), millis))
                        .collect()
                };
                let nodes = pool
                    .history
                    .records()
                    .iter()
                    .take(kept(name))
                    .map(|record| {
                        let places = |keys: &BTreeSet<Key>| {
                            let keys = keys.iter();
                            keys.map(|key| place[key.to_string().as_str()]).collect()
                        };
                        let (used, late) = (places(&record.used), places(&record.late));
                        let since = record.since.as_micros();
                        (record.node.clone(), since, record.resident, used, late)
                    });
                let in_vain = pool.arrivals.in_vain(Leg::Request);
                let in_vain = in_vain.map(|(at, millis)| (at.as_micros(), millis));
                let stock_out = pool.arrivals.stock_out();
                let state = PoolState {
                    profile: pool.profile.clone(),
                    request: durations(Leg::Request),
                    boot: durations(Leg::Boot),
                    in_vain: in_vain.collect(),
                    stock_out: stock_out.map(|(failures, last)| (failures, last.as_micros())),
                    nodes: nodes.collect(),
                };
                (name.to_string(), state)
            })
            .collect();
        State {
            version: VERSION,
            keys: named.iter().cloned().collect(),
            pools,
            promises: self.promises,
            order: self.order,
            calibration: self.calibration().clone(),
        }
    }
}

fn records(pool: &PoolState, keys: &[Key]) -> Result<Vec<Record>, StateError> {
    let key = |place: &usize| {
        keys.get(*place)
            .cloned()
            .ok_or_else(|| StateError::Form(format!("there is no key number {place}")))
    };
    pool.nodes
        .iter()
        .map(|(node, since, resident, used, late)| {
            Ok(Record {
                node: node.clone(),
                since: Timestamp::from_micros(*since),
                resident: *resident,
                used: used.iter().map(key).collect::<Result<_, _>>()?,
                late: late.iter().map(key).collect::<Result<_, _>>()?,
            })
        })
        .collect()
}
