//! The agent's machine: plans and transfer results in, fetches out.

mod demand;
mod lanes;
mod merge;
mod plans;
mod progress;
#[cfg(test)]
mod tests;
mod way;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::plan::{Plan, PlanEntry, Priority};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::engine::node::demand::{Demand, Stock, Wanted, demand, distinct};
use crate::engine::node::lanes::Lanes;
pub use crate::engine::node::progress::{EntryProgress, Phase};
pub use crate::engine::node::words::{Effect, Input};
use crate::engine::trouble::{BackOff, Troubles, Verdict};

/// Limits of one agent.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Blobs in transfer at once, at most: how many of them fill the link is learned.
    pub concurrency: usize,
    /// Bytes that planned images may add to the node's disk, counted as they travel.
    pub disk: ByteSize,
    /// Whether layers' blobs are kept beside what becomes of them: each byte that travels then counts twice.
    pub blobs: bool,
    /// First pause after a failure; doubles up to `back_off_max`.
    pub back_off: Duration,
    /// Longest pause.
    pub back_off_max: Duration,
    /// Failures after which a blob is given up until the plan changes.
    pub attempts: u32,
    /// So long after it was given up for its failures a blob is tried anew: a registry that was silent answers
    /// by and by. `None`: not until the plan changes.
    pub again: Option<Duration>,
    /// So long after its birth a node follows its pool's plan, while it has none of its own: later
    /// entries are for nodes that are still to come.
    pub newcomer: Duration,
    /// So long the layers of an image stay that no plan names any more: a wish that was withdrawn is
    /// often wished again, and its bytes are paid for. They fill the disk budget meanwhile.
    pub linger: Duration,
}

impl Default for Limits {
    /// What agents, replays and the demo have in common; drivers set the disk.
    fn default() -> Self {
        Self {
            // Streams of 65 MB/s that fill 4 Gbit/s.
            concurrency: 8,
            disk: ByteSize(u64::MAX),
            blobs: false,
            back_off: Duration::from_secs(1),
            back_off_max: Duration::from_mins(1),
            attempts: 8,
            again: None,
            // The model's `window_s`.
            newcomer: Duration::from_mins(10),
            // As long as an unused byte has to prove itself in the scores (design section 7).
            linger: Duration::from_hours(1),
        }
    }
}

/// The plan of one node, and how far it is.
#[derive(Debug)]
pub struct NodeEngine {
    limits: Limits,
    born: Option<Timestamp>,
    pool_plan: Option<Plan>,
    node_plan: Option<Plan>,
    plans_changed: bool,
    /// Live entries of the plan that counts, as of the last step, in the order of transfer.
    entries: Vec<PlanEntry>,
    manifests: BTreeMap<Digest, ImageManifest>,
    /// Manifests that no entry names any more, and since when: their bytes may still be there.
    lingering: BTreeMap<Digest, Timestamp>,
    /// Manifests that an earlier run recorded and no plan has spoken of yet.
    unclaimed: BTreeSet<Digest>,
    /// The node's own plan was told, if only that there is none: before that nothing is released.
    plan_told: bool,
    present: BTreeSet<Digest>,
    /// Blobs that were brought for a plan and are still there: they fill the disk budget.
    brought: BTreeMap<Digest, ByteSize>,
    /// Records by manifest digest and name: one image may be planned under two names.
    recorded: BTreeSet<(Digest, ImageRef)>,
    /// Records that would be wrong, or that somebody took away: not made while the plan stays as it is.
    refused: BTreeSet<(Digest, ImageRef)>,
    foreground: BTreeSet<Digest>,
    pressed: bool,
    room: ByteSize,
    manifests_asked: BTreeSet<Digest>,
    records_asked: BTreeSet<(Digest, ImageRef)>,
    transfers: BTreeMap<Digest, Transfer>,
    lanes: Lanes,
    transfers_started: u64,
    troubles: Troubles,
    wake_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    /// Counts up: the latest transfer has the highest.
    order: u64,
    size: ByteSize,
    started: Timestamp,
    /// Transfers under way when it began, with it.
    beside: usize,
}

// === impl NodeEngine ===

impl NodeEngine {
    /// An engine with no plan and an empty disk.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let lanes = Lanes::new(limits.concurrency);
        let troubles = Troubles::new(BackOff {
            first: limits.back_off,
            longest: limits.back_off_max,
            attempts: limits.attempts,
            again: limits.again,
        });
        Self {
            limits,
            born: None,
            pool_plan: None,
            node_plan: None,
            plans_changed: false,
            entries: Vec::new(),
            manifests: BTreeMap::new(),
            lingering: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
            plan_told: false,
            present: BTreeSet::new(),
            brought: BTreeMap::new(),
            recorded: BTreeSet::new(),
            refused: BTreeSet::new(),
            foreground: BTreeSet::new(),
            pressed: false,
            room: ByteSize(u64::MAX),
            manifests_asked: BTreeSet::new(),
            records_asked: BTreeSet::new(),
            transfers: BTreeMap::new(),
            lanes,
            transfers_started: 0,
            troubles,
            wake_at: None,
        }
    }

    /// Takes in what happened; `step` says what follows from it.
    pub fn input(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Born(at) => {
                self.plans_changed |= self.born.replace(at) != Some(at);
            }
            Input::PoolPlan(plan) => self.take_plan(plan, |engine| &mut engine.pool_plan),
            Input::NodePlan(plan) => {
                self.plan_told = true;
                self.take_plan(plan, |engine| &mut engine.node_plan);
            }
            Input::Kept(manifest) => {
                let there = distinct(&manifest).filter(|(layer, _)| self.present.contains(*layer));
                let there = there.map(|(layer, size)| (layer.clone(), size));
                self.brought.extend(there);
                self.unclaimed.insert(manifest.digest.clone());
                self.lingering.insert(manifest.digest, now);
                self.plans_changed = true;
            }
            Input::Inventory(digests) => self.take_inventory(digests),
            Input::BlobPresent(digest) => {
                self.transfers.remove(&digest);
                self.troubles.forgive(&digest);
                self.present.insert(digest);
            }
            Input::Manifest(manifest) => {
                self.manifests_asked.remove(&manifest.digest);
                self.troubles.forgive(&manifest.digest);
                self.manifests.insert(manifest.digest.clone(), manifest);
            }
            Input::Failed { digest, lasting } => {
                let ours =
                    self.transfers.remove(&digest).is_some() | self.manifests_asked.remove(&digest);
                if ours {
                    self.troubles.failed(&digest, lasting, now);
                }
            }
            Input::Fetched { digest, moved } => self.take_fetched(digest, moved, now),
            Input::Lacking { manifest, layers } => self.take_lacking(&manifest, layers),
            Input::Recorded { image, digest } => {
                let record = (digest, image);
                if self.records_asked.remove(&record) {
                    self.troubles.forgive(&record.0);
                    self.recorded.insert(record);
                }
            }
            Input::NotRecorded {
                image,
                digest,
                lasting,
            } => self.take_failed_record((digest, image), lasting, now),
            Input::Unrecorded { image, digest } => {
                let record = (digest, image);
                self.recorded.remove(&record);
                self.refused.insert(record);
            }
            Input::Room(bytes) => self.room = bytes,
            Input::Pressed(pressed) => self.pressed = pressed,
            Input::Foreground { digest, active } => {
                if active {
                    self.foreground.insert(digest);
                } else {
                    self.foreground.remove(&digest);
                }
            }
        }
    }

    /// What the driver has to do now; asking again without new input gives nothing.
    pub fn step(&mut self, now: Timestamp) -> Vec<Effect> {
        self.troubles.forgive_rested(now);
        let mut effects = self.merge_plans(now);
        self.ask_manifests(now, &mut effects);
        let demand = self.demand();
        self.cancel_unwanted(&demand, &mut effects);
        self.yield_to_kubelet(&demand, &mut effects);
        self.give_way(&demand, now, &mut effects);
        self.start_transfers(&demand, now, &mut effects);
        self.ask_records(now, &mut effects);
        let cramped = !demand.left_out.is_empty() || !demand.cramped.is_empty();
        self.release(now, cramped, &mut effects);
        self.wake_at = self.next_wake(now);
        effects
    }

    /// When `step` has work even without input (an expiry, the end of a rest), as of the last step.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at
    }

    /// Every live entry of the plan as of the last step, in the order of transfer.
    #[must_use]
    pub fn progress(&self) -> Vec<EntryProgress> {
        let demand = self.demand();
        self.entries
            .iter()
            .map(|entry| self.entry_progress(entry, &demand))
            .collect()
    }

    fn take_inventory(&mut self, digests: Vec<Digest>) {
        self.present = digests.into_iter().collect();
        let present = &self.present;
        self.brought.retain(|digest, _| present.contains(digest));
        self.transfers.retain(|digest, _| !present.contains(digest));
        let manifests = &self.manifests;
        self.recorded.retain(|(digest, _)| {
            manifests.get(digest).is_some_and(|manifest| {
                distinct(manifest).all(|(layer, _)| present.contains(layer))
            })
        });
    }

    fn take_lacking(&mut self, manifest: &Digest, layers: Vec<Digest>) {
        let Some(manifest) = self.manifests.get(manifest) else {
            return;
        };
        let lacking: BTreeSet<Digest> = layers.into_iter().collect();
        for (layer, _) in distinct(manifest) {
            if lacking.contains(layer) {
                self.present.remove(layer);
            } else {
                self.transfers.remove(layer);
                self.present.insert(layer.clone());
            }
        }
    }

    fn take_fetched(&mut self, digest: Digest, moved: ByteSize, now: Timestamp) {
        self.measure(&digest, moved, now);
        if let Some(transfer) = self.transfers.remove(&digest) {
            self.brought.insert(digest.clone(), transfer.size);
        }
        self.troubles.forgive(&digest);
        self.present.insert(digest);
    }

    /// A name that moved says nothing of the manifest's other names; what else goes wrong is the
    /// manifest's, the runtime's or the registry's, and rests.
    fn take_failed_record(&mut self, record: (Digest, ImageRef), lasting: bool, now: Timestamp) {
        if !self.records_asked.remove(&record) {
            return;
        }
        if lasting {
            self.refused.insert(record);
        } else {
            self.troubles.failed(&record.0, false, now);
        }
    }

    /// When time alone changes something: an entry expires, the node is no newcomer any more, a rest
    /// ends, an image has lingered long enough.
    fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let expiry = self.entries.iter().map(|entry| entry.expires).min();
        let lingered = self.lingering.values().min();
        let others = [
            self.newcomer_until().filter(|until| *until > now),
            self.troubles.next_end(now),
            lingered
                .filter(|_| self.plan_told)
                .map(|since| *since + self.limits.linger),
        ];
        expiry.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Gives up what has lingered long enough; where an image finds no room, also what the node's plan lets
    /// go. Its bytes count as there until the driver lists what is.
    fn release(&mut self, now: Timestamp, cramped: bool, effects: &mut Vec<Effect>) {
        if !self.plan_told {
            return;
        }
        let linger = self.limits.linger;
        let plan = self.node_plan.as_ref().filter(|_| cramped);
        let let_go: BTreeSet<&Digest> = plan
            .into_iter()
            .flat_map(|plan| plan.let_go.iter().map(|gone| &gone.digest))
            .collect();
        let over = self.lingering.extract_if(.., |digest, since| {
            *since + linger <= now || let_go.contains(digest)
        });
        effects.extend(over.map(|(digest, _)| Effect::Release(digest)));
    }

    fn ask_manifests(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for entry in &self.entries {
            if self.manifests_asked.len() >= self.limits.concurrency.max(1) {
                break;
            }
            let missing = !self.manifests.contains_key(&entry.digest)
                && !self.manifests_asked.contains(&entry.digest);
            if missing && self.troubles.verdict(&entry.digest, now) == Verdict::Free {
                self.manifests_asked.insert(entry.digest.clone());
                effects.push(Effect::FetchManifest {
                    image: entry.image.clone(),
                    digest: entry.digest.clone(),
                });
            }
        }
    }

    fn demand(&self) -> Demand {
        demand(
            &self.entries,
            Stock {
                manifests: &self.manifests,
                present: &self.present,
                brought: &self.brought,
                troubles: &self.troubles,
                refused: &self.refused,
                disk: self.limits.disk,
                blobs: self.limits.blobs,
                room: self.room,
            },
        )
    }

    fn cancel_unwanted(&mut self, demand: &Demand, effects: &mut Vec<Effect>) {
        let wanted: BTreeSet<&Digest> = demand.wanted.iter().map(|blob| &blob.digest).collect();
        self.transfers.retain(|digest, _| {
            let keep = wanted.contains(digest);
            if !keep {
                effects.push(Effect::Cancel(digest.clone()));
            }
            keep
        });
    }

    /// Fills free slots in order. Blobs that a pod waits for take the slots of weaker ones, latest
    /// first; while the kubelet fetches for a pod itself nothing weaker begins.
    fn start_transfers(&mut self, demand: &Demand, now: Timestamp, effects: &mut Vec<Effect>) {
        let class: BTreeMap<&Digest, Priority> = demand
            .wanted
            .iter()
            .map(|blob| (&blob.digest, blob.priority))
            .collect();
        for blob in &demand.wanted {
            let urgent = blob.priority == Priority::Pending;
            if self.is_full_with(&class, blob.priority) {
                break;
            }
            if !urgent && self.is_guest() {
                break;
            }
            let idle = !self.transfers.contains_key(&blob.digest)
                && !self.foreground.contains(&blob.digest)
                && self.troubles.verdict(&blob.digest, now) == Verdict::Free;
            if !idle {
                continue;
            }
            if self.transfers.len() >= self.lanes.count() {
                let weakest = self
                    .transfers
                    .iter()
                    .filter(|(digest, _)| class.get(digest) > Some(&Priority::Pending))
                    .max_by_key(|(_, transfer)| transfer.order)
                    .map(|(digest, _)| digest.clone());
                let Some(victim) = weakest.filter(|_| urgent) else {
                    break;
                };
                self.transfers.remove(&victim);
                effects.push(Effect::Cancel(victim));
            }
            effects.push(self.start(blob, now));
        }
    }

    /// What the end of a transfer says of the link; while the kubelet pulls it says nothing.
    fn measure(&mut self, digest: &Digest, moved: ByteSize, now: Timestamp) {
        let under_way = self.transfers.len();
        if let Some(transfer) = self.transfers.get(digest)
            && self.foreground.is_empty()
            && transfer.beside == under_way
            && moved == transfer.size
        {
            let seconds = now.secs_since(transfer.started);
            self.lanes.note(under_way, moved.0 as f64, seconds);
        }
    }

    fn start(&mut self, blob: &Wanted, now: Timestamp) -> Effect {
        self.transfers_started += 1;
        let transfer = Transfer {
            order: self.transfers_started,
            size: blob.size,
            started: now,
            beside: self.transfers.len() + 1,
        };
        self.transfers.insert(blob.digest.clone(), transfer);
        Effect::FetchBlob {
            image: blob.image.clone(),
            digest: blob.digest.clone(),
            size: blob.size,
            priority: blob.priority,
        }
    }

    fn ask_records(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for entry in &self.entries {
            let record = (entry.digest.clone(), entry.image.clone());
            let whole = self.manifests.get(&entry.digest).is_some_and(|manifest| {
                distinct(manifest).all(|(digest, _)| self.present.contains(digest))
            });
            if whole
                && !self.recorded.contains(&record)
                && !self.records_asked.contains(&record)
                && !self.refused.contains(&record)
                && self.troubles.verdict(&entry.digest, now) == Verdict::Free
            {
                self.records_asked.insert(record);
                effects.push(Effect::Record {
                    image: entry.image.clone(),
                    digest: entry.digest.clone(),
                });
            }
        }
    }

    fn entry_progress(&self, entry: &PlanEntry, demand: &Demand) -> EntryProgress {
        let manifest = self.manifests.get(&entry.digest);
        let layers = || manifest.into_iter().flat_map(distinct);
        let missing = || layers().filter(|(digest, _)| !self.present.contains(*digest));
        let under_way = self.manifests_asked.contains(&entry.digest)
            || missing().any(|(digest, _)| self.transfers.contains_key(digest));
        let record = (entry.digest.clone(), entry.image.clone());
        let phase = if self.recorded.contains(&record) {
            Phase::Recorded
        } else if demand.failed.contains(&entry.digest) || self.refused.contains(&record) {
            Phase::Failed
        } else if demand.left_out.contains(&entry.digest) {
            Phase::LeftOut
        } else if demand.cramped.contains(&entry.digest) {
            Phase::Cramped
        } else if manifest.is_some() && missing().next().is_none() {
            Phase::Recording
        } else if under_way {
            Phase::Fetching
        } else {
            Phase::Queued
        };
        let bytes = |layers: &mut dyn Iterator<Item = (&Digest, ByteSize)>| -> ByteSize {
            layers.map(|(_, size)| size).sum()
        };
        let bytes_total = manifest.map_or(entry.bytes, |_| bytes(&mut layers()));
        let bytes_present = manifest.map_or(ByteSize(0), |_| bytes_total - bytes(&mut missing()));
        EntryProgress {
            image: entry.image.clone(),
            digest: entry.digest.clone(),
            phase,
            bytes_total,
            bytes_present,
        }
    }
}
