//! What befalls the cluster: reclaims, outages, drains, failures, announcements.

use std::time::Duration;

use crate::compose::cast::{PoolId, WorkId};
use crate::compose::random::Random;
use crate::compose::spec::{Event, EventKind};
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::state::NodeId;
use crate::compose::world::words::object;
use crate::compose::world::{Buffer, Due, World};
use crate::domain::signal::{Capacity, Fact};
use crate::domain::time::Timestamp;

/// A node whose kubelet is silent is noticed after so long (`node-monitor-grace-period`), in seconds.
const UNNOTICED_S: f64 = 40.0;

/// Time between two nodes of a drain, in seconds.
const DRAIN_STEP_S: f64 = 60.0;

/// Stages of an event.
const MAIN: u8 = 0;
const HINT: u8 = 1;
const OVER: u8 = 2;

impl World<'_> {
    /// Puts events on the calendar.
    pub(super) fn plan_events(&mut self) {
        for (index, event) in self.cast.events.iter().enumerate() {
            let at = self.cast.after(event.at.0);
            self.at(at, Due::Event(index, MAIN));
            if let Some(hint) = event.hint {
                self.at(at - hint.0, Due::Event(index, HINT));
            }
            if let Some(lasts) = event.lasts {
                self.at(at + lasts.0, Due::Event(index, OVER));
            }
        }
    }

    pub(super) fn befall(&mut self, index: usize, stage: u8) {
        let event = &self.cast.events[index];
        let until = self.now + event.lasts.map_or(Duration::ZERO, |span| span.0);
        match (event.kind, stage) {
            (EventKind::SpotReclaim, HINT) => self.hint(event, index),
            (EventKind::SpotReclaim, _) => self.reclaim(event, index),
            (EventKind::ZoneOutage, MAIN) => self.outage(event, until),
            (EventKind::StockOut, MAIN) => {
                let zone = event.zone.as_ref().and_then(|name| self.zone(name));
                if let Some(pool) = self.pool(event) {
                    self.pools[pool].stock_outs.push((until, zone));
                }
            }
            (EventKind::Drain, MAIN) => self.drain_some(event, index),
            (EventKind::NodeFailure, MAIN) => {
                for node in self.hit(event, index) {
                    self.close(node);
                    self.after(UNNOTICED_S, Due::Vanish(node));
                }
            }
            (EventKind::Announce, MAIN) => self.announce(event, event.count.unwrap_or(0)),
            (EventKind::Announce, OVER) => self.announce(event, 0),
            (EventKind::Buffer, MAIN) => self.buffer(event, event.count.unwrap_or(0)),
            (EventKind::Buffer, OVER) => self.buffer(event, 0),
            (EventKind::Scale, MAIN) => {
                if let (Some(work), Some(replicas)) = (self.work(event), event.replicas) {
                    self.works[work].replicas = replicas;
                    self.soon(work);
                }
            }
            _ => {}
        }
    }

    fn pool(&self, event: &Event) -> Option<PoolId> {
        let name = event.pool.as_ref()?;
        self.cast.pools.iter().position(|pool| pool.name == *name)
    }

    fn zone(&self, name: &str) -> Option<usize> {
        self.cast.zones.iter().position(|zone| zone == name)
    }

    fn work(&self, event: &Event) -> Option<WorkId> {
        let text = event.workload.as_ref()?;
        self.cast
            .works
            .iter()
            .position(|work| work.reference.to_string() == *text)
    }

    /// The nodes that an event takes: the same for its hint and its notice.
    fn hit(&mut self, event: &Event, index: usize) -> Vec<NodeId> {
        let Some(pool) = self.pool(event) else {
            return Vec::new();
        };
        let zone = event.zone.as_ref().and_then(|name| self.zone(name));
        let nodes = self.pools[pool].nodes.iter().copied();
        let nodes: Vec<NodeId> = nodes
            .filter(|node| zone.is_none_or(|zone| self.nodes[*node].zone == zone))
            .collect();
        let count = match (event.count, event.share) {
            (Some(count), _) => count as usize,
            (None, share) => (nodes.len() as f64 * share.unwrap_or(1.0)).round() as usize,
        };
        // By name and event, not by a stream: a node that joins meanwhile changes nothing for others.
        let key = |node: &NodeId| {
            let name = format!("{index} {}", self.nodes[*node].name);
            let mut own = Random::new(self.cast.seed, &name);
            ((own.unit() * 1e9) as u64, *node)
        };
        let mut keyed: Vec<(u64, NodeId)> = nodes.iter().map(key).collect();
        keyed.sort_unstable();
        keyed.truncate(count);
        keyed.into_iter().map(|(_, node)| node).collect()
    }

    fn hint(&mut self, event: &Event, index: usize) {
        for node in self.hit(event, index) {
            self.interrupt(node, "SpotRebalanceRecommendation", None);
        }
    }

    /// A notice to many nodes within seconds; each is drained at once and gone when the notice ends.
    fn reclaim(&mut self, event: &Event, index: usize) {
        let notice = event.notice.map_or(Duration::from_mins(2), |span| span.0);
        for node in self.hit(event, index) {
            let deadline = self.now + notice;
            self.interrupt(node, "SpotInterrupted", Some(deadline));
            self.drain(node, Some(deadline));
            let pool = self.nodes[node].pool;
            self.say_target(pool);
        }
    }

    fn outage(&mut self, event: &Event, until: Timestamp) {
        let Some(zone) = event.zone.as_ref().and_then(|name| self.zone(name)) else {
            return;
        };
        self.dead_zones.insert(zone, until);
        let lost = |node: &NodeId| self.nodes[*node].zone == zone;
        let nodes = self
            .pools
            .iter()
            .flat_map(|pool| pool.nodes.iter().copied());
        let nodes: Vec<NodeId> = nodes.filter(lost).collect();
        for node in nodes {
            self.close(node);
            // The node controller works through them: some seconds pass between the first and the last.
            let spread = 10.0 * self.draws.fate.unit();
            self.after(UNNOTICED_S + spread, Due::Vanish(node));
        }
    }

    fn drain_some(&mut self, event: &Event, index: usize) {
        // One now; the others by the same event again, each a step later.
        let hit = self.hit(event, index);
        for (step, node) in hit.into_iter().enumerate() {
            let at = self.now + Duration::from_secs_f64(DRAIN_STEP_S * step as f64);
            self.at(at, Due::Drain(node));
        }
    }

    /// A drain reaches a node.
    pub(super) fn drain_now(&mut self, node: NodeId) {
        if !self.nodes[node].closed && !self.nodes[node].gone {
            self.interrupt(node, "node.kubernetes.io/unschedulable", None);
            self.drain(node, None);
            let pool = self.nodes[node].pool;
            self.say_target(pool);
        }
    }

    fn announce(&mut self, event: &Event, count: u32) {
        let wanted = event.ahead.map(|span| self.cast.after(event.at.0) + span.0);
        self.say_capacity(event, count, "Announcement", wanted);
    }

    fn buffer(&mut self, event: &Event, count: u32) {
        if let Some(work) = self.work(event) {
            let class = self.class_of(work);
            self.buffers.retain(|buffer| buffer.class != class);
            if count > 0 {
                self.buffers.push(Buffer { class, count });
            }
        }
        self.say_capacity(event, count, "CapacityBuffer", None);
    }

    fn say_capacity(&mut self, event: &Event, count: u32, kind: &str, at: Option<Timestamp>) {
        let work = self.work(event);
        let reference = work.map(|work| self.cast.works[work].reference.clone());
        let namespace = reference.as_ref().map_or("default", |work| &work.namespace);
        let subject = format!(
            "{namespace}/{}",
            event.name.as_deref().unwrap_or("capacity")
        );
        let name = format!("{kind}/{subject}");
        let source = match event.kind {
            EventKind::Buffer => "/kubernetes/capacitybuffers",
            _ => "/kafka/announcements",
        };
        let fact = Fact::CapacityAnnounced(Capacity {
            name: name.clone(),
            count,
            needs: work.map(|work| self.cast.classes[self.class_of(work)].needs.clone()),
            workload: reference,
            at,
            pool: event.pool.clone(),
        });
        let uid = self.draws.names.uid();
        let what = format!("announced:{name}");
        let note = object(source, &uid, &what, &subject);
        let stamp = if event.kind == EventKind::Buffer {
            Stamp::Second
        } else {
            Stamp::Event
        };
        self.tape.note(self.now, &Note { stamp, ..note }, fact);
    }
}
