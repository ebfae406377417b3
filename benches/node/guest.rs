//! What a pod's own pull loses while an agent brings something that nobody waits for.

use std::time::{Duration, Instant};

use forelay::domain::time::Timestamp;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use crate::images::Image;
use crate::rows::median;
use crate::site::{HOST, Registry, Site};
use crate::{Form, say};

/// Agents are well under way after it.
const LEAD: Duration = Duration::from_millis(300);

/// Resamples of the bootstrap, and its seed.
const RESAMPLES: usize = 10_000;
const SEED: u64 = 1;

/// The JSON's `guest`.
#[derive(Clone, Debug, Serialize)]
pub struct Guest {
    /// Upper 95 % bound of the median slowdown; 0.05 is 5 % slower.
    pub slowdown_upper95: f64,
    #[serde(skip)]
    pub slowdown: f64,
    #[serde(skip)]
    pub pairs: usize,
}

/// Pairs of pulls of `wanted`: alone, and beside an agent that brings `guessed`.
pub async fn measure(
    registry: &Registry,
    (wanted, guessed): (&Image, &Image),
    pairs: usize,
) -> anyhow::Result<Guest> {
    let mut ratios = Vec::new();
    for pair in 1..=pairs {
        // Which comes first changes: the machine warms up and cools down.
        let mut times = [0.0; 2];
        for step in 0..2 {
            let beside = (pair + step) % 2;
            times[beside] = once(registry, wanted, (beside == 1).then_some(guessed)).await?;
        }
        let [alone, beside] = times;
        say(&format!("guest {pair}: {alone:.2} s alone, {beside:.2} s"));
        ratios.push(beside / alone);
    }
    Ok(Guest {
        slowdown_upper95: upper(&ratios) - 1.0,
        slowdown: median(&ratios, |ratio| *ratio) - 1.0,
        pairs,
    })
}

async fn once(registry: &Registry, wanted: &Image, guessed: Option<&Image>) -> anyhow::Result<f64> {
    let site = Site::fresh(registry, None).await?;
    let agent = match guessed {
        None => None,
        Some(image) => Some(site.agent(&guess(image), &[])?),
    };
    // The same pause alone: a daemon is slower in its first moments.
    tokio::time::sleep(LEAD).await;
    let began = Instant::now();
    let mut agent = agent;
    let cost = site.pull(wanted, Form::Gzip).await?;
    if let Some(agent) = &mut agent {
        if agent.try_wait()?.is_some() {
            let said = site.said();
            say(&format!(
                "guest: the agent ended within {:?}: {said}",
                began.elapsed()
            ));
        }
        let _ = agent.kill();
        agent.wait()?;
    }
    Ok(cost.wall_s)
}

/// As a controller writes it for what it foresees.
fn guess(image: &Image) -> serde_json::Value {
    json!({
        "apiVersion": "forelay.dev/v1alpha1", "kind": "NodePrefetch", "metadata": {"name": "this-node"},
        "spec": {"node": "this-node", "epoch": 1, "made": Timestamp::ZERO, "entries": [{
            "image": format!("{HOST}/{}:{}", image.name, Form::Gzip.word()),
            "digest": image.manifests[&Form::Gzip],
            "platform": "linux/amd64",
            "priority": "Predicted",
            "reason": {"kind": "History", "of": ""},
            "probability": 0.5,
            "bytes": image.bytes(Form::Gzip),
            "expires": Timestamp::ZERO,
        }]}
    })
}

/// Bootstrap of the median, one-sided 95 %.
fn upper(ratios: &[f64]) -> f64 {
    let mut chance = ChaCha8Rng::seed_from_u64(SEED);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let pick = (0..ratios.len()).map(|_| ratios[chance.random_range(0..ratios.len())]);
            median(&pick.collect::<Vec<_>>(), |ratio| *ratio)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    medians[RESAMPLES * 95 / 100]
}
