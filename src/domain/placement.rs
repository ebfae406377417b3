//! Whether a pod could land on a node, by the scheduler's filters that a shape can answer.

use std::collections::BTreeMap;

use crate::domain::node::{NodeShape, Taint};
use crate::domain::workload::{Operator, PodNeeds, Requirement, Toleration};

/// Labels that carry the architecture, newest first.
const ARCH_LABELS: [&str; 2] = ["kubernetes.io/arch", "beta.kubernetes.io/arch"];

impl NodeShape {
    /// Whether a pod with these needs could run on an empty node of this shape.
    ///
    /// Mirrors the scheduler's NodeResourcesFit, NodeAffinity and TaintToleration filters. What the
    /// shape does not know is taken as unknown, not as absent, only where `partial` is true: a node
    /// that is only requested may still get the label.
    #[must_use]
    pub fn admits(&self, needs: &PodNeeds, partial: bool) -> bool {
        let fits = self.capacity.as_ref().is_none_or(|room| {
            let pods = if partial && room.pods == 0 {
                0
            } else {
                needs.requests.pods.max(u64::from(room.pods > 0))
            };
            pods <= room.pods && needs.requests.fits_beside_pods(room)
        });
        fits && self.attracts(needs, partial)
    }

    /// The same of a node of this kind, whatever its size.
    #[must_use]
    pub fn attracts(&self, needs: &PodNeeds, partial: bool) -> bool {
        let tolerated = |taint| tolerated(taint, &needs.tolerations);
        self.selects(needs, partial) && self.taints.iter().all(tolerated)
    }

    fn selects(&self, needs: &PodNeeds, partial: bool) -> bool {
        let label = |key: &str| self.label(key);
        let by_selector = needs
            .node_selector
            .iter()
            .all(|(key, value)| match label(key) {
                Some(found) => found == value,
                None => partial,
            });
        let by_affinity = needs.affinity.is_empty()
            || needs.affinity.iter().any(|term| {
                term.iter()
                    .all(|requirement| requirement.holds(label(&requirement.key), partial))
            });
        by_selector && by_affinity
    }

    /// A label's value; architecture and zone are found under any of their names.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str).or_else(|| {
            if ARCH_LABELS.contains(&key) {
                self.arch.as_deref()
            } else if key == "topology.kubernetes.io/zone" {
                self.zone.as_deref()
            } else {
                None
            }
        })
    }

    /// The architecture, from the member or a label.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.arch.as_deref().or_else(|| {
            ARCH_LABELS
                .iter()
                .find_map(|key| self.labels.get(*key))
                .map(String::as_str)
        })
    }

    /// Labels as a map, for callers that compare shapes.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

impl Requirement {
    /// Whether a label value (or its absence) satisfies the requirement; absence holds when
    /// `partial`. Operators as in the Kubernetes API reference, `v1.NodeSelectorRequirement`.
    #[must_use]
    pub fn holds(&self, value: Option<&str>, partial: bool) -> bool {
        let Some(value) = value else {
            return partial || matches!(self.operator, Operator::NotIn | Operator::DoesNotExist);
        };
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |accept: fn(i64, i64) -> bool| match (
            number(value),
            self.values.first().and_then(|v| number(v)),
        ) {
            (Some(left), Some(right)) => accept(left, right),
            _ => false,
        };
        match self.operator {
            Operator::In => self.values.iter().any(|v| v == value),
            Operator::NotIn => self.values.iter().all(|v| v != value),
            Operator::Exists => true,
            Operator::DoesNotExist => false,
            Operator::Gt => compare(|l, r| l > r),
            Operator::Lt => compare(|l, r| l < r),
            Operator::Gte => compare(|l, r| l >= r),
            Operator::Lte => compare(|l, r| l <= r),
        }
    }
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    taint.effect == "PreferNoSchedule"
        || tolerations.iter().any(|t| {
            (t.effect.is_empty() || t.effect == taint.effect)
                && (t.key == taint.key || (t.key.is_empty() && t.exists))
                && (t.exists || t.value == taint.value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::node::Resources;

    fn shape() -> NodeShape {
        NodeShape {
            arch: Some("amd64".into()),
            capacity: Some(Resources {
                cpu_milli: 1000,
                pods: 10,
                ..Resources::default()
            }),
            labels: [("pool".to_owned(), "general".to_owned())].into(),
            taints: vec![],
            zone: None,
        }
    }

    #[test]
    fn a_pod_for_another_architecture_is_not_admitted() {
        let mut needs = PodNeeds::default();
        needs
            .node_selector
            .insert("kubernetes.io/arch".into(), "arm64".into());
        assert!(!shape().admits(&needs, true));
    }

    #[test]
    fn an_unknown_label_admits_only_while_the_node_is_not_known() {
        let mut needs = PodNeeds::default();
        needs.node_selector.insert("team".into(), "ml".into());
        assert!(shape().admits(&needs, true));
        assert!(!shape().admits(&needs, false));
    }

    #[test]
    fn a_taint_keeps_pods_away_that_do_not_tolerate_it() {
        let mut shape = shape();
        shape.taints.push(Taint {
            key: "gpu".into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        });
        let mut needs = PodNeeds::default();
        assert!(!shape.admits(&needs, false));
        needs.tolerations.push(Toleration {
            key: "gpu".into(),
            exists: true,
            ..Toleration::default()
        });
        assert!(shape.admits(&needs, false));
    }

    #[test]
    fn a_pod_larger_than_the_node_is_not_admitted() {
        let mut needs = PodNeeds::default();
        needs.requests.cpu_milli = 1001;
        assert!(!shape().admits(&needs, false));
    }
}
