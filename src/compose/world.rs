//! The played cluster: its state, its clock, and who acts when.

mod autoscale;
mod claims;
mod control;
mod curtain;
mod fate;
mod groups;
mod jobs;
mod kubelet;
mod machine;
mod pack;
mod pods;
mod rollout;
mod scale;
mod schedule;
mod state;
mod transfer;
mod words;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::compose::cast::{Cast, ClassId, WorkId};
use crate::compose::random::Random;
use crate::compose::spec::AutoscalerKind;
use crate::compose::tape::{Sink, Tape};
use crate::domain::time::Timestamp;
use crate::source::scenario::ScenarioError;

use state::{ClaimId, JobId, NodeId, PodId};
use transfer::Transfers;

pub(super) use state::{Claim, Job, Node, Pod, PoolState, WorkState};

/// What happened in a composed scenario, for the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Nodes at the start.
    pub nodes_at_start: u64,
    /// Nodes that joined after it.
    pub nodes_joined: u64,
    /// Nodes that went after it.
    pub nodes_removed: u64,
    /// Pods at the start.
    pub pods_at_start: u64,
    /// Pods that were created after it.
    pub pods_created: u64,
    /// Most pods at once.
    pub pods_most: u64,
    /// Pods that waited for a node that was not there.
    pub pods_without_room: u64,
    /// Pods that are bound to nodes that joined after the start: whose waits a replay scores.
    pub pods_on_new_nodes: u64,
    /// Image pulls that moved bytes, on nodes that joined after the start.
    pub pulls_on_new_nodes: u64,
    /// Seconds that pods on new nodes waited for their images, in the model.
    pub image_wait_s: u64,
    /// Signals by type.
    pub signals: BTreeMap<String, u64>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Start,
    Sample(WorkId),
    Sync(WorkId),
    Template(WorkId),
    Fire(WorkId, usize),
    Event(usize, u8),
    Reconcile(WorkId),
    Schedule,
    Scan,
    Batch,
    Consolidate,
    Launched(ClaimId),
    Arrive(ClaimId),
    GiveUp(ClaimId),
    Ready(NodeId),
    Vanish(NodeId),
    Drain(NodeId),
    Look(PodId),
    Fetch(NodeId, PodId),
    Flows,
    Pulled(NodeId, PodId),
    Started(PodId),
    AppReady(PodId),
    Finish(PodId),
    Ended(PodId),
    Tidy(JobId),
}

/// The state of everything.
pub struct World<'a> {
    cast: &'a Cast,
    now: Timestamp,
    queue: BinaryHeap<Reverse<(Timestamp, u64, Due)>>,
    order: u64,
    tape: Tape<'a>,
    draws: Draws,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    works: Vec<WorkState>,
    jobs: Vec<Job>,
    claims: Vec<Claim>,
    pools: Vec<PoolState>,
    /// Pods without a node, by class, in the order of their creation.
    waiting: BTreeMap<ClassId, VecDeque<PodId>>,
    /// Grows whenever some node gets room: a class that fits nowhere is not tried before.
    room_version: u64,
    /// The room version at which a class was found to fit nowhere.
    nowhere: Vec<Option<u64>>,
    scheduling: bool,
    /// Ready nodes that take pods, by pool and place in its zones, the emptiest last.
    open: Vec<Vec<BTreeSet<(u64, NodeId)>>>,
    /// Pods by work and zone.
    in_zone: Vec<Vec<u32>>,
    /// Zones in which no machine can be had, until when.
    dead_zones: BTreeMap<usize, Timestamp>,
    buffers: Vec<Buffer>,
    batch_began: Option<Timestamp>,
    batch_last: Timestamp,
    last_add: Timestamp,
    event_tokens: f64,
    event_at: Timestamp,
    transfers: Transfers,
    alive: u64,
    summary: Summary,
}

/// Streams of draws, one per use.
struct Draws {
    arrival: Random,
    boot: Random,
    kubelet: Random,
    app: Random,
    names: Random,
    scheduler: Random,
    load: Vec<Random>,
    fate: Random,
    phase: Random,
}

/// Room that is kept for pods that do not exist yet.
struct Buffer {
    class: ClassId,
    count: u32,
}

// === impl World ===

impl<'a> World<'a> {
    /// The cluster before anything has happened.
    pub fn new(cast: &'a Cast, sink: Sink<'a>) -> Self {
        let stream = |name: &str| Random::new(cast.seed, name);
        let loads = cast
            .works
            .iter()
            .map(|work| stream(&format!("load {}", work.reference)));
        let open = cast
            .pools
            .iter()
            .map(|pool| vec![BTreeSet::new(); pool.zones.len()]);
        let mut names = stream("names");
        let works = cast
            .works
            .iter()
            .map(|work| WorkState::new(work, &mut names));
        Self {
            now: cast.begin,
            queue: BinaryHeap::new(),
            order: 0,
            tape: Tape::new(sink, &cast.watch, cast.seed, (cast.start, cast.end)),
            works: works.collect(),
            draws: Draws {
                arrival: stream("arrival"),
                boot: stream("boot"),
                kubelet: stream("kubelet"),
                app: stream("app"),
                scheduler: stream("scheduler"),
                load: loads.collect(),
                fate: stream("fate"),
                phase: stream("phase"),
                names,
            },
            nodes: Vec::new(),
            pods: Vec::new(),
            jobs: Vec::new(),
            claims: Vec::new(),
            pools: cast.pools.iter().map(|_| PoolState::default()).collect(),
            waiting: BTreeMap::new(),
            room_version: 0,
            nowhere: vec![None; cast.classes.len()],
            scheduling: false,
            open: open.collect(),
            in_zone: vec![vec![0; cast.zones.len()]; cast.works.len()],
            dead_zones: BTreeMap::new(),
            buffers: Vec::new(),
            batch_began: None,
            batch_last: cast.begin,
            last_add: Timestamp::from_micros(i64::MIN),
            event_tokens: cast.watch.pod_events * 2.0,
            event_at: cast.begin,
            transfers: Transfers::new(cast.shared.origin.0.0),
            alive: 0,
            summary: Summary::default(),
            cast,
        }
    }

    /// Plays from the silent beginning to the end; `tick` is told how far it is, in seconds.
    pub fn play(mut self, mut tick: impl FnMut(f64)) -> Result<Summary, ScenarioError> {
        self.open_curtain();
        let mut told = self.now;
        while let Some(Reverse((at, _, due))) = self.queue.pop() {
            if at > self.cast.end {
                break;
            }
            self.now = at;
            if at.secs_since(told) >= 10.0 {
                told = at;
                self.tape.flush(at)?;
                tick(at.secs_since(self.cast.begin));
            }
            self.act(due);
        }
        self.tape.flush(Timestamp::MAX)?;
        let mut summary = self.summary;
        let counts = self.tape.counts().iter();
        summary.signals = counts.map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
        Ok(summary)
    }

    /// Nodes that are there from the beginning, the first pods, and everything that recurs.
    fn open_curtain(&mut self) {
        for (id, pool) in self.cast.pools.iter().enumerate() {
            for _ in 0..pool.spec.min {
                self.place_node(id);
            }
        }
        self.at(self.cast.start, Due::Start);
        for (id, work) in self.cast.works.iter().enumerate() {
            self.at(self.now, Due::Reconcile(id));
            for (at, _) in &work.classes[1..] {
                self.at(*at, Due::Template(id));
            }
            if !work.tables.jobs.is_empty() {
                self.at(work.tables.jobs[0], Due::Fire(id, 0));
            }
            if let Some(load) = &work.spec.load {
                let period = load.sample.0.as_secs_f64();
                let phase = period * self.draws.phase.unit();
                self.after(phase.min(1.0), Due::Sample(id));
            }
            if let Some(hpa) = &work.spec.hpa {
                let phase = hpa.sync.0.as_secs_f64() * self.draws.phase.unit();
                self.after(phase, Due::Sync(id));
            }
        }
        self.plan_events();
        match self.cast.autoscaler.kind {
            AutoscalerKind::ClusterAutoscaler => self.after(5.0, Due::Scan),
            AutoscalerKind::Karpenter => self.after(10.0, Due::Consolidate),
            AutoscalerKind::None => {}
        }
    }

    fn act(&mut self, due: Due) {
        match due {
            Due::Start => self.go_live(),
            Due::Sample(work) => self.sample(work),
            Due::Sync(work) => self.sync(work),
            Due::Template(work) => self.new_template(work),
            Due::Fire(work, index) => self.fire(work, index),
            Due::Event(event, stage) => self.befall(event, stage),
            Due::Reconcile(work) => self.reconcile(work),
            Due::Schedule => self.schedule(),
            Due::Scan => self.scan(),
            Due::Batch => self.batch(),
            Due::Consolidate => self.consolidate(),
            Due::Launched(claim) => self.launched(claim),
            Due::Arrive(claim) => self.arrive(claim),
            Due::GiveUp(claim) => self.give_up(claim),
            Due::Ready(node) => self.node_ready(node),
            Due::Vanish(node) => self.vanish(node),
            Due::Drain(node) => self.drain_now(node),
            Due::Look(pod) => self.look(pod),
            Due::Fetch(node, pod) => self.fetch(node, pod),
            Due::Flows => self.flows(),
            Due::Pulled(node, pod) => self.pulled(node, pod),
            Due::Started(pod) => self.started(pod),
            Due::AppReady(pod) => self.app_ready(pod),
            Due::Finish(pod) => self.finish(pod),
            Due::Ended(pod) => self.ended(pod),
            Due::Tidy(job) => self.tidy(job),
        }
    }

    fn at(&mut self, at: Timestamp, due: Due) {
        self.order += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.order, due)));
    }

    fn after(&mut self, seconds: f64, due: Due) {
        self.at(self.now + Duration::from_secs_f64(seconds.max(0.0)), due);
    }
}
