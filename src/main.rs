//! The `forelay` program.

fn main() {}
