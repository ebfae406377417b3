//! L0: what the words mean; no async, no clock, no Kubernetes types.

pub mod image;
pub mod inventory;
pub mod manifest;
pub mod node;
pub mod outcome;
pub mod placement;
pub mod plan;
pub mod quantity;
pub mod scenario;
pub mod signal;
pub mod time;
pub mod workload;
