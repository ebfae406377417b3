//! Who has the machine before us: the kubelet, its disk, its memory.

use super::*;

/// Which transfers stop while the kubelet fetches `own`, and go on afterwards.
fn stopped_by(own: u8, priority: Priority) -> Vec<u8> {
    let mut engine = NodeEngine::new(limits());
    let now = Timestamp::ZERO;
    let entries = vec![entry(1, priority, Timestamp::MAX)];
    engine.input(Input::NodePlan(Some(plan(entries))), now);
    engine.input(Input::Manifest(manifest(1, &[11, 12])), now);
    assert_eq!(blobs_of(&engine.step(now)), [11, 12]);
    let foreground = |active| Input::Foreground {
        digest: digest(own),
        active,
    };
    engine.input(foreground(true), now);
    let all = [11, 12].into_iter();
    let effects = engine.step(now);
    let stopped = all.filter(|n| effects.contains(&Effect::Cancel(digest(*n))));
    let stopped: Vec<u8> = stopped.collect();
    engine.input(foreground(false), now);
    assert_eq!(blobs_of(&engine.step(now)), stopped);
    stopped
}

#[test]
fn guesses_under_way_stop_for_a_pods_own_pull_and_resume() {
    assert_eq!(stopped_by(99, Priority::Predicted), [11, 12]);
    assert!(stopped_by(99, Priority::Pending).is_empty());
}

#[test]
fn a_layer_that_the_kubelet_fetches_itself_is_not_fetched_twice() {
    assert_eq!(stopped_by(11, Priority::Pending), [11]);
}

#[test]
fn a_machine_under_pressure_gets_only_what_pods_wait_for() {
    let mut engine = NodeEngine::new(limits());
    let now = Timestamp::ZERO;
    let entries = vec![entry(1, Priority::Predicted, Timestamp::MAX)];
    engine.input(Input::NodePlan(Some(plan(entries))), now);
    engine.input(Input::Manifest(manifest(1, &[11])), now);
    engine.input(Input::Pressed(true), now);
    assert!(blobs_of(&engine.step(now)).is_empty());
    engine.input(Input::Pressed(false), now);
    assert_eq!(blobs_of(&engine.step(now)), [11]);
}

#[test]
fn an_image_that_would_fill_the_disk_unpacked_waits_for_room() {
    let mut engine = NodeEngine::new(limits());
    let now = Timestamp::ZERO;
    let entries = vec![entry(1, Priority::Pending, Timestamp::MAX)];
    engine.input(Input::NodePlan(Some(plan(entries))), now);
    engine.input(Input::Manifest(manifest(1, &[11, 12])), now);
    // Twenty bytes travel, eighty are counted for them.
    engine.input(Input::Room(ByteSize(79)), now);
    assert!(blobs_of(&engine.step(now)).is_empty());
    assert_eq!(engine.progress()[0].phase, Phase::Cramped);
    engine.input(Input::Room(ByteSize(80)), now);
    assert_eq!(blobs_of(&engine.step(now)), [11, 12]);
}
