//! The request of the expander call: what has to be known to answer it, and later all of it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::domain::time::Timestamp;
use crate::source::expander::decode::{self, Undecodable};
use crate::source::expander::parts::{Malformed, Part, Parts};
use crate::source::kubernetes::objects::node::Node;
use crate::source::kubernetes::objects::pod::Pod;
use crate::source::kubernetes::offers::{Choice, Offer};

/// Choices that are answered. A cluster has dozens of groups, of which a few fit.
pub const CHOICES_MAX: usize = 4_096;

/// Sample nodes that are decoded.
const SAMPLES_MAX: usize = 4_096;

/// Different pods that are decoded: at 6 kB each twice what [`DECODED_MAX`] lets through.
const PODS_MAX: usize = 10_000;

/// Pods that one choice keeps the places of: as many as a signal names.
const PLACES_MAX: usize = 1_000;

/// Bytes of one object: etcd takes none above 1.5 MiB.
const OBJECT_MAX: usize = 3 << 19;

/// Bytes of different objects that are decoded of one call. The same pod stands in each choice and counts once.
const DECODED_MAX: usize = 32 << 20;

/// A request that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Not a message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An id is no text.
    #[error("the id of a node group is not UTF-8")]
    NotText,
    /// An empty answer would take every choice away: none is given.
    #[error("there is no option to choose from")]
    Empty,
    /// More than any cluster has.
    #[error("more than {CHOICES_MAX} options")]
    TooMany,
}

/// What was in a request and is not in the offer, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pods that are no `v1.Pod`.
    pub pods: u64,
    /// Sample nodes that are no `v1.Node`.
    pub nodes: u64,
    /// Pods and sample nodes beyond the bounds.
    pub beyond: u64,
}

/// The ids of all options in their order: all that an answer needs.
pub fn ids(request: &Bytes) -> Result<Vec<String>, AskError> {
    let mut ids = Vec::new();
    for part in Parts::of(request.clone()) {
        let (1, Part::Bytes(option)) = part? else {
            continue;
        };
        if ids.len() == CHOICES_MAX {
            return Err(AskError::TooMany);
        }
        ids.push(text(&last(option, 1)?)?);
    }
    if ids.is_empty() {
        return Err(AskError::Empty);
    }
    Ok(ids)
}

/// All of a request that is understood.
pub fn offer(request: &Bytes, at: Timestamp) -> (Offer, LeftOut) {
    let mut reader = Reader {
        offer: Offer {
            at,
            ..Offer::default()
        },
        left_out: LeftOut::default(),
        places: HashMap::new(),
        room: DECODED_MAX,
    };
    for part in Parts::of(request.clone()) {
        match part {
            Ok((1, Part::Bytes(option))) => reader.choice(option),
            Ok((3, Part::Bytes(entry))) => reader.sample(&entry),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    (reader.offer, reader.left_out)
}

struct Reader {
    offer: Offer,
    left_out: LeftOut,
    /// Places of pods by their bytes; none for those that are left out.
    places: HashMap<Bytes, Option<usize>>,
    room: usize,
}

impl Reader {
    fn choice(&mut self, option: Bytes) {
        if self.offer.choices.len() == CHOICES_MAX {
            return;
        }
        let mut choice = Choice::default();
        for part in Parts::of(option) {
            match part {
                Ok((1, Part::Bytes(id))) => choice.group = text(&id).unwrap_or_default(),
                Ok((2, Part::Number(nodes))) => {
                    choice.nodes = u32::try_from(nodes).unwrap_or(0);
                }
                Ok((5, Part::Bytes(pod))) => {
                    let place = self.pod(pod);
                    choice
                        .pods
                        .extend(place.filter(|_| choice.pods.len() < PLACES_MAX));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.offer.choices.push(choice);
    }

    fn pod(&mut self, bytes: Bytes) -> Option<usize> {
        if let Some(known) = self.places.get(&bytes) {
            return *known;
        }
        if self.places.len() >= PODS_MAX || !self.fits(&bytes) {
            self.left_out.beyond += 1;
            return None;
        }
        let place = match decode::pod(bytes.clone()) {
            Ok(pod) => Some(self.keep(pod)),
            Err(reason) => {
                self.left_out.pods += 1;
                told("pod", self.left_out.pods, &reason);
                None
            }
        };
        self.places.insert(bytes, place);
        place
    }

    fn keep(&mut self, pod: Pod) -> usize {
        self.offer.pods.push(pod);
        self.offer.pods.len() - 1
    }

    fn sample(&mut self, entry: &Bytes) {
        let named = last(entry.clone(), 1).ok().and_then(|id| text(&id).ok());
        let (Some(group), Ok(node)) = (named, last(entry.clone(), 2)) else {
            self.left_out.nodes += 1;
            return;
        };
        if self.offer.samples.len() >= SAMPLES_MAX || !self.fits(&node) {
            self.left_out.beyond += 1;
            return;
        }
        match decode::node(node) {
            Ok(node) => drop::<Option<Node>>(self.offer.samples.insert(group, node)),
            Err(reason) => {
                self.left_out.nodes += 1;
                told("node", self.left_out.nodes, &reason);
            }
        }
    }

    fn fits(&mut self, object: &Bytes) -> bool {
        if object.len() > OBJECT_MAX {
            return false;
        }
        let left = self.room.checked_sub(object.len());
        self.room = left.unwrap_or(self.room);
        left.is_some()
    }
}

/// The first of a call is a log line; the others are like it, and counted.
fn told(kind: &str, count: u64, reason: &Undecodable) {
    if count == 1 {
        tracing::warn!(kind, %reason, "the autoscaler sent an object that cannot be decoded");
    }
}

/// The last field of that number, which counts (protobuf.dev, "Last One Wins"); empty where there is none.
fn last(message: Bytes, number: u64) -> Result<Bytes, Malformed> {
    let mut found = Bytes::new();
    for part in Parts::of(message) {
        if let (at, Part::Bytes(content)) = part?
            && at == number
        {
            found = content;
        }
    }
    Ok(found)
}

fn text(bytes: &Bytes) -> Result<String, AskError> {
    let text = std::str::from_utf8(bytes).map_err(|_| AskError::NotText)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::source::expander::wire::expander::{BestOptionsRequest, Option as Raw};

    fn request(groups: Vec<(String, Vec<u8>)>) -> Vec<u8> {
        let option = |(group, pod): (String, Vec<u8>)| Raw {
            node_group_id: group,
            pod_bytes: vec![pod.into()],
            ..Raw::default()
        };
        BestOptionsRequest {
            options: groups.into_iter().map(option).collect(),
            ..BestOptionsRequest::default()
        }
        .encode_to_vec()
    }

    proptest! {
        #[test]
        fn a_request_is_answered_whole_or_not_at_all(
            groups in proptest::collection::vec(
                ("\\PC{0,8}", proptest::collection::vec(0u8.., 0..40)), 0..6),
            changed in proptest::option::of((0usize..200, 0u8..)),
        ) {
            let names: Vec<String> = groups.iter().map(|(group, _)| group.clone()).collect();
            let mut bytes = request(groups);
            if let Some((place, byte)) = changed
                && let Some(at) = bytes.get_mut(place)
            {
                *at = byte;
            }
            let bytes = Bytes::from(bytes);
            match ids(&bytes) {
                Ok(ids) => {
                    prop_assert!(!ids.is_empty());
                    prop_assert!(changed.is_some() || ids == names);
                    // What the library reads is what is answered.
                    if let Ok(read) = BestOptionsRequest::decode(bytes.clone()) {
                        let read = read.options.into_iter().map(|one| one.node_group_id);
                        prop_assert_eq!(read.collect::<Vec<_>>(), ids.clone());
                    }
                    prop_assert_eq!(offer(&bytes, Timestamp::ZERO).0.choices.len(), ids.len());
                }
                Err(AskError::Empty) => prop_assert!(changed.is_some() || names.is_empty()),
                Err(_) => prop_assert!(changed.is_some()),
            }
        }
    }

    #[test]
    fn more_options_than_any_cluster_has_are_refused() {
        let many = |count| Bytes::from(request(vec![(String::new(), Vec::new()); count]));
        assert_eq!(
            ids(&many(CHOICES_MAX)).map(|ids| ids.len()),
            Ok(CHOICES_MAX)
        );
        assert_eq!(ids(&many(CHOICES_MAX + 1)), Err(AskError::TooMany));
    }
}
