//! L5: event-time replay of a scenario under several policies, on the engines of production.
//!
//! The physical model is `docs/transfer-model.md`. Read [`world`] for the loop, [`policy`] for what is
//! compared, [`score`] for the numbers.

pub mod agent;
pub mod baseline;
pub mod bootstrap;
pub mod cache;
pub mod calibrate;
pub mod clock;
pub mod explain;
pub mod facts;
pub mod kubelet;
pub mod oracle;
pub mod perturb;
pub mod policy;
pub mod report;
pub mod score;
pub mod tune;
pub mod world;

#[cfg(test)]
mod tests;
