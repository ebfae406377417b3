//! What the cluster machine promises, told on small clusters.

mod budgets;
mod build;
mod learned;
mod properties;
mod staging;
mod stories;
mod waiting;
