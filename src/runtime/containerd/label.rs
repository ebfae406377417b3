//! Labels that containerd, its collector and CRI read, and our own.

use std::collections::BTreeMap;

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

/// The label by which a config keeps the snapshots of its image: `top` is the last chain ID.
pub fn unpacked(snapshotter: &str, top: &str) -> Labels {
    let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
    Labels::from([(key, top.to_owned())])
}

/// The label that tells from which repository a blob may be had: `from(registry, repository)`.
pub fn from(registry: &str, repository: &str) -> Labels {
    let key = format!("containerd.io/distribution.source.{registry}");
    Labels::from([(key, repository.to_owned())])
}
