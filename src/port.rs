//! L3: the traits through which engines' drivers see the outside.

use futures::future::BoxFuture;

use crate::domain::time::Timestamp;

/// The only source of time outside the engines.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Completes when `now()` has reached `at`.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}
