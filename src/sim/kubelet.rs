//! The kubelet with its container runtime: a queue of image pulls, layers as a flow shop.
//!
//! Kubelet: `serializeImagePulls` is on by default (else so many pulls at once as it is told), pulls are
//! served in the order of asking, a pod's images are handled one after the other. containerd: three layers of an image in transfer at once
//! (`max_concurrent_downloads`), each unpacked after its last byte, in order, by one core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::network::DOWNLOADS;
use crate::sim::facts::{Facts, ImageId, LayerId, PodId};

/// What is on a node's disk, and what its agent is bringing.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Layers that pods can use.
    pub present: BTreeSet<LayerId>,
    /// Layers that the agent has in transfer.
    pub arriving: BTreeSet<LayerId>,
    /// Layers that the kubelet is fetching or unpacking.
    pub foreground: BTreeSet<LayerId>,
    /// Bytes of layers that were begun, then stopped.
    pub partial: BTreeMap<LayerId, f64>,
}

/// What a kubelet sees of its node.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Who is who.
    pub facts: &'a Facts,
    /// The disk as it is now.
    pub disk: &'a Disk,
}

/// What the kubelet does next; the world carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A pull begins: its fixed overhead runs.
    Begin {
        /// for whom: it has no other at the same time
        pod: PodId,
        /// of what
        image: ImageId,
    },
    /// Bring this layer.
    Fetch(LayerId),
    /// Unpack this layer: it takes its size at one core's rate.
    Unpack(LayerId),
    /// The pull is over.
    End(ImageId),
    /// All images of the pod are there.
    Ready {
        /// which
        pod: PodId,
        /// no pull was queued for it
        warm: bool,
    },
}

/// One node's kubelet.
#[derive(Clone, Debug)]
pub struct Kubelet {
    queue: VecDeque<Request>,
    pulls: Vec<Pull>,
    /// Pulls at once.
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    pod: PodId,
    /// Position in the pod's images.
    at: usize,
    image: ImageId,
}

#[derive(Clone, Debug)]
struct Pull {
    request: Request,
    /// Empty while the overhead runs.
    layers: Vec<(LayerId, Stage)>,
    begun: bool,
    /// Layers before this one are unpacked.
    unpacked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not begun.
    Waiting,
    /// The kubelet brings it.
    Fetching,
    /// The agent or another pull brings it: the pull waits for it, in one of its slots.
    Joined,
    /// All bytes are there.
    Fetched,
    /// One core is at it.
    Unpacking,
    /// Usable, whoever made it so.
    Usable,
}

// === impl Kubelet ===

impl Kubelet {
    /// One that pulls so many images at once (`maxParallelImagePulls`); 1 is `serializeImagePulls`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            pulls: Vec::new(),
            limit: limit.max(1),
        }
    }

    /// A pod is bound here. Its images must exist.
    pub fn bound(&mut self, pod: PodId, here: Here<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        self.go_on(pod, 0, here, &mut acts);
        self.next_pulls(&mut acts);
        acts
    }

    /// A pod is gone: pulls that wait for it are dropped (one that runs goes on).
    pub fn gone(&mut self, pod: PodId) {
        self.queue.retain(|request| request.pod != pod);
    }

    /// The overhead of the pull that began for this pod is over.
    pub fn overhead_over(&mut self, pod: PodId, here: Here<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut pulls = self.pulls.iter_mut();
        if let Some(pull) = pulls.find(|pull| pull.request.pod == pod && !pull.begun) {
            let image = here.facts.image(pull.request.image);
            let stage = |layer: &LayerId| {
                if here.disk.present.contains(layer) {
                    Stage::Usable
                } else {
                    Stage::Waiting
                }
            };
            pull.layers = image.layers.iter().map(|l| (*l, stage(l))).collect();
            pull.begun = true;
        }
        self.run(here, &mut acts);
        acts
    }

    /// The last byte of a layer that `Fetch` asked for is there.
    pub fn fetched(&mut self, layer: LayerId, here: Here<'_>) -> Vec<Act> {
        self.moves(layer, &[(Stage::Fetching, Stage::Fetched)], here)
    }

    /// A layer that `Unpack` named is unpacked, and counted as present by the caller.
    pub fn unpacked(&mut self, layer: LayerId, here: Here<'_>) -> Vec<Act> {
        let moves = [
            (Stage::Unpacking, Stage::Usable),
            (Stage::Joined, Stage::Usable),
        ];
        self.moves(layer, &moves, here)
    }

    /// The agent has brought a layer, and it is counted as present.
    pub fn agent_brought(&mut self, layer: LayerId, here: Here<'_>) -> Vec<Act> {
        self.moves(layer, &[(Stage::Joined, Stage::Usable)], here)
    }

    /// The agent has stopped bringing a layer: a pull that waits for it brings it itself.
    pub fn agent_stopped(&mut self, layer: LayerId, here: Here<'_>) -> Vec<Act> {
        self.moves(layer, &[(Stage::Joined, Stage::Waiting)], here)
    }

    /// The images of the pulls that are under way.
    pub fn pulling(&self) -> impl Iterator<Item = ImageId> + '_ {
        self.pulls.iter().map(|pull| pull.request.image)
    }

    fn moves(&mut self, layer: LayerId, moves: &[(Stage, Stage)], here: Here<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        for pull in &mut self.pulls {
            let found = pull.layers.iter_mut().find(|(id, _)| *id == layer);
            if let Some((_, stage)) = found
                && let Some((_, to)) = moves.iter().find(|(from, _)| from == stage)
            {
                *stage = *to;
            }
        }
        self.run(here, &mut acts);
        acts
    }

    /// Goes through a pod's images from `at` on, until one is missing or all are there.
    fn go_on(&mut self, pod: PodId, at: usize, here: Here<'_>, acts: &mut Vec<Act>) {
        let images = here.facts.pods[pod].images.as_deref().unwrap_or_default();
        let missing = (at..images.len()).find(|at| {
            let layers = &here.facts.image(images[*at]).layers;
            !layers.iter().all(|layer| here.disk.present.contains(layer))
        });
        match missing {
            Some(at) => self.queue.push_back(Request {
                pod,
                at,
                image: images[at],
            }),
            // A pod that comes here after its first image has waited for a pull.
            None => acts.push(Act::Ready { pod, warm: at == 0 }),
        }
    }

    fn next_pulls(&mut self, acts: &mut Vec<Act>) {
        while self.pulls.len() < self.limit
            && let Some(request) = self.queue.pop_front()
        {
            let Request { pod, image, .. } = request;
            acts.push(Act::Begin { pod, image });
            self.pulls.push(Pull {
                request,
                layers: Vec::new(),
                begun: false,
                unpacked: 0,
            });
        }
    }

    /// Starts what can start; ends the pulls of which nothing is left.
    fn run(&mut self, here: Here<'_>, acts: &mut Vec<Act>) {
        // Layers that one of the pulls has in hand: containerd lets the others wait for it.
        let mut held: BTreeSet<LayerId> = self.pulls.iter().flat_map(Pull::holds).collect();
        let mut over = Vec::new();
        for pull in self.pulls.iter_mut().filter(|pull| pull.begun) {
            pull.fetch_more(here.disk, &mut held, acts);
            pull.unpack_more(acts);
            if pull.unpacked >= pull.layers.len() {
                over.push(pull.request);
            }
        }
        for request in over {
            self.pulls.retain(|pull| pull.request.pod != request.pod);
            acts.push(Act::End(request.image));
            self.go_on(request.pod, request.at + 1, here, acts);
            self.next_pulls(acts);
        }
    }
}

impl Pull {
    /// Layers that this pull is bringing or unpacking.
    fn holds(&self) -> impl Iterator<Item = LayerId> + '_ {
        let busy =
            |stage: Stage| matches!(stage, Stage::Fetching | Stage::Fetched | Stage::Unpacking);
        let held = self.layers.iter().filter(move |(_, stage)| busy(*stage));
        held.map(|(layer, _)| *layer)
    }

    fn fetch_more(&mut self, disk: &Disk, held: &mut BTreeSet<LayerId>, acts: &mut Vec<Act>) {
        let busy = |stage: Stage| matches!(stage, Stage::Fetching | Stage::Joined);
        let mut slots = self.layers.iter().filter(|(_, stage)| busy(*stage)).count();
        for (layer, stage) in &mut self.layers {
            if slots >= DOWNLOADS {
                break;
            }
            if *stage != Stage::Waiting {
                continue;
            }
            if disk.present.contains(layer) {
                *stage = Stage::Usable;
                continue;
            }
            slots += 1;
            if disk.arriving.contains(layer) || !held.insert(*layer) {
                *stage = Stage::Joined;
            } else {
                *stage = Stage::Fetching;
                acts.push(Act::Fetch(*layer));
            }
        }
    }

    fn unpack_more(&mut self, acts: &mut Vec<Act>) {
        while let Some((layer, stage)) = self.layers.get_mut(self.unpacked) {
            match stage {
                Stage::Usable => self.unpacked += 1,
                Stage::Fetched => {
                    *stage = Stage::Unpacking;
                    acts.push(Act::Unpack(*layer));
                    return;
                }
                Stage::Waiting | Stage::Fetching | Stage::Joined | Stage::Unpacking => return,
            }
        }
    }
}
