//! L4: what a running process says about itself, and how it ends.

pub mod admin;
pub mod clock;
pub mod log;
pub mod metric;
pub mod shutdown;
