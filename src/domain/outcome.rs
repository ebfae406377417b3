//! What became of a pod's images.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// When one pod on a new node had all its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodOutcome {
    /// `namespace/name`
    pub pod: String,
    /// Node.
    pub node: String,
    /// Bound to the node.
    pub bound: Timestamp,
    /// The node was Ready.
    pub node_ready: Timestamp,
    /// The last image was there.
    pub images_ready: Timestamp,
    /// Every image was there when the pod was bound: nothing was pulled for it.
    pub warm: bool,
}

impl PodOutcome {
    /// Image wait in seconds: images ready minus max(bound, node Ready), never negative
    /// (design section 7).
    #[must_use]
    pub fn wait_s(&self) -> f64 {
        self.images_ready
            .secs_since(self.bound.max(self.node_ready))
            .max(0.0)
    }
}
