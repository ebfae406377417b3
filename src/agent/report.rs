//! Writes the status of the node's own object.

use futures::future::BoxFuture;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::json;

use crate::api::{AGENT_MANAGER, GROUP, NodePrefetch, NodePrefetchStatus, VERSION};

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
