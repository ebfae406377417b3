//! L4: container runtimes behind `port::ContainerRuntime`.

pub mod containerd;
pub mod cri;
pub mod layer;
pub mod oci_layout;
pub mod room;
pub mod socket;
pub mod wire;
