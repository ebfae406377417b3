//! Nodes: they are asked for, arrive, become Ready, are drained, go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::compose::cast::PoolId;
use crate::compose::spec::Kind;
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::state::{Claim, ClaimId, Node, NodeId, PodId};
use crate::compose::world::words::{CLAIMS, EVENTS, object};
use crate::compose::world::{Due, World};
use crate::domain::signal::{Fact, NodeRemoved};
use crate::domain::time::Timestamp;

/// First wait of cluster-autoscaler after a failed scale-up, and the longest, in seconds
/// (`--initial-node-group-backoff-duration`, `--max-node-group-backoff-duration`).
const BACK_OFF_S: (f64, f64) = (300.0, 1800.0);

/// Karpenter leaves an offering alone for so long after an insufficient-capacity error.
const UNAVAILABLE_S: f64 = 180.0;

/// A cloud says within so long that it has no machine.
const REFUSAL_S: f64 = 8.0;

/// From the last pod's end to the machine's: the cloud's own time.
const DELETION_S: (f64, f64) = (15.0, 45.0);

impl World<'_> {
    /// A node that was there before the model began.
    pub(super) fn place_node(&mut self, pool: PoolId) {
        let place = self.thinnest(pool, &vec![true; self.cast.pools[pool].zones.len()]);
        let request = self.has_claims().then(|| self.node_name(pool));
        let node = self.join(pool, place, request);
        self.node_ready(node);
    }

    fn node_name(&mut self, pool: PoolId) -> String {
        format!(
            "{}-{}",
            self.cast.pools[pool].name,
            self.draws.names.name(5)
        )
    }

    /// The place in the pool's zones with the fewest nodes, among those that are `wanted`, have
    /// machines and are not dead.
    fn thinnest(&self, pool: PoolId, wanted: &[bool]) -> usize {
        let mut counts = vec![0_u32; wanted.len()];
        for node in &self.pools[pool].nodes {
            counts[self.nodes[*node].place] += 1;
        }
        for claim in &self.pools[pool].claims {
            counts[self.claims[*claim].place] += 1;
        }
        let key = |place: &usize| {
            let bad = self.is_out(pool, *place);
            (!wanted[*place], bad, counts[*place], *place)
        };
        (0..wanted.len()).min_by_key(key).unwrap_or(0)
    }

    /// Whether no machine of a pool can be had in a zone now.
    pub(super) fn is_out(&self, pool: PoolId, place: usize) -> bool {
        let cast = &self.cast.pools[pool];
        let zone = cast.zones[place];
        let now = self.cast.seconds(self.now);
        let planned = cast.spec.stock_outs.iter().any(|out| {
            let during = (out.from.0.as_secs_f64()..out.to.0.as_secs_f64()).contains(&now);
            during
                && out
                    .zone
                    .as_ref()
                    .is_none_or(|name| *name == self.cast.zones[zone])
        });
        let events = self.pools[pool].stock_outs.iter();
        let mut events = events
            .filter(|(until, place)| *until > self.now && place.is_none_or(|place| place == zone));
        let dead = self
            .dead_zones
            .get(&zone)
            .is_some_and(|until| *until > self.now);
        planned || dead || events.next().is_some()
    }

    /// Asks for a node of a pool, in the wanted places of its zones.
    pub(super) fn ask(&mut self, pool: PoolId, wanted: &[bool]) -> ClaimId {
        let place = self.thinnest(pool, wanted);
        let arrival = self.draws.arrival.draw(&self.cast.pools[pool].spec.arrival);
        let claim = self.claims.len();
        let name = self.node_name(pool);
        self.claims.push(Claim {
            name,
            uid: self.draws.names.uid(),
            pool,
            place,
            asked: self.now,
            launched: false,
            over: false,
        });
        self.pools[pool].claims.insert(claim);
        self.last_add = self.now;
        let most = self.cast.autoscaler.provision_max.0.as_secs_f64();
        if self.has_claims() {
            let launched = arrival * self.cast.pools[pool].spec.launched;
            self.after(launched, Due::Launched(claim));
        } else if self.is_out(pool, place) {
            self.after(REFUSAL_S, Due::GiveUp(claim));
            return claim;
        }
        if arrival > most {
            self.after(most, Due::GiveUp(claim));
        } else {
            self.after(arrival, Due::Arrive(claim));
        }
        claim
    }

    /// Karpenter: the instance exists, or the cloud had none.
    pub(super) fn launched(&mut self, claim: ClaimId) {
        if self.claims[claim].over {
            return;
        }
        if self.is_out(self.claims[claim].pool, self.claims[claim].place) {
            self.give_up(claim);
            return;
        }
        self.claims[claim].launched = true;
        if self.tape.is_live() {
            let fact = self.launched_fact(claim);
            let found = &self.claims[claim];
            self.tape.note(
                self.now,
                &object(CLAIMS, &found.uid, "launched", &found.name),
                fact,
            );
        }
    }

    /// The Node object appears.
    pub(super) fn arrive(&mut self, claim: ClaimId) {
        if self.claims[claim].over {
            return;
        }
        let (pool, place) = (self.claims[claim].pool, self.claims[claim].place);
        let zone = self.cast.pools[pool].zones[place];
        if self
            .dead_zones
            .get(&zone)
            .is_some_and(|until| *until > self.now)
        {
            self.give_up(claim);
            return;
        }
        self.claims[claim].over = true;
        self.pools[pool].claims.remove(&claim);
        self.pools[pool].back_off_s = 0.0;
        let request = self.has_claims().then(|| self.claims[claim].name.clone());
        let node = self.join(pool, place, request);
        let boot = self.draws.boot.draw(&self.cast.pools[pool].spec.boot);
        self.after(boot, Due::Ready(node));
    }

    /// A request is withdrawn.
    pub(super) fn give_up(&mut self, claim: ClaimId) {
        if self.claims[claim].over {
            return;
        }
        self.claims[claim].over = true;
        let pool = self.claims[claim].pool;
        let claims = self.has_claims();
        let state = &mut self.pools[pool];
        state.claims.remove(&claim);
        let wait = if claims {
            UNAVAILABLE_S
        } else {
            (state.back_off_s * 2.0).clamp(BACK_OFF_S.0, BACK_OFF_S.1)
        };
        let again = state.back_off.is_some_and(|until| until > self.now);
        if !again {
            state.back_off_s = wait;
            state.back_off = Some(self.now + Duration::from_secs_f64(wait));
        }
        self.say_no_capacity(claim);
        if self.has_claims() && !self.waiting.is_empty() {
            self.wake_batch();
        }
    }

    fn say_no_capacity(&mut self, claim: ClaimId) {
        let found = &self.claims[claim];
        let pool = &self.cast.pools[found.pool];
        let zone = &self.cast.zones[pool.zones[found.place]];
        let (group, machine) = (&pool.name, &pool.spec.instance_type);
        let why = format!("out of capacity for instance type {machine} in {zone}");
        let claims = self.has_claims();
        let reason = if claims {
            format!(
                "NodeClaim {} event: creating instance, insufficient capacity, {why}",
                found.name
            )
        } else {
            format!("could not increase size of group {group}: {why}")
        };
        let fact = Fact::NodeRemoved(NodeRemoved {
            node: None,
            request: claims.then(|| found.name.clone()),
            pool: Some(group.clone()),
            reason,
        });
        if claims {
            let note = object(CLAIMS, &found.uid, "removed", &found.name);
            let stamp = Stamp::Seen;
            self.tape.note(self.now, &Note { stamp, ..note }, fact);
        } else {
            let what = format!("failed:{group}");
            let note = object(
                EVENTS,
                &found.uid,
                &what,
                "kube-system/cluster-autoscaler-status",
            );
            let stamp = Stamp::Event;
            self.tape.note(self.now, &Note { stamp, ..note }, fact);
        }
    }

    fn join(&mut self, pool: PoolId, place: usize, request: Option<String>) -> NodeId {
        let node = self.nodes.len();
        let name = self.node_name(pool);
        self.nodes.push(Node {
            name,
            uid: self.draws.names.uid(),
            pool,
            place,
            zone: self.cast.pools[pool].zones[place],
            free: self.cast.pools[pool].room.clone(),
            pods: BTreeSet::new(),
            by_work: BTreeMap::new(),
            joined: self.now,
            ready: None,
            closed: false,
            gone: false,
            new: self.tape.is_live(),
            request,
            unneeded: None,
            layers: BTreeSet::new(),
            images: BTreeMap::new(),
            bytes: 0,
            pulls: VecDeque::new(),
            pulling: 0,
        });
        self.pools[pool].nodes.insert(node);
        self.transfers.node(self.cast.pools[pool].spec.link.0.0);
        if self.tape.is_live() {
            self.summary.nodes_joined += 1;
            let fact = self.joined(node);
            self.say_node(node, "joined", Stamp::Second, fact);
        }
        for work in 0..self.cast.works.len() {
            if self.cast.works[work].spec.kind == Kind::DaemonSet {
                self.daemon_on(work, node);
            }
        }
        node
    }

    pub(super) fn node_ready(&mut self, node: NodeId) {
        if self.nodes[node].gone {
            return;
        }
        self.nodes[node].ready = Some(self.now);
        for pod in self.nodes[node].pods.clone() {
            self.pods[pod].waits_from = self.now;
        }
        if self.tape.is_live() {
            let fact = self.ready_fact(node);
            self.say_node(node, "ready", Stamp::Second, fact);
        }
        self.open_index(node);
        self.room_version += 1;
        self.wake_scheduler();
    }

    /// No more pods for it, and its own are evicted; it goes when the cloud is done, or at `end`.
    pub(super) fn drain(&mut self, node: NodeId, end: Option<Timestamp>) {
        self.close(node);
        let pods: Vec<PodId> = self.nodes[node].pods.iter().copied().collect();
        for pod in pods {
            let work = self.cast.classes[self.pods[pod].class].work;
            if self.cast.works[work].spec.kind != Kind::DaemonSet {
                self.evict(pod);
            }
        }
        let deletion = DELETION_S.0 + (DELETION_S.1 - DELETION_S.0) * self.draws.boot.unit();
        let end = end.unwrap_or(self.now + Duration::from_secs_f64(deletion));
        self.at(end, Due::Vanish(node));
    }

    /// No more pods for it; its pool does not count it any more.
    pub(super) fn close(&mut self, node: NodeId) {
        self.close_index(node);
        self.nodes[node].closed = true;
        let pool = self.nodes[node].pool;
        self.pools[pool].nodes.remove(&node);
    }

    /// The Node object goes, and its pods with it.
    pub(super) fn vanish(&mut self, node: NodeId) {
        if self.nodes[node].gone {
            return;
        }
        self.close(node);
        self.nodes[node].gone = true;
        if self.tape.is_live() {
            self.summary.nodes_removed += 1;
        }
        self.say_removed(node);
        let pods: Vec<PodId> = self.nodes[node].pods.iter().copied().collect();
        for pod in pods {
            self.evict(pod);
            self.ended(pod);
        }
        self.transfers.drop_node(node, self.now);
        self.await_flows();
        let found = &mut self.nodes[node];
        (found.layers, found.images) = (BTreeSet::new(), BTreeMap::new());
    }

    /// A pod has to go; whoever owns it makes another.
    pub(super) fn evict(&mut self, pod: PodId) {
        if self.pods[pod].ending {
            return;
        }
        self.delete_pod(pod);
        let work = self.cast.classes[self.pods[pod].class].work;
        match self.pods[pod].job {
            Some(job) => self.another_for(job),
            None if self.cast.works[work].spec.kind == Kind::DaemonSet => self.say_applied(work),
            None => self.soon(work),
        }
    }
}
