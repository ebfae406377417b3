//! The scenario file: one header line, then signals in order of `observedtime`.
//!
//! JSON Lines, plain, gzip or zstd. Reader and writer hold one line at a time, so a file of any
//! size needs the memory of its longest line, and no line may be longer than [`MAX_LINE`].

mod error;
mod line;
mod read;
mod write;

pub use error::{ScenarioError, SkipReason, Spot};
pub use line::parse_line;
pub use read::{ScenarioReader, Strictness};
pub use write::ScenarioWriter;

/// Longest accepted line in bytes, the header included: about 250 times the longest line of the
/// recordings (a header with the manifests of 60 images), small enough to hold twice.
pub const MAX_LINE: usize = 16 << 20;

#[cfg(test)]
mod tests;
