//! Choices against all choices, and what they promise.

use proptest::prelude::*;

use super::{Candidate, Choice, Problem, Search, choose, greedy};

/// Candidates over at most eight layers: few enough to try every set of them.
fn small() -> impl Strategy<Value = (Vec<Candidate>, Vec<u64>, u64)> {
    let sizes = prop::collection::vec(0..60_u64, 8);
    let candidate = (0..100_u32, prop::collection::btree_set(0..8_usize, 0..5));
    let candidate = candidate.prop_map(|(value, layers)| Candidate {
        value: f64::from(value),
        layers: layers.into_iter().collect(),
    });
    (prop::collection::vec(candidate, 0..10), sizes, 0..250_u64)
}

fn bytes(problem: Problem<'_>, taken: &[bool]) -> u64 {
    let mut there = vec![false; problem.sizes.len()];
    for (candidate, _) in problem.candidates.iter().zip(taken).filter(|(_, t)| **t) {
        candidate.layers.iter().for_each(|at| there[*at] = true);
    }
    let sizes = problem.sizes.iter().zip(there);
    sizes
        .filter(|(_, there)| *there)
        .map(|(size, _)| size)
        .sum()
}

fn value(problem: Problem<'_>, taken: &[bool]) -> f64 {
    let taken = problem.candidates.iter().zip(taken).filter(|(_, t)| **t);
    taken.map(|(candidate, _)| candidate.value).sum()
}

fn best_of_all(problem: Problem<'_>) -> f64 {
    let count = problem.candidates.len();
    let sets = (0..1_usize << count).map(|set| (0..count).map(|at| set >> at & 1 == 1).collect());
    sets.filter(|taken: &Vec<bool>| bytes(problem, taken) <= problem.budget)
        .map(|taken| value(problem, &taken))
        .fold(0.0, f64::max)
}

fn in_order(problem: Problem<'_>) -> Choice {
    Search::new(problem, 0).filled(0..problem.candidates.len())
}

#[test]
fn two_images_that_share_a_large_layer_are_taken_together() {
    // Alone each of the pair has less value per byte than the third, together they have more.
    let candidates = [
        Candidate {
            value: 7.0,
            layers: vec![0],
        },
        Candidate {
            value: 6.0,
            layers: vec![1, 2],
        },
        Candidate {
            value: 6.0,
            layers: vec![1, 3],
        },
    ];
    let problem = Problem {
        candidates: &candidates,
        sizes: &[100, 100, 5, 5],
        budget: 110,
    };
    let choice = choose(problem);
    assert_eq!(choice.taken, [false, true, true]);
    assert_eq!((choice.value, choice.bound), (12.0, 12.0));
    assert_eq!(greedy(problem).taken, [true, false, false]);
}

#[test]
fn where_the_work_ends_the_bound_still_holds_and_says_how_good_the_choice_is() {
    // 60 images of one size class: a search without end would look at 2^60 sets.
    let candidates: Vec<Candidate> = (0..60_usize)
        .map(|at| Candidate {
            value: 50.0 + (at * 7919 % 101) as f64,
            layers: vec![at, 60 + at % 5, 65 + at % 7],
        })
        .collect();
    let sizes: Vec<u64> = (0..72).map(|at: u64| 40 + at * 31 % 23).collect();
    let problem = Problem {
        candidates: &candidates,
        sizes: &sizes,
        budget: 1500,
    };
    let choice = choose(problem);
    assert!(bytes(problem, &choice.taken) <= 1500);
    // Twenty of sixty images: whole ones lose at most one image's worth to fractions of them.
    let part = choice.value / choice.bound;
    assert!((0.85..=1.0).contains(&part), "{part}");
    assert!(choice.value >= in_order(problem).value);
}

#[test]
fn more_images_than_are_recounted_are_chosen_all_the_same() {
    let candidates: Vec<Candidate> = (0..1000)
        .map(|at| Candidate {
            value: 1.0 + (at % 10) as f64,
            layers: vec![at],
        })
        .collect();
    let sizes = vec![10; 1000];
    let choice = choose(Problem {
        candidates: &candidates,
        sizes: &sizes,
        budget: 1000,
    });
    // The hundred best are worth 10 each.
    assert_eq!(choice.value, 1000.0);
}

proptest! {
    #[test]
    fn bound_exact_and_greedy_stand_in_that_order((candidates, sizes, budget) in small()) {
        let problem = Problem { candidates: &candidates, sizes: &sizes, budget };
        let exact = best_of_all(problem);
        let choice = choose(problem);
        // Nine images at most: the search ends, and what it found is the best there is.
        prop_assert_eq!(choice.value, exact);
        prop_assert!(choice.bound >= exact && choice.bound <= exact * (1.0 + 1e-9));
        prop_assert!(exact >= greedy(problem).value);
        prop_assert!(exact >= in_order(problem).value);
        prop_assert_eq!(value(problem, &choice.taken), choice.value);
        prop_assert!(bytes(problem, &choice.taken) <= budget);
    }

    #[test]
    fn a_search_that_is_cut_short_keeps_its_promises(
        (candidates, sizes, budget) in small(),
        work in 0..60_usize,
    ) {
        let problem = Problem { candidates: &candidates, sizes: &sizes, budget };
        let search = Search::new(problem, work);
        let plain = in_order(problem);
        let mut best = plain.clone();
        let bound = search.run(&mut best);
        prop_assert!(bound >= best_of_all(problem));
        prop_assert!(best.value >= plain.value);
        prop_assert!(bytes(problem, &best.taken) <= budget);
    }
}
