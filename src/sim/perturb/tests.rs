//! Trouble takes only what it may take, and the same seed takes the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::signal::{LoadSample, NodeJoined, NodeNamed, NodeRemoved, PodGone, PodOnNode};
use crate::domain::workload::PodRef;

fn at(secs: f64) -> Timestamp {
    Timestamp::from_secs_f64(secs)
}

/// A message or a watched object per second, none at the start.
fn stream(kinds: &[bool]) -> Vec<Signal> {
    let signal = |(number, message): (usize, &bool)| {
        let when = at(1.0 + number as f64);
        if *message {
            let sample = LoadSample {
                series: "load".into(),
                workload: None,
                value: number as f64,
            };
            Signal::new(
                "/prometheus",
                number.to_string(),
                when,
                Fact::LoadSampled(sample),
            )
        } else {
            let ready = NodeNamed {
                node: format!("n{number}"),
            };
            Signal::new(
                "/kubernetes/nodes",
                number.to_string(),
                when,
                Fact::NodeReady(ready),
            )
        }
    };
    kinds.iter().enumerate().map(signal).collect()
}

fn troubles() -> impl Strategy<Value = Trouble> {
    (0.0..0.5, 0.0..0.5, 0.0..0.5, 0u64..60, any::<u64>()).prop_map(
        |(drop, duplicate, reorder, delay, seed)| Trouble {
            drop,
            duplicate,
            reorder,
            delay: Duration::from_secs(delay),
            seed,
        },
    )
}

proptest! {
    #[test]
    fn watched_objects_are_late_but_never_lost_doubled_or_early(
        kinds in prop::collection::vec(any::<bool>(), 1..80),
        trouble in troubles(),
    ) {
        let signals = stream(&kinds);
        let heard = perturbed(&signals, Timestamp::ZERO, &trouble);
        let before: BTreeMap<&str, &Signal> =
            signals.iter().filter(|s| !is_message(s)).map(|s| (s.id.as_str(), s)).collect();
        let after: Vec<&Signal> = heard.iter().filter(|s| !is_message(s)).collect();
        prop_assert_eq!(before.len(), after.len());
        for signal in after {
            let late = signal.observedtime.secs_since(before[signal.id.as_str()].observedtime);
            prop_assert!((0.0..=trouble.delay.as_secs_f64() + 1e-3).contains(&late), "{late}");
        }
    }

    #[test]
    fn heard_signals_are_in_order_and_repeat_with_the_seed(
        kinds in prop::collection::vec(any::<bool>(), 1..80),
        trouble in troubles(),
    ) {
        let signals = stream(&kinds);
        let heard = perturbed(&signals, Timestamp::ZERO, &trouble);
        prop_assert!(heard.is_sorted_by_key(|signal| signal.observedtime));
        prop_assert_eq!(&heard, &perturbed(&signals, Timestamp::ZERO, &trouble));
    }

    #[test]
    fn a_larger_share_loses_at_least_what_a_smaller_one_lost(
        kinds in prop::collection::vec(any::<bool>(), 1..80),
        (low, more, seed) in (0.0..0.5, 0.0..0.5, any::<u64>()),
    ) {
        let signals = stream(&kinds);
        let ids = |drop: f64| -> BTreeSet<String> {
            let trouble = Trouble { drop, seed, ..Trouble::default() };
            let heard = perturbed(&signals, Timestamp::ZERO, &trouble);
            heard.iter().map(|signal| signal.id.clone()).collect()
        };
        prop_assert!(ids(low + more).is_subset(&ids(low)));
    }
}

#[test]
fn the_share_that_is_lost_is_the_share_that_was_asked_for() {
    let signals = stream(&[true; 10_000]);
    let trouble = Trouble {
        drop: 0.1,
        ..Trouble::default()
    };
    let left = perturbed(&signals, Timestamp::ZERO, &trouble).len();
    // Binomial with a standard deviation of 30: five of them.
    assert!((8_850..=9_150).contains(&left), "{left}");
}

#[test]
fn nothing_asked_for_is_nothing_changed() {
    let signals = stream(&[true, false, true]);
    let heard = perturbed(&signals, Timestamp::ZERO, &Trouble::default());
    assert!(matches!(heard, Cow::Borrowed(_)));
}

#[test]
fn a_doubled_message_keeps_its_identity() {
    let signals = stream(&[true; 50]);
    let trouble = Trouble {
        duplicate: 1.0,
        ..Trouble::default()
    };
    let heard = perturbed(&signals, Timestamp::ZERO, &trouble);
    assert_eq!(heard.len(), 100);
    for signal in &signals {
        let same = heard.iter().filter(|other| other.id == signal.id);
        assert_eq!(same.count(), 2);
    }
}

#[test]
fn a_listing_holds_what_is_there_and_not_what_is_gone() {
    let pod = PodRef {
        name: "default/p".into(),
        uid: "u".into(),
    };
    let joined = |node: &str| {
        Fact::NodeJoined(NodeJoined {
            node: node.into(),
            ..NodeJoined::default()
        })
    };
    let facts = [
        joined("a"),
        joined("b"),
        Fact::PodStarted(PodOnNode {
            pod: pod.clone(),
            node: "a".into(),
        }),
        Fact::PodRemoved(PodGone { pod }),
        Fact::NodeRemoved(NodeRemoved {
            node: Some("a".into()),
            ..NodeRemoved::default()
        }),
    ];
    let mut listing = Listing::default();
    for (number, fact) in facts.into_iter().enumerate() {
        listing.hear(&Signal::new(
            "/kubernetes/x",
            number.to_string(),
            at(1.0),
            fact,
        ));
    }
    let listed = listing.list(at(9.0));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].fact, joined("b"));
    assert_eq!(listed[0].observedtime, at(9.0));
}
