//! L4: container runtimes behind `port::ContainerRuntime`.

pub mod layer;
pub mod oci_layout;
