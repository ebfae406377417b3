//! One run: the recorded world played once more, with one policy's prefetches in it.

mod machine;
mod notes;
mod takeover;
mod watch;
mod whys;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::image::ImageRef;
use crate::domain::plan::{Plan, Target};
use crate::domain::scenario::{Header, SharedWorld};
use crate::domain::signal::{Fact, ImageResolved, PodOnNode, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::PodRef;
use crate::engine::cluster::{Cluster, Effect};
use crate::engine::network::{Done, Network};
use crate::engine::node::{Input, Limits};
use crate::sim::agent::Schedule;
use crate::sim::baseline::Recent;
use crate::sim::cache::Cache;
use crate::sim::clock::EventQueue;
use crate::sim::facts::{Facts, LayerId, NodeId, PodId};
use crate::sim::world::machine::Machine;
use crate::sim::world::takeover::Ears;
use crate::telemetry::log::json;

pub use crate::sim::world::notes::{First, Mover, Notes, PodNote, Span, WINDOW, window_end};
pub use crate::sim::world::watch::{Sight, Watch};
pub use crate::sim::world::whys::{Why, Whys};

/// From the controller's decision to the agent that reads it: two watches and a write.
const PLAN_DELAY: Duration = Duration::from_millis(200);

/// From a reference to its manifests.
const RESOLVE_DELAY: Duration = Duration::from_millis(200);

/// From a pod's last image to a watcher that hears of its start: containers are created, the status is
/// written.
const START_DELAY: Duration = Duration::from_secs(1);

/// One manifest's round trip over the node's link.
const MANIFEST_DELAY: Duration = Duration::from_millis(5);

/// Bytes per second where nothing limits them.
const NO_LIMIT: f64 = 0.0;

/// A controller that asks to be woken at once is woken after this.
const WAKE_STEP: Duration = Duration::from_millis(10);

/// Who tells agents what to fetch.
#[derive(Debug)]
pub enum Planner {
    /// Nobody: the kubelet alone, straight from the origin.
    Nobody,
    /// Nobody: the kubelet alone, through the cache.
    Cache,
    /// The controller's engine.
    Engine(Box<Cluster>),
    /// A list per node that does not change: an operator's, or of somebody who knew the future.
    Listed(BTreeMap<NodeId, Schedule>),
    /// What was started in the pool last, when the agent comes up.
    LastN(Recent),
}

/// What one run needs.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Shared rates and the image catalogue.
    pub header: &'a Header,
    /// What really happened.
    pub facts: &'a Facts,
    /// What a watcher saw, in order of `observedtime`; empty where no engine listens.
    pub signals: &'a [Signal],
    /// Rules that hold for every policy.
    pub rules: Rules,
}

/// Rules of the played world that are not the scenario's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Images that a kubelet pulls at once: 1 is `serializeImagePulls`, its default.
    pub pulls: usize,
    /// When the controller dies and another one takes over; `None` is never.
    pub restart_at: Option<Timestamp>,
    /// Whether signals come twice: the second is then refused, as the intake of production does.
    pub deduplicates: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            pulls: 1,
            restart_at: None,
            deduplicates: false,
        }
    }
}

impl<'a> Stage<'a> {
    /// Under the usual rules.
    #[must_use]
    pub fn new(header: &'a Header, facts: &'a Facts, signals: &'a [Signal]) -> Self {
        Self {
            header,
            facts,
            signals,
            rules: Rules::default(),
        }
    }
}

#[derive(Debug)]
enum Event {
    Bound(PodId),
    /// A pod has its sandbox: its images are looked for.
    Sandbox(PodId),
    PodGone(PodId),
    NodeGone(NodeId),
    AgentUp(NodeId),
    AgentWake(NodeId),
    /// Of the pull that is for this pod.
    OverheadOver(PodId),
    Unpacked(NodeId, LayerId),
    Manifest(NodeId, crate::domain::image::Digest),
    PlanArrives(Target, Option<Plan>),
    Resolved(ImageRef),
    /// A watcher hears that a pod started, in this world.
    Started(PodId),
    /// The controller dies.
    Dies,
    /// Another one takes over.
    TakesOver,
}

/// The state of one run.
#[derive(Debug)]
pub struct World<'a> {
    stage: Stage<'a>,
    planner: Planner,
    now: Timestamp,
    queue: EventQueue<Event>,
    network: Network,
    /// Whether nodes read from the origin, not from the cache.
    direct: bool,
    cache: Cache,
    machines: Vec<Machine>,
    /// Nodes whose agents have something to think about.
    touched: BTreeSet<NodeId>,
    pool_plans: BTreeMap<String, Plan>,
    /// Nodes by pool, in the order of joining.
    by_pool: BTreeMap<&'a str, Vec<NodeId>>,
    heard: usize,
    ears: Ears<'a>,
    notes: Notes,
    watch: Watch,
}

// === impl World ===

impl<'a> World<'a> {
    /// A world at the scenario's start.
    #[must_use]
    pub fn new(stage: Stage<'a>, planner: Planner) -> Self {
        let facts = stage.facts;
        let SharedWorld {
            cache_uplink,
            origin,
        } = stage.header.shared;
        let links = facts.nodes.iter().map(|node| node.world.link.0);
        // Without a cache every node reads from the origin: that is then what all nodes share.
        let direct = matches!(planner, Planner::Nobody);
        let (uplink, upstream) = if direct {
            (origin.0, NO_LIMIT)
        } else {
            (cache_uplink.0, origin.0)
        };
        let mut world = Self {
            stage,
            planner,
            now: facts.start,
            queue: EventQueue::default(),
            network: Network::new(links, uplink, upstream),
            direct,
            cache: Cache::default(),
            machines: facts
                .nodes
                .iter()
                .map(|node| Machine::new(node, stage.rules.pulls))
                .collect(),
            touched: BTreeSet::new(),
            pool_plans: BTreeMap::new(),
            by_pool: by_pool(facts),
            heard: 0,
            ears: Ears::new(stage.rules.deduplicates, stage.rules.restart_at.is_some()),
            notes: Notes::new(facts),
            watch: Watch::default(),
        };
        for node in 0..facts.nodes.len() {
            world.foresee(node);
        }
        world.foresee_restart(stage.rules.restart_at);
        world
    }

    /// Plays to the end: signals are over, nothing moves, nobody waits.
    #[must_use]
    pub fn run(mut self) -> Notes {
        while let Some(now) = self.next_at() {
            self.look_before(now);
            self.now = now.max(self.now);
            for done in self.network.advance(self.now) {
                self.network_done(done);
            }
            while let Some(event) = self.queue.pop_due(self.now) {
                self.happens(event);
            }
            self.hear();
            while let Some(node) = self.touched.pop_first() {
                self.step_agent(node);
            }
        }
        self.look_before(Timestamp::MAX);
        self.notes.sights = self.watch.sights;
        let delivered: f64 = self.notes.spans.iter().map(|span| span.bytes).sum();
        if self.direct {
            self.notes.origin_bytes = delivered;
        } else {
            self.notes.origin_bytes = self.cache.origin_bytes();
            self.notes.cache_bytes = delivered;
        }
        self.notes
    }

    /// Queues what the recording says will happen to a node.
    fn foresee(&mut self, node: NodeId) {
        let facts = self.stage.facts;
        let fact = &facts.nodes[node];
        let delay = Duration::from_secs_f64(fact.world.agent_start_s.max(0.0));
        let up = (fact.joined + delay).max(facts.start);
        let served = match &self.planner {
            Planner::Nobody | Planner::Cache => false,
            Planner::Engine(_) | Planner::LastN(_) => true,
            Planner::Listed(schedules) => schedules.contains_key(&node),
        };
        if served {
            self.queue.push(up, Event::AgentUp(node));
        }
        if let Some(removed) = fact.removed {
            self.queue.push(removed, Event::NodeGone(node));
        }
        for &id in &fact.pods {
            let pod = &facts.pods[id];
            if pod.resident || pod.images.is_none() {
                continue;
            }
            self.queue.push(pod.bound, Event::Bound(id));
            // A pod that started in the recording is let start here too, however late it is.
            if let Some(removed) = pod.removed.filter(|_| !pod.started) {
                self.queue.push(removed, Event::PodGone(id));
            }
        }
    }

    fn next_at(&mut self) -> Option<Timestamp> {
        let signal = self.stage.signals.get(self.heard).map(|s| s.observedtime);
        let wake = match &self.planner {
            // After the recording's end nobody tells the controller anything any more.
            Planner::Engine(cluster) if signal.is_some() && !self.ears.is_deaf() => {
                cluster.wake_at().map(|at| at.max(self.now + WAKE_STEP))
            }
            _ => None,
        };
        let moves = self.network.next_at(self.now);
        [self.queue.next_at(), moves, signal, wake]
            .into_iter()
            .flatten()
            .min()
    }

    fn network_done(&mut self, done: Done) {
        match done {
            Done::Upstream(layer) => {
                let facts = self.stage.facts;
                self.notes.cached.insert(layer, self.now);
                self.cache
                    .arrived(facts.digest(layer), facts.bytes(layer), self.now);
            }
            Done::Flow(node, layer) => self.layer_came(node, layer),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Bound(pod) => self.pod_bound(pod),
            Event::Sandbox(pod) => self.sandbox_made(pod),
            Event::PodGone(pod) => {
                let node = self.stage.facts.pods[pod].node;
                self.machines[node].kubelet.gone(pod);
            }
            Event::NodeGone(node) => self.agent_down(node),
            Event::AgentUp(node) => self.agent_up(node),
            Event::AgentWake(node) => {
                self.touched.insert(node);
            }
            Event::OverheadOver(pod) => self.overhead_over(pod),
            Event::Unpacked(node, layer) => self.layer_unpacked(node, layer),
            Event::Manifest(node, digest) => self.manifest_came(node, &digest),
            Event::PlanArrives(target, plan) => self.plan_arrives(&target, plan),
            Event::Resolved(image) => self.resolved(image),
            Event::Started(pod) => self.pod_started(pod),
            Event::Dies => self.controller_dies(),
            Event::TakesOver => self.controller_takes_over(),
        }
    }

    /// Shows the controller every signal until now, then lets it decide once.
    fn hear(&mut self) {
        let signals = self.stage.signals;
        let from = self.heard;
        while let Some(signal) = signals.get(self.heard)
            && signal.observedtime <= self.now
        {
            self.heard += 1;
        }
        let Planner::Engine(cluster) = &mut self.planner else {
            return;
        };
        let news = &signals[from..self.heard];
        for signal in news.iter().filter(|signal| !signal.truth) {
            if self.ears.take(signal) {
                cluster.apply(signal);
            }
        }
        if self.ears.is_deaf() {
            return;
        }
        // After the recording's end its clock stands still for the controller: plans that it renewed
        // for ever would keep agents awake for ever.
        let goes_on = self.heard < signals.len();
        let woken = goes_on && cluster.wake_at().is_some_and(|at| at <= self.now);
        if !news.is_empty() || woken {
            self.step_controller();
        }
    }

    fn step_controller(&mut self) {
        let Planner::Engine(cluster) = &mut self.planner else {
            return;
        };
        for effect in cluster.step(self.now) {
            match effect {
                Effect::Publish(plan) => {
                    tracing::trace!(plan = %json(&plan), "made");
                    self.look_at(&plan);
                    let target = plan.target.clone();
                    let event = Event::PlanArrives(target, Some(plan));
                    self.queue.push(self.now + PLAN_DELAY, event);
                }
                Effect::Retract(target) => {
                    let event = Event::PlanArrives(target, None);
                    self.queue.push(self.now + PLAN_DELAY, event);
                }
                Effect::Resolve(image) => {
                    self.queue
                        .push(self.now + RESOLVE_DELAY, Event::Resolved(image));
                }
            }
        }
    }

    /// The catalogue answers; for an image that it does not have there is no answer.
    fn resolved(&mut self, image: ImageRef) {
        let Some(manifests) = self.stage.header.images.get(&image) else {
            return;
        };
        let resolved = ImageResolved {
            image: image.clone(),
            manifests: manifests.clone(),
        };
        let id = format!("{image}@{}", self.now.as_micros());
        self.tell_controller("/sim/catalogue", &id, Fact::ImageResolved(resolved));
    }

    /// What the kubelet's status says, as in production; the recording's own starts are truth.
    fn pod_started(&mut self, pod: PodId) {
        let facts = self.stage.facts;
        let fact = &facts.pods[pod];
        let started = PodOnNode {
            pod: PodRef {
                name: fact.name.clone(),
                uid: fact.uid.clone(),
            },
            node: facts.nodes[fact.node].name.clone(),
        };
        if let Planner::LastN(recent) = &mut self.planner {
            recent.started(facts, pod);
            return;
        }
        let started = Fact::PodStarted(started);
        self.tell_controller("/sim/kubelet", &fact.uid, started);
    }

    fn tell_controller(&mut self, source: &str, id: &str, fact: Fact) {
        if let Planner::Engine(cluster) = &mut self.planner {
            let signal = Signal::new(source, id, self.now, fact);
            self.ears.note(&signal);
            if !self.ears.is_deaf() {
                cluster.apply(&signal);
                self.step_controller();
            }
        }
    }

    /// Nodes of a pool whose agents may follow its plan: those that are young enough
    /// ([`Limits::newcomer`]). To all others it means nothing.
    fn newcomers(&self, pool: &str) -> Vec<NodeId> {
        let nodes = self.by_pool.get(pool).map_or(&[][..], Vec::as_slice);
        let joined = |node: &NodeId| self.stage.facts.nodes[*node].joined;
        let oldest = self.now - Limits::default().newcomer;
        let from = nodes.partition_point(|node| joined(node) < oldest);
        let to = nodes.partition_point(|node| joined(node) <= self.now);
        nodes[from..to.max(from)].to_vec()
    }

    fn plan_arrives(&mut self, target: &Target, plan: Option<Plan>) {
        let facts = self.stage.facts;
        match target {
            Target::Pool(pool) => {
                let nodes = self.newcomers(pool);
                let when = (facts, self.now);
                self.notes.pool_plan(pool, plan.as_ref(), &nodes, when);
                for node in nodes {
                    self.tell_agent(node, Input::PoolPlan(plan.clone()));
                }
                match plan {
                    Some(plan) => self.pool_plans.insert(pool.clone(), plan),
                    None => self.pool_plans.remove(pool),
                };
            }
            Target::Node(name) => {
                // A name may come back: the latest node of it that has joined is meant.
                let nodes = facts.by_name.get(name).map_or(&[][..], Vec::as_slice);
                let here = |node: &&NodeId| facts.nodes[**node].joined <= self.now;
                if let Some(&node) = nodes.iter().rev().find(here) {
                    self.notes.node_plan(node, plan.as_ref(), facts, self.now);
                    self.machines[node].plan.clone_from(&plan);
                    self.tell_agent(node, Input::NodePlan(plan));
                }
            }
        }
    }
}

fn by_pool(facts: &Facts) -> BTreeMap<&str, Vec<NodeId>> {
    let mut by_pool: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for (node, fact) in facts.nodes.iter().enumerate() {
        by_pool.entry(&fact.pool).or_default().push(node);
    }
    for nodes in by_pool.values_mut() {
        nodes.sort_by_key(|node| (facts.nodes[*node].joined, *node));
    }
    by_pool
}
