//! `[pools.NAME]`: the machine, how many, how fast they come, and what their nodes can do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::compose::spec::{Cpu, Draw};
use crate::config::unit::{Rate, Size, Span};
use crate::domain::node::Taint;
use crate::domain::quantity::{Bandwidth, ByteSize};

/// Nodes of one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// `amd64`, `arm64`.
    pub arch: String,
    /// `node.kubernetes.io/instance-type`.
    pub instance_type: String,
    /// CPUs that pods may request (allocatable).
    pub cpu: Cpu,
    /// Memory that pods may request (allocatable).
    pub memory: Size,
    /// Most pods of a node.
    pub pods: u32,
    /// Ephemeral storage that pods may request.
    pub ephemeral: Size,
    /// Extended resources, in whole units.
    pub extended: BTreeMap<String, u64>,
    /// Zones that new nodes are spread over.
    pub zones: Vec<String>,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Lasting taints.
    pub taints: Vec<Taint>,
    /// Nodes that are there from the beginning and never go.
    pub min: u32,
    /// Most nodes.
    pub max: u32,
    /// Whether the cloud may take nodes back.
    pub spot: bool,
    /// For the priority expander, and Karpenter's weight: the highest is tried first.
    pub priority: i32,
    /// Karpenter takes the cheapest of equal weight.
    pub price: f64,
    /// From the autoscaler's decision to the Node object.
    pub arrival: Draw,
    /// Karpenter: the part of `arrival` (0 to 1) after which the instance exists.
    pub launched: f64,
    /// From the Node object to Ready.
    pub boot: Draw,
    /// Times when no machine can be had, counted from `start`.
    pub stock_outs: Vec<StockOut>,
    /// Bytes per second into one node.
    pub link: Rate,
    /// Compressed bytes per second that one core unpacks and writes.
    pub unpack: Rate,
    /// Bytes of images that a node may hold.
    pub disk: Size,
    /// Share of `disk` at which the kubelet begins to remove images (`imageGCHighThresholdPercent`).
    pub gc_high: f64,
    /// Share of `disk` down to which it removes them (`imageGCLowThresholdPercent`).
    pub gc_low: f64,
    /// Image pulls at once: 1 is `serializeImagePulls`.
    pub pulls: u32,
    /// From a pod's binding to the kubelet's look for its first image.
    pub sandbox: Span,
    /// What a pull costs beside its bytes.
    pub pull_overhead: Span,
    /// From the Node object to a running agent: the median.
    pub agent_start: Span,
    /// Its spread: the sigma of a log-normal.
    pub agent_start_sigma: f64,
}

/// A time in which no machine can be had.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockOut {
    /// Its beginning, from `start`.
    pub from: Span,
    /// Its end, from `start`.
    pub to: Span,
    /// Only in this zone.
    pub zone: Option<String>,
}

impl Default for Pool {
    /// A general machine of eight CPUs, as in the recordings. Times: `docs/compose.md`, "Calibration".
    fn default() -> Self {
        Self {
            arch: "amd64".to_owned(),
            instance_type: "c8-m32".to_owned(),
            cpu: Cpu(7910),
            memory: Size(ByteSize(32_115_875_840)),
            pods: 110,
            ephemeral: Size(ByteSize(95_551_679_124)),
            extended: BTreeMap::new(),
            zones: vec!["region-1a".to_owned()],
            labels: BTreeMap::new(),
            taints: Vec::new(),
            min: 0,
            max: 100,
            spot: false,
            priority: 0,
            price: 1.0,
            arrival: Draw::quantiles(24.0, 32.0, 71.0),
            launched: 0.3,
            boot: Draw::quantiles(10.0, 16.0, 32.0),
            stock_outs: Vec::new(),
            link: Rate(Bandwidth(59e6)),
            unpack: Rate(Bandwidth(65e6)),
            disk: Size(ByteSize(95_551_679_124)),
            gc_high: 0.85,
            gc_low: 0.80,
            pulls: 1,
            sandbox: Span(Duration::from_millis(700)),
            pull_overhead: Span(Duration::from_millis(400)),
            agent_start: Span(Duration::from_secs(5)),
            agent_start_sigma: 0.0,
        }
    }
}
