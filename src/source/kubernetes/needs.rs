//! A pod spec as what it needs of a node, the same for a pod and for the template it came from.

use std::collections::BTreeMap;

use crate::domain::node::Resources;
use crate::domain::quantity::ByteSize;
use crate::domain::workload::{
    ImageRole, ImageUse, Operator, PodNeeds, Requirement, Toleration as Tolerated,
};
use crate::source::kubernetes::objects::pod::{
    Container, Expression, PodSpec, ResourceRequirements, Toleration,
};
use crate::source::kubernetes::quantity::Quantity;
use crate::source::kubernetes::shape::is_passing;

/// The key under which a `matchFields` term on the node's name appears among requirements. No label
/// has it, so no node that exists is admitted by mistake.
pub const NODE_NAME_FIELD: &str = "metadata.name";

/// What a pod needs, and how many of its images are no valid references.
///
/// Tolerations of taints that a node loses on its way to Ready are left out, as those taints are
/// from shapes: admission adds some of them to pods, and a pod should equal its template.
#[must_use]
pub fn pod_needs(spec: &PodSpec) -> (PodNeeds, u64) {
    let (images, unreadable) = images(spec);
    let needs = PodNeeds {
        images,
        requests: requests(spec),
        node_selector: spec.node_selector.clone(),
        affinity: affinity(spec),
        tolerations: spec.tolerations.iter().filter_map(toleration).collect(),
        pull_secrets: !spec.image_pull_secrets.is_empty(),
    };
    (needs, unreadable)
}

/// The node that a DaemonSet pod is made for (its controller pins it by name).
#[must_use]
pub fn pinned_node(spec: &PodSpec) -> Option<&str> {
    let terms = &spec.affinity.node_affinity.required.node_selector_terms;
    let field = terms.iter().flat_map(|term| &term.match_fields).next()?;
    match (field.key.as_str(), field.values.as_slice()) {
        (NODE_NAME_FIELD, [node]) => Some(node),
        _ => None,
    }
}

/// `key operator values`; `None` for an operator that no API version has.
#[must_use]
pub fn requirement(expression: &Expression) -> Option<Requirement> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        "Gte" => Operator::Gte,
        "Lte" => Operator::Lte,
        _ => return None,
    };
    Some(Requirement {
        key: expression.key.clone(),
        operator,
        values: expression.values.clone(),
    })
}

/// Amounts by name as the domain's resources; what is zero is left out.
#[must_use]
pub fn resources(amounts: &BTreeMap<String, Quantity>) -> Resources {
    let mut found = Resources::default();
    for (name, amount) in amounts {
        match name.as_str() {
            "cpu" => found.cpu_milli = amount.milli(),
            "memory" => found.memory = ByteSize(amount.units()),
            "ephemeral-storage" => found.ephemeral = ByteSize(amount.units()),
            "pods" => found.pods = amount.units(),
            _ if amount.units() > 0 => {
                found.extended.insert(name.clone(), amount.units());
            }
            _ => {}
        }
    }
    found
}

fn images(spec: &PodSpec) -> (Vec<ImageUse>, u64) {
    let volumes = spec.volumes.iter().filter_map(|volume| {
        let image = volume.image.as_ref()?;
        let (name, text) = (&volume.name, &image.reference);
        Some((name, text, &image.pull_policy, ImageRole::Volume))
    });
    let containers = |list: &'_ [Container], role| -> Vec<_> {
        list.iter()
            .map(|c| {
                (
                    c.name.clone(),
                    c.image.clone(),
                    c.image_pull_policy.clone(),
                    role,
                )
            })
            .collect()
    };
    let all = volumes
        .map(|(name, text, policy, role)| (name.clone(), text.clone(), policy.clone(), role))
        .chain(containers(&spec.init_containers, ImageRole::Init))
        .chain(containers(&spec.containers, ImageRole::Main));
    let mut unreadable = 0;
    let mut found = Vec::new();
    for (container, text, policy, role) in all {
        match text.parse() {
            Ok(image) => found.push(ImageUse {
                image,
                container,
                role,
                always_pull: policy == "Always",
            }),
            Err(_) => unreadable += 1,
        }
    }
    (found, unreadable)
}

/// Requests as the scheduler counts them: the containers and sidecars together, or the hungriest
/// moment of the init sequence, member by member (Kubernetes documentation, "Sidecar containers",
/// resource sharing), then the pod's own amounts and overhead.
fn requests(spec: &PodSpec) -> Resources {
    let mut sidecars = BTreeMap::new();
    let mut peak = BTreeMap::new();
    for container in &spec.init_containers {
        let wanted = wanted(&container.resources);
        if container.restart_policy == "Always" {
            add(&mut sidecars, &wanted);
            raise(&mut peak, &sidecars);
        } else {
            let mut moment = sidecars.clone();
            add(&mut moment, &wanted);
            raise(&mut peak, &moment);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        add(&mut total, &wanted(&container.resources));
    }
    raise(&mut total, &peak);
    total.extend(wanted(&spec.resources));
    add(&mut total, &spec.overhead);
    let mut found = resources(&total);
    found.pods = 1;
    found
}

/// Requests, and limits where requests are silent: a template has not been through admission.
fn wanted(resources: &ResourceRequirements) -> BTreeMap<String, Quantity> {
    let mut wanted = resources.limits.clone();
    wanted.extend(resources.requests.clone());
    wanted
}

fn add(sum: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_default();
        *entry = entry.plus(*amount);
    }
}

fn raise(level: &mut BTreeMap<String, Quantity>, to: &BTreeMap<String, Quantity>) {
    for (name, amount) in to {
        let entry = level.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

fn affinity(spec: &PodSpec) -> Vec<Vec<Requirement>> {
    let terms = &spec.affinity.node_affinity.required.node_selector_terms;
    terms
        .iter()
        .map(|term| {
            let parts = term.match_expressions.iter().chain(&term.match_fields);
            parts.filter_map(requirement).collect::<Vec<_>>()
        })
        .filter(|term| !term.is_empty()) // an empty term matches no node (v1.NodeSelectorTerm)
        .collect()
}

fn toleration(raw: &Toleration) -> Option<Tolerated> {
    (!is_passing(&raw.key)).then(|| Tolerated {
        key: raw.key.clone(),
        exists: raw.operator == "Exists",
        value: raw.value.clone(),
        effect: raw.effect.clone(),
    })
}

#[cfg(test)]
mod tests;
