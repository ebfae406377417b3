//! L3: sans-IO machines: inputs and a time in, decisions and effects out.

pub mod blobs;
pub mod cluster;
pub mod learn;
pub mod network;
pub mod node;
pub mod trouble;
