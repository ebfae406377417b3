//! L5: small real peers for the demo and for tests: API server, registry, links, kubelets.

pub mod apiserver;
pub mod kafka;
pub mod kubelet;
pub mod link;
pub mod machine;
pub mod objects;
pub mod origin;
pub mod player;
pub mod prometheus;
