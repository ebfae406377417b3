//! L4: container runtimes behind `port::ContainerRuntime`.

pub mod oci_layout;
