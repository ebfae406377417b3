//! The controller's machine: signals in, plans out.
//!
//! State is a set of indexes (this file names them all). A signal touches the objects that it is
//! about and marks what it may have changed; `step` looks at the marks only, so the cost of a signal
//! does not grow with the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use crate::domain::image::ImageRef;
use crate::domain::plan::{Plan, Target};
use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::model::Model;
use crate::forecast::order::Order;
use crate::forecast::promise::Promises;
use crate::plan::flights::Flights;
use crate::plan::policy::Policy;

use ahead::Looks;
use calibrated::Calibrated;
use gone::Gone;
use groups::{Groups, Mark};
use images::Images;
use intern::Templates;
use nodes::Request;
use owners::{OwnerId, Owners};
use pods::{Place, Waiting, WaitingKey};
use pools::Pool;
use roster::{PodId, Roster};
use sites::{SiteId, Sites};
use workloads::Announcement;

mod ahead;
mod budgets;
mod calibrated;
mod clues;
mod decide;
mod demand;
mod gone;
mod groups;
mod images;
mod intern;
mod late;
mod nodes;
mod nominations;
mod offers;
mod order;
mod owners;
mod pods;
mod pools;
mod recall;
mod roster;
mod sites;
mod staging;
mod step;
mod stock;
#[cfg(test)]
mod tests;
mod workloads;

/// Indexes of the cluster, what was learned, and the plans last made.
#[derive(Debug)]
pub struct Cluster {
    pub(super) model: Model,
    policy: Policy,
    epoch: u64,
    templates: Templates,
    images: Images,
    /// Nodes, and the pods on them.
    nodes: Sites,
    /// Nodes that were Ready before they were heard of.
    early_ready: BTreeMap<Arc<str>, (Timestamp, Timestamp)>,
    /// Nodes that will go away soon.
    leaving: BTreeSet<Arc<str>>,
    /// Requests that became a node.
    fulfilled: BTreeMap<String, Arc<str>>,
    pub(super) pools: BTreeMap<Arc<str>, Pool>,
    requests: BTreeMap<String, Request>,
    pods: Roster,
    /// Pods that look for a node, in kinds.
    waiting: BTreeMap<WaitingKey, Waiting>,
    /// Pods that somebody intends for a place.
    nominated: BTreeMap<Place, BTreeSet<(Arc<str>, PodId)>>,
    /// Workloads and scalers.
    owners: Owners,
    /// How often a workload began or ended to make pods, or made others.
    turns_of_workloads: u64,
    /// DaemonSets that make pods.
    daemonsets: BTreeMap<Arc<WorkloadRef>, OwnerId>,
    /// Workloads that a calendar starts.
    calendars: BTreeSet<OwnerId>,
    /// Workloads that lack pods, or run pods of an older template.
    wanting: BTreeSet<OwnerId>,
    /// Of those and of the DaemonSets, the ones that run pods of an older template.
    rolling: BTreeMap<Arc<WorkloadRef>, OwnerId>,
    /// When pods that scalers will ask for are looked for next.
    looks: Looks,
    /// Load series that are followed.
    series: usize,
    announcements: BTreeMap<String, Announcement>,
    plans: BTreeMap<Target, Plan>,
    /// Guesses of these that are on their way.
    flights: Flights,
    /// Who would plan an image if its meaning were known.
    unresolved: BTreeMap<ImageRef, BTreeSet<Target>>,
    /// Pods that look for a node, as last counted.
    groups: Groups,
    /// How often pods of a kind came to the node that a request for that kind became.
    pub(super) promises: Promises,
    /// In which order the scheduler took waiting pods.
    pub(super) order: Order,
    /// How often what was said of new nodes came true.
    calibrated: Calibrated,
    marks: Marks,
    generations: HashMap<Family, u32>,
    gone: Gone,
}

/// What may have changed since the last step.
#[derive(Debug, Default)]
struct Marks {
    /// Groups to be counted anew.
    groups: BTreeSet<Mark>,
    /// The same of all that change with the time, and of the pods of leaving nodes.
    timed: bool,
    drained: bool,
    /// The same of waiting pods that are intended for a request.
    promised: bool,
    pools: BTreeMap<Arc<str>, Reach>,
    nodes: BTreeSet<SiteId>,
    retract: BTreeSet<Target>,
    timers: BTreeSet<(Timestamp, Wake)>,
}

/// Which nodes of a pool a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Those that are on their way or not Ready: what lands on them is another.
    Coming,
    /// The Ready ones that are new as well.
    Fresh,
}

/// What to look at again when its time comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Groups,
    Corrections,
    Pool(Arc<str>),
    Fresh(Arc<str>),
    Node(Arc<str>),
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Publish this plan (it differs from the last one, or its expiry needs renewal). Whether it
    /// leaves the process is the pool's mode: [`Policy::mode`].
    Publish(Plan),
    /// The target is gone: forget its plan (a Node's plan is also collected by its owner).
    Retract(Target),
    /// Find out what a reference means; answer with `image.resolved`.
    Resolve(ImageRef),
}

/// What became of a signal that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed something.
    Changed,
    /// Known already, older than what is known, or without meaning for the prediction.
    Ignored(&'static str),
}

/// Kinds of objects that a relist replaces as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Nodes that joined.
    Nodes,
    /// Requests for nodes (`NodeClaim`s).
    Requests,
    /// Pods.
    Pods,
    /// Workloads of one kind (`Deployment`, ...).
    Workloads(&'static str),
    /// Scalers.
    Scalers,
    /// Announcements.
    Announcements,
}

/// How many objects each index holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Nodes.
    pub nodes: usize,
    /// Requests that are named and not fulfilled.
    pub requests: usize,
    /// Pods.
    pub pods: usize,
    /// Kinds of waiting pods.
    pub waiting: usize,
    /// Owners of pods.
    pub owners: usize,
    /// Workloads.
    pub workloads: usize,
    /// Scalers.
    pub scalers: usize,
    /// Announcements.
    pub announcements: usize,
    /// Templates.
    pub templates: usize,
    /// References.
    pub images: usize,
    /// Plans in force.
    pub plans: usize,
}

/// Where at most so many nodes can take a pod, a change of the demand is looked at for every one of
/// them. Among more, one more waiting pod moves the probability of a Ready node by less than 2 %.
const FEW_NODES: usize = 64;

/// Known already.
const KNOWN: Applied = Applied::Ignored("known already");
/// Older than what is known.
const STALE: Applied = Applied::Ignored("older than what is known");
/// Nothing that the prediction uses.
const UNUSED: Applied = Applied::Ignored("not used for prediction");

// === impl Cluster ===

impl Cluster {
    /// An empty cluster.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            model,
            policy: Policy::default(),
            epoch: 0,
            templates: Templates::default(),
            images: Images::default(),
            nodes: Sites::default(),
            early_ready: BTreeMap::new(),
            leaving: BTreeSet::new(),
            fulfilled: BTreeMap::new(),
            pools: BTreeMap::new(),
            requests: BTreeMap::new(),
            pods: Roster::default(),
            waiting: BTreeMap::new(),
            nominated: BTreeMap::new(),
            owners: Owners::default(),
            turns_of_workloads: 0,
            daemonsets: BTreeMap::new(),
            calendars: BTreeSet::new(),
            wanting: BTreeSet::new(),
            rolling: BTreeMap::new(),
            looks: Looks::default(),
            series: 0,
            announcements: BTreeMap::new(),
            plans: BTreeMap::new(),
            flights: Flights::default(),
            unresolved: BTreeMap::new(),
            groups: Groups::default(),
            promises: Promises::default(),
            order: Order::default(),
            calibrated: Calibrated::default(),
            marks: Marks::default(),
            generations: HashMap::new(),
            gone: Gone::default(),
        }
    }

    /// The parameters in force.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes one signal into the indexes. Never plans: that is `step`'s.
    pub fn apply(&mut self, signal: &Signal) -> Applied {
        let at = signal.observedtime;
        match &signal.fact {
            Fact::NodeOffered(fact) => self.node_offered(fact, signal),
            Fact::NodeRequested(fact) => self.node_requested(fact, signal),
            Fact::NodeLaunched(fact) => self.node_launched(fact, at),
            Fact::NodeJoined(fact) => self.node_joined(fact, signal),
            Fact::NodeReady(fact) => self.node_ready(&fact.node, signal),
            Fact::NodeInterrupted(fact) => self.node_interrupted(fact, at),
            Fact::NodeInventory(fact) => self.node_inventory(fact, at),
            Fact::NodeRemoved(fact) => self.node_removed(fact, at),
            Fact::PodPending(fact) => self.pod_wanted(fact, false, at),
            Fact::PodGated(fact) => self.pod_wanted(fact, true, at),
            Fact::PodNominated(fact) => self.pod_nominated(fact),
            Fact::PodBound(fact) => self.pod_bound(fact, signal),
            Fact::PodStarted(fact) => self.pod_started(&fact.pod, signal.time.min(at)),
            Fact::PodRemoved(fact) => self.pod_removed(&fact.pod, at),
            Fact::WorkloadApplied(fact) => self.workload_applied(fact, at),
            Fact::WorkloadRemoved(fact) => self.workload_removed(&fact.workload, at),
            Fact::ScalerObserved(fact) => self.scaler_observed(fact, at),
            Fact::CapacityAnnounced(fact) => self.capacity_announced(fact, at),
            Fact::ImageResolved(fact) => self.image_resolved(fact, at),
            Fact::ImagePulled(fact) => {
                self.image_present(&fact.node, &fact.image, signal.time.min(at))
            }
            Fact::LoadSampled(fact) => self.load_sampled(fact, at),
            // What an agent moved says nothing about what will be needed.
            Fact::TransferFinished(_) | Fact::PlanPublished(_) | Fact::PrefetchFinished(_) => {
                UNUSED
            }
        }
    }

    /// A relist of `family` begins: what is not applied again before `relisted` is gone.
    pub fn relisting(&mut self, family: Family) {
        *self.generations.entry(family).or_default() += 1;
    }

    /// The relist of `family` is complete.
    pub fn relisted(&mut self, family: Family, now: Timestamp) {
        let current = self.generation(family);
        match family {
            Family::Nodes => self.sweep_nodes(current, now),
            Family::Requests => self.sweep_requests(current),
            Family::Pods => self.sweep_pods(current, now),
            Family::Workloads(kind) => self.sweep_workloads(kind, current, now),
            Family::Scalers => self.sweep_scalers(current),
            Family::Announcements => self.sweep_announcements(current, now),
        }
    }

    /// The leader's epoch, written into every plan. A new one publishes every plan again.
    pub fn set_epoch(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.mark_everything();
        }
    }

    /// The operator's word; plans follow in the next step.
    pub fn set_policy(&mut self, policy: Policy) {
        if self.policy != policy {
            self.policy = policy;
            self.mark_everything();
        }
    }

    /// Other parameters; what was learned stays.
    pub fn set_model(&mut self, model: Model) {
        if self.model != model {
            self.model = model;
            for pool in self.pools.values_mut() {
                pool.history.invalidate();
            }
            self.note_turn();
            self.mark_everything();
        }
    }

    /// When `step` has work even without a new signal (expiry, decay, schedules).
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = self.marks.timers.first().map(|(at, _)| *at);
        let look = self.look_ahead_at();
        [timer, self.images.due_at(), look]
            .into_iter()
            .flatten()
            .min()
    }

    /// The plan now in force for a target.
    #[must_use]
    pub fn plan(&self, target: &Target) -> Option<&Plan> {
        self.plans.get(target)
    }

    /// All plans in force.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values()
    }

    /// How many objects each index holds.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            nodes: self.nodes.len(),
            requests: self.requests.len(),
            pods: self.pods.len(),
            waiting: self.waiting.len(),
            owners: self.owners.crowds,
            workloads: self.owners.applied,
            scalers: self.owners.scalers,
            announcements: self.announcements.len(),
            templates: self.templates.len(),
            images: self.images.len(),
            plans: self.plans.len(),
        }
    }

    fn generation(&self, family: Family) -> u32 {
        self.generations.get(&family).copied().unwrap_or(0)
    }

    fn mark_target(&mut self, target: &Target) {
        match target {
            Target::Pool(name) => {
                if let Some((name, _)) = self.pools.get_key_value(name.as_str()) {
                    self.marks.pools.insert(Arc::clone(name), Reach::Fresh);
                }
            }
            Target::Node(name) => {
                self.marks.nodes.extend(self.nodes.id(name));
            }
        }
    }

    /// Something concerns a pool. In a small one, one node more or less is felt by all.
    fn mark_pool(&mut self, name: &Arc<str>, reach: Reach) {
        let few = |pool: &Pool| pool.nodes.len() <= FEW_NODES;
        let reach = match self.pools.get(name) {
            Some(pool) if few(pool) => Reach::Fresh,
            _ => reach,
        };
        let marked = self.marks.pools.entry(Arc::clone(name)).or_insert(reach);
        *marked = reach.max(*marked);
    }

    fn mark_pools(&mut self) {
        let all = self
            .pools
            .keys()
            .map(|name| (Arc::clone(name), Reach::Fresh));
        self.marks.pools.extend(all);
    }

    fn mark_everything(&mut self) {
        self.mark_groups();
        self.pools.values_mut().for_each(|pool| pool.planned = None);
        self.mark_pools();
        self.marks.nodes.extend(self.nodes.joined());
    }
}

// === impl Marks ===

impl Marks {
    fn wake(&mut self, at: Timestamp, wake: Wake) {
        self.timers.insert((at, wake));
    }
}

/// A saved state that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another version.
    #[error("learned state has version {found}; this program reads version {known}")]
    Version {
        /// in the text
        found: u32,
        /// readable here
        known: u32,
    },
    /// Not readable at all.
    #[error("learned state is not readable: {0}")]
    Form(String),
}
