//! Blobs on their way, with real peers: Debian's registry, skopeo, sockets, files, kill -9.

mod access;
mod agent;
mod agent_kill;
mod agent_late;
mod cache;
mod cache_faults;
mod catalogue;
mod inventory;
mod mirror;
mod node;
mod registry;
mod relay;
mod upstream;
