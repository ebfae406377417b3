//! Horizontal pod autoscalers: what they see, want and may not have.

use crate::domain::signal::{Fact, ScaleLimit, Scaler};
use crate::domain::workload::WorkloadRef;
use crate::source::kubernetes::objects::autoscaling::{
    HorizontalPodAutoscaler, Metric, MetricPart, MetricValue,
};
use crate::source::kubernetes::objects::condition;
use crate::source::kubernetes::quantity::Quantity;
use crate::source::kubernetes::{Change, Out, Translator, fingerprint, name_of, uid_of};

impl Translator {
    pub(super) fn scaler(
        &mut self,
        change: Change,
        found: &HorizontalPodAutoscaler,
        out: &mut Out<'_>,
    ) {
        let uid = uid_of(&found.metadata).to_owned();
        if change == Change::Deleted {
            self.scalers.remove(&uid); // its target's replicas stay as they are: nothing to say
            return;
        }
        let scaler = observed(found);
        let said = fingerprint(&scaler);
        if self.scalers.insert(uid, said) != Some(said) {
            out.push("observed", None, Fact::ScalerObserved(scaler));
        }
    }
}

fn observed(found: &HorizontalPodAutoscaler) -> Scaler {
    let namespace = found.metadata.namespace.clone().unwrap_or_default();
    let (spec, status) = (&found.spec, &found.status);
    // Before its first metric the status says 0, which is no wish.
    let desired = match status.desired_replicas {
        0 if spec.min_replicas != Some(0) => status.current_replicas,
        wish => wish,
    };
    let active = condition(&status.conditions, "ScalingActive");
    Scaler {
        scaler: WorkloadRef {
            kind: "HorizontalPodAutoscaler".into(),
            namespace: namespace.clone(),
            name: name_of(&found.metadata).to_owned(),
        },
        target: WorkloadRef {
            kind: spec.scale_target_ref.kind.clone(),
            namespace,
            name: spec.scale_target_ref.name.clone(),
        },
        current: status.current_replicas,
        desired,
        min: spec.min_replicas.unwrap_or(1),
        max: spec.max_replicas,
        ratio: active
            .is_none_or(|c| c.status == "True")
            .then(|| ratio(found))
            .flatten(),
        limited: limit(found),
    }
}

/// The largest value over target, over metrics that have both.
fn ratio(found: &HorizontalPodAutoscaler) -> Option<f64> {
    let mut ratios = Vec::new();
    for (index, wanted) in found.spec.metrics.iter().enumerate() {
        let values = &found.status.current_metrics;
        let same = |metric: &&Metric| identity(metric) == identity(wanted);
        // The controller writes values in the order of targets; identity guards against a gap.
        let value = values.get(index).filter(same);
        let value = value.or_else(|| values.iter().find(same));
        if let Some((target, value)) = part(wanted).zip(value.and_then(part)) {
            ratios.extend(value_over_target(
                value.current,
                target.target,
                found.status.current_replicas,
            ));
        }
    }
    ratios.into_iter().reduce(f64::max)
}

/// Value over target in whichever unit the target is written.
fn value_over_target(value: MetricValue, target: MetricValue, replicas: u32) -> Option<f64> {
    let per_pod = |total: f64| total / f64::from(replicas.max(1));
    let (value, target) = if let Some(target) = target.average_utilization {
        (f64::from(value.average_utilization?), f64::from(target))
    } else if let Some(target) = target.average_value {
        let average = value.average_value.map(Quantity::as_f64);
        let value = average.or_else(|| value.value.map(|v| per_pod(v.as_f64())))?;
        (value, target.as_f64())
    } else {
        (value.value?.as_f64(), target.value?.as_f64())
    };
    let ratio = value / target;
    // Six digits: the rest is the division's, and would differ in text for equal metrics.
    (target > 0.0).then(|| (ratio * 1e6).round() / 1e6)
}

fn part(metric: &Metric) -> Option<&MetricPart> {
    match metric.r#type.as_str() {
        "Resource" => metric.resource.as_ref(),
        "ContainerResource" => metric.container_resource.as_ref(),
        "Pods" => metric.pods.as_ref(),
        "Object" => metric.object.as_ref(),
        "External" => metric.external.as_ref(),
        _ => None,
    }
}

fn identity(metric: &Metric) -> Option<(&str, &str, &str, &str)> {
    let part = part(metric)?;
    Some((
        &metric.r#type,
        &part.name,
        &part.container,
        &part.metric.name,
    ))
}

fn limit(found: &HorizontalPodAutoscaler) -> Option<ScaleLimit> {
    let limited = condition(&found.status.conditions, "ScalingLimited");
    match limited.filter(|c| c.status == "True")?.reason.as_str() {
        "ScaleUpLimit" => Some(ScaleLimit::ScaleUpLimit),
        "TooManyReplicas" => Some(ScaleLimit::TooManyReplicas),
        "TooFewReplicas" => Some(ScaleLimit::TooFewReplicas),
        "ScaleDownLimit" => Some(ScaleLimit::ScaleDownLimit),
        _ => None,
    }
}
