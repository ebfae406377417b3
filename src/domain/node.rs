//! What is known of a node before and after it exists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::quantity::ByteSize;

/// Amounts that pods request and nodes offer.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Thousandths of a CPU.
    #[serde(skip_serializing_if = "is_zero")]
    pub cpu_milli: u64,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "is_none_size")]
    pub memory: ByteSize,
    /// Bytes of ephemeral storage.
    #[serde(skip_serializing_if = "is_none_size")]
    pub ephemeral: ByteSize,
    /// Number of pods (a node's limit; a pod requests one).
    #[serde(skip_serializing_if = "is_zero")]
    pub pods: u64,
    /// Extended resources by name, in whole units (`nvidia.com/gpu`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<String, u64>,
}

/// A taint: pods that do not tolerate it stay away (`NoSchedule`, `NoExecute`).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Taint {
    /// e.g. `nvidia.com/gpu`
    pub key: String,
    /// often empty
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`
    pub effect: String,
}

/// The attributes that decide which pods can land on a node.
///
/// For a node that does not exist yet every member may be missing: missing means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeShape {
    /// `amd64`, `arm64`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// `topology.kubernetes.io/zone`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What pods may request of it (allocatable).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Resources>,
    /// All labels that are known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Lasting taints; those that a node loses on its way to Ready are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_none_size(value: &ByteSize) -> bool {
    value.0 == 0
}

impl Resources {
    /// Whether `self` can be taken out of `free`, member by member.
    #[must_use]
    pub fn fits_in(&self, free: &Self) -> bool {
        self.pods <= free.pods && self.fits_beside_pods(free)
    }

    /// The same of everything but the number of pods.
    #[must_use]
    pub fn fits_beside_pods(&self, free: &Self) -> bool {
        self.cpu_milli <= free.cpu_milli
            && self.memory <= free.memory
            && (self.ephemeral.0 == 0 || self.ephemeral <= free.ephemeral)
            && self
                .extended
                .iter()
                .all(|(name, amount)| free.extended.get(name).copied().unwrap_or(0) >= *amount)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        let mut extended = self.extended.clone();
        for (name, amount) in &more.extended {
            let have = extended.entry(name.clone()).or_default();
            *have = have.saturating_add(*amount);
        }
        Self {
            cpu_milli: self.cpu_milli.saturating_add(more.cpu_milli),
            memory: self.memory + more.memory,
            ephemeral: self.ephemeral + more.ephemeral,
            pods: self.pods.saturating_add(more.pods),
            extended,
        }
    }

    /// What is left of `self` after `taken`; never below zero.
    #[must_use]
    pub fn minus(&self, taken: &Self) -> Self {
        let mut extended = self.extended.clone();
        for (name, amount) in &taken.extended {
            if let Some(left) = extended.get_mut(name) {
                *left = left.saturating_sub(*amount);
            }
        }
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(taken.cpu_milli),
            memory: self.memory - taken.memory,
            ephemeral: self.ephemeral - taken.ephemeral,
            pods: self.pods.saturating_sub(taken.pods),
            extended,
        }
    }
}
