//! L1: what has been seen, turned into probabilities.

pub mod model;
