//! Where an agent says how far it is: the node's own object, or whoever waits for one plan.

use futures::future::BoxFuture;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::inventory::Change;
use crate::api::{
    AGENT_MANAGER, GROUP, INVENTORY_MANAGER, Inventory, NodePrefetch, NodePrefetchStatus, Phase,
    VERSION,
};

/// Where statuses go.
pub(super) trait Reporter: Send + Sync + 'static {
    /// Writes it; the reason in words when that was not possible.
    fn report(&self, status: NodePrefetchStatus) -> BoxFuture<'static, Result<(), String>>;

    /// Whether somebody wants to know what the node has.
    fn takes_inventory(&self) -> bool {
        false
    }

    /// Writes what has changed of it, and answers what is there then; the reason in words when that was not
    /// possible.
    fn inventory(
        &self,
        _change: &Change,
        _all: &Inventory,
    ) -> BoxFuture<'static, Result<Option<Inventory>, String>> {
        Box::pin(async { Ok(None) })
    }
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
            let object = applied(json!(status));
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

    fn takes_inventory(&self) -> bool {
        true
    }

    /// All of it is applied, which replaces what an earlier agent left; a part is a merge patch, which needs no
    /// more than itself. Both are the same manager's, and an apply is forced: the two count as two.
    fn inventory(
        &self,
        change: &Change,
        all: &Inventory,
    ) -> BoxFuture<'static, Result<Option<Inventory>, String>> {
        let api = self.api.clone();
        let node = self.node.clone();
        let (patch, force) = match change {
            Change::Whole => {
                let object = applied(json!({"inventory": all}));
                (Patch::Apply(object), true)
            }
            Change::Delta(delta) => {
                let patch = json!({"status": {"inventory": delta}});
                (Patch::Merge(patch), false)
            }
        };
        Box::pin(async move {
            let params = PatchParams {
                field_manager: Some(INVENTORY_MANAGER.to_owned()),
                force,
                ..PatchParams::default()
            };
            match api.patch_status(&node, &params, &patch).await {
                Ok(object) => Ok(object.status.and_then(|status| status.inventory)),
                // As above.
                Err(Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

fn applied(status: Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "NodePrefetch",
        "status": status,
    })
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
