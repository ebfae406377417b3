//! What is taken where a budget binds, and where none does.

use proptest::prelude::*;

use super::*;
use crate::domain::image::{Layer, Platform};

/// A layer of so many megabytes, which are its name.
fn layer(megabytes: u8) -> Layer {
    Layer {
        digest: Digest::from_sha256(&[megabytes; 32]),
        size: ByteSize(u64::from(megabytes) * 1_000_000),
        unpacked: None,
    }
}

fn image(layers: &[u8]) -> ImageManifest {
    ImageManifest {
        digest: Digest::from_sha256(&[0; 32]),
        platform: Platform::linux("amd64"),
        layers: layers.iter().copied().map(layer).collect(),
    }
}

fn wanted(manifest: &ImageManifest, waits: bool, pods: f64) -> Wanted<'_> {
    Wanted {
        manifest,
        waits,
        kept: false,
        registry: "quay.io",
        pods,
    }
}

fn admitted(wanted: &[Wanted<'_>], have: &Layers<'_>, megabytes: u64) -> Admission {
    let terms = Terms {
        price: &Price::default(),
        have,
        disk: ByteSize(megabytes * 1_000_000),
        guesses: None,
    };
    admit(wanted, terms)
}

/// Megabytes that each adds; missing where left out.
fn added(admission: &Admission) -> Vec<Option<u64>> {
    let outcomes = admission.outcomes.iter();
    outcomes
        .map(|outcome| outcome.as_ref().ok().map(|added| added.bytes.0 / 1_000_000))
        .collect()
}

#[test]
fn where_everything_fits_layers_are_counted_once_and_no_budget_is_told() {
    let images = [image(&[50, 20]), image(&[50, 50, 7])];
    let there = layer(20);
    let have: Layers<'_> = [&there.digest].into_iter().collect();
    let wanted = [
        wanted(&images[0], false, 1.0),
        wanted(&images[1], true, 1.0),
    ];
    let admission = admitted(&wanted, &have, 57);
    assert_eq!(added(&admission), [Some(50), Some(7)]);
    assert_eq!(admission.fills, []);
}

#[test]
fn images_that_share_a_layer_are_taken_together_where_that_saves_more() {
    let images = [image(&[110]), image(&[100, 4]), image(&[100, 5])];
    let wanted: Vec<_> = images.iter().map(|i| wanted(i, false, 0.9)).collect();
    let admission = admitted(&wanted, &Layers::new(), 112);
    assert_eq!(added(&admission), [None, Some(104), Some(5)]);
    assert_eq!(admission.outcomes[0], Err(Fate::Budget));
    let fill = &admission.fills[0];
    assert_eq!((fill.taken, fill.wanted, fill.at_least), (2, 3, 1.0));
    // Each of both saves .9 of its seconds at 28 MB/s and 0.4 s.
    let seconds = 0.9 * ((104.0 + 105.0) / 28.0 + 0.8);
    assert!((fill.value_s - seconds).abs() < 1e-6, "{fill:?}");
}

#[test]
fn who_waits_has_room_before_any_guess_however_many_it_is_for() {
    let images = [image(&[90]), image(&[10]), image(&[11])];
    let wanted = [
        wanted(&images[0], true, 0.6),
        wanted(&images[1], false, 4.0),
        wanted(&images[2], false, 4.0),
    ];
    let admission = admitted(&wanted, &Layers::new(), 100);
    assert_eq!(added(&admission), [Some(90), Some(10), None]);
}

fn guessed(
    wanted: &[Wanted<'_>],
    (link, zone): (u64, u64),
    requests: u64,
    flights: &Flights,
) -> Admission {
    let guesses = Common {
        link: ByteSize(link * 1_000_000),
        zone: ByteSize(zone * 1_000_000),
        requests,
        flights,
        now: Timestamp::ZERO,
    };
    let terms = Terms {
        price: &Price::default(),
        have: &Layers::new(),
        disk: ByteSize(1 << 40),
        guesses: Some(guesses),
    };
    admit(wanted, terms)
}

#[test]
fn guesses_take_what_link_and_zone_have_beside_who_waits_and_what_is_on_its_way_stays() {
    let images = [image(&[200]), image(&[201]), image(&[50]), image(&[60])];
    let mut all: Vec<_> = images.iter().map(|i| wanted(i, false, 0.9)).collect();
    (all[0].waits, all[1].kept) = (true, true);
    let flights = Flights::default();
    let fates = |link, zone| {
        let admission = guessed(&all, (link, zone), 1000, &flights);
        let words = admission.fills.iter().map(|fill| fill.budget);
        (added(&admission), words.collect::<Vec<_>>())
    };
    // Nothing at all for guesses: who waits comes, and what is on its way is not called back.
    let least = vec![Some(200), Some(201), None, None];
    assert_eq!(fates(0, 0), (least.clone(), vec!["link"]));
    assert_eq!(fates(1000, 0), (least, vec!["zone"]));
    // 470 MB of link hold what is waited for, what is on its way, and one guess: the larger, which saves
    // more.
    let one = vec![Some(200), Some(201), None, Some(60)];
    assert_eq!(fates(470, 1000), (one, vec!["link"]));
    let both = vec![Some(200), Some(201), Some(50), Some(60)];
    assert_eq!(fates(511, 110), (both, vec![]));
}

#[test]
fn a_registry_is_asked_for_no_more_guesses_than_it_may_be_within_a_minute() {
    let images = [image(&[1, 2, 3]), image(&[4, 5]), image(&[1, 6])];
    let mut all: Vec<_> = images.iter().map(|i| wanted(i, false, 0.9)).collect();
    let mut flights = Flights::default();
    // Four requests, three, and two: the first image has brought a layer of the last.
    let fates = |all: &[Wanted<'_>], requests, flights: &Flights| {
        let admission = guessed(all, (1000, 1000), requests, flights);
        let outcomes = admission.outcomes.iter();
        outcomes.map(Result::is_ok).collect::<Vec<_>>()
    };
    assert_eq!(fates(&all, 9, &flights), [true, true, true]);
    assert_eq!(fates(&all, 8, &flights), [true, true, false]);
    assert_eq!(fates(&all, 6, &flights), [true, false, true]);
    let guess = crate::plan::flights::Guess {
        registry: "quay.io".into(),
        bytes: ByteSize(1),
        requests: 5,
    };
    flights.begin("zone", &[guess], 1.0, Timestamp::ZERO);
    assert_eq!(fates(&all, 9, &flights), [true, false, false]);
    all[1].waits = true;
    all[2].registry = "ghcr.io";
    assert_eq!(fates(&all, 9, &flights), [true, true, true]);
}

proptest! {
    #[test]
    fn no_budget_is_overdrawn_and_no_guess_costs_a_waiting_pods_image(
        images in prop::collection::vec(
            (prop::collection::btree_set(1..30_u8, 1..5), any::<bool>(), 1..40_u32),
            0..12,
        ),
        megabytes in 0..120_u64,
    ) {
        let manifests: Vec<ImageManifest> = images
            .iter()
            .map(|(layers, ..)| image(&layers.iter().copied().collect::<Vec<_>>()))
            .collect();
        let mut all: Vec<Wanted<'_>> = manifests
            .iter()
            .zip(&images)
            .map(|(manifest, (_, waits, pods))| wanted(manifest, *waits, f64::from(*pods) / 10.0))
            .collect();
        all.sort_by_key(|one| !one.waits);
        let have = Layers::new();
        let admission = admitted(&all, &have, megabytes);
        let bytes: u64 = added(&admission).into_iter().flatten().sum();
        prop_assert!(bytes <= megabytes);
        let waiting: Vec<_> = all.iter().copied().filter(|one| one.waits).collect();
        let alone = admitted(&waiting, &have, megabytes);
        prop_assert_eq!(&added(&admission)[..waiting.len()], &added(&alone)[..]);
        let whole = added(&admission).iter().all(Option::is_some);
        prop_assert_eq!(whole, admission.fills.is_empty());
    }
}
