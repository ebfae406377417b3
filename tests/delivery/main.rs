//! Blobs on their way, with real peers: Debian's registry, skopeo, sockets, files, kill -9.

mod cache;
mod cache_faults;
mod relay;
mod upstream;
