//! What really happened in a scenario, as compact numbers that every run shares.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF as _, Normal};

use crate::domain::image::{Digest, ImageManifest, ImageRef, Platform};
use crate::domain::quantity::Bandwidth;
use crate::domain::scenario::{Header, PoolWorld};
use crate::domain::signal::{Fact, NodeJoined, PodBound, Signal};
use crate::domain::time::Timestamp;

/// Kubernetes stamps objects with whole seconds: within this, the watcher's own clock says better
/// when something happened than the object does.
const STAMP_STEP_S: f64 = 1.0;

/// A scenario that cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// No rates for a pool.
    #[error(
        "scenario {scenario}: the header has no rates for pool `{pool}` of node `{node}`: name it under \
         `pools`, or give an entry `*`"
    )]
    NoPool {
        /// scenario
        scenario: String,
        /// pool
        pool: String,
        /// first node of it
        node: String,
    },
}

/// Index into [`Facts::layers`].
pub type LayerId = u32;
/// Index into [`Facts::images`].
pub type ImageId = u32;
/// Index into [`Facts::nodes`].
pub type NodeId = usize;
/// Index into [`Facts::pods`].
pub type PodId = usize;

/// The hidden truth of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Images and layers; shared by the worlds that are made of this one.
    pub catalogue: Arc<Catalogue>,
    /// Nodes in the order in which they were first heard of.
    pub nodes: Vec<NodeFact>,
    /// Pods in the order of binding.
    pub pods: Vec<PodFact>,
    /// Nodes by name, in the order of joining: a name may come back.
    pub by_name: HashMap<String, Vec<NodeId>>,
    /// First instant of the recording.
    pub start: Timestamp,
    /// Last instant of the recording.
    pub end: Timestamp,
}

/// Images that nodes of the scenario can run.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Layer blobs: digest, bytes.
    pub layers: Vec<(Digest, f64)>,
    /// One per reference and platform.
    pub images: Vec<ImageFact>,
    /// Any image with this manifest.
    pub by_manifest: HashMap<Digest, ImageId>,
    /// Layer by digest.
    pub by_layer: HashMap<Digest, LayerId>,
    /// Every platform's image of one name, in the order of the header.
    pub by_name: HashMap<ImageRef, Vec<ImageId>>,
}

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct ImageFact {
    /// As pods name it.
    pub name: ImageRef,
    /// As the registry has it.
    pub manifest: ImageManifest,
    /// Its layers, each once, base first.
    pub layers: Vec<LayerId>,
    /// The first image with this manifest, under whatever name: plans name manifests.
    pub same: ImageId,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeFact {
    /// Name of the Node object.
    pub name: String,
    /// Pool.
    pub pool: String,
    /// Architecture, where its labels tell it.
    pub arch: Option<String>,
    /// Rates; its `agent_start_s` is the one that was drawn for this node.
    pub world: PoolWorld,
    /// The Node object exists.
    pub joined: Timestamp,
    /// It takes pods.
    pub ready: Option<Timestamp>,
    /// It is gone.
    pub removed: Option<Timestamp>,
    /// Whether it joined after the start: only those are scored.
    pub new: bool,
    /// Layers that it had when it was first seen.
    pub holds: BTreeSet<LayerId>,
    /// Pods bound to it, in order.
    pub pods: Vec<PodId>,
}

/// One pod that was bound.
#[derive(Clone, Debug)]
pub struct PodFact {
    /// `namespace/name`
    pub name: String,
    /// The API server's uid.
    pub uid: String,
    /// Its node.
    pub node: NodeId,
    /// When it was first heard of: its object, or its binding.
    pub made: Timestamp,
    /// Whether a DaemonSet owns it.
    pub of_daemonset: bool,
    /// When it was bound.
    pub bound: Timestamp,
    /// Images in the order of need; `None` when one of them exists for no platform of the node.
    pub images: Option<Vec<ImageId>>,
    /// Whether it started in the recording.
    pub started: bool,
    /// Seconds from its last image, by the recording's own pulls, to its start; `None` where the
    /// recording tells of no pull, or no start.
    pub app_start_s: Option<f64>,
    /// When it was deleted.
    pub removed: Option<Timestamp>,
    /// Bound before the scenario starts: its images are there already.
    pub resident: bool,
}

// === impl Facts ===

impl Facts {
    /// Reads the truth out of a whole scenario.
    pub fn gather(header: &Header, signals: &[Signal]) -> Result<Self, FactsError> {
        let mut gathering = Gathering {
            header,
            facts: Self {
                start: header.start,
                end: header.end,
                ..Self::default()
            },
            catalogue: Catalogue::default(),
            pod_by_uid: HashMap::new(),
            made: HashMap::new(),
            started: BTreeMap::new(),
            image_by_name: HashMap::new(),
            uids: Vec::new(),
        };
        for signal in signals {
            gathering.take(signal)?;
        }
        gathering.complete_catalogue();
        gathering.app_starts(signals);
        let mut facts = gathering.facts;
        facts.catalogue = Arc::new(gathering.catalogue);
        for (id, pod) in facts.pods.iter().enumerate() {
            facts.nodes[pod.node].pods.push(id);
        }
        Ok(facts)
    }

    /// The same truth with every node's link scaled.
    #[must_use]
    pub fn with_links_scaled(&self, factor: f64) -> Self {
        let mut scaled = self.clone();
        for node in &mut scaled.nodes {
            node.world.link = Bandwidth(node.world.link.0 * factor);
        }
        scaled
    }

    /// The world of one node alone, as number 0; its pods in the same order.
    #[must_use]
    pub fn only(&self, node: NodeId) -> Self {
        let mut alone = self.nodes[node].clone();
        let pods = alone.pods.iter().map(|pod| PodFact {
            node: 0,
            ..self.pods[*pod].clone()
        });
        let pods: Vec<PodFact> = pods.collect();
        alone.pods = (0..pods.len()).collect();
        Self {
            catalogue: self.catalogue.clone(),
            by_name: [(alone.name.clone(), vec![0])].into(),
            nodes: vec![alone],
            pods,
            start: self.start,
            end: self.end,
        }
    }

    /// Whether a pod's image wait counts: its node joined during the recording, and it started.
    #[must_use]
    pub fn is_scored(&self, pod: PodId) -> bool {
        let pod = &self.pods[pod];
        pod.started && pod.images.is_some() && self.nodes[pod.node].new
    }

    /// From when a pod can wait for its images: bound, and its node Ready.
    #[must_use]
    pub fn waits_from(&self, pod: PodId) -> Timestamp {
        let pod = &self.pods[pod];
        let ready = self.nodes[pod.node].ready.unwrap_or(pod.bound);
        pod.bound.max(ready)
    }

    /// Digest of a layer.
    #[must_use]
    pub fn digest(&self, layer: LayerId) -> &Digest {
        &self.catalogue.layers[layer as usize].0
    }

    /// An image.
    #[must_use]
    pub fn image(&self, image: ImageId) -> &ImageFact {
        &self.catalogue.images[image as usize]
    }

    /// Compressed bytes of a layer.
    #[must_use]
    pub fn bytes(&self, layer: LayerId) -> f64 {
        self.catalogue.layers[layer as usize].1
    }

    /// Layers of a pod's images, with repetitions.
    pub fn layers_of(&self, pod: PodId) -> impl Iterator<Item = LayerId> + '_ {
        let images = self.pods[pod].images.iter().flatten();
        images.flat_map(|image| self.image(*image).layers.iter().copied())
    }
}

struct Gathering<'a> {
    header: &'a Header,
    facts: Facts,
    catalogue: Catalogue,
    pod_by_uid: HashMap<String, PodId>,
    /// Pods that are not bound yet, by uid: when they were first heard of.
    made: HashMap<String, Timestamp>,
    started: BTreeMap<PodId, Timestamp>,
    image_by_name: HashMap<(ImageRef, Option<String>), Option<ImageId>>,
    /// The Node object's uid by node: a name may come back.
    uids: Vec<String>,
}

impl Gathering<'_> {
    fn take(&mut self, signal: &Signal) -> Result<(), FactsError> {
        let at = happened(signal);
        match &signal.fact {
            Fact::NodeJoined(joined) => self.joined(joined, at, signal.observedtime)?,
            Fact::NodeReady(named) => {
                if let Some(node) = self.node(&named.node) {
                    node.ready.get_or_insert(at);
                }
            }
            Fact::NodeRemoved(removed) => {
                if let Some(node) = removed.node.as_deref().and_then(|name| self.node(name)) {
                    node.removed.get_or_insert(at);
                }
            }
            Fact::PodPending(wanted) | Fact::PodGated(wanted) => {
                let made = self.made.entry(wanted.pod.uid.clone());
                made.or_insert(at);
            }
            Fact::PodBound(bound) => self.bound(bound, at, signal.observedtime),
            Fact::PodStarted(started) => {
                if let Some(&pod) = self.pod_by_uid.get(&started.pod.uid) {
                    self.facts.pods[pod].started = true;
                    self.started.entry(pod).or_insert(at);
                }
            }
            Fact::PodRemoved(gone) => {
                if let Some(&pod) = self.pod_by_uid.get(&gone.pod.uid) {
                    self.facts.pods[pod].removed.get_or_insert(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn node(&mut self, name: &str) -> Option<&mut NodeFact> {
        let id = *self.facts.by_name.get(name)?.last()?;
        self.facts.nodes.get_mut(id)
    }

    fn joined(
        &mut self,
        joined: &NodeJoined,
        at: Timestamp,
        seen: Timestamp,
    ) -> Result<(), FactsError> {
        let known = self.facts.by_name.get(&joined.node);
        let known = known.and_then(|nodes| nodes.last());
        if known.is_some_and(|id| self.uids[*id] == joined.uid) {
            return Ok(());
        }
        let world = self.header.pool(&joined.pool).cloned();
        let mut world = world.ok_or_else(|| FactsError::NoPool {
            scenario: self.header.name.clone(),
            pool: joined.pool.clone(),
            node: joined.node.clone(),
        })?;
        world.agent_start_s = drawn(world.agent_start_s, world.agent_start_sigma, &joined.uid);
        let id = self.facts.nodes.len();
        self.uids.push(joined.uid.clone());
        let named = self.facts.by_name.entry(joined.node.clone());
        named.or_default().push(id);
        self.facts.nodes.push(NodeFact {
            name: joined.node.clone(),
            pool: joined.pool.clone(),
            arch: joined.shape.label("kubernetes.io/arch").map(str::to_owned),
            world,
            joined: at,
            ready: None,
            removed: None,
            new: seen > self.header.start,
            holds: BTreeSet::new(),
            pods: Vec::new(),
        });
        for image in &joined.images {
            if let Some(image) = self.image(image, id) {
                self.hold(id, image);
            }
        }
        Ok(())
    }

    fn bound(&mut self, bound: &PodBound, at: Timestamp, seen: Timestamp) {
        let nodes = self.facts.by_name.get(&bound.node);
        let Some(&node) = nodes.and_then(|nodes| nodes.last()) else {
            return;
        };
        if self.pod_by_uid.contains_key(&bound.pod.uid) {
            return;
        }
        let uses = bound.needs.images.iter();
        let images: Option<Vec<ImageId>> =
            uses.map(|needed| self.image(&needed.image, node)).collect();
        let resident = seen <= self.header.start;
        if resident {
            for image in images.iter().flatten() {
                self.hold(node, *image);
            }
        }
        self.pod_by_uid
            .insert(bound.pod.uid.clone(), self.facts.pods.len());
        self.facts.pods.push(PodFact {
            name: bound.pod.name.clone(),
            uid: bound.pod.uid.clone(),
            node,
            made: self
                .made
                .remove(&bound.pod.uid)
                .map_or(at, |made| made.min(at)),
            of_daemonset: bound.owner.as_ref().is_some_and(|o| o.kind == "DaemonSet"),
            bound: at,
            images,
            started: false,
            app_start_s: None,
            removed: None,
            resident,
        });
    }

    fn hold(&mut self, node: NodeId, image: ImageId) {
        let layers = &self.catalogue.images[image as usize].layers;
        self.facts.nodes[node].holds.extend(layers);
    }

    /// What a reference means on a node; an unknown architecture runs what there is.
    fn image(&mut self, name: &ImageRef, node: NodeId) -> Option<ImageId> {
        let key = (name.clone(), self.facts.nodes[node].arch.clone());
        if let Some(known) = self.image_by_name.get(&key) {
            return *known;
        }
        let manifests = self.header.images.get(name).map_or(&[][..], Vec::as_slice);
        let wanted = key.1.as_deref().map(Platform::linux);
        let manifest = manifests
            .iter()
            .find(|m| wanted.as_ref().is_none_or(|wanted| m.platform == *wanted));
        let id = manifest.map(|manifest| self.catalogue.image(name, manifest));
        self.image_by_name.insert(key, id);
        id
    }

    fn app_starts(&mut self, signals: &[Signal]) {
        let last_pull = last_pulls(signals);
        if last_pull.is_empty() {
            return;
        }
        for (&pod, &at) in &self.started {
            let pulled = last_pull.get(self.facts.pods[pod].uid.as_str());
            let from = self.facts.waits_from(pod);
            let from = pulled.map_or(from, |pulled| from.max(*pulled));
            self.facts.pods[pod].app_start_s = Some(at.secs_since(from).max(0.0));
        }
    }

    /// Adds what no pod of the recording ran: an operator's list may name it.
    fn complete_catalogue(&mut self) {
        for (name, manifests) in &self.header.images {
            for manifest in manifests {
                self.catalogue.image(name, manifest);
            }
        }
    }
}

/// What everybody knows of a delay whose median is `median_s`: the same node, the same delay, under
/// every policy. The node's uid takes the place of a random number.
fn drawn(median_s: f64, sigma: f64, uid: &str) -> f64 {
    if sigma <= 0.0 {
        return median_s;
    }
    // FNV-1a is stable over versions of the standard library, ChaCha8 mixes its poor low bits.
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = uid.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let share: f64 = ChaCha8Rng::seed_from_u64(seed).random();
    // The ends are open: a share of 0 or 1 would be an endless delay.
    let z = Normal::standard().inverse_cdf(share.clamp(1e-9, 1.0 - 1e-9));
    median_s * (sigma * z).exp()
}

impl Catalogue {
    /// The image of this name that a node can run.
    #[must_use]
    pub fn variant(&self, name: &ImageRef, arch: Option<&str>) -> Option<ImageId> {
        let wanted = arch.map(Platform::linux);
        let images = self.by_name.get(name)?;
        let fits = |image: &&ImageId| {
            let platform = &self.images[**image as usize].manifest.platform;
            wanted.as_ref().is_none_or(|wanted| platform == wanted)
        };
        images.iter().find(fits).copied()
    }

    /// The image, added where it is not known yet.
    fn image(&mut self, name: &ImageRef, manifest: &ImageManifest) -> ImageId {
        let known = self.by_name.get(name).into_iter().flatten();
        let platform =
            |image: &&ImageId| self.images[**image as usize].manifest.platform == manifest.platform;
        if let Some(&image) = known.clone().find(platform) {
            return image;
        }
        let image = self.add_image(name, manifest);
        self.by_name.entry(name.clone()).or_default().push(image);
        image
    }

    fn add_image(&mut self, name: &ImageRef, manifest: &ImageManifest) -> ImageId {
        let Self {
            layers, by_layer, ..
        } = self;
        let mut own = Vec::new();
        for layer in &manifest.layers {
            let id = *by_layer.entry(layer.digest.clone()).or_insert_with(|| {
                layers.push((layer.digest.clone(), layer.size.0 as f64));
                layers.len() as LayerId - 1
            });
            if !own.contains(&id) {
                own.push(id);
            }
        }
        let id = self.images.len() as ImageId;
        let digest = manifest.digest.clone();
        let same = *self.by_manifest.entry(digest).or_insert(id);
        self.images.push(ImageFact {
            name: name.clone(),
            manifest: manifest.clone(),
            layers: own,
            same,
        });
        id
    }
}

/// When a signal's fact came about: the watcher's clock where the object's stamp is only rounded, the
/// stamp where the watcher was late.
#[must_use]
pub fn happened(signal: &Signal) -> Timestamp {
    let late = signal.observedtime.secs_since(signal.time);
    if (0.0..=STAMP_STEP_S).contains(&late) {
        signal.observedtime
    } else {
        signal.time
    }
}

/// How long pods on new nodes waited for their images in the recording itself, in seconds: from bound
/// and Ready to the end of the last pull that moved something. `None` when it tells of no pull.
///
/// A pod of which no pull was told had everything: it waited for nothing.
#[must_use]
pub fn recorded_wait(facts: &Facts, signals: &[Signal]) -> Option<f64> {
    let last_pull = last_pulls(signals);
    if last_pull.is_empty() {
        return None;
    }
    let scored = (0..facts.pods.len()).filter(|pod| facts.is_scored(*pod));
    let waits = scored.filter_map(|pod| {
        let at = last_pull.get(facts.pods[pod].uid.as_str())?;
        Some(at.secs_since(facts.waits_from(pod)).max(0.0))
    });
    Some(waits.sum())
}

/// By the pod's uid: when its last pull that moved something ended.
fn last_pulls(signals: &[Signal]) -> HashMap<&str, Timestamp> {
    let mut last_pull: HashMap<&str, Timestamp> = HashMap::new();
    for signal in signals {
        if let Fact::ImagePulled(pulled) = &signal.fact
            && !pulled.present
        {
            let at = last_pull.entry(&pulled.pod.uid).or_insert(Timestamp::ZERO);
            *at = happened(signal).max(*at);
        }
    }
    last_pull
}
