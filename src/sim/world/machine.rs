//! One node of the played world: its disk, kubelet and agent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::image::Digest;
use crate::domain::plan::Plan;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::engine::blobs::Reader;
use crate::engine::network::FlowSpec;
use crate::engine::node::Input;
use crate::sim::agent::{Agent, AgentAct, View};
use crate::sim::facts::{LayerId, NodeFact, NodeId, PodId};
use crate::sim::kubelet::{Act, Disk, Here, Kubelet};
use crate::sim::world::{Event, MANIFEST_DELAY, Mover, Planner, PodNote, START_DELAY, Span, World};

/// No limit on one stream, beside the links.
const NO_CAP: f64 = 0.0;

/// A node.
#[derive(Debug)]
pub struct Machine {
    pub kubelet: Kubelet,
    /// The last plan of its own.
    pub plan: Option<Plan>,
    disk: Disk,
    /// Images that pods were bound for: their layers are in use.
    used: BTreeSet<u32>,
    /// Images that the agent recorded.
    recorded: BTreeSet<u32>,
    /// Layers that the agent brought.
    brought: BTreeSet<LayerId>,
    agent: Option<Agent>,
    wake_at: Option<Timestamp>,
    flows: BTreeMap<LayerId, Flow>,
}

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
struct Flow {
    mover: Mover,
    /// `None` where it comes from the origin.
    reader: Option<Reader>,
    since: Timestamp,
    from: f64,
}

impl Machine {
    pub fn new(fact: &NodeFact, pulls: usize) -> Self {
        let disk = Disk {
            present: fact.holds.clone(),
            ..Disk::default()
        };
        Self {
            kubelet: Kubelet::new(pulls),
            plan: None,
            disk,
            used: BTreeSet::new(),
            recorded: BTreeSet::new(),
            brought: BTreeSet::new(),
            agent: None,
            wake_at: None,
            flows: BTreeMap::new(),
        }
    }
}

// === impl World: what happens on one node ===

impl World<'_> {
    pub(super) fn pod_bound(&mut self, pod: PodId) {
        let facts = self.stage.facts;
        let node = facts.pods[pod].node;
        self.notes.pod_bound(pod, facts);
        let images = facts.pods[pod].images.iter().flatten();
        self.machines[node].used.extend(images);
        let takes = facts.nodes[node].world.sandbox_s.max(0.0);
        let made = self.now + Duration::from_secs_f64(takes);
        self.queue.push(made, Event::Sandbox(pod));
    }

    pub(super) fn sandbox_made(&mut self, pod: PodId) {
        let fact = &self.stage.facts.pods[pod];
        let gone = fact.removed.is_some_and(|removed| removed <= self.now);
        // As in the queue for pulls: one that started in the recording is let start here too.
        if fact.started || !gone {
            self.ask_kubelet(fact.node, |kubelet, here| kubelet.bound(pod, here));
        }
    }

    pub(super) fn overhead_over(&mut self, pod: PodId) {
        let node = self.stage.facts.pods[pod].node;
        self.ask_kubelet(node, |kubelet, here| kubelet.overhead_over(pod, here));
    }

    pub(super) fn layer_unpacked(&mut self, node: NodeId, layer: LayerId) {
        let facts = self.stage.facts;
        let machine = &mut self.machines[node];
        machine.disk.foreground.remove(&layer);
        machine.disk.present.insert(layer);
        self.notes.present[node].entry(layer).or_insert(self.now);
        let digest = facts.digest(layer);
        let over = Input::Foreground {
            digest: digest.clone(),
            active: false,
        };
        self.tell_agent(node, over);
        self.tell_agent(node, Input::BlobPresent(digest.clone()));
        self.ask_kubelet(node, |kubelet, here| kubelet.unpacked(layer, here));
    }

    /// The last byte of a layer reached the node.
    pub(super) fn layer_came(&mut self, node: NodeId, layer: LayerId) {
        let facts = self.stage.facts;
        let size = facts.bytes(layer);
        let Some(flow) = self.close_flow(node, layer, size) else {
            return;
        };
        match flow.mover {
            Mover::Kubelet => {
                self.ask_kubelet(node, |kubelet, here| kubelet.fetched(layer, here));
            }
            Mover::Agent => {
                let machine = &mut self.machines[node];
                machine.disk.arriving.remove(&layer);
                machine.disk.present.insert(layer);
                machine.brought.insert(layer);
                self.notes.present[node].entry(layer).or_insert(self.now);
                let fetched = Input::Fetched {
                    digest: facts.digest(layer).clone(),
                    moved: ByteSize((size - flow.from) as u64),
                };
                self.tell_agent(node, fetched);
                self.ask_kubelet(node, |kubelet, here| kubelet.agent_brought(layer, here));
            }
        }
    }

    pub(super) fn agent_up(&mut self, node: NodeId) {
        let facts = self.stage.facts;
        let fact = &facts.nodes[node];
        if fact.removed.is_some_and(|removed| removed <= self.now) {
            return;
        }
        let mut agent = match &self.planner {
            Planner::Nobody | Planner::Cache => return,
            Planner::Engine(_) => Agent::planned(fact.world.disk),
            Planner::LastN(recent) => Agent::Listed(recent.schedule(facts, node)),
            Planner::Listed(schedules) => match schedules.get(&node) {
                Some(schedule) => Agent::Listed(schedule.clone()),
                None => return,
            },
        };
        if let Agent::Listed(schedule) = &agent {
            self.notes.listed(node, &schedule.images, facts, self.now);
        }
        let machine = &mut self.machines[node];
        let digest = |layer: &LayerId| facts.digest(*layer).clone();
        let present = machine.disk.present.iter().map(digest).collect();
        agent.tell(Input::Inventory(present), self.now);
        let pulled = machine.kubelet.pulling();
        let pulled = pulled.map(|image| facts.image(image).manifest.digest.clone());
        let foreground = machine.disk.foreground.iter().map(digest);
        for digest in foreground.chain(pulled) {
            let active = true;
            agent.tell(Input::Foreground { digest, active }, self.now);
        }
        agent.tell(Input::Born(fact.joined), self.now);
        let plan = self.pool_plans.get(&fact.pool).cloned();
        agent.tell(Input::PoolPlan(plan), self.now);
        agent.tell(Input::NodePlan(machine.plan.clone()), self.now);
        machine.agent = Some(agent);
        self.touched.insert(node);
    }

    pub(super) fn agent_down(&mut self, node: NodeId) {
        self.machines[node].agent = None;
        let arriving = self.machines[node].disk.arriving.clone();
        for layer in arriving {
            self.stop_agent_flow(node, layer);
        }
    }

    pub(super) fn manifest_came(&mut self, node: NodeId, digest: &Digest) {
        let facts = self.stage.facts;
        let input = match facts.catalogue.by_manifest.get(digest) {
            Some(image) => Input::Manifest(facts.image(*image).manifest.clone()),
            None => Input::Failed {
                digest: digest.clone(),
                lasting: true,
            },
        };
        self.tell_agent(node, input);
    }

    pub(super) fn tell_agent(&mut self, node: NodeId, input: Input) {
        if let Some(agent) = &mut self.machines[node].agent {
            agent.tell(input, self.now);
            self.touched.insert(node);
        }
    }

    pub(super) fn step_agent(&mut self, node: NodeId) {
        let machine = &mut self.machines[node];
        let Some(agent) = &mut machine.agent else {
            return;
        };
        let facts = self.stage.facts;
        let view = View {
            facts,
            disk: &machine.disk,
            kubelet_pulls: machine.kubelet.pulling().next().is_some(),
            brought: &machine.brought,
            room: facts.nodes[node].world.disk.0 as f64,
        };
        let acts = agent.step(view, self.now);
        let wake_at = agent.wake_at().filter(|at| *at < Timestamp::MAX);
        if let Some(at) = wake_at.filter(|_| wake_at != machine.wake_at) {
            self.queue.push(at, Event::AgentWake(node));
        }
        machine.wake_at = wake_at;
        for act in acts {
            match act {
                AgentAct::Ask(digest) => {
                    let event = Event::Manifest(node, digest);
                    self.queue.push(self.now + MANIFEST_DELAY, event);
                }
                AgentAct::Start(layer) => {
                    self.machines[node].disk.arriving.insert(layer);
                    self.open_flow(node, layer, Mover::Agent);
                }
                AgentAct::Stop(layer) => self.stop_agent_flow(node, layer),
                AgentAct::Record(image, digest) => {
                    let recorded = facts.catalogue.by_manifest.get(&digest);
                    self.machines[node].recorded.extend(recorded);
                    self.tell_agent(node, Input::Recorded { image, digest });
                }
                AgentAct::Withdraw(digest) => {
                    if let Some(image) = facts.catalogue.by_manifest.get(&digest) {
                        self.machines[node].recorded.remove(image);
                    }
                }
                AgentAct::Release(digest) => self.release(node, &digest),
            }
        }
    }

    /// Gives up an image's layers that no other image needs, and tells what is left.
    fn release(&mut self, node: NodeId, digest: &Digest) {
        let facts = self.stage.facts;
        let Some(image) = facts.catalogue.by_manifest.get(digest) else {
            return;
        };
        let machine = &mut self.machines[node];
        let kept = machine.used.union(&machine.recorded);
        let needed: BTreeSet<LayerId> = kept
            .flat_map(|image| &facts.image(*image).layers)
            .copied()
            .collect();
        for layer in &facts.image(*image).layers {
            if !needed.contains(layer) && machine.brought.remove(layer) {
                machine.disk.present.remove(layer);
                self.notes.present[node].remove(layer);
            }
        }
        let present = machine.disk.present.iter();
        let present = present.map(|layer| facts.digest(*layer).clone()).collect();
        self.tell_agent(node, Input::Inventory(present));
    }

    /// Tells the kubelet something and carries out what follows.
    fn ask_kubelet(&mut self, node: NodeId, ask: impl Fn(&mut Kubelet, Here<'_>) -> Vec<Act>) {
        let machine = &mut self.machines[node];
        let here = Here {
            facts: self.stage.facts,
            disk: &machine.disk,
        };
        let acts = ask(&mut machine.kubelet, here);
        self.kubelet_acts(node, acts);
    }

    fn kubelet_acts(&mut self, node: NodeId, acts: Vec<Act>) {
        let facts = self.stage.facts;
        self.touched.insert(node);
        for act in acts {
            match act {
                Act::Begin { pod, image } => {
                    self.pull_is(node, image, true);
                    let overhead = facts.nodes[node].world.pull_overhead_s.max(0.0);
                    let over = self.now + Duration::from_secs_f64(overhead);
                    self.queue.push(over, Event::OverheadOver(pod));
                }
                Act::Fetch(layer) => {
                    self.machines[node].disk.foreground.insert(layer);
                    let digest = facts.digest(layer).clone();
                    let active = true;
                    self.tell_agent(node, Input::Foreground { digest, active });
                    self.open_flow(node, layer, Mover::Kubelet);
                }
                Act::Unpack(layer) => {
                    let size = ByteSize(facts.bytes(layer) as u64);
                    let secs = facts.nodes[node].world.unpack.secs_for(size);
                    let done = self.now + Duration::from_secs_f64(secs);
                    self.queue.push(done, Event::Unpacked(node, layer));
                }
                Act::End(image) => {
                    let others = self.machines[node].kubelet.pulling();
                    if !others.into_iter().any(|other| other == image) {
                        self.pull_is(node, image, false);
                    }
                }
                Act::Ready { pod, warm } => {
                    // A pod that finds everything has waited for its sandbox, for no image.
                    let ready = if warm {
                        facts.pods[pod].bound
                    } else {
                        self.now
                    };
                    self.notes.pods[pod] = Some(PodNote { ready, warm });
                    if matches!(self.planner, Planner::Engine(_) | Planner::LastN(_)) {
                        self.queue.push(self.now + START_DELAY, Event::Started(pod));
                    }
                }
            }
        }
    }

    /// Tells the agent that the kubelet's pull of an image begins or ends: also between its layers
    /// nothing speculative shall begin.
    fn pull_is(&mut self, node: NodeId, image: u32, active: bool) {
        let manifest = &self.stage.facts.image(image).manifest;
        let digest = manifest.digest.clone();
        self.tell_agent(node, Input::Foreground { digest, active });
    }

    fn open_flow(&mut self, node: NodeId, layer: LayerId, mover: Mover) {
        let facts = self.stage.facts;
        let (digest, size) = (facts.digest(layer), facts.bytes(layer));
        let opened = (!self.direct).then(|| self.cache.open(digest, size, self.now));
        if opened.is_some_and(|opened| opened.fetch) {
            self.network.start_upstream(layer, size, self.now);
        }
        let machine = &mut self.machines[node];
        let from = machine.disk.partial.remove(&layer).unwrap_or(0.0);
        let spec = FlowSpec {
            link: node,
            blob: layer,
            size,
            from,
            // The agent unpacks while bytes arrive, one core per stream.
            cap: match mover {
                Mover::Agent => facts.nodes[node].world.unpack.0,
                Mover::Kubelet => NO_CAP,
            },
        };
        self.network.start(spec, self.now);
        machine.flows.insert(
            layer,
            Flow {
                mover,
                reader: opened.map(|opened| opened.reader),
                since: self.now,
                from,
            },
        );
    }

    /// Ends a transfer that has come to `at` bytes; notes what it moved.
    fn close_flow(&mut self, node: NodeId, layer: LayerId, at: f64) -> Option<Flow> {
        let flow = self.machines[node].flows.remove(&layer)?;
        if let Some(reader) = flow.reader {
            let digest = self.stage.facts.digest(layer);
            self.cache.close(digest, reader, self.now);
        }
        self.notes.moved(Span {
            node,
            layer,
            mover: flow.mover,
            from: flow.since,
            to: self.now,
            bytes: at - flow.from,
        });
        Some(flow)
    }

    fn stop_agent_flow(&mut self, node: NodeId, layer: LayerId) {
        let Some(at) = self.network.stop(node, layer, self.now) else {
            return;
        };
        self.close_flow(node, layer, at);
        let machine = &mut self.machines[node];
        machine.disk.arriving.remove(&layer);
        machine.disk.partial.insert(layer, at);
        self.ask_kubelet(node, |kubelet, here| kubelet.agent_stopped(layer, here));
    }
}
