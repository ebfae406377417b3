//! Labels that containerd, its collector and CRI read, and our own.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::image::Digest;

/// Labels of one object, as they travel.
pub type Labels = BTreeMap<String, String>;

/// When a lease stops to hold what it holds: RFC 3339.
pub const EXPIRE: &str = "containerd.io/gc.expire";

/// Of a snapshot: the chain ID that it will have; `Prepare` then says when that is there.
pub const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";

/// Of a layer's blob: its diff ID.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// CRI's mark on image records that it keeps itself; without it, CRI adds what is missing.
pub const CRI_MANAGED: &str = "io.cri-containerd.image";

/// The kubelet's collector passes over image records with the value `pinned`.
pub const CRI_PINNED: &str = "io.cri-containerd.pinned";

/// Our mark on leases: who began them.
pub const OURS: &str = "dev.forelay/lease";

/// Longest label, key and value together (`labels.Validate`): longer ones are refused.
pub const LABEL_MAX: usize = 4_096;

/// Labels by which an index or a manifest keeps what it names.
pub fn children<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Labels {
    let numbered = digests.into_iter().enumerate();
    numbered
        .map(|(i, digest)| {
            let key = format!("containerd.io/gc.ref.content.{i}");
            (key, digest.to_string())
        })
        .collect()
}

/// Labels by which a manifest keeps its config and its layers' blobs, named as a pull of containerd itself names
/// them (`images.ChildGCLabels`). One that names what is not there keeps nothing, and is no error to the collector
/// (`gcContext.references`).
pub fn parts<'a>(config: &Digest, layers: impl IntoIterator<Item = &'a Digest>) -> Labels {
    let key = |part: String| format!("containerd.io/gc.ref.content.{part}");
    let layers = layers.into_iter().enumerate();
    layers
        .map(|(i, layer)| (key(format!("l.{i}")), layer.to_string()))
        .chain([(key("config".to_owned()), config.to_string())])
        .collect()
}

/// The label by which a config keeps the snapshots of its image: `top` is the last chain ID.
pub fn unpacked(snapshotter: &str, top: &str) -> Labels {
    let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
    Labels::from([(key, top.to_owned())])
}

/// Begins the label that tells from which repositories of a registry a blob may be had.
const SOURCE: &str = "containerd.io/distribution.source.";

/// The label that tells from which repository a blob may be had: `from(registry, repository)`.
pub fn from(registry: &str, repository: &str) -> Labels {
    let key = format!("{SOURCE}{registry}");
    Labels::from([(key, repository.to_owned())])
}

/// What an object with these labels lacks of the wanted ones. One blob may be had from several repositories:
/// those that are told stay, as with a pull (`docker.appendDistributionSourceLabel`).
pub fn lacking(there: &Labels, wanted: &Labels) -> Labels {
    let mut lacking = Labels::new();
    for (key, value) in wanted {
        let before = there.get(key).map_or("", String::as_str);
        let after = if key.starts_with(SOURCE) {
            let all: BTreeSet<&str> = before.split(',').chain(value.split(',')).collect();
            let all: Vec<&str> = all.into_iter().filter(|one| !one.is_empty()).collect();
            all.join(",")
        } else {
            value.clone()
        };
        // A longer one would be refused, and with it all others.
        let fits = key.len() + after.len() <= LABEL_MAX;
        if after != before && fits {
            lacking.insert(key.clone(), after);
        }
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_added_to_those_that_are_told_and_all_else_is_replaced() {
        let source = |text: &str| from("r.io", text);
        assert_eq!(lacking(&source("b,c"), &source("a")), source("a,b,c"));
        assert_eq!(lacking(&source("a,b"), &source("b")), Labels::new());
        assert_eq!(lacking(&Labels::new(), &source("a")), source("a"));
        let long = source(&"x".repeat(LABEL_MAX - 50));
        assert_eq!(lacking(&long, &source("a-name-too-many")), Labels::new());
        let other = |value: &str| Labels::from([(UNCOMPRESSED.to_owned(), value.to_owned())]);
        assert_eq!(lacking(&other("a"), &other("b")), other("b"));
    }

    #[test]
    fn a_manifest_names_its_parts_as_a_pull_does() {
        let digest = |salt: u8| Digest::from_sha256(&[salt; 32]);
        // An image may have its empty layer twice.
        let (config, layers) = (digest(1), [digest(2), digest(3), digest(2)]);
        let parts = parts(&config, &layers);
        let expected = [("config", 1), ("l.0", 2), ("l.1", 3), ("l.2", 2)];
        let expected = expected.map(|(part, salt)| {
            let key = format!("containerd.io/gc.ref.content.{part}");
            (key, digest(salt).to_string())
        });
        assert_eq!(parts, Labels::from(expected));
    }
}
