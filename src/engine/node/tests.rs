//! The agent's machine keeps its promises under random plans, orders, failures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod guest;
mod names;
use crate::domain::image::{Layer, Platform};
use crate::domain::plan::{LetGo, Reason, Target};

const HOUR: Duration = Duration::from_hours(1);

fn digest(n: u8) -> Digest {
    Digest::from_sha256(&[n; 32])
}

fn name(n: u8) -> ImageRef {
    format!("registry.example/app{n}:1").parse().unwrap()
}

fn limits() -> Limits {
    Limits {
        concurrency: 2,
        disk: ByteSize(1000),
        back_off: Duration::from_secs(1),
        back_off_max: Duration::from_secs(8),
        attempts: 10,
        newcomer: HOUR,
        linger: Duration::ZERO,
        ..Limits::default()
    }
}

/// Image `n` has the given layers of ten bytes each.
fn manifest(n: u8, layers: &[u8]) -> ImageManifest {
    ImageManifest {
        digest: digest(n),
        platform: Platform::linux("amd64"),
        layers: layers
            .iter()
            .map(|layer| Layer {
                digest: digest(*layer),
                size: ByteSize(10),
                unpacked: None,
            })
            .collect(),
    }
}

fn entry(n: u8, priority: Priority, expires: Timestamp) -> PlanEntry {
    PlanEntry {
        image: name(n),
        digest: digest(n),
        platform: Platform::linux("amd64"),
        priority,
        reason: Reason::DaemonSet("DaemonSet/a/b".into()),
        probability: 1.0,
        bytes: ByteSize(10),
        deadline: None,
        expires,
    }
}

fn plan(entries: Vec<PlanEntry>) -> Plan {
    Plan {
        entries,
        ..Plan::empty(Target::Node("a".into()), 1, Timestamp::ZERO)
    }
}

/// Of which image, or layer, this is the digest.
fn number(of: &Digest) -> u8 {
    u8::from_str_radix(&of.hex()[..2], 16).unwrap()
}

fn blobs_of(effects: &[Effect]) -> Vec<u8> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::FetchBlob { digest, .. } => Some(number(digest)),
            _ => None,
        })
        .collect()
}

/// An engine that knows the manifests of the entries of a node plan.
fn planned(limits: Limits, entries: Vec<(PlanEntry, &[u8])>) -> (NodeEngine, Vec<Effect>) {
    let mut engine = NodeEngine::new(limits);
    let now = Timestamp::ZERO;
    let list = entries.iter().map(|(entry, _)| entry.clone()).collect();
    engine.input(Input::NodePlan(Some(plan(list))), now);
    for (entry, layers) in &entries {
        let manifest = manifest(number(&entry.digest), layers);
        engine.input(Input::Manifest(manifest), now);
    }
    let effects = engine.step(now);
    (engine, effects)
}

fn recorded(n: u8) -> Input {
    Input::Recorded {
        image: name(n),
        digest: digest(n),
    }
}

fn fetched(n: u8) -> Input {
    Input::Fetched {
        digest: digest(n),
        moved: ByteSize(10),
    }
}

#[test]
fn a_layer_that_two_images_share_is_fetched_once() {
    let entries = vec![
        (entry(1, Priority::Predicted, Timestamp::MAX), &[11, 12][..]),
        (entry(2, Priority::Predicted, Timestamp::MAX), &[11, 13]),
    ];
    let (mut engine, effects) = planned(limits(), entries);
    assert_eq!(blobs_of(&effects), [11, 12]);
    engine.input(fetched(11), Timestamp::ZERO);
    assert_eq!(blobs_of(&engine.step(Timestamp::ZERO)), [13]);
    let progress = engine.progress();
    assert_eq!(progress[1].bytes_total, ByteSize(20));
    assert_eq!(progress[1].bytes_present, ByteSize(10));
    assert_eq!(progress[1].phase, Phase::Fetching);
}

#[test]
fn weaker_transfers_give_way_to_a_blob_that_a_pod_waits_for() {
    let weak = entry(1, Priority::Predicted, Timestamp::MAX);
    let (mut engine, _) = planned(limits(), vec![(weak.clone(), &[11, 12])]);
    let urgent = entry(2, Priority::Pending, Timestamp::MAX);
    let now = Timestamp::ZERO;
    engine.input(Input::NodePlan(Some(plan(vec![weak, urgent]))), now);
    engine.input(Input::Manifest(manifest(2, &[21])), now);
    let effects = engine.step(now);
    // As far as is known one stream fills the link: a slot that is free would only halve it.
    assert_eq!(
        effects[..2],
        [Effect::Cancel(digest(11)), Effect::Cancel(digest(12))]
    );
    assert_eq!(blobs_of(&effects), [21]);
    assert!(engine.step(now).is_empty());
    engine.input(fetched(21), now);
    assert_eq!(
        blobs_of(&engine.step(now)),
        [11, 12],
        "the cancelled ones resume"
    );
}

#[test]
fn nothing_speculative_begins_while_the_kubelet_fetches_for_a_pod() {
    let mut engine = NodeEngine::new(limits());
    let now = Timestamp::ZERO;
    let foreground = |active| Input::Foreground {
        digest: digest(99),
        active,
    };
    engine.input(foreground(true), now);
    let entries = vec![
        entry(1, Priority::Predicted, Timestamp::MAX),
        entry(2, Priority::Pending, Timestamp::MAX),
    ];
    engine.input(Input::NodePlan(Some(plan(entries))), now);
    engine.input(Input::Manifest(manifest(1, &[11])), now);
    engine.input(Input::Manifest(manifest(2, &[21])), now);
    assert_eq!(blobs_of(&engine.step(now)), [21]);
    engine.input(fetched(21), now);
    assert!(blobs_of(&engine.step(now)).is_empty());
    engine.input(foreground(false), now);
    assert_eq!(blobs_of(&engine.step(now)), [11]);
}

#[test]
fn an_image_without_room_on_the_disk_is_left_out_whole() {
    let small = Limits {
        disk: ByteSize(25),
        ..limits()
    };
    let entries = vec![
        (entry(1, Priority::Pending, Timestamp::MAX), &[11, 12][..]),
        (entry(2, Priority::Predicted, Timestamp::MAX), &[12, 13]),
        (entry(3, Priority::Background, Timestamp::MAX), &[11, 12]),
    ];
    let (mut engine, _) = planned(small, entries);
    let now = Timestamp::ZERO;
    engine.input(fetched(11), now);
    engine.input(fetched(12), now);
    assert_eq!(blobs_of(&engine.step(now)), [0u8; 0]);
    let phases: Vec<Phase> = engine.progress().iter().map(|p| p.phase).collect();
    assert_eq!(phases, [Phase::Recording, Phase::LeftOut, Phase::Recording]);
}

#[test]
fn an_expired_entry_is_cancelled_then_released() {
    let end = Timestamp::ZERO + HOUR;
    let (mut engine, _) = planned(limits(), vec![(entry(1, Priority::Pending, end), &[11])]);
    assert_eq!(engine.wake_at(), Some(end));
    let effects = engine.step(end);
    assert_eq!(
        effects,
        [
            Effect::Withdraw(digest(1)),
            Effect::Cancel(digest(11)),
            Effect::Release(digest(1))
        ]
    );
    assert!(engine.progress().is_empty());
}

#[test]
fn a_blob_given_up_is_tried_again_only_when_the_plan_asks_for_something_new() {
    let wish = entry(1, Priority::Pending, Timestamp::MAX);
    let (mut engine, _) = planned(limits(), vec![(wish.clone(), &[11])]);
    let now = Timestamp::ZERO;
    let lost = Input::Failed {
        digest: digest(11),
        lasting: true,
    };
    engine.input(lost, now);
    engine.input(Input::NodePlan(Some(plan(vec![wish.clone()]))), now);
    assert_eq!(engine.step(now + HOUR), []);
    assert_eq!(engine.progress()[0].phase, Phase::Failed);
    let more = vec![wish, entry(2, Priority::Pending, Timestamp::MAX)];
    engine.input(Input::NodePlan(Some(plan(more))), now);
    assert_eq!(blobs_of(&engine.step(now + HOUR)), [11]);
}

#[test]
fn the_pools_plan_is_followed_until_the_node_has_its_own() {
    let mut engine = NodeEngine::new(limits());
    let now = Timestamp::ZERO;
    let pool = vec![
        entry(1, Priority::Background, Timestamp::MAX),
        entry(2, Priority::Pending, Timestamp::MAX),
    ];
    engine.input(Input::PoolPlan(Some(plan(pool))), now);
    engine.step(now);
    let order = |engine: &NodeEngine| -> Vec<ImageRef> {
        engine.progress().into_iter().map(|p| p.image).collect()
    };
    assert_eq!(order(&engine), [name(2), name(1)]);
    let own = vec![entry(1, Priority::Pending, Timestamp::MAX)];
    engine.input(Input::NodePlan(Some(plan(own))), now);
    assert_eq!(
        engine.step(now),
        [Effect::Withdraw(digest(2)), Effect::Release(digest(2))]
    );
    assert_eq!(order(&engine), [name(1)]);
    engine.input(Input::NodePlan(None), now);
    engine.step(now);
    assert_eq!(order(&engine), [name(2), name(1)]);
}

#[test]
fn a_node_that_is_no_newcomer_follows_no_pool_plan() {
    let mut engine = NodeEngine::new(limits());
    let born = Timestamp::ZERO;
    engine.input(Input::Born(born), born);
    let pool = vec![entry(1, Priority::Background, Timestamp::MAX)];
    engine.input(Input::PoolPlan(Some(plan(pool.clone()))), born);
    engine.step(born);
    assert_eq!(engine.progress().len(), 1);
    assert_eq!(engine.wake_at(), Some(born + HOUR));
    engine.step(born + HOUR);
    assert!(engine.progress().is_empty());
    engine.input(Input::PoolPlan(Some(plan(pool))), born + HOUR);
    engine.step(born + HOUR);
    assert!(engine.progress().is_empty());
}

fn patient() -> Limits {
    Limits {
        linger: HOUR,
        ..limits()
    }
}

#[test]
fn an_image_that_no_plan_names_any_more_loses_its_record_at_once_and_its_layers_later() {
    let first = entry(1, Priority::Pending, Timestamp::MAX);
    let (mut engine, _) = planned(patient(), vec![(first.clone(), &[11])]);
    let now = Timestamp::ZERO;
    engine.input(fetched(11), now);
    let record = Effect::Record {
        image: name(1),
        digest: digest(1),
    };
    assert_eq!(engine.step(now), std::slice::from_ref(&record));
    engine.input(recorded(1), now);
    let wish = |entries: Vec<PlanEntry>, engine: &mut NodeEngine, now| {
        engine.input(Input::NodePlan(Some(plan(entries))), now);
        engine.step(now)
    };
    assert_eq!(
        wish(Vec::new(), &mut engine, now),
        [Effect::Withdraw(digest(1))]
    );
    // Wished again in time: nothing travels a second time.
    let soon = now + HOUR / 2;
    wish(vec![first], &mut engine, soon);
    engine.input(Input::Manifest(manifest(1, &[11])), soon);
    assert_eq!(engine.step(soon), [record]);
    wish(Vec::new(), &mut engine, soon);
    assert_eq!(engine.wake_at(), Some(soon + HOUR));
    assert_eq!(engine.step(soon + HOUR / 2), []);
    assert_eq!(engine.step(soon + HOUR), [Effect::Release(digest(1))]);
    assert_eq!(engine.wake_at(), None);
}

#[test]
fn what_an_earlier_run_recorded_fills_the_budget_and_lingers_from_the_start() {
    let mut engine = NodeEngine::new(Limits {
        disk: ByteSize(20),
        ..patient()
    });
    let now = Timestamp::ZERO;
    engine.input(Input::Inventory(vec![digest(11)]), now);
    for n in [1, 2] {
        engine.input(Input::Kept(manifest(n, &[11])), now);
    }
    assert_eq!(engine.step(now + HOUR), [], "nobody has told of a plan");
    let wish = vec![
        entry(1, Priority::Pending, Timestamp::MAX),
        entry(3, Priority::Pending, Timestamp::MAX),
    ];
    engine.input(Input::NodePlan(Some(plan(wish))), now);
    engine.input(Input::Manifest(manifest(1, &[11])), now);
    engine.input(Input::Manifest(manifest(3, &[12, 13])), now);
    // Nobody would ask what its tags mean by now; the other one's record is made anew.
    let withdrawn = Effect::Withdraw(digest(2));
    assert!(engine.step(now).contains(&withdrawn));
    assert_eq!(engine.progress()[1].phase, Phase::LeftOut);
    assert_eq!(engine.step(now + HOUR), [Effect::Release(digest(2))]);
}

#[test]
fn what_the_plan_lets_go_goes_at_once_where_an_image_finds_no_room_and_lingers_otherwise() {
    let first = entry(1, Priority::Predicted, Timestamp::MAX);
    let limits = Limits {
        disk: ByteSize(20),
        ..patient()
    };
    let (mut engine, _) = planned(limits, vec![(first, &[11])]);
    let now = Timestamp::ZERO;
    engine.input(fetched(11), now);
    engine.step(now);
    let next = |layers: &[u8], engine: &mut NodeEngine| {
        let mut next = plan(vec![entry(2, Priority::Pending, Timestamp::MAX)]);
        let (image, digest) = (name(1), digest(1));
        next.let_go = vec![LetGo { image, digest }];
        engine.input(Input::NodePlan(Some(next)), now);
        engine.input(Input::Manifest(manifest(2, layers)), now);
        engine.step(now)
    };
    // Ten of twenty bytes are there: ten more fit beside what is let go, twenty do not.
    let effects = next(&[12], &mut engine);
    assert_eq!(blobs_of(&effects), [12]);
    let released = Effect::Release(digest(1));
    assert!(!effects.contains(&released), "{effects:?}");
    let effects = next(&[13, 14], &mut engine);
    assert!(effects.contains(&released), "{effects:?}");
    engine.input(Input::Inventory(Vec::new()), now);
    assert_eq!(blobs_of(&engine.step(now)), [13, 14]);
}

/// A random plan: images with layers out of a small set, so that they share many.
fn images() -> impl Strategy<Value = Vec<(Priority, BTreeSet<u8>, u64)>> {
    let priority = prop_oneof![
        Just(Priority::Pending),
        Just(Priority::Predicted),
        Just(Priority::Background)
    ];
    let layers = prop::collection::btree_set(100u8..130, 0..6);
    prop::collection::vec((priority, layers, 1u64..200), 1..12)
}

/// Carries out effects in a random order, some of them failing, and checks the promises.
struct Driver {
    engine: NodeEngine,
    limits: Limits,
    manifests: BTreeMap<Digest, ImageManifest>,
    expires: BTreeMap<Digest, Timestamp>,
    transfers: Vec<Digest>,
    asked: Vec<(Digest, bool)>,
    recorded: BTreeSet<Digest>,
    moved: u64,
    now: Timestamp,
}

impl Driver {
    fn new(limits: Limits) -> Self {
        Self {
            engine: NodeEngine::new(limits.clone()),
            limits,
            manifests: BTreeMap::new(),
            expires: BTreeMap::new(),
            transfers: Vec::new(),
            asked: Vec::new(),
            recorded: BTreeSet::new(),
            moved: 0,
            now: Timestamp::ZERO,
        }
    }

    fn give_plans(&mut self, images: &[(Priority, BTreeSet<u8>, u64)], endless: bool) {
        let mut entries = Vec::new();
        for (n, (priority, layers, life)) in images.iter().enumerate() {
            let n = n as u8;
            let layers: Vec<u8> = layers.iter().copied().collect();
            self.manifests.insert(digest(n), manifest(n, &layers));
            let end = self.now + Duration::from_secs(*life);
            let expires = if endless { Timestamp::MAX } else { end };
            self.expires.insert(digest(n), expires);
            entries.push(entry(n, *priority, expires));
        }
        let entries = Some(plan(entries));
        let by_pool = images.len().is_multiple_of(2);
        let input = if by_pool {
            Input::PoolPlan
        } else {
            Input::NodePlan
        };
        self.engine.input(input(entries), self.now);
    }

    fn step(&mut self) {
        for effect in self.engine.step(self.now) {
            match effect {
                Effect::FetchManifest { digest, .. } => {
                    assert!(
                        self.expires[&digest] > self.now,
                        "manifest of an expired entry"
                    );
                    self.asked.push((digest, false));
                }
                Effect::FetchBlob { digest, .. } => {
                    assert!(!self.transfers.contains(&digest), "twice at once");
                    let needed = self.manifests.values().any(|manifest| {
                        self.expires[&manifest.digest] > self.now
                            && distinct(manifest).any(|(layer, _)| *layer == digest)
                    });
                    assert!(needed, "a fetch that no live entry needs");
                    self.transfers.push(digest);
                    assert!(self.transfers.len() <= self.limits.concurrency);
                }
                Effect::Cancel(digest) => {
                    let at = self.transfers.iter().position(|d| *d == digest);
                    self.transfers.remove(at.expect("cancels what runs"));
                }
                Effect::Record { digest, .. } => self.asked.push((digest, true)),
                Effect::WithdrawName { .. } => {}
                Effect::Withdraw(digest) | Effect::Release(digest) => {
                    self.recorded.remove(&digest);
                    self.asked.retain(|(asked, _)| *asked != digest);
                }
            }
        }
        assert_eq!(
            self.engine.step(self.now),
            [],
            "a second step without input does nothing"
        );
    }

    /// One piece of work, chosen and failed by `dice`; false when there is none.
    fn work(&mut self, dice: u32, fail_per_100: u32) -> bool {
        let fails = (dice / 7) % 100 < fail_per_100;
        let jobs = self.transfers.len() + self.asked.len();
        if jobs == 0 {
            return false;
        }
        let at = dice as usize % jobs;
        let input = if at < self.transfers.len() {
            let digest = self.transfers.remove(at);
            if !fails {
                self.moved += 10;
            }
            let moved = ByteSize(10);
            failure(&digest, fails).unwrap_or(Input::Fetched { digest, moved })
        } else {
            let (digest, record) = self.asked.remove(at - self.transfers.len());
            if !record {
                let told = || Input::Manifest(self.manifests[&digest].clone());
                failure(&digest, fails).unwrap_or_else(told)
            } else if fails {
                Input::NotRecorded {
                    image: name(number(&digest)),
                    digest,
                    lasting: false,
                }
            } else {
                self.recorded.insert(digest.clone());
                recorded(number(&digest))
            }
        };
        self.engine.input(input, self.now);
        true
    }
}

fn failure(digest: &Digest, fails: bool) -> Option<Input> {
    fails.then(|| Input::Failed {
        digest: digest.clone(),
        lasting: false,
    })
}

proptest! {
    #[test]
    fn everything_planned_ends_recorded_however_transfers_fail(
        images in images(),
        dice in prop::collection::vec(any::<u32>(), 64),
        fail_per_100 in 0u32..60,
        concurrency in 1usize..5,
    ) {
        let limits = Limits { concurrency, attempts: u32::MAX, ..limits() };
        let mut driver = Driver::new(limits);
        driver.give_plans(&images, true);
        for round in 0.. {
            driver.step();
            if driver.recorded.len() == images.len() {
                break;
            }
            prop_assert!(round < 20_000, "no end");
            let roll = dice[round % dice.len()].wrapping_add((round / dice.len()) as u32);
            if !driver.work(roll, fail_per_100) {
                let wake = driver.engine.wake_at();
                driver.now = wake.expect("work left and nothing under way: a rest ends");
            }
        }
        let layers: BTreeSet<u8> = images.iter().flat_map(|(_, layers, _)| layers).copied().collect();
        prop_assert_eq!(driver.moved, layers.len() as u64 * 10, "each layer travels once");
        let phases = driver.engine.progress();
        prop_assert!(phases.iter().all(|p| p.phase == Phase::Recorded && p.bytes_present == p.bytes_total));
    }

    #[test]
    fn nothing_is_fetched_for_an_expired_entry_nor_beyond_the_disk(
        images in images(),
        dice in prop::collection::vec((any::<u32>(), 0u64..20), 150),
        disk in 0u64..150,
    ) {
        let mut driver = Driver::new(Limits { disk: ByteSize(disk), ..limits() });
        driver.give_plans(&images, false);
        for (roll, pause) in dice {
            driver.step();
            driver.work(roll, 10);
            driver.now = driver.now + Duration::from_secs(pause);
        }
        prop_assert!(driver.moved <= disk, "{} bytes moved", driver.moved);
        driver.now = driver.now + HOUR;
        driver.step();
        prop_assert!(driver.transfers.is_empty() && driver.engine.progress().is_empty());
    }
}
