//! Kubelets: a pod's images one after the other, pulls in the order of asking, garbage collection.

use std::collections::BTreeSet;

use crate::compose::images::{ImageId, LayerId};
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::state::{NodeId, PodId};
use crate::compose::world::words::{EVENTS, object};
use crate::compose::world::{Due, World};
use crate::domain::workload::ImageRole;
use crate::source::recording::UNPACKED_RATIO;

/// An init container runs so long before the next image is looked at (the recordings' median).
const INIT_S: f64 = 1.0;

/// Sigma of a log-normal factor on a pull: of eleven real images with at least 50 pulls of more than
/// 3 s on nodes of one kind, the median p95 is 1.13 times the p50 (kubelet-pulls): ln 1.13 / 1.645.
const PULL_SIGMA: f64 = 0.075;

impl World<'_> {
    /// The kubelet goes on with a pod's images.
    pub(super) fn look(&mut self, pod: PodId) {
        let (Some(node), false) = (self.pods[pod].node, self.pods[pod].ending) else {
            return;
        };
        let class = &self.cast.classes[self.pods[pod].class];
        while let Some(image) = class.images.get(self.pods[pod].image).copied() {
            if !self.nodes[node].images.contains_key(&image) {
                self.pods[pod].asked = self.now;
                self.nodes[node].pulls.push_back(pod);
                self.start_pulls(node);
                return;
            }
            let index = self.pods[pod].image;
            self.say_pull(pod, index, 0.0, 0.0);
            if self.image_done(pod, node) {
                return;
            }
        }
        if self.nodes[node].new {
            let wait = self.now.secs_since(self.pods[pod].waits_from).max(0.0);
            self.summary.image_wait_s += wait.round() as u64;
        }
        self.images_there(pod);
    }

    /// Counts an image as there; true when an init container has to run first.
    fn image_done(&mut self, pod: PodId, node: NodeId) -> bool {
        let index = self.pods[pod].image;
        let class = &self.cast.classes[self.pods[pod].class];
        self.nodes[node]
            .images
            .insert(class.images[index], self.now);
        self.pods[pod].image += 1;
        let init = class.needs.images[index].role == ImageRole::Init;
        if init {
            self.after(INIT_S, Due::Look(pod));
        }
        init
    }

    /// Begins pulls while there is a free place. A pull whose image somebody else's has brought meanwhile
    /// still asks the registry for its manifest: the kubelet looks before it queues, not after.
    fn start_pulls(&mut self, node: NodeId) {
        let pool = &self.cast.pools[self.nodes[node].pool].spec;
        while self.nodes[node].pulling < pool.pulls {
            let Some(pod) = self.nodes[node].pulls.pop_front() else {
                return;
            };
            self.pods[pod].began = self.now;
            self.nodes[node].pulling += 1;
            let factor = (PULL_SIGMA * self.draws.kubelet.normal()).exp();
            self.transfers.begin(node, pod, factor);
            let overhead = pool.pull_overhead.0.as_secs_f64() * factor;
            self.after(overhead, Due::Fetch(node, pod));
        }
    }

    /// The manifest is there: what is missing now is fetched.
    pub(super) fn fetch(&mut self, node: NodeId, pod: PodId) {
        let found = &self.nodes[node];
        if found.gone {
            return;
        }
        let arch = &self.cast.pools[found.pool].spec.arch;
        let image = self.cast.classes[self.pods[pod].class].images[self.pods[pod].image];
        let layers = self.cast.images.layers_of(image, arch).iter();
        let missing = layers.filter(|layer| !found.layers.contains(layer));
        let bytes = missing.map(|layer| self.cast.images.layers[*layer as usize] as f64);
        if self.transfers.fetch(pod, bytes.collect(), self.now) {
            self.after(0.0, Due::Pulled(node, pod));
        }
        self.await_flows();
    }

    /// Something has come to its end on some link.
    pub(super) fn flows(&mut self) {
        if !self.transfers.is_due(self.now) {
            return;
        }
        for (node, pod, fetched) in self.transfers.arrived(self.now) {
            let pool = &self.cast.pools[self.nodes[node].pool].spec;
            let done = fetched.unpacked(pool.unpack.0.0);
            self.at(done, Due::Pulled(node, pod));
        }
        self.await_flows();
    }

    /// Puts the next look at the links on the calendar.
    pub(super) fn await_flows(&mut self) {
        if let Some(at) = self.transfers.next_at(self.now) {
            self.at(at, Due::Flows);
        }
    }

    /// A pull is over.
    pub(super) fn pulled(&mut self, node: NodeId, pod: PodId) {
        if self.nodes[node].gone {
            return;
        }
        self.nodes[node].pulling -= 1;
        let image = self.cast.classes[self.pods[pod].class]
            .images
            .get(self.pods[pod].image);
        if let Some(image) = image.copied() {
            self.store(node, image);
            if !self.pods[pod].ending {
                let index = self.pods[pod].image;
                let pull_s = self.now.secs_since(self.pods[pod].began).max(1e-3);
                let waiting_s = self.now.secs_since(self.pods[pod].asked);
                if self.nodes[node].new {
                    self.summary.pulls_on_new_nodes += 1;
                }
                self.say_pull(pod, index, pull_s, waiting_s);
                if !self.image_done(pod, node) {
                    self.look(pod);
                }
            }
        }
        self.start_pulls(node);
    }

    fn say_pull(&mut self, pod: PodId, index: usize, pull_s: f64, waiting_s: f64) {
        if !self.tape.is_live() {
            return;
        }
        let Some(fact) = self.pull_fact(pod, index, pull_s, waiting_s) else {
            return;
        };
        let uid = self.draws.names.uid();
        let subject = &self.pods[pod].name;
        let note = object(EVENTS, &uid, "pulled", subject);
        let (stamp, truth) = (Stamp::Event, true);
        self.tape.note(
            self.now,
            &Note {
                stamp,
                truth,
                ..note
            },
            fact,
        );
    }

    /// An image is whole on a node; images that nobody uses go when the disk is full.
    fn store(&mut self, node: NodeId, image: ImageId) {
        let pool = &self.cast.pools[self.nodes[node].pool].spec;
        let layers = self.cast.images.layers_of(image, &pool.arch);
        let now = self.now;
        let found = &mut self.nodes[node];
        for layer in layers {
            if found.layers.insert(*layer) {
                found.bytes += self.cast.images.layers[*layer as usize];
            }
        }
        found.images.insert(image, now);
        let disk = pool.disk.0.0 as f64 / UNPACKED_RATIO;
        if found.bytes as f64 > disk * pool.gc_high {
            let low = (disk * pool.gc_low) as u64;
            self.collect_garbage(node, low);
        }
    }

    /// Removes unused images, the longest unused first, until so many compressed bytes are left.
    fn collect_garbage(&mut self, node: NodeId, low: u64) {
        let found = &self.nodes[node];
        let classes = found
            .pods
            .iter()
            .map(|pod| &self.cast.classes[self.pods[*pod].class]);
        let used: BTreeSet<ImageId> = classes
            .flat_map(|class| class.images.iter().copied())
            .collect();
        let mut unused: Vec<_> = found
            .images
            .iter()
            .filter(|(image, at)| !used.contains(image) && **at < self.now)
            .map(|(image, at)| (*at, *image))
            .collect();
        unused.sort_unstable();
        for (_, image) in unused {
            if self.nodes[node].bytes <= low {
                return;
            }
            self.drop_image(node, image);
        }
    }

    fn drop_image(&mut self, node: NodeId, image: ImageId) {
        let arch = &self.cast.pools[self.nodes[node].pool].spec.arch;
        let found = &mut self.nodes[node];
        found.images.remove(&image);
        let images = &self.cast.images;
        let kept = found
            .images
            .keys()
            .flat_map(|image| images.layers_of(*image, arch));
        let kept: BTreeSet<LayerId> = kept.copied().collect();
        found.layers = kept;
        found.bytes = found
            .layers
            .iter()
            .map(|layer| images.layers[*layer as usize])
            .sum();
    }
}
