//! Scaler wishes on the two recorded scenarios, against "desired stays" and the plain formula.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use forelay::domain::signal::{Fact, Signal};
use forelay::domain::workload::WorkloadRef;
use forelay::forecast::backtest::scaler::{WishScore, wishes};
use forelay::forecast::scaler::{Behaviour, Observed};
use forelay::source::scenario::{ScenarioReader, Strictness};

const RECORDED: [&str; 2] = ["ca-flash-crowd", "karpenter-rollout"];

fn signals(name: &str) -> Vec<Signal> {
    let path = format!("scenarios/{name}.jsonl.zst");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let (_, reader) = ScenarioReader::open(&path, Strictness::Strict).unwrap();
    reader.map(Result::unwrap).collect()
}

/// What each scaler said. Which pods serve is left unknown: on these recordings it made wishes
/// worse, because what the scaler did tells it too.
fn scalers(signals: &[Signal]) -> BTreeMap<WorkloadRef, Vec<Observed>> {
    let mut all: BTreeMap<WorkloadRef, Vec<Observed>> = BTreeMap::new();
    for signal in signals {
        let Fact::ScalerObserved(seen) = &signal.fact else {
            continue;
        };
        all.entry(seen.scaler.clone()).or_default().push(Observed {
            at: signal.observedtime,
            current: seen.current,
            desired: seen.desired,
            min: seen.min,
            max: seen.max,
            ratio: seen.ratio,
            limited: seen.limited,
            serving: None,
        });
    }
    all
}

/// Scores weighted by outcomes.
fn pooled(scores: &[WishScore], of: impl Fn(&WishScore) -> f64) -> f64 {
    let count: usize = scores.iter().map(|score| score.outcomes).sum();
    let sum: f64 = scores
        .iter()
        .map(|score| of(score) * score.outcomes as f64)
        .sum();
    sum / count as f64
}

#[test]
fn wishes_lose_less_than_standing_still_and_than_the_plain_formula() {
    let recorded = RECORDED.map(|name| scalers(&signals(name)));
    for seconds in [16, 31, 61, 121, 181] {
        let score = |seen: &Vec<Observed>| {
            let ahead = Duration::from_secs(seconds);
            wishes(seen, ahead, 4, &Behaviour::default(), |_| None)
        };
        let scores: Vec<WishScore> = recorded
            .iter()
            .flat_map(|scalers| scalers.values().map(score))
            .collect();
        let losses = [0, 1, 2].map(|at| pooled(&scores, |s| s.pinball[at]));
        let stays = [0, 1, 2].map(|at| pooled(&scores, |s| s.stays[at]));
        let plain = [0, 1, 2].map(|at| pooled(&scores, |s| s.plain[at]));
        let ratio = |base: [f64; 3]| [0, 1, 2].map(|at| losses[at] / base[at]);
        let (to_stays, to_plain) = (ratio(stays), ratio(plain));
        let coverage = pooled(&scores, |s| s.coverage);
        let width = pooled(&scores, |s| s.width);
        println!(
            "+{seconds} s: pinball p50, p90, p99 to stays {to_stays:.2?}, to plain {to_plain:.2?}, \
             90 % interval holds {coverage:.2} with {width:.1} replicas"
        );
        // Who stages for the 90 % quantile loses half of what standing still loses, from half a
        // minute on. Before that nearly nothing has changed.
        assert!(
            to_stays[2] <= 0.3 && to_plain.iter().all(|ratio| *ratio <= 1.15),
            "{seconds}"
        );
        assert!(
            seconds < 30 || to_stays[1] <= 0.75,
            "{seconds}: {to_stays:?}"
        );
    }
}
