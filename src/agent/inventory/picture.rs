//! A node's images as they are written, and the patch from one state of them to the next; pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::{INVENTORY_BYTES_MAX, INVENTORY_MAX, Inventory, InventoryImage, NAMES_MAX};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::inventory::StoredImage;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Longest name that is written: the API's own bound.
const NAME_MAX: usize = 512;

/// What is written of these images: the largest first, as far as there is room.
pub(super) fn picture(images: Vec<StoredImage>, listed: Timestamp) -> Inventory {
    let mut new = Inventory {
        listed,
        images: BTreeMap::new(),
        omitted: 0,
        omitted_bytes: ByteSize(0),
        omitted_names: 0,
    };
    let mut images = merged(images);
    images.sort_by_key(|(_, image)| Reverse(image.bytes));
    let mut room = INVENTORY_BYTES_MAX;
    for (digest, mut image) in images {
        let left_out = bound(&mut image);
        let bytes = json(&image).to_string().len() + digest.as_str().len() + r#""":,"#.len();
        if new.images.len() < INVENTORY_MAX && bytes <= room {
            room -= bytes;
            new.omitted_names += left_out;
            new.images.insert(digest, image);
        } else {
            new.omitted += 1;
            new.omitted_bytes += image.bytes.unwrap_or_default();
        }
    }
    new
}

/// A JSON merge patch (RFC 7396) that makes `old` into `new`; none where only the time of the list differs.
pub(super) fn delta(old: &Inventory, new: &Inventory) -> Option<Value> {
    let same_time = Inventory {
        listed: new.listed,
        ..old.clone()
    };
    if same_time == *new {
        return None;
    }
    difference(&json(old), &json(new))
}

/// One of each manifest, in their order; names sorted, each once.
fn merged(images: Vec<StoredImage>) -> Vec<(Digest, InventoryImage)> {
    let mut merged: BTreeMap<Digest, InventoryImage> = BTreeMap::new();
    for image in images {
        let known = merged.entry(image.digest).or_default();
        known.names.extend(image.names);
        known.planned.extend(image.planned);
        known.bytes = known.bytes.max(image.bytes);
    }
    for image in merged.values_mut() {
        for names in [&mut image.names, &mut image.planned] {
            names.sort();
            names.dedup();
        }
    }
    merged.into_iter().collect()
}

/// Leaves as many names as may be written; how many there were beyond.
fn bound(image: &mut InventoryImage) -> u32 {
    let before = image.names.len() + image.planned.len();
    for names in [&mut image.names, &mut image.planned] {
        names.retain(|name: &ImageRef| name.as_str().len() <= NAME_MAX);
        names.truncate(NAMES_MAX);
    }
    (before - image.names.len() - image.planned.len()) as u32
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("an inventory is plain data")
}

/// The patch for any two values without nulls, as ours are.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in new {
        let change = match old.get(key) {
            Some(old) => difference(old, value),
            None => Some(value.clone()),
        };
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u32) -> Timestamp {
        Timestamp::from_secs_f64(f64::from(secs))
    }

    fn image(n: usize, bytes: Option<u64>, names: Vec<String>) -> StoredImage {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        StoredImage {
            digest: Digest::from_sha256(&digest),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            planned: Vec::new(),
            bytes: bytes.map(ByteSize),
        }
    }

    /// As a cloud's registry names one: by tag and by digest.
    fn real(n: usize) -> StoredImage {
        let repository =
            format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/service-{n}");
        let digest = "ab".repeat(32);
        let names = [":2026-11-27-0123abcd", &format!("@sha256:{digest}")];
        let names = names.map(|name| format!("{repository}{name}"));
        image(n, Some(1_000_000 + n as u64), names.into())
    }

    #[test]
    fn of_three_hundred_images_the_largest_are_written_and_the_others_counted() {
        let new = picture((0..300).map(real).collect(), at(1));
        assert_eq!((new.images.len(), new.omitted), (INVENTORY_MAX, 44));
        assert_eq!(
            new.omitted_bytes,
            ByteSize((0..44).map(|n| 1_000_000 + n).sum())
        );
        let smallest = new.images.values().filter_map(|image| image.bytes).min();
        assert_eq!(smallest, Some(ByteSize(1_000_044)));
        let text = json(&new).to_string();
        assert!(text.len() < INVENTORY_BYTES_MAX, "{} bytes", text.len());
        // One image more is a patch of one image, not of all.
        let mut images: Vec<StoredImage> = (0..200).map(real).collect();
        let old = picture(images.clone(), at(1));
        images.push(real(200));
        let patch = delta(&old, &picture(images, at(2))).unwrap();
        assert!(patch.to_string().len() < 500, "{patch}");
    }

    #[test]
    fn what_has_endless_names_is_bounded_and_says_so() {
        let names = |n: usize| (0..n).map(|i| format!("r.io/{}/app:{i}", "x".repeat(200)));
        let many = image(1, Some(1), names(NAMES_MAX + 4).collect());
        let host = "x.".repeat(100) + "io";
        let longest = format!("{host}/{}:{}", "y".repeat(200), "z".repeat(128));
        let long = image(2, Some(2), vec![longest]);
        let new = picture(vec![many, long], at(1));
        assert_eq!(
            (new.images.len(), new.omitted, new.omitted_names),
            (2, 0, 5)
        );
        let all = (0..INVENTORY_MAX).map(|n| image(n, Some(1), names(NAMES_MAX).collect()));
        let new = picture(all.collect(), at(1));
        assert!(new.omitted > 0);
        let bytes = json(&new.images).to_string().len();
        assert!(bytes <= INVENTORY_BYTES_MAX + 2, "{bytes}");
    }

    #[test]
    fn a_removed_image_is_a_null_and_a_member_that_went_is_one_too() {
        let mut named = real(1);
        let old = picture(vec![named.clone(), real(2)], at(1));
        named.planned = std::mem::take(&mut named.names);
        let patch = delta(&old, &picture(vec![named.clone()], at(2))).unwrap();
        let gone = real(2).digest.to_string();
        assert_eq!(patch["images"][&gone], Value::Null);
        assert!(patch["images"].as_object().unwrap().contains_key(&gone));
        let changed = &patch["images"][named.digest.as_str()];
        assert_eq!(changed["names"], Value::Null);
        assert!(changed.get("bytes").is_none(), "{changed}");
    }

    fn any_images() -> impl Strategy<Value = Vec<StoredImage>> {
        let name = || (0..40_u8).prop_map(|n| format!("r.io/a/b:{n}").parse::<ImageRef>().unwrap());
        let names = || prop::collection::vec(name(), 0..4);
        let one = (0..400_usize, prop::option::of(0..50_u64), names(), names());
        let one = one.prop_map(|(n, bytes, names, planned)| StoredImage {
            names,
            planned,
            ..image(n, bytes, Vec::new())
        });
        prop::collection::vec(one, 0..300)
    }

    proptest! {
        #[test]
        fn patches_one_after_the_other_make_the_last_picture_out_of_nothing(
            states in prop::collection::vec(any_images(), 1..5)
        ) {
            let mut document = Value::Object(Map::new());
            let mut written: Option<Inventory> = None;
            for (n, images) in states.into_iter().enumerate() {
                let new = picture(images.clone(), at(n as u32));
                prop_assert!(new.images.len() <= INVENTORY_MAX);
                let all: std::collections::BTreeSet<_> = images.iter().map(|i| &i.digest).collect();
                prop_assert_eq!(new.images.len() + new.omitted as usize, all.len());
                let patch = match &written {
                    None => difference(&document, &json(&new)),
                    Some(old) => delta(old, &new),
                };
                if let Some(patch) = patch {
                    json_patch::merge(&mut document, &patch);
                    written = Some(new.clone());
                }
                let read: Inventory = serde_json::from_value(document.clone()).unwrap();
                prop_assert_eq!(&read.images, &new.images);
                prop_assert_eq!(Some(&read), written.as_ref());
                prop_assert_eq!(delta(&read, &new), None);
            }
        }
    }
}
