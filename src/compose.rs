//! A closed-loop model of a cluster: from a spec to the signals that its watchers would have seen.

pub mod error;
pub mod read;
pub mod spec;

#[cfg(test)]
mod tests;
