//! One manifest under several names: what becomes of one of them is not the others' matter.

use super::*;

const TAGS: [u8; 2] = [1, 2];

/// Image 1 under the names 1 and 2.
fn twice() -> Vec<PlanEntry> {
    let named = |n| PlanEntry {
        image: name(n),
        ..entry(1, Priority::Pending, Timestamp::MAX)
    };
    TAGS.map(named).into()
}

/// An engine that has asked for both records.
fn asked() -> NodeEngine {
    let mut engine = NodeEngine::new(limits());
    let now = Timestamp::ZERO;
    engine.input(Input::NodePlan(Some(plan(twice()))), now);
    engine.input(Input::Manifest(manifest(1, &[11])), now);
    assert_eq!(blobs_of(&engine.step(now)), [11]);
    engine.input(fetched(11), now);
    let records = TAGS.map(|n| Effect::Record {
        image: name(n),
        digest: digest(1),
    });
    assert_eq!(engine.step(now), records);
    engine
}

fn made(n: u8) -> Input {
    Input::Recorded {
        image: name(n),
        digest: digest(1),
    }
}

fn phases(engine: &NodeEngine) -> Vec<Phase> {
    engine.progress().iter().map(|entry| entry.phase).collect()
}

#[test]
fn a_name_that_moved_on_the_way_is_given_up_alone() {
    let mut engine = asked();
    let now = Timestamp::ZERO;
    let moved = Input::NotRecorded {
        image: name(2),
        digest: digest(1),
        lasting: true,
    };
    engine.input(moved, now);
    engine.input(made(1), now);
    assert_eq!(engine.step(now + HOUR), []);
    assert_eq!(phases(&engine), [Phase::Recorded, Phase::Failed]);
}

#[test]
fn a_record_that_is_gone_leaves_the_other_names() {
    let mut engine = asked();
    let now = Timestamp::ZERO;
    for n in TAGS {
        engine.input(made(n), now);
    }
    let gone = Input::Unrecorded {
        image: name(1),
        digest: digest(1),
    };
    engine.input(gone, now);
    assert_eq!(engine.step(now + HOUR), []);
    assert_eq!(phases(&engine), [Phase::Failed, Phase::Recorded]);
}

#[test]
fn what_somebody_took_away_is_brought_again_only_for_another_plan() {
    let mut engine = asked();
    let now = Timestamp::ZERO;
    for n in TAGS {
        engine.input(made(n), now);
        let (image, digest) = (name(n), digest(1));
        engine.input(Input::Unrecorded { image, digest }, now);
    }
    // Its layers went with the records.
    engine.input(Input::Inventory(Vec::new()), now);
    assert_eq!(engine.step(now + HOUR), []);
    let mut more = twice();
    more.push(entry(2, Priority::Pending, Timestamp::MAX));
    engine.input(Input::NodePlan(Some(plan(more))), now);
    assert_eq!(blobs_of(&engine.step(now)), [11]);
}

#[test]
fn a_record_that_failed_for_now_is_asked_for_again_and_the_other_is_not() {
    let mut engine = asked();
    let now = Timestamp::ZERO;
    engine.input(made(1), now);
    let silent = Input::NotRecorded {
        image: name(2),
        digest: digest(1),
        lasting: false,
    };
    engine.input(silent, now);
    assert_eq!(engine.step(now), []);
    let again = Effect::Record {
        image: name(2),
        digest: digest(1),
    };
    assert_eq!(engine.step(now + HOUR), [again]);
}

#[test]
fn a_name_that_the_plan_drops_loses_its_record_and_gets_one_when_it_is_named_again() {
    let mut engine = asked();
    let now = Timestamp::ZERO;
    engine.input(made(1), now);
    // The other one's record is under way.
    let [first, second] = <[PlanEntry; 2]>::try_from(twice()).unwrap();
    engine.input(Input::NodePlan(Some(plan(vec![first.clone()]))), now);
    let dropped = Effect::WithdrawName {
        image: name(2),
        digest: digest(1),
    };
    assert_eq!(engine.step(now), [dropped]);
    engine.input(made(2), now);
    engine.input(Input::NodePlan(Some(plan(vec![first, second]))), now);
    let again = Effect::Record {
        image: name(2),
        digest: digest(1),
    };
    assert_eq!(engine.step(now), [again]);
    engine.input(made(2), now);
    assert_eq!(phases(&engine), [Phase::Recorded, Phase::Recorded]);
}
