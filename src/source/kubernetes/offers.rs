//! What an expander call tells: pools that may grow, what their nodes would be, who waits.

use std::collections::BTreeMap;

use crate::domain::node::NodeShape;
use crate::domain::signal::{Fact, NodeOffered, Signal};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::node::Node;
use crate::source::kubernetes::objects::pod::Pod;
use crate::source::kubernetes::shape::node_shape;
use crate::source::kubernetes::{Change, Out, Translator, full_name};

/// The source of what is told here.
const SOURCE: &str = "/expander";

/// Pods that one offer names: a signal is no list of a cluster.
const NAMES_MAX: usize = 1_000;

/// Groups whose pool is remembered. Autoscalers do not get along with a tenth of it.
const GROUPS_MAX: usize = 4_096;

/// A label that a group's sample has of another node, or made up.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Annotation of pods that exist in the autoscaler's simulation alone, and its values: copies for controllers that
/// have not made all theirs (simulator/fake/pod.go), and those of a CapacityBuffer (`podType`,
/// processors/capacitybuffer/pod_list_processor.go).
const FAKE_KEY: &str = "podtype";
const FAKES: [&str; 2] = ["fakepod", "capacityBufferFakePod"];

/// One call, decoded.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// When the call came.
    pub at: Timestamp,
    /// Every pod of every choice, once.
    pub pods: Vec<Pod>,
    /// What the choice is between.
    pub choices: Vec<Choice>,
    /// A sample node of each group of the cluster, by the autoscaler's name of the group.
    pub samples: BTreeMap<String, Node>,
}

/// One group that could grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The autoscaler's name of the group.
    pub group: String,
    /// Nodes that it would get.
    pub nodes: u32,
    /// The pods that they would take, as places in [`Offer::pods`].
    pub pods: Vec<usize>,
}

/// Whether a pod exists in the autoscaler's simulation only.
#[must_use]
pub fn is_fake(pod: &Pod) -> bool {
    let mut annotations = pod.metadata.annotations.iter().flatten();
    annotations
        .any(|(key, value)| key.eq_ignore_ascii_case(FAKE_KEY) && FAKES.contains(&value.as_str()))
}

impl Translator {
    /// What an offer says. `listed` says that the watch of pods is in step: only then can it be told which of the
    /// pods are news.
    pub fn offered(&mut self, offer: &Offer, listed: bool) -> Vec<Signal> {
        self.learn_groups(&offer.samples);
        let mut signals = Vec::new();
        let (mut told, mut fake) = (0, 0);
        for pod in &offer.pods {
            if is_fake(pod) {
                fake += 1;
            } else if listed && self.is_news(pod) {
                let mut out = Out {
                    meta: &pod.metadata,
                    plural: "pods",
                    observed: offer.at,
                    signals: Vec::new(),
                };
                self.pod(Change::Applied, pod, &mut out);
                signals.append(&mut out.signals);
            } else {
                told += 1;
            }
        }
        self.skip("offered pod that the watch tells", told);
        self.skip("offered pod that does not exist", fake);
        let among = u32::try_from(offer.choices.len()).unwrap_or(u32::MAX);
        for (index, choice) in offer.choices.iter().enumerate() {
            let id = format!("{}/{index}", offer.at.as_micros());
            let fact = self.choice(offer, choice, among);
            let mut signal = Signal::new(SOURCE, id, offer.at, Fact::NodeOffered(fact));
            signal.subject = Some(choice.group.clone());
            signals.push(signal);
        }
        signals
    }

    fn choice(&self, offer: &Offer, choice: &Choice, among: u32) -> NodeOffered {
        let sample = offer.samples.get(&choice.group);
        let labelled = sample.and_then(|node| self.pool_of_labels(node.metadata.labels.as_ref()?));
        let pods = choice.pods.iter().filter_map(|at| offer.pods.get(*at));
        let names = pods
            .filter(|pod| !is_fake(pod))
            .map(|pod| full_name(&pod.metadata));
        NodeOffered {
            pool: labelled.unwrap_or_else(|| self.pool_of_group(&choice.group)),
            count: choice.nodes,
            among,
            shape: sample.map_or_else(NodeShape::default, sample_shape),
            pods: names.take(NAMES_MAX).collect(),
        }
    }

    /// Whether the pod is newer than all that the watch has told: it tells versions in order, so of what is older it
    /// knows the pod, or that it is gone. Versions are numbers that can be compared (KEP-5504; etcd's always were).
    fn is_news(&self, pod: &Pod) -> bool {
        let version = pod.metadata.resource_version.as_deref();
        let version = version.and_then(|text| text.parse::<u64>().ok());
        version.is_some_and(|version| version > self.newest_pod)
    }

    /// Samples carry the label of their pool: better than a guess by the group's name, which later events use.
    fn learn_groups(&mut self, samples: &BTreeMap<String, Node>) {
        for (group, node) in samples {
            let labels = node.metadata.labels.as_ref();
            let Some(pool) = labels.and_then(|labels| self.pool_of_labels(labels)) else {
                continue;
            };
            let room = self.group_pools.len() < GROUPS_MAX;
            if room || self.group_pools.contains_key(group) {
                self.group_pools.insert(group.clone(), pool);
            }
        }
    }

    /// The pool of a group as its sample says. None where several groups feed one pool: their sizes are no size of it.
    pub(super) fn sampled_pool(&self, group: &str) -> Option<&String> {
        let pool = self.group_pools.get(group)?;
        let feeds = self.group_pools.values().filter(|other| *other == pool);
        (feeds.count() == 1).then_some(pool)
    }
}

fn sample_shape(node: &Node) -> NodeShape {
    let mut shape = node_shape(node);
    shape.labels.remove(HOSTNAME);
    shape
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::source::kubernetes::Settings;
    use crate::source::kubernetes::objects::{Kind, Object};

    fn at() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn pod(name: &str, version: &str, annotations: &Value) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version,
                "annotations": annotations},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            "status": {"conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
        })
    }

    fn sample(pool: &str) -> Node {
        let node = json!({
            "metadata": {"labels": {"eks.amazonaws.com/nodegroup": pool, "kubernetes.io/hostname": "x"}},
            "status": {"allocatable": {"cpu": "4"}, "nodeInfo": {"architecture": "arm64"}}
        });
        serde_json::from_value(node).unwrap()
    }

    fn see(translator: &mut Translator, change: Change, pod: &Value) -> Vec<Signal> {
        let object = Object::from_json(Kind::Pod, &pod.to_string()).unwrap();
        translator.observe(change, &object, at())
    }

    fn offer(pods: &[&Value], groups: &[&str]) -> Offer {
        let pods = pods
            .iter()
            .map(|pod| serde_json::from_value((*pod).clone()).unwrap());
        let pods: Vec<Pod> = pods.collect();
        let choices = groups.iter().map(|group| Choice {
            group: (*group).to_owned(),
            nodes: 2,
            pods: (0..pods.len()).collect(),
        });
        Offer {
            at: at(),
            choices: choices.collect(),
            samples: BTreeMap::new(),
            pods,
        }
    }

    fn types(signals: &[Signal]) -> Vec<&str> {
        let types = signals.iter().map(|signal| signal.fact.event_type());
        types.collect()
    }

    #[test]
    fn a_pod_is_told_only_where_the_watch_is_behind_and_then_once() {
        let none = json!({});
        let (old, gone) = (pod("old", "10", &none), pod("gone", "11", &none));
        let (newer, fake) = (
            pod("newer", "30", &none),
            pod("copy-1", "31", &json!({"podtype": "fakepod"})),
        );
        let mut translator = Translator::new(Settings::default());
        see(&mut translator, Change::Applied, &old);
        see(&mut translator, Change::Applied, &gone);
        let mut deleted = gone.clone();
        deleted["metadata"]["resourceVersion"] = json!("20");
        see(&mut translator, Change::Deleted, &deleted);

        let heard = offer(&[&old, &gone, &newer, &fake], &["g"]);
        // Out of step nobody can say what is news.
        assert_eq!(types(&translator.offered(&heard, false)).len(), 1);
        let signals = translator.offered(&heard, true);
        assert_eq!(
            types(&signals),
            ["dev.forelay.pod.pending.v1", "dev.forelay.node.offered.v1"]
        );
        assert_eq!(signals[0].subject.as_deref(), Some("shop/newer"));
        // The watch says the same in its own time: one thing, once.
        assert!(see(&mut translator, Change::Applied, &newer).is_empty());
        let Fact::NodeOffered(fact) = &signals[1].fact else {
            panic!("{signals:?}");
        };
        assert_eq!((fact.pool.as_str(), fact.count, fact.among), ("g", 2, 1));
        assert_eq!(fact.pods, ["shop/old", "shop/gone", "shop/newer"]);
        assert_eq!(translator.skipped()["offered pod that does not exist"], 2);
        // All four minus the fake, then the two that the watch had told.
        assert_eq!(translator.skipped()["offered pod that the watch tells"], 5);
    }

    #[test]
    fn samples_name_the_pools_of_groups_unless_several_feed_one() {
        let mut translator = Translator::new(Settings::default());
        let mut heard = offer(&[], &["eks-3f", "eks-4a", "eks-4b", "bare"]);
        for (group, pool) in [("eks-3f", "web"), ("eks-4a", "gpu"), ("eks-4b", "gpu")] {
            heard.samples.insert(group.into(), sample(pool));
        }
        let signals = translator.offered(&heard, true);
        let offers = signals.iter().map(|signal| match &signal.fact {
            Fact::NodeOffered(fact) => fact.clone(),
            other => panic!("{other:?}"),
        });
        let offers: Vec<NodeOffered> = offers.collect();
        let pools = offers.iter().map(|fact| fact.pool.as_str());
        assert_eq!(pools.collect::<Vec<_>>(), ["web", "gpu", "gpu", "bare"]);
        assert!(offers.iter().all(|fact| fact.among == 4));
        let shape = &offers[0].shape;
        assert_eq!(shape.arch.as_deref(), Some("arm64"));
        assert_eq!(
            shape.capacity.as_ref().map(|room| room.cpu_milli),
            Some(4000)
        );
        // The sample's host is nobody's.
        assert_eq!(
            shape.labels.keys().collect::<Vec<_>>(),
            ["eks.amazonaws.com/nodegroup"]
        );
        // Events of the group are of its pool from now on.
        assert_eq!(translator.pool_of_group("eks-3f"), "web");
        assert_eq!(translator.pool_of_group("eks-4a"), "eks-4a");
    }
}
