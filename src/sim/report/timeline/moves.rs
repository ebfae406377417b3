//! What was moved to one node, image by image, and why.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::domain::plan::Reason;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, ImageId, LayerId, NodeId};
use crate::sim::report::html::text::{counted, percent, spell};
use crate::sim::score::used_layers;
use crate::sim::world::{Mover, Notes, Span};

/// Transfers of one image with a smaller gap than this are one, in seconds.
const GAP_S: f64 = 0.5;

/// Layers of one image that moved without a break.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// By whom.
    pub mover: Mover,
    /// First byte asked for.
    pub from: Timestamp,
    /// Last byte.
    pub to: Timestamp,
    /// The image that the layers were for; `None` where nobody named it.
    pub image: Option<ImageId>,
    /// How many transfers.
    pub layers: usize,
    /// Of all of them.
    pub bytes: f64,
    /// Of these, bytes that a pod used in time.
    pub used_bytes: f64,
}

/// Everything that moved to a node, in the order of beginning.
pub fn moves(facts: &Facts, notes: &Notes, node: NodeId) -> Vec<Move> {
    let used = used_layers(facts, node);
    let mut spans: Vec<&Span> = notes
        .spans
        .iter()
        .filter(|span| span.node == node)
        .collect();
    spans.sort_by_key(|span| (span.from, span.to, span.layer));
    let mut moves: Vec<Move> = Vec::new();
    let mut last: BTreeMap<(Mover, Option<ImageId>), usize> = BTreeMap::new();
    for span in spans {
        let image = image_of(facts, notes, span);
        let used_bytes = if used.contains(&span.layer) {
            span.bytes
        } else {
            0.0
        };
        let open = last.get(&(span.mover, image)).copied();
        if let Some(open) = open.map(|open| &mut moves[open])
            && span.from.secs_since(open.to) < GAP_S
        {
            open.to = open.to.max(span.to);
            open.layers += 1;
            open.bytes += span.bytes;
            open.used_bytes += used_bytes;
            continue;
        }
        last.insert((span.mover, image), moves.len());
        moves.push(Move {
            mover: span.mover,
            from: span.from,
            to: span.to,
            image,
            layers: 1,
            bytes: span.bytes,
            used_bytes,
        });
    }
    moves
}

/// The image that a layer was moved for: for an agent the first that a plan had named by then, for a
/// kubelet that of the first pod with it. A layer of several images counts for one.
fn image_of(facts: &Facts, notes: &Notes, span: &Span) -> Option<ImageId> {
    let has = |image: &ImageId, layer: LayerId| facts.image(*image).layers.contains(&layer);
    let planned = || {
        let named = notes.whys.images(span.node);
        let named = named.filter(|(image, _)| has(image, span.layer));
        let in_time = named.min_by_key(|(image, why)| (why.made > span.from, why.made, *image));
        in_time.map(|(image, _)| image)
    };
    let bound = || {
        let pods = facts.nodes[span.node].pods.iter();
        let pods = pods.filter(|pod| facts.pods[**pod].bound <= span.from);
        let mut images = pods.flat_map(|pod| facts.pods[*pod].images.iter().flatten());
        images.find(|image| has(image, span.layer)).copied()
    };
    match span.mover {
        Mover::Agent => planned().or_else(bound),
        Mover::Kubelet => bound(),
    }
}

// === impl Move ===

impl Move {
    /// Who moved what, how much, and why: plain text, not escaped.
    pub fn title(&self, facts: &Facts, notes: &Notes, node: NodeId) -> String {
        let who = match self.mover {
            Mover::Agent => "Agent, ahead of the pod",
            Mover::Kubelet => "Kubelet, for a pod",
        };
        let image = self.image.map_or_else(
            || "layers of no image that is known".into(),
            |image| facts.image(image).name.to_string(),
        );
        let mut text = format!(
            "{image}\n{who}: {} in {}, {:.1} s",
            ByteSize(self.bytes.round() as u64),
            counted(self.layers, "layer"),
            self.to.secs_since(self.from)
        );
        let why = self.image.and_then(|image| notes.whys.of(node, image));
        if self.mover == Mover::Agent {
            if let Some(why) = why {
                let _ = write!(
                    text,
                    "\nWhy: {}; probability {}, planned {} before",
                    phrase(&why.reason),
                    percent(why.probability),
                    spell(self.from.secs_since(why.made))
                );
            }
            if self.used_bytes <= 0.0 {
                text.push_str("\nNo pod used it");
            } else if self.used_bytes < self.bytes * 0.999 {
                let used = ByteSize(self.used_bytes.round() as u64);
                let _ = write!(text, "\nPods used {used} of it");
            }
        }
        text
    }

    /// Whether an agent brought it and nobody used any of it.
    pub fn in_vain(&self) -> bool {
        self.mover == Mover::Agent && self.used_bytes <= 0.0
    }
}

fn phrase(reason: &Reason) -> String {
    match reason {
        Reason::Bound(of) => format!("pod {of} is bound to the node"),
        Reason::Nominated(of) => format!("pod {of} is nominated to the node"),
        Reason::PendingPod(of) => format!("pod {of} is pending, and the node can take it"),
        Reason::DaemonSet(of) => format!("{of} matches the node"),
        Reason::Announced(of) => format!("{of} announces pods"),
        Reason::ScalerWish(of) => format!("the scaler of {of} wants more"),
        Reason::Rollout(of) => format!("{of} is rolled out"),
        Reason::Replacement(of) => format!("the node takes over from {of}"),
        Reason::Schedule(of) => format!("{of} is due"),
        Reason::History(of) => format!("new nodes ran {of} before"),
    }
}
