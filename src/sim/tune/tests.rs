//! Small searches are repeatable, resumable, and refuse the journals of others.

use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::forecast::model::Source;
use crate::sim::tests::build::Build;

/// Bytes per second, and an image's bytes: 20 seconds of link and unpacking each.
const RATE: f64 = 50e6;
const SIZE: u64 = 500_000_000;

/// Nodes that join one after the other; each runs the first image, every other one the second too.
fn course(name: &str, nodes: u8) -> Course {
    let mut build = Build::new().image(1, &[(1, SIZE)]).image(2, &[(2, SIZE)]);
    build.world().link.0 = RATE;
    build.world().unpack.0 = RATE;
    build.header.name = name.into();
    for node in 0..nodes {
        let (joined, name) = (100.0 * f64::from(node) + 10.0, format!("n{node}"));
        let images: &[u8] = if node % 2 == 0 { &[1, 2] } else { &[1] };
        build = build.node(&name, joined, joined + 30.0);
        build = build.pod(&format!("p{node}"), &name, joined + 35.0, images);
    }
    let (header, signals) = build.done();
    Course::prepare(header, signals, &Model::untuned()).unwrap()
}

fn halves() -> Halves {
    Halves {
        training: vec![course("a", 6), course("b", 9)],
        validation: vec![course("c", 7)],
    }
}

fn options(folder: &Path, trials: usize) -> Options {
    Options {
        seed: 1,
        trials,
        patience: 1000,
        threads: 2,
        start: Model::untuned(),
        journal: folder.join("journal.jsonl"),
        fresh: false,
        date: None,
    }
}

fn run(halves: &Halves, options: &Options) -> Result<Tuned, TuneError> {
    tune(halves, options, &AtomicBool::new(false), |_| {})
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let halves = halves();
    let folder = tempfile::tempdir().unwrap();
    let mut texts = BTreeSet::new();
    for threads in [1, 3] {
        let options = Options {
            threads,
            fresh: true,
            ..options(folder.path(), 23)
        };
        let tuned = run(&halves, &options).unwrap();
        let card = tuned.file.card.clone().unwrap();
        let (after, before) = (
            card.training_scores["tuned"].objective,
            card.training_scores["untuned"].objective,
        );
        assert!(after >= before - SETTLE_SLACK, "{before} -> {after}");
        assert_eq!(card.validation[0].name, "c");
        texts.insert(tuned.file.to_toml());
    }
    assert_eq!(texts.len(), 1);
    let text = texts.pop_first().unwrap();
    assert!(ModelFile::parse(&text).is_ok(), "{text}");
}

#[test]
fn a_search_that_was_stopped_ends_as_one_that_was_not() {
    let halves = halves();
    let folder = tempfile::tempdir().unwrap();
    let whole = Options {
        journal: folder.path().join("whole.jsonl"),
        ..options(folder.path(), 23)
    };
    let whole = run(&halves, &whole).unwrap();
    // 19 is in the middle of a batch.
    run(&halves, &options(folder.path(), 19)).unwrap();
    let resumed = run(&halves, &options(folder.path(), 23)).unwrap();
    assert_eq!((whole.resumed, resumed.resumed), (0, 19));
    assert_eq!(resumed.file.to_toml(), whole.file.to_toml());
    // All of it is known now, and a crash in the middle of a line costs that line only.
    let path = folder.path().join("journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 24);
    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    let again = run(&halves, &options(folder.path(), 23)).unwrap();
    assert_eq!(again.resumed, 22);
    assert_eq!(again.file.to_toml(), whole.file.to_toml());
}

#[test]
fn the_journal_of_another_search_is_refused_and_kept_unless_told_otherwise() {
    let halves = halves();
    let folder = tempfile::tempdir().unwrap();
    let first = options(folder.path(), 1);
    run(&halves, &first).unwrap();
    let before = std::fs::read_to_string(&first.journal).unwrap();
    let other = Halves {
        training: vec![course("a", 5)],
        validation: vec![course("c", 7)],
    };
    let seed = Options {
        seed: 2,
        ..first.clone()
    };
    let start = Options {
        start: Model::untuned().with_numbers([("price.keep", 0.5)]),
        ..first.clone()
    };
    for (halves, options, word) in [
        (&other, &first, "training scenarios a ("),
        (&halves, &seed, "seed 1, not 2"),
        (&halves, &start, "start"),
    ] {
        let error = run(halves, options).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("--fresh"), "{error}");
        let after = std::fs::read_to_string(&options.journal).unwrap();
        assert_eq!(after, before);
    }
    let fresh = Options {
        fresh: true,
        ..seed
    };
    run(&halves, &fresh).unwrap();
}

#[test]
fn lines_that_are_none_are_named() {
    let halves = halves();
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), 1);
    std::fs::write(&options.journal, "nonsense\n").unwrap();
    let error = run(&halves, &options).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    std::fs::remove_file(&options.journal).unwrap();
    run(&halves, &options).unwrap();
    let text = std::fs::read_to_string(&options.journal).unwrap();
    std::fs::write(&options.journal, text + "{}\n").unwrap();
    let error = run(&halves, &options).unwrap_err().to_string();
    assert!(error.contains("line 3"), "{error}");
}

#[test]
fn a_stop_leaves_the_journal_and_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), 23);
    let stop = AtomicBool::new(false);
    let stopped = tune(&halves(), &options, &stop, |step| {
        stop.store(step.trials >= 5, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(matches!(stopped, Err(TuneError::Stopped(5))));
    let text = std::fs::read_to_string(&options.journal).unwrap();
    assert_eq!(text.lines().count(), 6);
}

#[test]
fn without_improvement_patience_ends_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        patience: 3,
        ..options(folder.path(), 500)
    };
    let tuned = run(&halves(), &options).unwrap();
    assert_eq!(tuned.ended, Ended::Patience);
    let trials = tuned.file.card.unwrap().trials;
    assert!((STARTUP..500).contains(&trials), "{trials}");
}

#[test]
fn what_cannot_teach_or_judge_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), 1);
    let quiet = Halves {
        training: vec![course("quiet", 0)],
        validation: vec![course("c", 7)],
    };
    let error = run(&quiet, &options).unwrap_err();
    assert!(matches!(error, TuneError::NothingToGain));
    let overlap = Halves {
        training: vec![course("c", 7)],
        validation: vec![course("c", 7)],
    };
    let error = run(&overlap, &options).unwrap_err();
    assert!(error.to_string().contains("scenario c "), "{error}");
}

#[test]
fn every_third_scenario_judges_and_of_two_the_second() {
    let halves = |count: usize| split((0..count).collect::<Vec<_>>());
    assert_eq!(halves(1), (vec![0], vec![]));
    assert_eq!(halves(2), (vec![0], vec![1]));
    assert_eq!(halves(3), (vec![0, 1], vec![2]));
    assert_eq!(halves(7), (vec![0, 1, 3, 4, 6], vec![2, 5]));
}

#[test]
fn waste_harm_and_noise_cost_and_the_oracle_is_the_most_there_is() {
    let courses = [course("a", 6), course("quiet", 0)];
    let objective = |first: Run, second: Run| marks(&courses, &[first, second]).objective;
    let (oracle, quiet) = (courses[0].oracle, courses[1].oracle);
    let best = objective(oracle, quiet);
    assert!((best - 1.25).abs() < 0.2, "{best}");
    let wasted = Run {
        wasted: oracle.needed,
        ..oracle
    };
    // All of the needed bytes once more in vain cost more than all of the gain.
    assert!(objective(wasted, quiet) < best - 1.25);
    let slow = Run {
        wait_s: courses[0].reactive.wait_s * 1.02,
        ..courses[0].reactive
    };
    let harmed = objective(slow, quiet);
    assert!(
        harmed < objective(courses[0].reactive, quiet) - 0.1,
        "{harmed}"
    );
    let noisy = Run {
        bytes: quiet.bytes + 1e6,
        ..quiet
    };
    assert!(objective(oracle, noisy) <= best - 0.1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// What has been as good as anything seen may always be played to its end.
    #[test]
    fn a_trial_that_repeats_what_was_seen_is_never_pruned(
        parts in prop::collection::vec((0.0..1.2_f64, 0.0..1.0_f64), 2),
        played in 0..=2_usize,
    ) {
        let courses = PREPARED.with(Rc::clone);
        let runs: Vec<Run> = courses.iter().zip(parts).map(|(course, (wait, waste))| Run {
            wait_s: course.reactive.wait_s * wait,
            bytes: course.reactive.bytes * (1.0 + waste),
            wasted: course.reactive.needed * waste,
            needed: course.reactive.needed,
        }).collect();
        let end = marks(&courses, &runs).objective;
        let seen = best_seen(&courses, std::iter::once(runs.as_slice()));
        prop_assert!(hope(&courses, &runs[..played], &seen) >= end - 1e-6);
    }
}

thread_local! {
    static PREPARED: Rc<[Course]> = [course("a", 6), course("b", 9)].into();
}

#[test]
fn a_source_is_told_by_its_content() {
    let (one, same, other) = (course("a", 6), course("a", 6), course("a", 7));
    assert_eq!(one.source, same.source);
    let Source { name, sha256 } = other.source;
    assert_eq!(name, "a");
    assert_ne!(sha256, one.source.sha256);
}
