//! Small scenarios for tests.

use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use crate::domain::node::NodeShape;
use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::scenario::{Header, HeaderType, PoolWorld, SharedWorld};
use crate::domain::signal::{Fact, NodeJoined, NodeNamed, PodBound, PodOnNode, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::{ImageRole, ImageUse, PodNeeds, PodRef};

/// Link of every node, bytes per second.
pub const LINK: f64 = 100.0;
/// Unpack rate, bytes per second.
pub const UNPACK: f64 = 50.0;
/// Overhead of a pull, seconds.
pub const OVERHEAD: f64 = 0.5;
/// From joining to a running agent, seconds.
pub const AGENT_START: f64 = 5.0;

/// A scenario under construction.
pub struct Build {
    pub header: Header,
    pub signals: Vec<Signal>,
}

/// Seconds after the start.
pub fn at(secs: f64) -> Timestamp {
    Timestamp::from_micros((secs * 1e6).round() as i64)
}

pub fn image_name(image: u8) -> ImageRef {
    format!("registry.example/app{image}:1")
        .parse()
        .expect("a reference of our own making")
}

impl Build {
    pub fn new() -> Self {
        let pool = PoolWorld {
            link: Bandwidth(LINK),
            unpack: Bandwidth(UNPACK),
            disk: ByteSize(1 << 40),
            sandbox_s: 0.0,
            pull_overhead_s: OVERHEAD,
            agent_start_s: AGENT_START,
            agent_start_sigma: 0.0,
        };
        let header = Header {
            kind: HeaderType::V1,
            name: "test".into(),
            story: String::new(),
            provenance: String::new(),
            licence: "Apache-2.0".into(),
            start: Timestamp::ZERO,
            end: at(1000.0),
            pools: [("*".to_owned(), pool)].into(),
            shared: SharedWorld {
                cache_uplink: Bandwidth(1e9),
                origin: Bandwidth(1e9),
            },
            images: [].into(),
        };
        Self {
            header,
            signals: Vec::new(),
        }
    }

    /// An image of layers `(number, bytes)`.
    pub fn image(mut self, image: u8, layers: &[(u8, u64)]) -> Self {
        let layer = |&(number, size): &(u8, u64)| Layer {
            digest: Digest::from_sha256(&[number; 32]),
            size: ByteSize(size),
            unpacked: None,
        };
        let manifest = ImageManifest {
            digest: Digest::from_sha256(&[image, 255].repeat(16)),
            platform: Platform::linux("amd64"),
            layers: layers.iter().map(layer).collect(),
        };
        self.header.images.insert(image_name(image), vec![manifest]);
        self
    }

    /// A node that joins, then is Ready.
    pub fn node(mut self, node: &str, joined: f64, ready: f64) -> Self {
        let shape = NodeShape {
            arch: Some("amd64".into()),
            ..NodeShape::default()
        };
        let fact = Fact::NodeJoined(NodeJoined {
            node: node.into(),
            uid: format!("uid-{node}"),
            pool: "general".into(),
            shape,
            ..NodeJoined::default()
        });
        self.push(joined, fact, false);
        self.push(
            ready,
            Fact::NodeReady(NodeNamed { node: node.into() }),
            false,
        );
        self
    }

    /// A pod that is bound, and started in the recording.
    pub fn pod(mut self, pod: &str, node: &str, bound: f64, images: &[u8]) -> Self {
        let pod = PodRef {
            name: format!("default/{pod}"),
            uid: format!("uid-{pod}"),
        };
        let uses = images.iter().map(|image| ImageUse {
            image: image_name(*image),
            container: format!("c{image}"),
            role: ImageRole::Main,
            always_pull: false,
        });
        let needs = PodNeeds {
            images: uses.collect(),
            ..PodNeeds::default()
        };
        let fact = Fact::PodBound(PodBound {
            pod: pod.clone(),
            node: node.into(),
            owner: None,
            needs,
        });
        self.push(bound, fact, false);
        let node = node.to_owned();
        self.push(
            bound + 500.0,
            Fact::PodStarted(PodOnNode { pod, node }),
            true,
        );
        self
    }

    /// Signals in the order in which they are observed.
    pub fn done(mut self) -> (Header, Vec<Signal>) {
        self.signals.sort_by_key(|signal| signal.observedtime);
        (self.header, self.signals)
    }

    pub fn push(&mut self, secs: f64, fact: Fact, truth: bool) {
        let id = self.signals.len().to_string();
        let mut signal = Signal::new("/test", id, at(secs), fact);
        signal.truth = truth;
        self.signals.push(signal);
    }

    /// Rates of the one pool.
    pub fn world(&mut self) -> &mut PoolWorld {
        self.header
            .pools
            .get_mut("*")
            .expect("every built header has the entry for all pools")
    }
}

/// Seconds from the start to `time`.
pub fn secs(time: Timestamp) -> f64 {
    time.since(Timestamp::ZERO).as_secs_f64()
}
