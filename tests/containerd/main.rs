//! A real containerd, a real registry and real containers: what we put there, and who sees it.

#[path = "../delivery/registry.rs"]
mod registry;

mod calls;
mod cri;
mod daemon;
mod debian;
mod image;
mod keep;
mod place;
mod pod;
mod program;
mod recipe;
mod tree;
