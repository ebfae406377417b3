//! L1: what has been seen, turned into probabilities.

pub mod arrival;
pub mod backtest;
pub mod calendar;
pub mod calibrate;
pub mod combine;
pub mod counts;
pub mod demand;
pub mod history;
pub mod load;
pub mod model;
pub mod order;
pub mod packing;
pub mod profile;
pub mod promise;
pub mod scaler;
pub mod tally;
