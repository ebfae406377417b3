//! A real containerd, a real registry and real containers: what we put there, and who sees it.

#[path = "../delivery/registry.rs"]
mod registry;
#[path = "../delivery/relay.rs"]
mod relay;

mod between;
mod blobs;
mod by_hand;
mod calls;
mod cri;
mod cri_runtime;
mod daemon;
mod debian;
mod delivery;
mod equal;
mod flips;
mod gate;
mod guest;
mod image;
mod inventory;
mod keep;
mod kill;
mod mirror;
mod names;
mod node;
mod pins;
mod place;
mod pod;
mod program;
mod recipe;
mod shipped;
mod slow;
mod small;
mod stages;
mod tree;
mod unseen;
