//! The header of an imported scenario: its words, with the world it is taken to have happened in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::scenario::{Header, HeaderType, PoolWorld, SharedWorld};
use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::source::recording::{About, Options};

/// Compressed bytes per second that one core unpacks: the median of 156 to 187 MB/s measured on real
/// nodes (kubelet-pulls data, zero-filled layers), over a compression ratio of 2.5.
const UNPACK: Bandwidth = Bandwidth(65e6);

/// Image disk of a node that tells no ephemeral storage: 100 GB, a usual root disk.
const DISK: ByteSize = ByteSize(100_000_000_000);

/// Words and world; the caller knows the instants and the images.
pub(super) fn header(folder: &Path, options: &Options, signals: &[Signal]) -> Header {
    Header {
        kind: HeaderType::V1,
        name: name(folder, &options.about),
        story: story(&options.about, folder),
        provenance: provenance(&options.about),
        licence: licence(&options.about),
        start: Timestamp::ZERO,
        end: Timestamp::ZERO,
        pools: pools(signals, options.link),
        shared: SharedWorld {
            cache_uplink: Bandwidth(1.25e9),
            origin: Bandwidth(250e6),
        },
        images: BTreeMap::new(),
    }
}

fn name(folder: &Path, about: &About) -> String {
    if about.name.is_empty() {
        let name = folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    } else {
        about.name.clone()
    }
}

fn story(about: &About, folder: &Path) -> String {
    if about.story.is_empty() {
        format!("The recording {}.", name(folder, about))
    } else {
        about.story.clone()
    }
}

fn licence(about: &About) -> String {
    if about.licence.is_empty() {
        "not stated".into()
    } else {
        about.licence.clone()
    }
}

/// What is real and what is derived, said in every file.
fn provenance(about: &About) -> String {
    let own = "Signals come from LIST and WATCH lines of an API server, in order of receipt. Layers of \
        images come from the catalogue converged-computing/container-chonks (a 2024 crawl of public \
        manifests) where it has the image: which layers, their compressed sizes and the first 16 \
        digits of their digests are real. The other 48 digits are the SHA-256 of those 16, and \
        manifest digests are made from the layers': no registry knows them. Images without an entry \
        are one layer of the size that the kubelet told. Unpacked sizes are assumed to be 2.5 times \
        the compressed ones. Links, unpack rates and what nodes share are a model, not recorded.";
    if about.provenance.is_empty() {
        own.to_owned()
    } else {
        format!("{} {own}", about.provenance.trim_end())
    }
}

/// One world for every pool, and one more for each pool whose nodes have another disk.
fn pools(signals: &[Signal], link: Bandwidth) -> BTreeMap<String, PoolWorld> {
    let mut disks: BTreeMap<&str, BTreeSet<ByteSize>> = BTreeMap::new();
    for signal in signals {
        if let Fact::NodeJoined(joined) = &signal.fact
            && let Some(room) = &joined.shape.capacity
            && room.ephemeral.0 > 0
        {
            disks
                .entry(&joined.pool)
                .or_default()
                .insert(room.ephemeral);
        }
    }
    let world = |disk: ByteSize| PoolWorld {
        link,
        unpack: UNPACK,
        disk,
        sandbox_s: 0.7, // mean over 109 pods of EKS and GKE: Scheduled to Pulling, whole seconds
        pull_overhead_s: 0.4, // mean of 186 zero-byte pulls in the recordings: 0.389 s
        agent_start_s: 5.0, // DaemonSet pods in the recordings start 3.5 to 5 s after the Node
        agent_start_sigma: 0.0,
    };
    let smallest = |sizes: &BTreeSet<ByteSize>| sizes.first().copied();
    let common = disks.values().filter_map(smallest).min().unwrap_or(DISK);
    let mut pools = BTreeMap::from([("*".to_owned(), world(common))]);
    for (pool, sizes) in &disks {
        let disk = smallest(sizes).unwrap_or(common);
        if disk != common && !pool.is_empty() {
            pools.insert((*pool).to_owned(), world(disk));
        }
    }
    pools
}
