//! Bytes on their way to nodes: the replay's links and downloads, layer by layer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::compose::world::state::{NodeId, PodId};
use crate::domain::time::Timestamp;
use crate::engine::network::{BlobId, DOWNLOADS, Done, FlowSpec, Network};

/// All pulls under way. A pod waits for one pull at a time, so its number is the pull's.
pub(crate) struct Transfers {
    network: Network,
    pulls: BTreeMap<PodId, Pull>,
    /// Whose layer a flow is, by its number.
    flows: BTreeMap<BlobId, (PodId, usize)>,
    next: BlobId,
    /// The instant for which the world has a look on its calendar.
    due: Option<Timestamp>,
}

struct Pull {
    node: NodeId,
    /// Bytes and times are so many times the model's: pulls of one image differ.
    factor: f64,
    begun: Timestamp,
    layers: Vec<Layer>,
    /// Layers before this one are in transfer or there.
    started: usize,
    left: usize,
}

#[derive(Clone, Copy)]
struct Layer {
    bytes: f64,
    at: Timestamp,
}

/// A pull of which every byte is there.
pub(crate) struct Fetched {
    begun: Timestamp,
    layers: Vec<Layer>,
}

impl Transfers {
    /// Nothing under way; all nodes together get so many bytes per second.
    pub(crate) fn new(origin: f64) -> Self {
        Self {
            network: Network::new([], origin, 0.0),
            pulls: BTreeMap::new(),
            flows: BTreeMap::new(),
            next: 0,
            due: None,
        }
    }

    /// A node more, with its link in bytes per second; nodes are numbered in the order of their coming.
    pub(crate) fn node(&mut self, link: f64) {
        self.network.add_link(link);
    }

    /// A pull begins; what it needs is asked for later.
    pub(crate) fn begin(&mut self, node: NodeId, pod: PodId, factor: f64) {
        let pull = Pull {
            node,
            factor,
            begun: Timestamp::ZERO,
            layers: Vec::new(),
            started: 0,
            left: 0,
        };
        self.pulls.insert(pod, pull);
    }

    /// Layers of so many bytes are missing; true when there is none.
    pub(crate) fn fetch(&mut self, pod: PodId, bytes: Vec<f64>, now: Timestamp) -> bool {
        let Some(pull) = self.pulls.get_mut(&pod) else {
            return true;
        };
        let layer = |bytes: f64| Layer {
            bytes: bytes * pull.factor,
            at: now,
        };
        (pull.begun, pull.left) = (now, bytes.len());
        pull.layers = bytes.into_iter().map(layer).collect();
        if pull.left == 0 {
            self.pulls.remove(&pod);
            return true;
        }
        for _ in 0..DOWNLOADS {
            self.start_one(pod, now);
        }
        false
    }

    fn start_one(&mut self, pod: PodId, now: Timestamp) {
        let Some(pull) = self.pulls.get_mut(&pod) else {
            return;
        };
        let Some(layer) = pull.layers.get(pull.started) else {
            return;
        };
        let spec = FlowSpec {
            link: pull.node,
            blob: self.next,
            size: layer.bytes,
            from: 0.0,
            cap: 0.0,
        };
        self.flows.insert(self.next, (pod, pull.started));
        self.next = self.next.wrapping_add(1);
        pull.started += 1;
        self.network.start(spec, now);
    }

    /// When to look again, where the world does not know it yet.
    pub(crate) fn next_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let next = self.network.next_at(now);
        if next == self.due {
            return None;
        }
        self.due = next;
        next
    }

    /// Whether a look is due now: flows that came or went since have made older ones idle.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Pulls whose last byte has come by now, by node and pod.
    pub(crate) fn arrived(&mut self, now: Timestamp) -> Vec<(NodeId, PodId, Fetched)> {
        self.due = None;
        let mut whole = Vec::new();
        for done in self.network.advance(now) {
            let Done::Flow(_, blob) = done else { continue };
            let Some((pod, index)) = self.flows.remove(&blob) else {
                continue;
            };
            let Some(pull) = self.pulls.get_mut(&pod) else {
                continue;
            };
            pull.layers[index].at = now;
            pull.left -= 1;
            if pull.left > 0 {
                self.start_one(pod, now);
            } else if let Some(pull) = self.pulls.remove(&pod) {
                let (begun, layers) = (pull.begun, pull.layers);
                whole.push((pull.node, pod, Fetched { begun, layers }));
            }
        }
        whole
    }

    /// The node is gone, and what was on its way there.
    pub(crate) fn drop_node(&mut self, node: NodeId, now: Timestamp) {
        let gone = |(pod, pull): (&PodId, &Pull)| (pull.node == node).then_some(*pod);
        let gone: Vec<PodId> = self.pulls.iter().filter_map(gone).collect();
        for pod in gone {
            self.pulls.remove(&pod);
            let flows = self.flows.iter().filter(|(_, (of, _))| *of == pod);
            let flows: Vec<BlobId> = flows.map(|(blob, _)| *blob).collect();
            for blob in flows {
                self.flows.remove(&blob);
                self.network.stop(node, blob, now);
            }
        }
    }
}

impl Fetched {
    /// When everything is unpacked at so many bytes per second: in order, each layer after its last byte
    /// (docs/transfer-model.md).
    pub(crate) fn unpacked(&self, rate: f64) -> Timestamp {
        self.layers.iter().fold(self.begun, |done, layer| {
            done.max(layer.at) + Duration::from_secs_f64(layer.bytes / rate)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each pull has its last byte, and when it is unpacked at `rate`, in seconds to the millisecond.
    fn play(mut transfers: Transfers, rate: f64) -> Vec<(PodId, f64, f64)> {
        let milli = |at: Timestamp| (at.as_secs_f64() * 1e3).round() / 1e3;
        let mut now = Timestamp::ZERO;
        let mut found = Vec::new();
        while let Some(at) = transfers.next_at(now) {
            now = at;
            for (_, pod, fetched) in transfers.arrived(now) {
                found.push((pod, milli(now), milli(fetched.unpacked(rate))));
            }
        }
        found
    }

    #[test]
    fn a_pull_gets_more_of_the_origin_when_others_end() {
        let mut transfers = Transfers::new(10.0);
        for (node, bytes) in [(0, 50.0), (1, 100.0)] {
            transfers.node(10.0);
            transfers.begin(node, node, 1.0);
            assert!(!transfers.fetch(node, vec![bytes], Timestamp::ZERO));
        }
        // 5 each until the shorter one has its 50, then 10; unpacked at 50 a second.
        assert_eq!(play(transfers, 50.0), [(0, 10.0, 11.0), (1, 15.0, 17.0)]);
    }

    #[test]
    fn layers_are_unpacked_in_order_and_each_after_its_last_byte() {
        let mut transfers = Transfers::new(0.0);
        transfers.node(30.0);
        transfers.begin(0, 7, 2.0);
        // Twice as many bytes: 60, 20, 20, 20 at three a time. The second and the third come after 2 s at 10
        // each, the fourth with 15 after 10/3 s, the first after 4 s: then all are unpacked, 12 s.
        assert!(!transfers.fetch(7, vec![30.0, 10.0, 10.0, 10.0], Timestamp::ZERO));
        assert_eq!(play(transfers, 10.0), [(7, 4.0, 16.0)]);
    }

    #[test]
    fn nothing_missing_takes_no_time_and_a_node_that_goes_leaves_its_share() {
        let mut transfers = Transfers::new(10.0);
        for node in 0..3 {
            transfers.node(10.0);
            transfers.begin(node, node, 1.0);
        }
        assert!(transfers.fetch(0, Vec::new(), Timestamp::ZERO));
        transfers.fetch(1, vec![100.0], Timestamp::ZERO);
        transfers.fetch(2, vec![100.0; 5], Timestamp::ZERO);
        transfers.drop_node(2, Timestamp::ZERO);
        assert_eq!(play(transfers, 100.0), [(1, 10.0, 11.0)]);
    }
}
