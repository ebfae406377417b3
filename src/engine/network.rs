//! Bytes that flow over shared links, max-min fair, as a fluid.
//!
//! A node's flows share its link; all nodes' flows share the cache's uplink; blobs that the cache
//! does not have yet share the origin. A reader of a blob that is still arriving at the cache cannot
//! be ahead of it. Max-min fairness (Bertsekas, Gallager, Data Networks, 6.5.2) is what many TCP
//! flows of equal round-trip time come near to.

mod share;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::time::Timestamp;
use crate::engine::network::share::{Demand, level_for, water_fill};

/// A reader this close behind an arriving blob moves at the blob's own rate: a microsecond, the
/// clock's step, at 4 GB/s.
const TIED: f64 = 4096.0;

/// Bytes per second that stand for "no limit": finite, so that shares of it are numbers.
const NO_LIMIT: f64 = 1e15;

/// Layers of one image that a container runtime transfers at once: containerd's
/// `max_concurrent_downloads`.
pub const DOWNLOADS: usize = 3;

/// Index of a node's link.
pub type LinkId = usize;
/// Index of a blob.
pub type BlobId = u32;

/// One transfer to a node.
#[derive(Clone, Copy, Debug)]
pub struct FlowSpec {
    /// Over which link.
    pub link: LinkId,
    /// What; at most one flow per link and blob.
    pub blob: BlobId,
    /// Bytes of the whole blob.
    pub size: f64,
    /// Bytes that are there already.
    pub from: f64,
    /// Bytes per second that the receiver can take at most.
    pub cap: f64,
}

/// Something that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The blob is whole at the cache.
    Upstream(BlobId),
    /// The blob is whole at the node.
    Flow(LinkId, BlobId),
}

/// All links and what flows over them.
#[derive(Debug)]
pub struct Network {
    links: Vec<Link>,
    uplink: f64,
    /// Whether the uplink is what limits some flow now.
    congested: bool,
    /// Sum of what links would take, were the uplink endless.
    wished: f64,
    origin: Origin,
    dirty: BTreeSet<LinkId>,
    /// Links with flows.
    busy: BTreeSet<LinkId>,
    due: BTreeSet<(Timestamp, LinkId)>,
}

#[derive(Debug)]
struct Link {
    capacity: f64,
    flows: Vec<Flow>,
    /// Instant of every flow's `at`.
    since: Timestamp,
    wished: f64,
    due: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Flow {
    blob: BlobId,
    size: f64,
    at: f64,
    cap: f64,
    rate: f64,
}

#[derive(Debug)]
struct Origin {
    capacity: f64,
    blobs: BTreeMap<BlobId, Arriving>,
    since: Timestamp,
    rate: f64,
}

#[derive(Debug)]
struct Arriving {
    size: f64,
    at: f64,
    readers: BTreeSet<LinkId>,
}

// === impl Network ===

impl Network {
    /// Links of the given capacities behind one uplink and one origin, in bytes per second; zero or
    /// less means no limit.
    #[must_use]
    pub fn new(links: impl IntoIterator<Item = f64>, uplink: f64, origin: f64) -> Self {
        Self {
            links: links.into_iter().map(Link::new).collect(),
            uplink: limit(uplink),
            congested: false,
            wished: 0.0,
            origin: Origin {
                capacity: limit(origin),
                blobs: BTreeMap::new(),
                since: Timestamp::ZERO,
                rate: 0.0,
            },
            dirty: BTreeSet::new(),
            busy: BTreeSet::new(),
            due: BTreeSet::new(),
        }
    }

    /// One link more, of so many bytes per second; its index is the next one.
    pub fn add_link(&mut self, capacity: f64) {
        self.links.push(Link::new(capacity));
    }

    /// Starts a transfer to a node, out of the cache.
    pub fn start(&mut self, spec: FlowSpec, now: Timestamp) {
        self.settle(spec.link, now);
        if let Some(arriving) = self.origin.blobs.get_mut(&spec.blob) {
            arriving.readers.insert(spec.link);
        }
        self.links[spec.link].flows.push(Flow {
            blob: spec.blob,
            size: spec.size,
            at: spec.from,
            cap: limit(spec.cap),
            rate: 0.0,
        });
        self.dirty.insert(spec.link);
    }

    /// Stops a transfer to a node; bytes of the blob that are there.
    pub fn stop(&mut self, link: LinkId, blob: BlobId, now: Timestamp) -> Option<f64> {
        self.settle(link, now);
        let flows = &mut self.links[link].flows;
        let at = flows.iter().position(|flow| flow.blob == blob)?;
        let flow = flows.remove(at);
        if let Some(arriving) = self.origin.blobs.get_mut(&blob) {
            arriving.readers.remove(&link);
        }
        self.dirty.insert(link);
        Some(flow.at)
    }

    /// Starts a transfer from the origin to the cache.
    pub fn start_upstream(&mut self, blob: BlobId, size: f64, now: Timestamp) {
        self.settle_origin(now);
        let arriving = Arriving {
            size,
            at: 0.0,
            readers: BTreeSet::new(),
        };
        self.origin.blobs.insert(blob, arriving);
        self.share_origin();
    }

    /// When something comes to its end, or a rate changes by itself. Shares rates first where flows
    /// came or went.
    pub fn next_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.share(now);
        let link = self.due.first().map(|(at, _)| *at);
        link.into_iter().chain(self.origin_due()).min()
    }

    /// What came to its end until `now`, blobs at the cache first.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Done> {
        self.share(now);
        let mut done = Vec::new();
        if self.origin_due().is_some_and(|due| due <= now) {
            self.settle_origin(now);
            let whole = |arriving: &Arriving| arriving.at > arriving.size - 0.5;
            let blobs: Vec<BlobId> = self
                .origin
                .blobs
                .iter()
                .filter(|(_, arriving)| whole(arriving))
                .map(|(blob, _)| *blob)
                .collect();
            for blob in blobs {
                if let Some(arriving) = self.origin.blobs.remove(&blob) {
                    for link in arriving.readers {
                        // Before the blob leaves the table its last position bounds the readers.
                        self.dirty.insert(link);
                    }
                }
                done.push(Done::Upstream(blob));
            }
            self.share_origin();
        }
        while let Some(&(at, link)) = self.due.first() {
            if at > now {
                break;
            }
            self.settle(link, now);
            self.due.pop_first();
            self.links[link].due = None;
            self.dirty.insert(link);
            self.links[link].flows.retain(|flow| {
                let whole = flow.at > flow.size - 0.5;
                if whole {
                    done.push(Done::Flow(link, flow.blob));
                }
                !whole
            });
        }
        done
    }

    /// Rates of a link's flows now, by blob.
    pub fn rates(&mut self, link: LinkId, now: Timestamp) -> Vec<(BlobId, f64)> {
        self.share(now);
        let flows = &self.links[link].flows;
        flows.iter().map(|flow| (flow.blob, flow.rate)).collect()
    }

    fn origin_due(&self) -> Option<Timestamp> {
        let left = |arriving: &Arriving| arriving.size - arriving.at;
        let least = self.origin.blobs.values().map(left).reduce(f64::min)?;
        Some(later(self.origin.since, least, self.origin.rate))
    }

    fn settle_origin(&mut self, now: Timestamp) {
        let secs = now.secs_since(self.origin.since);
        for arriving in self.origin.blobs.values_mut() {
            arriving.at = (arriving.at + self.origin.rate * secs).min(arriving.size);
        }
        self.origin.since = now;
    }

    fn share_origin(&mut self) {
        let count = self.origin.blobs.len().max(1);
        self.origin.rate = self.origin.capacity / count as f64;
        for arriving in self.origin.blobs.values() {
            self.dirty.extend(&arriving.readers);
        }
    }

    /// Moves a link's flows to `now`.
    fn settle(&mut self, link: LinkId, now: Timestamp) {
        let Self { links, origin, .. } = self;
        let link = &mut links[link];
        let secs = now.secs_since(link.since);
        for flow in &mut link.flows {
            let bound = origin.position(flow.blob, now).unwrap_or(flow.size);
            flow.at = (flow.at + flow.rate * secs).min(bound.max(flow.at));
        }
        link.since = now;
    }

    /// Gives every flow its rate.
    fn share(&mut self, now: Timestamp) {
        if self.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        for &link in &dirty {
            if self.links[link].flows.is_empty() {
                self.busy.remove(&link);
            } else {
                self.busy.insert(link);
            }
            self.settle(link, now);
            let caps = self.caps(link, NO_LIMIT, now);
            let rates = water_fill(&caps, self.links[link].capacity);
            self.wished -= self.links[link].wished;
            self.links[link].wished = rates.iter().sum();
            self.wished += self.links[link].wished;
            self.set_rates(link, &rates, now);
        }
        let congested = self.wished > self.uplink * (1.0 + 1e-9);
        if congested || self.congested {
            self.share_uplink(now);
        }
        self.congested = congested;
    }

    /// One level for all flows so that the uplink is just full.
    fn share_uplink(&mut self, now: Timestamp) {
        let busy: Vec<LinkId> = self.busy.iter().copied().collect();
        for &link in &busy {
            self.settle(link, now);
        }
        let demands = busy.iter().map(|&link| Demand {
            caps: self.caps(link, NO_LIMIT, now),
            capacity: self.links[link].capacity,
        });
        let demands: Vec<Demand> = demands.collect();
        let level = level_for(self.uplink, &demands);
        for (&link, demand) in busy.iter().zip(&demands) {
            let caps: Vec<f64> = demand.caps.iter().map(|cap| cap.min(level)).collect();
            let rates = water_fill(&caps, demand.capacity);
            self.set_rates(link, &rates, now);
        }
    }

    /// What each flow of a link could take at most, were it alone on it.
    fn caps(&self, link: LinkId, level: f64, now: Timestamp) -> Vec<f64> {
        let cap = |flow: &Flow| {
            let behind = self.origin.position(flow.blob, now).map(|at| at - flow.at);
            let tied = behind.is_some_and(|gap| gap <= TIED);
            let arrival = if tied { self.origin.rate } else { NO_LIMIT };
            flow.cap.min(level).min(arrival)
        };
        self.links[link].flows.iter().map(cap).collect()
    }

    fn set_rates(&mut self, id: LinkId, rates: &[f64], now: Timestamp) {
        let Self { links, origin, .. } = self;
        let link = &mut links[id];
        let mut due: Option<Timestamp> = None;
        for (flow, &rate) in link.flows.iter_mut().zip(rates) {
            flow.rate = rate;
            let at = match origin.position(flow.blob, now) {
                None => Some(later(now, flow.size - flow.at, rate)),
                // It catches up with the blob's arrival before it can be whole.
                Some(position) if rate > origin.rate && position - flow.at > TIED => {
                    Some(later(now, position - flow.at, rate - origin.rate))
                }
                Some(_) => None,
            };
            due = due.into_iter().chain(at).min();
        }
        if let Some(old) = link.due.take() {
            self.due.remove(&(old, id));
        }
        link.due = due.filter(|at| *at < Timestamp::MAX);
        self.due.extend(link.due.map(|at| (at, id)));
    }
}

impl Link {
    fn new(capacity: f64) -> Self {
        Self {
            capacity: limit(capacity),
            flows: Vec::new(),
            since: Timestamp::ZERO,
            wished: 0.0,
            due: None,
        }
    }
}

impl Origin {
    /// How much of a blob that is arriving has arrived; `None` when it is whole.
    fn position(&self, blob: BlobId, now: Timestamp) -> Option<f64> {
        let arriving = self.blobs.get(&blob)?;
        let secs = now.secs_since(self.since);
        Some((arriving.at + self.rate * secs).min(arriving.size))
    }
}

fn limit(rate: f64) -> f64 {
    if rate > 0.0 {
        rate.min(NO_LIMIT)
    } else {
        NO_LIMIT
    }
}

/// The first whole microsecond at which `bytes` have moved.
fn later(from: Timestamp, bytes: f64, rate: f64) -> Timestamp {
    if bytes <= 0.0 {
        return from;
    }
    if rate <= 0.0 {
        return Timestamp::MAX;
    }
    let micros = (bytes / rate * 1e6).ceil();
    Timestamp::from_micros(from.as_micros().saturating_add(micros as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    fn spec(link: LinkId, blob: BlobId, size: f64, cap: f64) -> FlowSpec {
        FlowSpec {
            link,
            blob,
            size,
            from: 0.0,
            cap,
        }
    }

    /// When each flow ends, in seconds.
    fn ends(mut network: Network, from: Timestamp) -> Vec<(BlobId, f64)> {
        let mut now = from;
        let mut ends = Vec::new();
        while let Some(next) = network.next_at(now) {
            now = next;
            for done in network.advance(now) {
                if let Done::Flow(_, blob) = done {
                    ends.push((blob, now.as_secs_f64()));
                }
            }
        }
        ends
    }

    fn near(found: &[(BlobId, f64)], wanted: &[(BlobId, f64)]) {
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!(found.0, wanted.0);
            assert!((found.1 - wanted.1).abs() < 1e-4, "{found:?} {wanted:?}");
        }
    }

    #[test]
    fn two_flows_share_a_link_until_the_shorter_one_ends() {
        let mut network = Network::new([10.0], 0.0, 0.0);
        network.start(spec(0, 1, 50.0, 0.0), Timestamp::ZERO);
        network.start(spec(0, 2, 100.0, 0.0), Timestamp::ZERO);
        near(&ends(network, at(0.0)), &[(1, 10.0), (2, 15.0)]);
    }

    #[test]
    fn a_full_uplink_gives_every_flow_the_same_unless_its_own_link_gives_less() {
        let mut network = Network::new([100.0, 2.0], 12.0, 0.0);
        network.start(spec(0, 1, 100.0, 0.0), Timestamp::ZERO);
        network.start(spec(0, 2, 100.0, 0.0), Timestamp::ZERO);
        network.start(spec(1, 3, 100.0, 0.0), Timestamp::ZERO);
        let rates = network.rates(0, Timestamp::ZERO);
        for (_, rate) in rates {
            assert!((rate - 5.0).abs() < 1e-6, "{rate}");
        }
        assert_eq!(network.rates(1, Timestamp::ZERO), [(3, 2.0)]);
    }

    #[test]
    fn a_flow_that_stops_leaves_its_rate_to_the_others() {
        let mut network = Network::new([10.0], 0.0, 0.0);
        network.start(spec(0, 1, 100.0, 0.0), Timestamp::ZERO);
        network.start(spec(0, 2, 100.0, 0.0), Timestamp::ZERO);
        assert_eq!(network.next_at(Timestamp::ZERO), Some(at(20.0)));
        assert_eq!(network.stop(0, 1, at(10.0)), Some(50.0));
        near(&ends(network, at(10.0)), &[(2, 15.0)]);
    }

    #[test]
    fn a_late_reader_catches_up_with_an_arriving_blob_then_moves_at_its_rate() {
        // Sizes far above the tie, so that it does not show.
        let mega = 1e6;
        let mut network = Network::new([10.0 * mega, 10.0 * mega], 0.0, 2.0 * mega);
        network.start_upstream(1, 100.0 * mega, Timestamp::ZERO);
        network.start(spec(0, 1, 100.0 * mega, 0.0), Timestamp::ZERO);
        while network.next_at(at(0.0)).is_some_and(|next| next < at(20.0)) {
            network.advance(at(20.0));
        }
        network.start(spec(1, 1, 100.0 * mega, 0.0), at(20.0));
        let late = network.rates(1, at(20.0));
        assert_eq!(late, [(1, 10.0 * mega)]);
        // Behind by 40 MB, nearing at 8 MB/s: 5 s.
        assert_eq!(
            network.next_at(at(20.0)).map(|t| t.as_secs_f64().round()),
            Some(25.0)
        );
        let found = ends(network, at(20.0));
        assert!(
            found.iter().all(|(_, end)| (end - 50.0).abs() < 0.01),
            "{found:?}"
        );
    }

    proptest! {
        #[test]
        fn rates_are_max_min_fair(
            capacities in prop::collection::vec(1.0f64..100.0, 1..5),
            flows in prop::collection::vec((0usize..5, 0.5f64..60.0), 1..16),
            uplink in 1.0f64..200.0,
        ) {
            let mut network = Network::new(capacities.clone(), uplink, 0.0);
            let mut caps = BTreeMap::new();
            for (blob, (link, cap)) in flows.iter().enumerate() {
                let link = link % capacities.len();
                network.start(spec(link, blob as u32, 1e9, *cap), Timestamp::ZERO);
                caps.insert(blob as u32, *cap);
            }
            let rates: Vec<Vec<(BlobId, f64)>> = (0..capacities.len())
                .map(|link| network.rates(link, Timestamp::ZERO))
                .collect();
            let sum = |rates: &[(BlobId, f64)]| rates.iter().map(|(_, rate)| rate).sum::<f64>();
            let top = |rates: &[(BlobId, f64)]| rates.iter().map(|(_, r)| *r).fold(0.0, f64::max);
            let total: f64 = rates.iter().map(|rates| sum(rates)).sum();
            let highest = rates.iter().map(|rates| top(rates)).fold(0.0, f64::max);
            prop_assert!(total <= uplink * (1.0 + 1e-6));
            for (link, flows) in rates.iter().enumerate() {
                prop_assert!(sum(flows) <= capacities[link] * (1.0 + 1e-6));
                for (blob, rate) in flows {
                    // Every flow has a bottleneck: its own cap, or a full resource on which
                    // nobody has more.
                    let capped = *rate >= caps[blob] * (1.0 - 1e-6);
                    let by_link = sum(flows) >= capacities[link] * (1.0 - 1e-6)
                        && *rate >= top(flows) * (1.0 - 1e-6);
                    let by_uplink =
                        total >= uplink * (1.0 - 1e-6) && *rate >= highest * (1.0 - 1e-6);
                    prop_assert!(capped || by_link || by_uplink, "{blob} at {rate} has none");
                }
            }
        }
    }
}
