//! Forelay lays image layers down on a Kubernetes node before the pods that need them arrive.
//!
//! The code is layered; a test (`tests/tidy.rs`) checks that imports only go down:
//!
//! | layer | modules | what they are |
//! | --- | --- | --- |
//! | L0 | [`domain`] | the words: image, node, workload, signal, plan, quantities, time |
//! | L1 | [`forecast`] | what has been seen, turned into probabilities |
//! | L2 | [`plan`] | what to send where, in which order, within which budget |
//! | L3 | [`engine`], [`port`] | sans-IO machines; the traits through which the outside is seen |
//! | L4 | `source`, `registry`, `store`, `runtime`, `api`, [`config`], [`telemetry`] | adapters, each to one outside thing |
//! | L5 | `controller`, `agent`, `cache`, `sim`, `compose`, `embedded` | drivers of the engines: processes, replay, played peers, a played cluster |
//! | L6 | [`cli`] | the command line, the only place that knows everybody |
//!
//! Start reading at [`domain::signal`], then [`engine::cluster`].

pub mod agent;
pub mod api;
pub mod cache;
pub mod cli;
pub mod compose;
pub mod config;
pub mod controller;
pub mod domain;
pub mod embedded;
pub mod engine;
pub mod forecast;
pub mod plan;
pub mod port;
pub mod registry;
pub mod runtime;
pub mod sim;
pub mod source;
pub mod store;
pub mod telemetry;
