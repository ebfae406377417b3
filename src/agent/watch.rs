//! Brings plans: the node's own object and its pool's, whichever exist.

use std::fmt::Debug;
use std::pin::pin;

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::{Found, Options, Seen};
use crate::api::{ConvertError, NodePrefetch, PoolPrefetch, pool_object_name};
use crate::domain::plan::Plan;
use crate::source::kubernetes::objects::instant;

/// Watches until `end`; an API server that is away is asked again and again, with pauses.
pub(super) fn watch(
    client: Client,
    options: &Options,
    tell: mpsc::Sender<Seen>,
    end: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let node = options.node.clone();
    let labels = options.pool_labels.clone();
    let (pool, known) = watch::channel(options.pool.clone());
    let own = own(one(client.clone(), &node), tell.clone());
    let object = object(client.clone(), node, pool, labels, tell.clone());
    let pools = pools(client, known, tell);
    async move {
        tokio::select! {
            () = end.cancelled() => {}
            ((), (), ()) = async { tokio::join!(own, pools, object) } => {}
        }
    }
}

async fn own(states: impl Stream<Item = Option<NodePrefetch>>, tell: mpsc::Sender<Seen>) {
    let mut states = pin!(states);
    while let Some(object) = states.next().await {
        let seen = object.and_then(|object| node_plan(&object));
        if tell.send(Seen::Node(seen)).await.is_err() {
            return;
        }
    }
}

/// Follows the Node object: when it was made, and (unless that is known) its pool.
async fn object(
    client: Client,
    node: String,
    pool: watch::Sender<Option<String>>,
    labels: Vec<String>,
    tell: mpsc::Sender<Seen>,
) {
    let fixed = pool.borrow().is_some();
    let mut states = pin!(one::<Node>(client, &node));
    let mut born = None;
    while let Some(object) = states.next().await {
        let Some(node) = object else { continue };
        let made = instant(node.metadata.creation_timestamp.as_ref());
        if let Some(at) = made.filter(|_| made != born) {
            born = made;
            if tell.send(Seen::Born(at)).await.is_err() {
                return;
            }
        }
        // Known pools stay known: a Node that loses its label keeps its plan.
        if let Some(found) = pool_of(&node, &labels).filter(|_| !fixed) {
            pool.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&found);
                *known = Some(found);
                changed
            });
        }
    }
}

async fn pools(
    client: Client,
    mut known: watch::Receiver<Option<String>>,
    tell: mpsc::Sender<Seen>,
) {
    loop {
        let pool = known.borrow_and_update().clone();
        let watched = async {
            match pool {
                Some(pool) => pool_plans(client.clone(), pool, &tell).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = watched => return,
            changed = known.changed() => {
                if changed.is_err() {
                    return future::pending().await;
                }
            }
        }
    }
}

async fn pool_plans(client: Client, pool: String, tell: &mpsc::Sender<Seen>) {
    let name = pool_object_name(&pool);
    let mut states = pin!(one::<PoolPrefetch>(client, &name));
    while let Some(object) = states.next().await {
        // Two pools never share a name, but an object may have been made by hand.
        let object = object.filter(|object| object.spec.pool == pool);
        let plan = object.and_then(|object| readable(&name, Plan::try_from(&object.spec)));
        if tell.send(Seen::Pool(plan)).await.is_err() {
            return;
        }
    }
}

/// Follows one object by name: its every state, or that there is none.
fn one<K>(client: Client, name: &str) -> impl Stream<Item = Option<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = Config::default().fields(&format!("metadata.name={name}"));
    let name = name.to_owned();
    let mut listed = None;
    watcher(Api::<K>::all(client), config)
        .default_backoff()
        .filter_map(move |event| {
            let state = match event {
                Ok(Event::Init) => {
                    listed = None;
                    None
                }
                Ok(Event::InitApply(object)) => {
                    listed = Some(object);
                    None
                }
                Ok(Event::InitDone) => Some(listed.take()),
                Ok(Event::Apply(object)) => Some(Some(object)),
                Ok(Event::Delete(_)) => Some(None),
                Err(error) => {
                    let kind = K::kind(&());
                    tracing::warn!(%kind, name, %error, "watch failed; trying again");
                    None
                }
            };
            future::ready(state)
        })
}

fn node_plan(object: &NodePrefetch) -> Option<Found> {
    let plan = readable(&object.name_any(), Plan::try_from(&object.spec))?;
    Some(Found {
        plan,
        generation: object.metadata.generation,
        object: object.uid(),
    })
}

/// A plan that cannot be read is none: the node is left as it is without us.
fn readable(name: &str, plan: Result<Plan, ConvertError>) -> Option<Plan> {
    plan.inspect_err(|error| tracing::error!(name, %error, "plan cannot be read"))
        .ok()
}

fn pool_of(node: &Node, labels: &[String]) -> Option<String> {
    let found = labels.iter().find_map(|label| node.labels().get(label));
    found.filter(|pool| !pool.is_empty()).cloned()
}
