//! Plans to objects on the API server, never with an epoch older than what is there.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions, Resource,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::api::{
    CONTROLLER_MANAGER, NodePrefetch, NodePrefetchSpec, PoolPrefetch, PoolPrefetchSpec,
    pool_object_name,
};
use crate::controller::desk::Shown;
use crate::controller::lease::Seat;
use crate::controller::roster::Member;
use crate::domain::plan::{Plan, Target};
use crate::domain::time::Timestamp;

/// One request may take so long; a write that is stuck must not hold its target's next plan.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects per page of a list: one has some 100 KiB, and 1.3 MiB at most.
const PAGE: u32 = 50;

/// Why something was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// This replica does not lead (any more).
    #[error("not the leader")]
    NotLeading,
    /// A newer leader has written the object.
    #[error("a newer leader has written it: {0}")]
    Outdated(String),
    /// The API server will not take it.
    #[error("refused: {0}")]
    Refused(String),
    /// No such object; of a write: the definitions are not installed.
    #[error("not there: {0}")]
    Missing(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
}

/// An object that is there, in few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose plan.
    pub target: Target,
    /// Epoch that it was written with.
    pub epoch: u64,
    /// With or without entries.
    pub shown: Shown,
    /// When the last entry is void.
    pub expires: Option<Timestamp>,
}

/// Writes plans.
#[derive(Clone)]
pub struct Publisher {
    nodes: Api<NodePrefetch>,
    pools: Api<PoolPrefetch>,
    client: kube::Client,
    seat: Seat,
}

/// The members of a plan's object that a list has to tell.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Outline {
    node: String,
    pool: String,
    epoch: u64,
    entries: Vec<Expiry>,
}

#[derive(Clone, Debug, Deserialize)]
struct Expiry {
    expires: Timestamp,
}

#[derive(kube::Resource, Clone, Debug, Deserialize)]
#[resource(inherit = NodePrefetch)]
struct NodeOutline {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Outline,
}

#[derive(kube::Resource, Clone, Debug, Deserialize)]
#[resource(inherit = PoolPrefetch)]
struct PoolOutline {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Outline,
}

impl Publisher {
    /// Writes while `seat` leads.
    #[must_use]
    pub fn new(client: kube::Client, seat: Seat) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            pools: Api::all(client.clone()),
            client,
            seat,
        }
    }

    /// Writes a plan with the epoch of now. `owner` is the node of a node's plan.
    pub async fn apply(&self, plan: &Plan, owner: Option<&Member>) -> Result<Shown, PublishError> {
        let epoch = self.seat.epoch_now().ok_or(PublishError::NotLeading)?;
        let plan = &Plan {
            epoch,
            ..plan.clone()
        };
        match &plan.target {
            Target::Node(name) => {
                let mut object = NodePrefetch::new(name, NodePrefetchSpec::from(plan));
                object.metadata.owner_references = owner.map(|member| vec![owned_by(name, member)]);
                write(&self.nodes, &object).await?;
            }
            Target::Pool(pool) => {
                let name = pool_object_name(pool);
                let object = PoolPrefetch::new(&name, PoolPrefetchSpec::from(plan));
                write(&self.pools, &object).await?;
            }
        }
        Ok(if plan.entries.is_empty() {
            Shown::Empty
        } else {
            Shown::Full
        })
    }

    /// Removes a target's object.
    ///
    /// A deletion carries no epoch, so the object is first emptied, which does, and then deleted in
    /// exactly that state: a paused old leader can do neither.
    pub async fn remove(&self, target: &Target, now: Timestamp) -> Result<Shown, PublishError> {
        let epoch = self.seat.epoch_now().ok_or(PublishError::NotLeading)?;
        let empty = Plan::empty(target.clone(), epoch, now);
        match target {
            Target::Node(name) => {
                if exists(&self.nodes, name).await? {
                    let object = NodePrefetch::new(name, NodePrefetchSpec::from(&empty));
                    let written = write(&self.nodes, &object).await?;
                    delete(&self.nodes, &written).await?;
                }
            }
            Target::Pool(pool) => {
                let name = pool_object_name(pool);
                if exists(&self.pools, &name).await? {
                    let object = PoolPrefetch::new(&name, PoolPrefetchSpec::from(&empty));
                    let written = write(&self.pools, &object).await?;
                    delete(&self.pools, &written).await?;
                }
            }
        }
        Ok(Shown::Absent)
    }

    /// Everything that is there, whoever wrote it.
    pub async fn list(&self) -> Result<Vec<Found>, PublishError> {
        let mut found = Vec::new();
        let nodes = Api::<NodeOutline>::all(self.client.clone());
        pages(&nodes, |object| {
            found.push(object.spec.found(Target::Node(object.spec.node.clone())));
        })
        .await?;
        let pools = Api::<PoolOutline>::all(self.client.clone());
        pages(&pools, |object| {
            found.push(object.spec.found(Target::Pool(object.spec.pool.clone())));
        })
        .await?;
        Ok(found)
    }
}

impl Outline {
    fn found(&self, target: Target) -> Found {
        Found {
            target,
            epoch: self.epoch,
            shown: if self.entries.is_empty() {
                Shown::Empty
            } else {
                Shown::Full
            },
            expires: self.entries.iter().map(|entry| entry.expires).max(),
        }
    }
}

fn owned_by(node: &str, member: &Member) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid: member.uid.clone(),
        controller: None,
        block_owner_deletion: None,
    }
}

async fn write<K>(api: &Api<K>, object: &K) -> Result<K, PublishError>
where
    K: Resource + Clone + Serialize + DeserializeOwned + Debug,
{
    let name = object.meta().name.as_deref().unwrap_or_default();
    let params = PatchParams::apply(CONTROLLER_MANAGER).force();
    bounded(api.patch(name, &params, &Patch::Apply(object))).await
}

async fn exists<K>(api: &Api<K>, name: &str) -> Result<bool, PublishError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    Ok(bounded(api.get_metadata_opt(name)).await?.is_some())
}

async fn delete<K>(api: &Api<K>, object: &K) -> Result<(), PublishError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let meta = object.meta();
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
    });
    match bounded(api.delete(meta.name.as_deref().unwrap_or_default(), &params)).await {
        Ok(_) => Ok(()),
        Err(PublishError::Missing(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn pages<K>(api: &Api<K>, mut each: impl FnMut(&K)) -> Result<(), PublishError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = bounded(api.list(&params)).await?;
        page.items.iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, PublishError> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer.map_err(PublishError::from),
        Err(_) => Err(PublishError::Unavailable(
            "the API server did not answer in time".into(),
        )),
    }
}

impl From<kube::Error> for PublishError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 422 => {
                if status.message.contains("epoch never goes back") {
                    Self::Outdated(status.message.clone())
                } else {
                    Self::Refused(status.message.clone())
                }
            }
            kube::Error::Api(status) if status.code == 403 || status.code == 400 => {
                Self::Refused(status.message.clone())
            }
            kube::Error::Api(status) if status.code == 404 => Self::Missing(status.message.clone()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
