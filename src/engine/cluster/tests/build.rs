//! Signals and clusters for tests, in few words.

use std::time::Duration;

use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use crate::domain::node::{NodeShape, Resources};
use crate::domain::plan::{Plan, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::signal::{
    Fact, ImageResolved, NodeJoined, NodeNamed, NodeRemoved, NodeRequested, PodBound, PodGone,
    PodWanted, Scaler, Signal, Workload, WorkloadGone,
};
use crate::domain::time::Timestamp;
use crate::domain::workload::{ImageRole, ImageUse, PodNeeds, PodRef, WorkloadRef};
use crate::engine::cluster::{Cluster, Effect};
use crate::forecast::model::Model;

pub fn at(secs: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(1_000_000 + secs)
}

pub fn signal(secs: u64, fact: Fact) -> Signal {
    let id = format!(
        "{secs}/{}",
        serde_json::to_string(&fact).expect("facts have text keys")
    );
    Signal::new("/test", id, at(secs), fact)
}

pub fn image(name: &str) -> ImageRef {
    name.parse().expect("tests name things rightly")
}

pub fn needs(cpu_milli: u64, images: &[&str]) -> PodNeeds {
    PodNeeds {
        images: images
            .iter()
            .map(|name| ImageUse {
                image: image(name),
                container: (*name).into(),
                role: ImageRole::Main,
                always_pull: false,
            })
            .collect(),
        requests: Resources {
            cpu_milli,
            ..Resources::default()
        },
        ..PodNeeds::default()
    }
}

pub fn workload(name: &str) -> WorkloadRef {
    name.parse().expect("tests name things rightly")
}

pub fn shape(arch: &str) -> NodeShape {
    NodeShape {
        arch: Some(arch.into()),
        capacity: Some(Resources {
            cpu_milli: 8000,
            memory: ByteSize(32 << 30),
            ephemeral: ByteSize(100 << 30),
            pods: 110,
            ..Resources::default()
        }),
        ..NodeShape::default()
    }
}

pub fn joined(secs: u64, node: &str, pool: &str) -> Signal {
    joined_as(secs, node, pool, shape("amd64"))
}

pub fn joined_as(secs: u64, node: &str, pool: &str, shape: NodeShape) -> Signal {
    signal(
        secs,
        Fact::NodeJoined(NodeJoined {
            node: node.into(),
            uid: format!("uid-{node}"),
            pool: pool.into(),
            shape,
            ..NodeJoined::default()
        }),
    )
}

pub fn ready(secs: u64, node: &str) -> Signal {
    signal(secs, Fact::NodeReady(NodeNamed { node: node.into() }))
}

pub fn node_removed(secs: u64, node: &str) -> Signal {
    let removed = NodeRemoved {
        node: Some(node.into()),
        ..NodeRemoved::default()
    };
    signal(secs, Fact::NodeRemoved(removed))
}

pub fn requested(secs: u64, pool: &str, target: u32) -> Signal {
    let request = NodeRequested {
        pool: pool.into(),
        count: 1,
        target: Some(target),
        ..NodeRequested::default()
    };
    signal(secs, Fact::NodeRequested(request))
}

pub fn claimed(secs: u64, pool: &str, request: &str, replaces: Option<&str>) -> Signal {
    let request = NodeRequested {
        pool: pool.into(),
        count: 1,
        request: Some(request.into()),
        replaces: replaces.map(str::to_owned),
        ..NodeRequested::default()
    };
    signal(secs, Fact::NodeRequested(request))
}

pub fn pod(name: &str) -> PodRef {
    PodRef {
        name: format!("shop/{name}"),
        uid: format!("uid-{name}"),
    }
}

pub fn pending(secs: u64, name: &str, owner: &str, needs: &PodNeeds) -> Signal {
    let wanted = PodWanted {
        pod: pod(name),
        owner: Some(workload(owner)),
        needs: needs.clone(),
        unschedulable: true,
    };
    signal(secs, Fact::PodPending(wanted))
}

pub fn gated(secs: u64, name: &str, owner: &str, needs: &PodNeeds) -> Signal {
    let wanted = PodWanted {
        pod: pod(name),
        owner: Some(workload(owner)),
        needs: needs.clone(),
        unschedulable: false,
    };
    signal(secs, Fact::PodGated(wanted))
}

pub fn bound(secs: u64, name: &str, owner: &str, node: &str, needs: &PodNeeds) -> Signal {
    let bound = PodBound {
        pod: pod(name),
        node: node.into(),
        owner: Some(workload(owner)),
        needs: needs.clone(),
    };
    signal(secs, Fact::PodBound(bound))
}

pub fn pod_removed(secs: u64, name: &str) -> Signal {
    signal(secs, Fact::PodRemoved(PodGone { pod: pod(name) }))
}

pub fn applied(secs: u64, name: &str, counts: (u32, u32), needs: &PodNeeds) -> Signal {
    let applied = Workload {
        workload: workload(name),
        needs: needs.clone(),
        replicas: counts.0,
        updated: counts.1,
        surge: 0,
        schedule: None,
        time_zone: None,
        idle: false,
    };
    signal(secs, Fact::WorkloadApplied(applied))
}

pub fn workload_removed(secs: u64, name: &str) -> Signal {
    let gone = WorkloadGone {
        workload: workload(name),
    };
    signal(secs, Fact::WorkloadRemoved(gone))
}

pub fn scaler(target: &str, current: u32, desired: u32) -> Scaler {
    Scaler {
        scaler: workload("HorizontalPodAutoscaler/shop/hpa"),
        target: workload(target),
        current,
        desired,
        min: 1,
        max: 50,
        ratio: None,
        limited: None,
    }
}

/// One layer per hundred megabytes; images whose names begin alike up to a dash share the first.
pub fn manifest(name: &str, arch: &str, megabytes: u64) -> ImageManifest {
    let digest = |text: String| {
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        Digest::from_sha256(sum.as_ref())
    };
    let base = name.split('-').next().unwrap_or(name);
    let layers = (0..megabytes.div_ceil(100))
        .map(|n| Layer {
            digest: digest(if n == 0 {
                format!("{base}/{arch}")
            } else {
                format!("{name}/{arch}/{n}")
            }),
            size: ByteSize((megabytes - n * 100).min(100) * 1_000_000),
            unpacked: None,
        })
        .collect();
    ImageManifest {
        digest: digest(format!("manifest/{name}/{arch}")),
        platform: Platform::linux(arch),
        layers,
    }
}

pub fn resolved(secs: u64, name: &str, megabytes: u64) -> Signal {
    let fact = ImageResolved {
        image: image(name),
        manifests: vec![
            manifest(name, "amd64", megabytes),
            manifest(name, "arm64", megabytes),
        ],
    };
    signal(secs, Fact::ImageResolved(fact))
}

/// With the parameters as argued by hand: a story holds whatever a search finds.
pub fn cluster() -> Cluster {
    Cluster::new(Model::untuned())
}

/// Applies and steps once, at the time of the last signal.
pub fn fed(signals: &[Signal]) -> Cluster {
    let mut cluster = cluster();
    feed(&mut cluster, signals);
    cluster
}

pub fn feed(cluster: &mut Cluster, signals: &[Signal]) -> Vec<Effect> {
    let mut last = Timestamp::ZERO;
    for signal in signals {
        cluster.apply(signal);
        last = last.max(signal.observedtime);
    }
    cluster.step(last)
}

pub fn node_plan(cluster: &Cluster, node: &str) -> Vec<String> {
    names(cluster.plan(&Target::Node(node.into())))
}

pub fn pool_plan(cluster: &Cluster, pool: &str) -> Vec<String> {
    names(cluster.plan(&Target::Pool(pool.into())))
}

pub fn names(plan: Option<&Plan>) -> Vec<String> {
    plan.iter()
        .flat_map(|plan| &plan.entries)
        .map(|entry| {
            entry
                .image
                .repository()
                .trim_start_matches("library/")
                .to_owned()
        })
        .collect()
}
