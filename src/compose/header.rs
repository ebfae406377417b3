//! The header of a composed scenario: its words, and the world that it happened in.

use std::collections::BTreeMap;

use crate::compose::cast::{Cast, PoolCast};
use crate::compose::spec::Spec;
use crate::domain::scenario::{Header, HeaderType, PoolWorld, SharedWorld};

/// Words and world of a spec's scenario.
pub(super) fn header(spec: &Spec, cast: &Cast) -> Header {
    let images = cast.images.list.iter();
    let images = images.map(|image| (image.name.clone(), image.manifests.clone()));
    let pools: BTreeMap<String, PoolWorld> = cast
        .pools
        .iter()
        .map(|pool| (pool.name.clone(), world(pool)))
        .collect();
    Header {
        kind: HeaderType::V1,
        name: spec.name.clone(),
        story: spec.story.clone(),
        provenance: provenance(spec, cast.seed),
        licence: spec.licence.clone(),
        start: cast.start,
        end: cast.end,
        pools,
        shared: SharedWorld {
            cache_uplink: cast.shared.cache_uplink.0,
            origin: cast.shared.origin.0,
        },
        images: images.collect(),
    }
}

fn world(pool: &PoolCast) -> PoolWorld {
    let spec = &pool.spec;
    PoolWorld {
        link: spec.link.0,
        unpack: spec.unpack.0,
        disk: spec.disk.0,
        sandbox_s: spec.sandbox.0.as_secs_f64(),
        pull_overhead_s: spec.pull_overhead.0.as_secs_f64(),
        agent_start_s: spec.agent_start.0.as_secs_f64(),
        agent_start_sigma: spec.agent_start_sigma,
    }
}

/// What is real and what is made up, said in every file.
fn provenance(spec: &Spec, seed: u64) -> String {
    let layers = if spec.catalogue.is_some() {
        " Layers of catalogue images (converged-computing/container-chonks, a 2024 crawl of public \
         manifests), their compressed sizes and the first 16 digits of their digests are real; the \
         other digits are made from those, unpacked sizes are taken to be 2.5 times the compressed ones."
    } else {
        ""
    };
    let own = format!(
        "Composed by forelay compose from {}.toml with seed {seed}: a closed-loop model of HPAs, \
         scheduler, autoscaler, nodes and kubelets; no cluster ran. Arrival and boot times are drawn, \
         watchers see signals as late and as lossy as the spec says.{layers}",
        spec.name
    );
    if spec.provenance.is_empty() {
        own
    } else {
        format!("{} {own}", spec.provenance.trim_end())
    }
}
