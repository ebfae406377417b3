//! What the cluster machine promises, told on small clusters.

mod budgets;
mod build;
mod calibrated;
mod late;
mod learned;
mod offers;
mod properties;
mod staging;
mod stock;
mod stories;
mod waiting;
