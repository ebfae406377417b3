//! Kubernetes Events by a table of who says what: each entry turns one sentence into signals.

use std::time::Duration;

use crate::domain::quantity::ByteSize;
use crate::domain::signal::{Fact, ImagePulled, PodNominated};
use crate::domain::workload::PodRef;
use crate::source::kubernetes::objects::event::Event;
use crate::source::kubernetes::{Change, Out, Translator, text};

/// Reads one event; false when its text is not understood.
type Read = fn(&mut Translator, &Event, &mut Out<'_>) -> bool;

/// Reporting component (empty: any), reason, what to do. Texts: cluster-autoscaler
/// release-1.37, Karpenter 1.9, its AWS provider, kubelet 1.36, aws-node-termination-handler 1.25,
/// AKS node-problem-detector.
const TABLE: [(&str, &str, Read); 17] = [
    ("cluster-autoscaler", "ScaledUpGroup", scaled_up_group),
    ("cluster-autoscaler", "TriggeredScaleUp", triggered_scale_up),
    ("cluster-autoscaler", "FailedToScaleUpGroup", group_failed),
    ("cluster-autoscaler", "ScaleUpTimedOut", group_failed),
    ("karpenter", "Nominated", nominated),
    ("karpenter", "DisruptionLaunching", replacement_launched),
    ("karpenter", "DisruptionTerminating", interrupted),
    ("karpenter", "InsufficientCapacityError", claim_failed),
    ("karpenter", "SpotInterrupted", spot_interrupted),
    ("karpenter", "InstanceStopping", interrupted),
    ("karpenter", "InstanceTerminating", interrupted),
    ("kubelet", "Pulled", pulled),
    ("", "SpotInterruption", spot_interrupted),
    ("", "ScheduledEvent", interrupted),
    ("", "ASGLifecycle", interrupted),
    ("", "PreemptScheduled", interrupted),
    ("", "TerminateScheduled", interrupted),
];

/// Notice before a spot machine goes: two minutes (EC2 user guide, "Spot Instance interruption
/// notices"); the other clouds say it with a taint.
const SPOT_NOTICE: Duration = Duration::from_mins(2);

impl Translator {
    pub(super) fn event(&mut self, change: Change, event: &Event, out: &mut Out<'_>) {
        if change == Change::Deleted {
            return; // an Event that has expired
        }
        let component = event.component();
        let entry = TABLE.iter().find(|(who, reason, _)| {
            (who.is_empty() || *who == component) && *reason == event.reason
        });
        let Some((_, _, read)) = entry else {
            self.skip("event of no interest", 1);
            return;
        };
        let time = event.time().unwrap_or(out.observed);
        if out.observed.since(time) > self.settings.event_age_max {
            self.skip("event too old", 1);
            return;
        }
        let first = out.signals.len();
        if !read(self, event, out) {
            self.skip("event text not understood", 1);
        }
        for signal in &mut out.signals[first..] {
            signal.time = time;
        }
    }
}

fn scaled_up_group(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    let Some(grown) = text::scaled_up_group(&event.message) else {
        return false;
    };
    translator.group_grows(&grown, Vec::new(), out);
    true
}

fn triggered_scale_up(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    let Some(groups) = text::triggered_scale_up(&event.message) else {
        return false;
    };
    let pod = &event.involved_object;
    let pods = match pod.kind.as_str() {
        "Pod" => vec![format!("{}/{}", pod.namespace, pod.name)],
        _ => Vec::new(), // a CapacityBuffer's fake pods
    };
    for grown in groups {
        translator.group_grows(&grown, pods.clone(), out);
    }
    true
}

fn group_failed(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    let Some((group, reason)) = text::failed_group(&event.message) else {
        return false;
    };
    translator.group_failed(&group, &reason, out);
    true
}

fn nominated(_: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    let Some((request, node)) = text::nominated(&event.message) else {
        return false;
    };
    let fact = PodNominated {
        pod: pod_of(event),
        node,
        request,
    };
    out.push("nominated", None, Fact::PodNominated(fact));
    true
}

fn replacement_launched(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    translator.pair_launched_claim(&event.involved_object.name, out);
    true
}

fn claim_failed(translator: &mut Translator, event: &Event, _: &mut Out<'_>) -> bool {
    translator.claim_failed(&event.involved_object.name, &event.message);
    true
}

fn interrupted(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    leaves(translator, event, None, out)
}

fn spot_interrupted(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    leaves(translator, event, Some(SPOT_NOTICE), out)
}

fn leaves(
    translator: &mut Translator,
    event: &Event,
    notice: Option<Duration>,
    out: &mut Out<'_>,
) -> bool {
    let about = &event.involved_object;
    let node = match about.kind.as_str() {
        "Node" => Some(about.name.clone()),
        "NodeClaim" => translator.node_of_claim(&about.name),
        _ => return false,
    };
    let deadline = notice.map(|notice| event.time().unwrap_or(out.observed) + notice);
    if let Some(node) = node {
        translator.node_interrupted(&node, &event.reason, deadline, out);
    }
    true
}

fn pulled(translator: &mut Translator, event: &Event, out: &mut Out<'_>) -> bool {
    let Some(pull) = text::pulled(&event.message) else {
        return false;
    };
    let Ok(image) = pull.image.parse() else {
        translator.skip("image reference not valid", 1);
        return true;
    };
    let path = &event.involved_object.field_path;
    let container = path
        .split_once('{')
        .and_then(|(_, rest)| rest.strip_suffix('}'));
    let fact = ImagePulled {
        node: event.host().to_owned(),
        pod: pod_of(event),
        container: container.map(str::to_owned),
        image,
        size: pull.size.map(ByteSize),
        pull_s: pull.pull_s,
        waiting_s: pull.waiting_s,
        present: pull.present,
    };
    out.push_truth("pulled", None, Fact::ImagePulled(fact));
    true
}

fn pod_of(event: &Event) -> PodRef {
    let pod = &event.involved_object;
    PodRef {
        name: format!("{}/{}", pod.namespace, pod.name),
        uid: pod.uid.clone(),
    }
}
