//! Where an agent says how far it is: the node's own object, or whoever waits for one plan.

use futures::future::BoxFuture;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{AGENT_MANAGER, GROUP, NodePrefetch, NodePrefetchStatus, Phase, VERSION};

/// Where statuses go.
pub(super) trait Reporter: Send + Sync + 'static {
    /// Writes it; the reason in words when that was not possible.
    fn report(&self, status: NodePrefetchStatus) -> BoxFuture<'static, Result<(), String>>;
}

/// The API server.
pub(super) struct ApiReporter {
    api: Api<NodePrefetch>,
    node: String,
}

impl ApiReporter {
    pub(super) fn new(client: Client, node: String) -> Self {
        Self {
            api: Api::all(client),
            node,
        }
    }
}

impl Reporter for ApiReporter {
    fn report(&self, status: NodePrefetchStatus) -> BoxFuture<'static, Result<(), String>> {
        let api = self.api.clone();
        let node = self.node.clone();
        Box::pin(async move {
            let object = json!({
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "NodePrefetch",
                "status": status,
            });
            let params = PatchParams::apply(AGENT_MANAGER).force();
            match api
                .patch_status(&node, &params, &Patch::Apply(object))
                .await
            {
                Ok(_) => Ok(()),
                // The object is gone, and with it whoever would read.
                Err(Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

/// Whoever waits for one plan to be carried out.
pub(super) struct OnceReporter<T> {
    tell: T,
    /// Ends the agent.
    settled: CancellationToken,
}

impl<T> OnceReporter<T> {
    pub(super) fn new(tell: T, settled: CancellationToken) -> Self {
        Self { tell, settled }
    }
}

impl<T: Fn(&NodePrefetchStatus) + Send + Sync + 'static> Reporter for OnceReporter<T> {
    fn report(&self, status: NodePrefetchStatus) -> BoxFuture<'static, Result<(), String>> {
        (self.tell)(&status);
        if matches!(status.phase, Phase::Ready | Phase::Degraded) {
            self.settled.cancel();
        }
        Box::pin(async { Ok(()) })
    }
}
