//! What a small world is told of its nodes and pools.

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::forecast::model::Model;
use crate::sim::explain::{ExplainError, Question};
use crate::sim::tests::build::{Build, at, image_name};

/// Three nodes of a pool run image 1, one after the other; the last one image 2 too, for the first time.
fn world() -> (Header, Vec<Signal>) {
    let mut build = Build::new().image(1, &[(1, 1000)]).image(2, &[(2, 1000)]);
    for (node, joined) in [("web-1", 10.0), ("web-2", 200.0), ("web-3", 400.0)] {
        let images: &[u8] = if node == "web-3" { &[1, 2] } else { &[1] };
        build = build.node(node, joined, joined + 40.0);
        build = build.pod(&format!("pod-{node}"), node, joined + 45.0, images);
    }
    build.done()
}

fn ask(world: &(Header, Vec<Signal>), secs: Option<f64>, model: &Model) -> Question<'static> {
    let (header, signals) = world.clone();
    Question {
        header: Box::leak(Box::new(header)),
        signals: Box::leak(signals.into_boxed_slice()),
        model: Box::leak(Box::new(model.clone())),
        at: secs.map(at),
    }
}

#[test]
fn a_node_is_told_what_it_was_sent_why_and_what_that_saved() {
    let question = ask(&world(), None, &Model::untuned());
    let story = question.node("web-3").unwrap();
    let sent: Vec<_> = story.sent.iter().map(|sent| sent.image.clone()).collect();
    assert_eq!(sent, [image_name(1)]);
    let first = &story.sent[0];
    assert!(first.lead_s > Some(0.0), "{:?}", first.lead_s);
    assert_eq!((first.bytes, first.wasted_bytes), (1000, 0));
    assert_eq!(first.used_by, ["default/pod-web-3"]);
    let why = &first.first;
    assert!(
        why.threshold.is_some_and(|limit| why.chance >= limit),
        "{why:?}"
    );
    assert!(format!("{:?}", why.reasons).contains("History"), "{why:?}");
    // Reactive pulls both, one after the other; with image 1 there only the other is waited for.
    let totals = story.totals;
    assert!(totals.saved_s > 0.0 && totals.wait_s > 0.0, "{totals:?}");
    assert_eq!((totals.sent_bytes, totals.pulled_bytes), (1000, 1000));
    let left = story
        .left_out
        .iter()
        .find(|left| left.image == image_name(2));
    assert!(left.is_some_and(|left| left.used), "{:?}", story.left_out);
}

#[test]
fn the_first_node_of_a_pool_that_nobody_knew_was_sent_nothing() {
    let story = ask(&world(), None, &Model::untuned())
        .node("web-1")
        .unwrap();
    assert_eq!(story.totals.sent_bytes, 0);
    assert_eq!(story.totals.saved_s, 0.0);
    assert!(story.left_out.iter().any(|left| left.used));
}

#[test]
fn an_instant_shows_what_was_thought_then() {
    let question = ask(&world(), Some(420.0), &Model::untuned());
    let story = question.node("web-3").unwrap();
    let then = story.at.expect("the node is there at that instant");
    assert_eq!(then.made, at(420.0));
    assert!(
        then.verdicts
            .iter()
            .any(|verdict| verdict.image == image_name(1))
    );
    let early = ask(&world(), Some(5.0), &Model::untuned()).node("web-3");
    assert!(early.unwrap().at.is_none());
    let late = ask(&world(), Some(5000.0), &Model::untuned()).node("web-3");
    assert!(matches!(late, Err(ExplainError::Outside { .. })));
}

#[test]
fn a_pool_is_told_its_nodes_and_what_was_thought_of_its_images() {
    let story = ask(&world(), None, &Model::untuned())
        .pool("general")
        .unwrap();
    let names: Vec<_> = story.nodes.iter().map(|line| line.node.as_str()).collect();
    assert_eq!(names, ["web-1", "web-2", "web-3"]);
    let candidates = story.named.iter().map(|named| &named.image);
    let left = story.left_out.iter().map(|left| &left.image);
    assert!(candidates.chain(left).any(|image| *image == image_name(1)));
}

#[test]
fn a_name_that_does_not_exist_is_answered_with_names_that_do() {
    let question = ask(&world(), None, &Model::untuned());
    let error = question.node("web3").unwrap_err().to_string();
    assert!(error.contains("no node `web3`: there is web-3"), "{error}");
    let error = question.pool("generic").unwrap_err().to_string();
    assert!(error.contains("general"), "{error}");
}
