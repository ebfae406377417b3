//! What ran on the last nodes of a pool in their first minutes, as a decayed probability.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt as _};

use crate::domain::image::ImageRef;
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::model::{HistoryModel, Times};

/// What is counted: a workload, whatever its images are by then, or an image whose pods belong to
/// no workload that is known. A rollout changes 85 % of an image's bytes (median 100 %), so counting
/// images would remember what nobody runs any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// By owner.
    Workload(Arc<WorkloadRef>),
    /// By image.
    Image(ImageRef),
}

/// One node's first minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the node.
    pub node: String,
    /// When it was Ready.
    pub since: Timestamp,
    /// It was older than the window when it was first seen.
    pub resident: bool,
    /// What ran on it.
    pub used: BTreeSet<Key>,
    /// Of this, what came unannounced: its pod was made after the node was Ready. What waited
    /// before is known from the waiting pods, and counting it here as well would expect the crowd of
    /// one scale-up on the nodes of the next.
    pub late: BTreeSet<Key>,
}

/// How probable a key is on a new node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chance {
    /// That it runs at all.
    pub any: f64,
    /// That it runs although nobody waited for it when the node was Ready.
    pub late: f64,
}

/// The last nodes of one pool, newest first.
///
/// A set of records instead of running sums: the same facts give the same probabilities in
/// whatever order, and however often, they are heard.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    /// Last computed probabilities, until when they hold.
    computed: Option<(Timestamp, Arc<BTreeMap<Key, Chance>>)>,
    /// How often they were computed.
    times: u64,
}

/// Probabilities that still grow with a node's age are computed anew after so many seconds: 1/60 of
/// the time in which they grow.
const GROWTH_STEP_S: u64 = 1;

// === impl Key ===

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => write!(f, "w:{workload}"),
            Self::Image(image) => write!(f, "i:{image}"),
        }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("w", rest)) => rest.parse().map(Arc::new).map(Self::Workload),
            Some(("i", rest)) => rest
                .parse()
                .map(Self::Image)
                .map_err(|error| error.to_string()),
            _ => Err(format!("`{text}` is no history key: w:WORKLOAD or i:IMAGE")),
        }
    }
}

// === impl History ===

impl History {
    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records, newest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Remembers a node, or what it is known by now; beyond `most` nodes the oldest is forgotten.
    pub fn note_node(&mut self, record: Record, most: usize) {
        self.computed = None;
        self.records
            .retain(|known| known.node != record.node || known.since == record.since);
        let place = self.records.binary_search_by(|known| order(known, &record));
        match place {
            Ok(found) => {
                self.records[found].used.extend(record.used);
                self.records[found].late.extend(record.late);
            }
            Err(place) => self.records.insert(place, record),
        }
        self.records.truncate(most);
    }

    /// Remembers that `key` ran on a node that was noted, `late` or not; true when that is news.
    pub fn note_use(&mut self, node: &str, key: Key, late: bool) -> bool {
        let Some(record) = self.records.iter_mut().find(|record| record.node == node) else {
            return false;
        };
        let mut news = late && record.late.insert(key.clone());
        news |= record.used.insert(key);
        if news {
            self.computed = None;
        }
        news
    }

    /// Forgets the oldest node; false when there was none.
    pub fn drop_oldest(&mut self) -> bool {
        self.computed = None;
        self.records.pop().is_some()
    }

    /// Forgets a node (it never became what it was noted as).
    pub fn forget(&mut self, node: &str) {
        self.computed = None;
        self.records.retain(|record| record.node != node);
    }

    /// Computes [`Self::chances`] where the last ones no longer hold; says by its number which
    /// computation is in force.
    pub fn refresh(&mut self, model: &HistoryModel, times: &Times, now: Timestamp) -> u64 {
        if let Some(computed) = self.computed(now) {
            return computed;
        }
        let newest = self.records.iter().map(|record| record.since).max();
        let grown = newest.is_none_or(|at| now.secs_since(at) >= grown_s(times));
        let until = if grown {
            Timestamp::MAX
        } else {
            now + Duration::from_secs(GROWTH_STEP_S)
        };
        self.computed = Some((until, Arc::new(self.chances(model, times, now))));
        self.times += 1;
        self.times
    }

    /// The number of the computation that is in force; none if it no longer holds.
    #[must_use]
    pub fn computed(&self, now: Timestamp) -> Option<u64> {
        let (until, _) = self.computed.as_ref()?;
        (now < *until).then_some(self.times)
    }

    /// What [`Self::refresh`] computed last; computed now where that does not hold.
    #[must_use]
    pub fn current(
        &self,
        model: &HistoryModel,
        times: &Times,
        now: Timestamp,
    ) -> Arc<BTreeMap<Key, Chance>> {
        match &self.computed {
            Some((until, chances)) if now < *until => Arc::clone(chances),
            _ => Arc::new(self.chances(model, times, now)),
        }
    }

    /// Forgets what was computed: the model is another.
    pub fn invalidate(&mut self) {
        self.computed = None;
    }

    /// P(key runs on a new node within the window), Laplace-smoothed:
    /// (sum of weights of nodes that ran it + a) / (sum of weights + a + b).
    ///
    /// A node's weight is `decay` to the number of nodes that came after it. A node that is Ready
    /// only since seconds does not yet count against what has not come: its weight there grows over
    /// a tenth of the window.
    #[must_use]
    pub fn chances(
        &self,
        model: &HistoryModel,
        times: &Times,
        now: Timestamp,
    ) -> BTreeMap<Key, Chance> {
        let mut places: HashMap<&Key, usize> = HashMap::new();
        let mut ran: Vec<Ran<'_>> = Vec::new();
        let mut exposed = 0.0;
        let mut weight = 1.0;
        let grown_s = grown_s(times);
        for (number, record) in self.records.iter().enumerate() {
            let own = weight * if record.resident { model.resident } else { 1.0 };
            let grown = (now.secs_since(record.since) / grown_s).clamp(0.0, 1.0);
            exposed += own * grown;
            for key in &record.used {
                let place = *places.entry(key).or_insert_with(|| {
                    ran.push(Ran::new(key));
                    ran.len() - 1
                });
                let ran = &mut ran[place];
                ran.last = number;
                ran.any += own;
                ran.not_yet_exposed += own * (1.0 - grown);
            }
            for key in &record.late {
                let ran = places.get(key).and_then(|place| ran.get_mut(*place));
                if let Some(ran) = ran.filter(|ran| ran.last == number) {
                    ran.late += own;
                }
            }
            weight *= model.decay;
        }
        ran.sort_unstable_by(|a, b| a.key.cmp(b.key));
        ran.into_iter()
            .map(|ran| {
                let of = exposed + ran.not_yet_exposed + model.prior_used + model.prior_unused;
                let chance = |ran: f64| ((ran + model.prior_used) / of).clamp(0.0, 1.0);
                let late = if ran.late > 0.0 {
                    chance(ran.late)
                } else {
                    0.0
                };
                let any = chance(ran.any);
                (ran.key.clone(), Chance { any, late })
            })
            .collect()
    }
}

/// Weights of the nodes that ran one key. Summed up by hash and put in order at the end: a hundred
/// records of fifteen keys are 1,500 sums of eighty keys.
struct Ran<'a> {
    key: &'a Key,
    /// Number of the last record that counts.
    last: usize,
    any: f64,
    not_yet_exposed: f64,
    late: f64,
}

impl<'a> Ran<'a> {
    fn new(key: &'a Key) -> Self {
        Self {
            key,
            last: 0,
            any: 0.0,
            not_yet_exposed: 0.0,
            late: 0.0,
        }
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

impl Eq for History {}

/// Seconds in which a node grows to its whole weight.
fn grown_s(times: &Times) -> f64 {
    (times.window_s / 10.0).max(1.0)
}

fn order(a: &Record, b: &Record) -> std::cmp::Ordering {
    b.since.cmp(&a.since).then_with(|| a.node.cmp(&b.node))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> Key {
        format!("w:Deployment/shop/{name}").parse().unwrap()
    }

    fn record(n: u64, keys: &[&str]) -> Record {
        Record {
            node: format!("n{n}"),
            since: Timestamp::ZERO + Duration::from_secs(n * 1000),
            resident: false,
            used: keys.iter().map(|k| key(k)).collect(),
            late: BTreeSet::new(),
        }
    }

    fn late() -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(1_000_000)
    }

    #[test]
    fn what_every_node_ran_is_nearly_certain_and_what_one_ran_is_not() {
        let (model, times) = (HistoryModel::default(), Times::default());
        let mut history = History::default();
        for n in 0..10 {
            let keys: &[&str] = if n == 0 { &["all", "once"] } else { &["all"] };
            history.note_node(record(n, keys), model.nodes);
        }
        let chances = history.chances(&model, &times, late());
        assert!(chances[&key("all")].any > 0.88, "{chances:?}");
        assert!(chances[&key("once")].any < 0.2, "{chances:?}");
    }

    #[test]
    fn later_nodes_count_more_than_earlier_ones() {
        let (model, times) = (HistoryModel::default(), Times::default());
        let mut history = History::default();
        for n in 0..10 {
            let keys: &[&str] = if n < 5 { &["old"] } else { &["new"] };
            history.note_node(record(n, keys), model.nodes);
        }
        let chances = history.chances(&model, &times, late());
        assert!(chances[&key("new")].any > chances[&key("old")].any);
    }

    #[test]
    fn keys_survive_writing_and_reading() {
        for text in ["w:Deployment/shop/web", "i:docker.io/library/nginx:latest"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
        assert!("x:y".parse::<Key>().is_err());
    }

    proptest! {
        #[test]
        fn neither_order_nor_repetition_of_the_facts_matters(
            order in Just((0..30_u64).collect::<Vec<_>>()).prop_shuffle(),
            again in 0..30_u64,
        ) {
            let model = HistoryModel::default();
            let (mut a, mut b) = (History::default(), History::default());
            for n in 0..30 {
                a.note_node(record(n, &["x"]), model.nodes);
            }
            for n in order.into_iter().chain([again]) {
                b.note_node(record(n, &["x"]), model.nodes);
            }
            prop_assert_eq!(a, b);
        }

        #[test]
        fn chances_are_probabilities(used in prop::collection::vec(any::<bool>(), 0..40), now in 0..40_000_i64) {
            let (model, times) = (HistoryModel::default(), Times::default());
            let mut history = History::default();
            for (n, used) in used.iter().enumerate() {
                history.note_node(record(n as u64, if *used { &["x"] } else { &[] }), model.nodes);
            }
            let now = Timestamp::from_micros(now * 1_000_000);
            for chance in history.chances(&model, &times, now).values() {
                prop_assert!((0.0..=1.0).contains(&chance.any));
                prop_assert!(chance.late <= chance.any);
            }
        }
    }
}
