//! L2: what to send where, in which order, within which budget; pure.

pub mod admit;
pub mod closure;
pub mod explain;
pub mod flights;
pub mod order;
pub mod policy;
pub mod present;
pub mod select;
pub mod value;
