//! L4: adapters that bring signals in.

pub mod admission;
pub mod cloudevents;
pub mod expander;
pub mod health;
pub mod kafka;
pub mod kubernetes;
pub mod lines;
pub mod prometheus;
pub mod recording;
pub mod rejection;
pub mod scenario;
pub mod schema;
