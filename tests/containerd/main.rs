//! A real containerd, a real registry and real containers: what we put there, and who sees it.

#[path = "../delivery/registry.rs"]
mod registry;
#[path = "../delivery/relay.rs"]
mod relay;

mod calls;
mod cri;
mod daemon;
mod debian;
mod delivery;
mod equal;
mod gate;
mod image;
mod keep;
mod kill;
mod mirror;
mod node;
mod place;
mod pod;
mod program;
mod recipe;
mod small;
mod tree;
