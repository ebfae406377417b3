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

/// Which of two layers of ten bytes each are fetched within these limits, their blobs being kept.
fn fetched_with_blobs(disk: u64, room: u64) -> Vec<u8> {
    let mut engine = NodeEngine::new(Limits {
        blobs: true,
        disk: ByteSize(disk),
        ..limits()
    });
    let now = Timestamp::ZERO;
    let entries = vec![entry(1, Priority::Pending, Timestamp::MAX)];
    engine.input(Input::NodePlan(Some(plan(entries))), now);
    engine.input(Input::Manifest(manifest(1, &[11, 12])), now);
    engine.input(Input::Room(ByteSize(room)), now);
    blobs_of(&engine.step(now))
}

#[test]
fn blobs_that_are_kept_count_beside_what_they_are_unpacked() {
    // Eighty bytes unpacked, twenty of blobs, and ten more while one of them is written into the store.
    assert!(fetched_with_blobs(u64::MAX, 109).is_empty());
    assert_eq!(fetched_with_blobs(u64::MAX, 110), [11, 12]);
    // Of the budget every byte that travels counts twice.
    assert!(fetched_with_blobs(39, u64::MAX).is_empty());
    assert_eq!(fetched_with_blobs(40, u64::MAX), [11, 12]);
}

#[test]
fn blobs_that_were_brought_fill_the_budget_twice() {
    let small = |disk| Limits {
        blobs: true,
        disk: ByteSize(disk),
        ..limits()
    };
    for (disk, second) in [(39, &[][..]), (40, &[12][..])] {
        let first = (entry(1, Priority::Pending, Timestamp::MAX), &[11][..]);
        let (mut engine, _) = planned(small(disk), vec![first]);
        let now = Timestamp::ZERO;
        engine.input(fetched(11), now);
        engine.step(now);
        let both = [1, 2].map(|n| entry(n, Priority::Pending, Timestamp::MAX));
        engine.input(Input::NodePlan(Some(plan(both.to_vec()))), now);
        engine.input(Input::Manifest(manifest(2, &[12])), now);
        assert_eq!(blobs_of(&engine.step(now)), second, "{disk}");
    }
}
