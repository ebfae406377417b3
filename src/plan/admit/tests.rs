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
        pods,
    }
}

fn admitted(wanted: &[Wanted<'_>], have: &Layers<'_>, megabytes: u64) -> Admission {
    let terms = Terms {
        price: &Price::default(),
        have,
        disk: ByteSize(megabytes * 1_000_000),
    };
    admit(wanted, terms)
}

/// Megabytes that each adds; missing where left out.
fn added(admission: &Admission) -> Vec<Option<u64>> {
    let outcomes = admission.outcomes.iter();
    outcomes
        .map(|outcome| outcome.as_ref().ok().map(|bytes| bytes.0 / 1_000_000))
        .collect()
}

#[test]
fn where_everything_fits_layers_are_counted_once_and_no_budget_is_told() {
    let images = [image(&[50, 20]), image(&[50, 50, 7])];
    let there = layer(20);
    let have = [&there.digest].into();
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
