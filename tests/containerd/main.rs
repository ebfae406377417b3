//! A real containerd, a real registry and real containers: what we put there, and who sees it.

#[path = "../delivery/registry.rs"]
mod registry;
#[path = "../delivery/relay.rs"]
mod relay;

mod daemon;
mod delivery;
mod image;
mod node;
mod place;
mod pod;
mod program;
mod recipe;
mod tree;
