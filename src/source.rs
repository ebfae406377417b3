//! L4: adapters that bring signals in.

pub mod scenario;
