//! A node's agent: the engine of production with a plan, or the oracle's fixed list.

use std::collections::BTreeSet;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::engine::node::{Effect, Input, Limits, NodeEngine};
use crate::sim::facts::{Facts, ImageId, LayerId};
use crate::sim::kubelet::Disk;

/// Blobs that an agent has in transfer at once (`docs/transfer-model.md`).
pub const CONCURRENCY: usize = 4;

/// What the agent does next; the world carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAct {
    /// Ask for a manifest.
    Ask(Digest),
    /// Stream this layer.
    Start(LayerId),
    /// Stop streaming it.
    Stop(LayerId),
    /// Make this image's record.
    Record(ImageRef, Digest),
    /// Take it away.
    Withdraw(Digest),
    /// Give up the layers that only this image needed.
    Release(Digest),
}

/// One node's agent.
#[derive(Debug)]
pub enum Agent {
    /// Follows the plans that it is given.
    Planned(Box<NodeEngine>),
    /// Follows a list that somebody made who knew the future.
    Listed(Schedule),
}

/// What the oracle has one node fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Images, first to fetch first.
    pub images: Vec<ImageId>,
    /// Layers in transfer at once.
    pub concurrency: usize,
    /// Whether nothing is begun while the kubelet pulls.
    pub yields: bool,
}

/// What the agent sees of its node.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Who is who.
    pub facts: &'a Facts,
    /// The disk.
    pub disk: &'a Disk,
    /// Whether the kubelet has a pull under way.
    pub kubelet_pulls: bool,
    /// Layers that the agent has brought.
    pub brought: &'a BTreeSet<LayerId>,
    /// Bytes that it may bring in all.
    pub room: f64,
}

// === impl Agent ===

impl Agent {
    /// The engine of production, with room for so many bytes.
    #[must_use]
    pub fn planned(room: ByteSize) -> Self {
        Self::Planned(Box::new(NodeEngine::new(Limits {
            disk: room,
            ..Limits::default()
        })))
    }

    /// Tells a planned agent what happened; a listed one looks for itself.
    pub fn tell(&mut self, input: Input, now: Timestamp) {
        if let Self::Planned(engine) = self {
            engine.input(input, now);
        }
    }

    /// What to do now.
    pub fn step(&mut self, view: View<'_>, now: Timestamp) -> Vec<AgentAct> {
        match self {
            Self::Planned(engine) => {
                let effects = engine.step(now);
                effects
                    .into_iter()
                    .filter_map(|effect| act(effect, view))
                    .collect()
            }
            Self::Listed(schedule) => schedule.step(view),
        }
    }

    /// When it has work without being told anything.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self {
            Self::Planned(engine) => engine.wake_at(),
            Self::Listed(_) => None,
        }
    }
}

/// An engine's effect in this world's words.
fn act(effect: Effect, view: View<'_>) -> Option<AgentAct> {
    let layer = |digest: &Digest| {
        let layers = &view.facts.catalogue.by_layer;
        *layers
            .get(digest)
            .expect("a manifest of the catalogue named the layer")
    };
    Some(match effect {
        Effect::FetchManifest { digest, .. } => AgentAct::Ask(digest),
        Effect::FetchBlob { digest, .. } => AgentAct::Start(layer(&digest)),
        Effect::Cancel(digest) => AgentAct::Stop(layer(&digest)),
        Effect::Record { image, digest } => AgentAct::Record(image, digest),
        Effect::Withdraw(digest) => AgentAct::Withdraw(digest),
        // Images have one name each here.
        Effect::WithdrawName { .. } => return None,
        Effect::Release(digest) => AgentAct::Release(digest),
    })
}

impl Schedule {
    fn step(&self, view: View<'_>) -> Vec<AgentAct> {
        if self.yields && view.kubelet_pulls {
            return Vec::new();
        }
        let disk = view.disk;
        let mut free = self.concurrency.saturating_sub(disk.arriving.len());
        if free == 0 {
            return Vec::new();
        }
        let mut begun = Vec::new();
        let under_way = view.brought.iter().chain(&disk.arriving);
        let taken: f64 = under_way.map(|layer| view.facts.bytes(*layer)).sum();
        let mut room = view.room - taken;
        let images = self.images.iter();
        for &layer in images.flat_map(|image| &view.facts.image(*image).layers) {
            if free == 0 {
                break;
            }
            let busy = disk.present.contains(&layer)
                || disk.arriving.contains(&layer)
                || disk.foreground.contains(&layer)
                || begun.contains(&layer);
            let bytes = view.facts.bytes(layer);
            if !busy && bytes <= room {
                begun.push(layer);
                free -= 1;
                room -= bytes;
            }
        }
        begun.into_iter().map(AgentAct::Start).collect()
    }
}
