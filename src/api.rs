//! L4: the custom resources of `forelay.dev/v1alpha1`, as types and as manifests.

mod convert;
mod entry;
mod inventory;
mod node_prefetch;
mod policy;
mod pool_prefetch;
mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use convert::{ConvertError, pool_object_name};
pub use entry::{Because, Entry, LetGoEntry, MAX_ENTRIES, NodesExpected};
pub use inventory::{INVENTORY_BYTES_MAX, INVENTORY_MAX, Inventory, InventoryImage, NAMES_MAX};
pub use node_prefetch::{NodePrefetch, NodePrefetchSpec};
pub use policy::{LoadQuery, PolicyMode, PrefetchPolicy, PrefetchPolicySpec, PrefetchPolicyStatus};
pub use pool_prefetch::{PoolPrefetch, PoolPrefetchSpec, PoolPrefetchStatus};
pub use status::{ImagePhase, ImageStatus, NodePrefetchStatus, Phase, Timings};

/// API group of all resources.
pub const GROUP: &str = "forelay.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";
/// Field manager of everything that the controller applies.
pub const CONTROLLER_MANAGER: &str = "forelay";
/// Field manager of the status that an agent applies.
pub const AGENT_MANAGER: &str = "forelay-agent";
/// Field manager of the inventory, which an agent writes beside it: an apply of the one must not take the other.
pub const INVENTORY_MANAGER: &str = "forelay-agent-inventory";

/// All definitions, in the order in which they are written.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        NodePrefetch::crd(),
        PoolPrefetch::crd(),
        PrefetchPolicy::crd(),
    ]
}

/// All definitions as one YAML stream: the text of `deploy/crds/forelay.yaml`.
#[must_use]
pub fn crds_yaml() -> String {
    let mut text = String::from("# Made by `forelay crds`; a test compares.\n");
    for crd in crds() {
        let yaml = serde_saphyr::to_string(&crd).expect("a definition is plain data");
        text.push_str("---\n");
        text.push_str(&yaml);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests;
