//! What happened in one run of the demo, added up the way the replay adds up its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::outcome::PodOutcome;
use crate::domain::plan::Target;
use crate::domain::time::Timestamp;

/// One thing that happened, in the scenario's time.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A pool was asked to grow.
    Requested {
        /// pool
        pool: String,
        /// when Forelay could hear of it
        at: Timestamp,
    },
    /// A Node object appeared.
    Joined {
        /// node
        node: String,
        /// its pool
        pool: String,
        /// architecture, for its platform's manifests
        arch: String,
        /// whether it was there from the start (such nodes are not scored)
        old: bool,
        /// when
        at: Timestamp,
    },
    /// The node takes pods.
    Ready {
        /// node
        node: String,
        /// when
        at: Timestamp,
    },
    /// The node is gone.
    Removed {
        /// node
        node: String,
        /// when
        at: Timestamp,
    },
    /// A blob is whole on a node.
    Landed {
        /// node
        node: String,
        /// blob
        digest: Digest,
        /// bytes
        bytes: u64,
        /// the agent brought it, or else the kubelet
        ahead: bool,
        /// when
        at: Timestamp,
    },
    /// A pod that counts is bound to a node.
    PodBound {
        /// node
        node: String,
        /// what it will run
        images: Vec<ImageRef>,
    },
    /// A pod's images are all there.
    PodReady {
        /// pod, node, instants
        outcome: PodOutcome,
        /// what it runs
        images: Vec<ImageRef>,
    },
    /// A plan as published.
    Planned {
        /// for whom
        target: Target,
        /// what it names
        images: BTreeSet<ImageRef>,
        /// when
        at: Timestamp,
    },
}

/// The story of one node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeStory {
    /// Its pool.
    pub pool: String,
    /// Architecture.
    pub arch: String,
    /// Whether it joined during the recording.
    pub new: bool,
    /// The request that it probably answers: the pool's oldest one that no node had answered.
    pub requested: Option<Timestamp>,
    /// The Node object.
    pub joined: Timestamp,
    /// Ready.
    pub ready: Option<Timestamp>,
    /// Gone.
    pub removed: Option<Timestamp>,
    /// Blobs in the order of landing: when, bytes, whether the agent brought them.
    pub landed: Vec<Landed>,
    /// Pods in the order in which their images were complete.
    pub pods: Vec<PodOutcome>,
    /// Since when each image has been in a plan for it without a break.
    #[serde(skip)]
    planned: BTreeMap<ImageRef, Timestamp>,
    /// Used images: when each had entered the plan for good, if it was in it when a pod that runs it
    /// was bound for the first time.
    uses: BTreeMap<ImageRef, Option<Timestamp>>,
    #[serde(skip)]
    used: BTreeSet<Digest>,
}

/// One blob on one node.
#[derive(Clone, Debug, Serialize)]
pub struct Landed {
    /// When it was whole and verified.
    pub at: Timestamp,
    /// Bytes.
    pub bytes: u64,
    /// The agent brought it.
    pub ahead: bool,
    /// Which.
    pub digest: Digest,
}

/// One run's ledger.
#[derive(Debug)]
pub struct Ledger {
    catalogue: BTreeMap<ImageRef, Vec<ImageManifest>>,
    nodes: BTreeMap<String, NodeStory>,
    requests: BTreeMap<String, Vec<Timestamp>>,
    pool_plans: BTreeMap<String, BTreeMap<ImageRef, Timestamp>>,
}

impl Ledger {
    /// An empty ledger over the images that exist.
    #[must_use]
    pub fn new(catalogue: BTreeMap<ImageRef, Vec<ImageManifest>>) -> Self {
        Self {
            catalogue,
            nodes: BTreeMap::new(),
            requests: BTreeMap::new(),
            pool_plans: BTreeMap::new(),
        }
    }

    /// All nodes by name.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, NodeStory> {
        &self.nodes
    }

    /// Writes one thing down.
    pub fn note(&mut self, happening: Happening) {
        match happening {
            Happening::Requested { pool, at } => self.requests.entry(pool).or_default().push(at),
            Happening::Joined {
                node,
                pool,
                arch,
                old,
                at,
            } => {
                let requests = self.requests.entry(pool.clone()).or_default();
                let requested = (!old && !requests.is_empty()).then(|| requests.remove(0));
                let planned = self.pool_plans.get(&pool).cloned().unwrap_or_default();
                let node = self.node(node);
                (node.pool, node.arch, node.new) = (pool, arch, !old);
                (node.requested, node.joined, node.planned) = (requested, at, planned);
            }
            Happening::Ready { node, at } => self.node(node).ready = Some(at),
            Happening::Removed { node, at } => self.node(node).removed = Some(at),
            Happening::Landed {
                node,
                digest,
                bytes,
                ahead,
                at,
            } => {
                self.node(node).landed.push(Landed {
                    at,
                    bytes,
                    ahead,
                    digest,
                });
            }
            Happening::PodBound { node, images } => {
                let story = self.node(node);
                for image in images {
                    let entered = story.planned.get(&image).copied();
                    // Later pods find it there anyway.
                    story.uses.entry(image).or_insert(entered);
                }
            }
            Happening::PodReady { outcome, images } => self.pod_ready(outcome, &images),
            Happening::Planned { target, images, at } => self.planned(target, images, at),
        }
    }

    /// Outcomes of the pods on nodes that joined during the recording.
    pub fn scored(&self) -> impl Iterator<Item = &PodOutcome> {
        self.nodes
            .values()
            .filter(|node| node.new)
            .flat_map(|node| &node.pods)
    }

    /// Names of all pods whose images became complete, on any node.
    #[must_use]
    pub fn started(&self) -> BTreeSet<&str> {
        self.nodes
            .values()
            .flat_map(|node| &node.pods)
            .map(|pod| pod.pod.as_str())
            .collect()
    }

    /// Bytes that agents brought to new nodes and no pod used.
    #[must_use]
    pub fn wasted_bytes(&self) -> u64 {
        self.nodes
            .values()
            .filter(|node| node.new)
            .flat_map(|node| {
                node.landed
                    .iter()
                    .filter(|l| l.ahead && !node.used.contains(&l.digest))
            })
            .map(|landed| landed.bytes)
            .sum()
    }

    /// Seconds before Ready at which each used image had entered a plan of its node, ascending.
    #[must_use]
    pub fn leads(&self) -> Vec<f64> {
        let mut leads: Vec<f64> = self
            .nodes
            .values()
            .filter(|node| node.new)
            .filter_map(|node| Some((node, node.ready?)))
            .flat_map(|(node, ready)| {
                let entered = node.uses.values().flatten();
                entered.map(move |at| ready.secs_since(*at))
            })
            .collect();
        leads.sort_by(f64::total_cmp);
        leads
    }

    fn node(&mut self, name: String) -> &mut NodeStory {
        self.nodes.entry(name).or_default()
    }

    fn pod_ready(&mut self, outcome: PodOutcome, images: &[ImageRef]) {
        let name = outcome.node.clone();
        let arch = self.node(name.clone()).arch.clone();
        let layers: Vec<Digest> = images
            .iter()
            .filter_map(|image| self.catalogue.get(image))
            .filter_map(|manifests| manifests.iter().find(|m| m.platform.arch == arch))
            .flat_map(|manifest| manifest.layers.iter().map(|layer| layer.digest.clone()))
            .collect();
        let node = self.node(name);
        node.used.extend(layers);
        node.pods.push(outcome);
    }

    fn planned(&mut self, target: Target, images: BTreeSet<ImageRef>, at: Timestamp) {
        let plan = match target {
            Target::Node(name) => &mut self.node(name).planned,
            Target::Pool(name) => self.pool_plans.entry(name).or_default(),
        };
        plan.retain(|image, _| images.contains(image));
        for image in images {
            plan.entry(image).or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::image::{Layer, Platform};
    use crate::domain::quantity::ByteSize;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_secs_f64(seconds)
    }

    fn digest(salt: u8) -> Digest {
        Digest::from_sha256(&[salt; 32])
    }

    fn image(name: &str) -> ImageRef {
        name.parse().unwrap()
    }

    /// Two images of one layer each, and a node that joined at 10 s and was Ready at 20 s.
    fn ledger() -> Ledger {
        let manifest = |salt: u8| ImageManifest {
            digest: digest(salt),
            platform: Platform::linux("amd64"),
            layers: vec![Layer {
                digest: digest(salt + 100),
                size: ByteSize(7),
                unpacked: None,
            }],
        };
        let catalogue = [
            (image("a"), vec![manifest(1)]),
            (image("b"), vec![manifest(2)]),
        ];
        let mut ledger = Ledger::new(catalogue.into());
        ledger.note(Happening::Joined {
            node: "n".into(),
            pool: "p".into(),
            arch: "amd64".into(),
            old: false,
            at: at(10.0),
        });
        ledger.note(Happening::Ready {
            node: "n".into(),
            at: at(20.0),
        });
        ledger
    }

    fn planned(names: &[&str], seconds: f64) -> Happening {
        let images = names.iter().map(|name| image(name)).collect();
        Happening::Planned {
            target: Target::Node("n".into()),
            images,
            at: at(seconds),
        }
    }

    fn bound(name: &str) -> Happening {
        Happening::PodBound {
            node: "n".into(),
            images: vec![image(name)],
        }
    }

    fn runs(name: &str) -> Happening {
        let outcome = PodOutcome {
            pod: "default/x".into(),
            node: "n".into(),
            bound: at(20.0),
            node_ready: at(20.0),
            images_ready: at(23.0),
            warm: false,
        };
        Happening::PodReady {
            outcome,
            images: vec![image(name)],
        }
    }

    #[test]
    fn the_lead_counts_from_the_last_time_that_an_image_entered_the_plan() {
        let mut ledger = ledger();
        ledger.note(planned(&["a"], 11.0));
        ledger.note(planned(&["b"], 12.0));
        ledger.note(planned(&["a", "b"], 15.0));
        ledger.note(bound("a"));
        ledger.note(bound("b"));
        ledger.note(planned(&[], 30.0));
        ledger.note(planned(&["a"], 31.0));
        ledger.note(bound("a"));
        assert_eq!(ledger.leads(), vec![5.0, 8.0]);
    }

    #[test]
    fn what_an_agent_brought_and_no_pod_used_is_waste() {
        let mut ledger = ledger();
        for (salt, ahead) in [(101, true), (102, true), (103, false)] {
            ledger.note(Happening::Landed {
                node: "n".into(),
                digest: digest(salt),
                bytes: u64::from(salt),
                ahead,
                at: at(12.0),
            });
        }
        assert_eq!(ledger.wasted_bytes(), 101 + 102);
        ledger.note(runs("a"));
        assert_eq!(ledger.wasted_bytes(), 102);
        assert_eq!(ledger.scored().count(), 1);
    }
}
