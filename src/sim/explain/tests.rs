//! What a small world is told of its nodes and pools.

use crate::domain::scenario::Header;
use crate::domain::signal::{Fact, PodWanted, Signal};
use crate::domain::workload::{ImageRole, ImageUse, PodNeeds, PodRef};
use crate::forecast::model::{Model, Uses};
use crate::sim::explain::{ExplainError, NodeStory, PoolStory, Question};
use crate::sim::tests::build::{AGENT_START, Build, at, image_name};

/// Two nodes, each with a pod that waited for it; a pod that nobody announced comes to the second.
fn world() -> (Header, Vec<Signal>) {
    let mut build = Build::new().image(1, &[(1, 1000)]).image(2, &[(2, 1000)]);
    for (node, joined) in [("web-1", 10.0), ("web-2", 400.0)] {
        let pod = format!("pod-{node}");
        build.push(joined - 5.0, waits(&pod, 1), false);
        build = build.node(node, joined, joined + 40.0);
        build = build.pod(&pod, node, joined + 45.0, &[1]);
    }
    build.pod("surprise", "web-2", 500.0, &[2]).done()
}

fn waits(pod: &str, image: u8) -> Fact {
    let image = ImageUse {
        image: image_name(image),
        container: "main".into(),
        role: ImageRole::Main,
        always_pull: false,
    };
    Fact::PodPending(PodWanted {
        pod: PodRef {
            name: format!("default/{pod}"),
            uid: format!("uid-{pod}"),
        },
        owner: None,
        needs: PodNeeds {
            images: vec![image],
            ..PodNeeds::default()
        },
        unschedulable: true,
    })
}

fn asked<T>(
    secs: Option<f64>,
    model: &Model,
    ask: impl FnOnce(&Question<'_>) -> Result<T, ExplainError>,
) -> Result<T, ExplainError> {
    let (header, signals) = world();
    ask(&Question {
        header: &header,
        signals: &signals,
        model,
        at: secs.map(at),
    })
}

fn node(name: &str, secs: Option<f64>, model: &Model) -> Result<NodeStory, ExplainError> {
    asked(secs, model, |question| question.node(name))
}

fn pool(name: &str) -> Result<PoolStory, ExplainError> {
    asked(None, &Model::untuned(), |question| question.pool(name))
}

#[test]
fn a_node_is_told_what_it_was_sent_why_and_what_that_saved() {
    let story = node("web-2", None, &Model::untuned()).unwrap();
    let sent: Vec<_> = story.sent.iter().map(|sent| sent.image.clone()).collect();
    assert_eq!(sent, [image_name(1), image_name(2)]);
    let first = &story.sent[0];
    // Named when the pod looked for a place or when the node joined; both are before Ready.
    assert!(first.lead_s >= Some(40.0), "{:?}", first.lead_s);
    assert_eq!((first.bytes, first.wasted_bytes), (1000, 0));
    assert!(first.from >= Some(at(400.0 + AGENT_START)));
    assert_eq!(first.used_by, ["default/pod-web-2"]);
    let why = &first.first;
    assert!(
        why.threshold.is_some_and(|limit| why.chance >= limit),
        "{why:?}"
    );
    assert!(
        format!("{:?}", why.reasons).contains("PendingPod"),
        "{why:?}"
    );
    // The surprise is known when it is bound: no lead, and it is waited for.
    let late = &story.sent[1];
    assert!(late.lead_s < Some(0.0), "{:?}", late.lead_s);
    let waited = |pod: &str| {
        let pod = story.pods.iter().find(|one| one.pod == pod).unwrap();
        (pod.reactive_wait_s.unwrap(), pod.wait_s.unwrap())
    };
    assert_eq!(waited("default/pod-web-2").1, 0.0);
    let (reactive, forelay) = waited("default/surprise");
    assert!(reactive > 0.0 && forelay > 0.0);
    let totals = story.totals;
    assert!(
        totals.saved_s >= waited("default/pod-web-2").0,
        "{totals:?}"
    );
    let saved = totals.reactive_wait_s - totals.wait_s;
    assert!((totals.saved_s - saved).abs() < 1e-9);
}

#[test]
fn without_knowledge_nothing_is_sent_and_what_was_used_is_named_as_left_out() {
    let blind = Model {
        uses: Uses::nothing(),
        ..Model::untuned()
    };
    let story = node("web-2", None, &blind).unwrap();
    assert_eq!((story.sent.len(), story.totals.sent_bytes), (0, 0));
    assert_eq!(story.totals.saved_s, 0.0);
    let left: Vec<_> = story.left_out.iter().map(|left| &left.image).collect();
    assert_eq!(left, [&image_name(1), &image_name(2)]);
    let untold = |left: &crate::sim::explain::Left| left.used && left.why.is_none();
    assert!(story.left_out.iter().all(untold));
}

#[test]
fn an_instant_shows_what_was_thought_then() {
    let model = Model::untuned();
    let then = node("web-2", Some(420.0), &model).unwrap().at;
    let then = then.expect("the node is there at that instant");
    assert_eq!(then.made, at(420.0));
    let images: Vec<_> = then.verdicts.iter().map(|v| v.image.clone()).collect();
    assert!(images.contains(&image_name(1)), "{images:?}");
    assert!(!images.contains(&image_name(2)), "{images:?}");
    assert!(node("web-2", Some(5.0), &model).unwrap().at.is_none());
    let late = node("web-2", Some(5000.0), &model);
    assert!(matches!(late, Err(ExplainError::Outside { .. })));
}

#[test]
fn a_pool_is_told_its_nodes_with_the_same_sums_as_each_of_them() {
    let story = pool("general").unwrap();
    let names: Vec<_> = story.nodes.iter().map(|line| line.node.as_str()).collect();
    assert_eq!(names, ["web-1", "web-2"]);
    let alone = node("web-2", None, &Model::untuned()).unwrap();
    assert_eq!(story.nodes[1].totals, alone.totals);
}

#[test]
fn a_name_that_does_not_exist_is_answered_with_names_that_do() {
    let error = node("web2", None, &Model::untuned())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no node `web2`: there is web-2"), "{error}");
    let error = pool("generic").unwrap_err().to_string();
    assert!(error.contains("general"), "{error}");
}

#[test]
fn a_disk_that_does_not_hold_everything_is_told_with_how_good_the_choice_is() {
    let mut model = Model::untuned();
    // An image has a thousand bytes: nothing fits, and no choice does better than nothing.
    model.disk.unknown_bytes = 500;
    let story = node("web-2", None, &model).unwrap();
    let budget = |short: &crate::sim::explain::Short| {
        let fill = &short.fill;
        (fill.budget, fill.taken, fill.wanted, fill.at_least)
    };
    let told: Vec<_> = story.budgets.iter().map(budget).collect();
    assert_eq!(told, [("budget", 0, 1, 1.0)]);
    assert!(story.left_out.iter().any(|left| left.used));
}
