//! Plays a scenario's signals into an API server and onto Kafka, each at its observed time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::domain::node::NodeShape;
use crate::domain::signal::{Fact, NodeInterrupted, NodeJoined, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::embedded::objects;
use crate::port::Clock;

/// What the stage has to do when a node comes or goes.
#[derive(Clone, Debug)]
pub enum Cue {
    /// A Node object exists.
    Joined(Box<NodeJoined>, Timestamp),
    /// It is ready.
    Ready(String, Timestamp),
    /// It is gone.
    Removed(String, Timestamp),
}

/// Where a player plays to.
pub struct Player {
    client: Client,
    clock: Arc<dyn Clock>,
    cues: mpsc::UnboundedSender<Cue>,
    /// Signals that travel over Kafka instead of the API server.
    kafka: mpsc::Sender<Signal>,
    shapes: BTreeMap<String, NodeShape>,
    /// uids that the API server gave: signals carry the recorded ones.
    uids: BTreeMap<String, String>,
    /// `Kind/namespace/name` of what was written: patched from then on.
    known: BTreeSet<String>,
    refused: BTreeMap<String, u64>,
}

impl Player {
    /// A player at the beginning of its score.
    #[must_use]
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        cues: mpsc::UnboundedSender<Cue>,
        kafka: mpsc::Sender<Signal>,
    ) -> Self {
        Self {
            client,
            clock,
            cues,
            kafka,
            shapes: BTreeMap::new(),
            uids: BTreeMap::new(),
            known: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Plays every signal at its time; returns how many writes were refused, by reason.
    pub async fn play(mut self, signals: &[Signal]) -> BTreeMap<String, u64> {
        for signal in signals.iter().filter(|signal| !signal.truth) {
            self.clock.sleep_until(signal.observedtime).await;
            if let Err(error) = self.one(signal).await {
                tracing::debug!(id = signal.id, kind = signal.fact.event_type(), %error, "refused");
                let reason = match error {
                    kube::Error::Api(status) => status.reason.clone(),
                    _ => "connection".into(),
                };
                *self.refused.entry(reason).or_default() += 1;
            }
        }
        self.refused
    }

    async fn one(&mut self, signal: &Signal) -> Result<(), kube::Error> {
        let at = signal.observedtime;
        match &signal.fact {
            Fact::NodeJoined(joined) => self.join(joined, at).await,
            Fact::NodeReady(ready) => {
                let Some(shape) = self.shapes.get(&ready.node) else {
                    return Ok(());
                };
                let patch = objects::node_ready(shape, at);
                self.patch("Node", "", &ready.node, &patch).await?;
                self.cue(Cue::Ready(ready.node.clone(), at));
                Ok(())
            }
            Fact::NodeInterrupted(interrupted) => self.interrupt(interrupted).await,
            Fact::NodeRemoved(removed) => match &removed.node {
                Some(node) => {
                    self.cue(Cue::Removed(node.clone(), at));
                    self.delete("Node", "", node).await
                }
                None => self.send(signal).await,
            },
            Fact::PodPending(wanted) => {
                let object = objects::pending_pod(wanted, false, at);
                self.put_pod(object, wanted.owner.as_ref()).await
            }
            Fact::PodGated(wanted) => {
                let object = objects::pending_pod(wanted, true, at);
                self.put_pod(object, wanted.owner.as_ref()).await
            }
            Fact::PodBound(bound) => {
                let object = objects::bound_pod(bound, at);
                self.put_pod(object, bound.owner.as_ref()).await
            }
            Fact::PodRemoved(gone) => {
                let (namespace, name) = split(&gone.pod.name);
                self.delete("Pod", namespace, name).await
            }
            Fact::WorkloadApplied(workload) => match objects::workload(workload, at) {
                Some(object) => {
                    let uid = self.put(object).await?;
                    self.uids.insert(workload.workload.to_string(), uid);
                    Ok(())
                }
                None => Ok(()),
            },
            Fact::WorkloadRemoved(gone) => {
                self.uids.remove(&gone.workload.to_string());
                let w = &gone.workload;
                self.delete(&w.kind, &w.namespace, &w.name).await
            }
            Fact::ScalerObserved(scaler) => self.put(objects::scaler(scaler, at)).await.map(drop),
            Fact::NodeOffered(_)
            | Fact::NodeRequested(_)
            | Fact::NodeLaunched(_)
            | Fact::PodNominated(_)
            | Fact::CapacityAnnounced(_) => self.send(signal).await,
            // Load is asked for over the Prometheus endpoint, images at the registry; the rest is
            // what Forelay itself says.
            Fact::LoadSampled(_)
            | Fact::NodeInventory(_)
            | Fact::ImageResolved(_)
            | Fact::PodStarted(_)
            | Fact::ImagePulled(_)
            | Fact::TransferFinished(_)
            | Fact::PlanPublished(_)
            | Fact::PrefetchFinished(_) => Ok(()),
        }
    }

    async fn join(&mut self, joined: &NodeJoined, at: Timestamp) -> Result<(), kube::Error> {
        self.shapes
            .insert(joined.node.clone(), joined.shape.clone());
        self.put(objects::node(joined, at)).await?;
        self.cue(Cue::Joined(Box::new(joined.clone()), at));
        Ok(())
    }

    async fn interrupt(&self, interrupted: &NodeInterrupted) -> Result<(), kube::Error> {
        let Some(shape) = self.shapes.get(&interrupted.node) else {
            return Ok(());
        };
        let mut taints = json!(shape.taints);
        if let Some(taints) = taints.as_array_mut() {
            taints.push(json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}));
        }
        let patch = json!({"spec": {"taints": taints}});
        self.patch("Node", "", &interrupted.node, &patch).await
    }

    async fn send(&self, signal: &Signal) -> Result<(), kube::Error> {
        let mut signal = signal.clone();
        if let Fact::PodNominated(nominated) = &mut signal.fact
            && let Some(uid) = self.uids.get(&nominated.pod.name)
        {
            nominated.pod.uid.clone_from(uid);
        }
        // A closed channel means that the run is over (or has no Kafka: reactive).
        let _ = self.kafka.send(signal).await;
        Ok(())
    }

    async fn put_pod(
        &mut self,
        mut object: Value,
        owner: Option<&WorkloadRef>,
    ) -> Result<(), kube::Error> {
        // An owner that does not exist would have the garbage collector take the pod away.
        let owner_uid = owner.and_then(|owner| self.uids.get(&owner.to_string()));
        match owner_uid {
            Some(uid) => object["metadata"]["ownerReferences"][0]["uid"] = json!(uid),
            None => drop(
                object["metadata"]
                    .as_object_mut()
                    .map(|m| m.remove("ownerReferences")),
            ),
        }
        let name = format!(
            "{}/{}",
            object["metadata"]["namespace"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        let uid = self.put(object).await?;
        self.uids.insert(name, uid);
        Ok(())
    }

    /// Creates the object or brings it to this state, status included; returns its uid.
    ///
    /// A pod is patched, for binding it is not the same write as making it. All others are replaced
    /// whole: a merge patch would keep members that the new state no longer has (an HPA's
    /// `ScalingLimited` for one).
    async fn put(&mut self, mut object: Value) -> Result<String, kube::Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, namespace) = (
            text(&object["kind"]),
            text(&object["metadata"]["namespace"]),
        );
        let name = text(&object["metadata"]["name"]);
        self.need_namespace(&namespace).await;
        let api = self.api(&kind, &namespace);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("creationTimestamp");
        }
        let key = format!("{kind}/{namespace}/{name}");
        let new = !self.known.contains(&key);
        // A Node keeps the status that its kubelet registers it with; all others begin without.
        let status = object
            .as_object_mut()
            .filter(|_| !(new && kind == "Node"))
            .and_then(|members| members.remove("status"));
        let parameters = PostParams::default();
        let mut live = if new {
            let created = api.create(&parameters, &read(object)?).await?;
            self.known.insert(key);
            created
        } else if kind == "Pod" {
            if object["spec"]["schedulingGates"].is_null() {
                object["spec"]["schedulingGates"] = Value::Null;
            }
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&object))
                .await?
        } else {
            api.replace(&name, &parameters, &read(object)?).await?
        };
        let uid = live.uid().unwrap_or_default();
        let Some(mut status) = status else {
            return Ok(uid);
        };
        if kind == "Pod" {
            let patch = json!({"status": status});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await?;
        } else {
            // The controllers of the recording had seen what they tell of. (Kinds that have no such
            // member drop it.)
            status["observedGeneration"] = json!(live.metadata.generation);
            live.data["status"] = status;
            live.metadata.resource_version = None;
            api.replace_status(&name, &parameters, &live).await?;
        }
        Ok(uid)
    }

    /// Recordings begin in clusters that have their namespaces already.
    async fn need_namespace(&mut self, name: &str) {
        if name.is_empty() || !self.known.insert(format!("Namespace//{name}")) {
            return;
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if let Ok(new) = read(object) {
            // One that is there already is as good.
            let _ = self
                .api("Namespace", "")
                .create(&PostParams::default(), &new)
                .await;
        }
    }

    /// Merge patch of an object, its status through the status endpoint.
    async fn patch(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), kube::Error> {
        let api = self.api(kind, namespace);
        let parameters = PatchParams::default();
        api.patch(
            name,
            &parameters,
            &Patch::Merge(&json!({"spec": patch["spec"]})),
        )
        .await?;
        if !patch["status"].is_null() {
            let status = json!({"status": patch["status"]});
            api.patch_status(name, &parameters, &Patch::Merge(&status))
                .await?;
        }
        Ok(())
    }

    async fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<(), kube::Error> {
        self.known.remove(&format!("{kind}/{namespace}/{name}"));
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        self.api(kind, namespace)
            .delete(name, &parameters)
            .await
            .map(drop)
    }

    fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let api_version = objects::api_version(kind);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    fn cue(&self, cue: Cue) {
        // Nobody listens any more once the stage is being cleared.
        let _ = self.cues.send(cue);
    }
}

fn read(object: Value) -> Result<DynamicObject, kube::Error> {
    serde_json::from_value(object).map_err(kube::Error::SerdeError)
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("default", name))
}
