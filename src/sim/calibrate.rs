//! The link rate at which a kubelet without help waits as long as it did in the recording.

use crate::domain::quantity::Bandwidth;
use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::sim::facts::{Facts, FactsError, recorded_wait};
use crate::sim::score::Tally;
use crate::sim::world::{Planner, Stage, World};

/// Links are sought between a hundredth and a hundred times the rate in the header.
const RANGE: f64 = 100.0;

/// Bisection steps: 2^-40 of the range is far below a byte per second.
const STEPS: usize = 40;

/// Outcome of a calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Every pool's link is to be multiplied by this.
    pub factor: f64,
    /// Summed image wait in the recording, seconds.
    pub recorded_s: f64,
    /// The same by the model with the links so scaled.
    pub modelled_s: f64,
}

/// Finds the factor; `None` where the recording tells of no pull, or of no wait.
pub fn calibrate(header: &Header, signals: &[Signal]) -> Result<Option<Calibration>, FactsError> {
    let facts = Facts::gather(header, signals)?;
    let Some(recorded_s) = recorded_wait(&facts, signals).filter(|wait| *wait > 0.0) else {
        return Ok(None);
    };
    let modelled = |factor: f64| modelled_wait(header, &facts.with_links_scaled(factor));
    // Bisection over the logarithm: a wait falls as links grow.
    let (mut low, mut high) = (RANGE.recip().ln(), RANGE.ln());
    for _ in 0..STEPS {
        let middle = 0.5 * (low + high);
        if modelled(middle.exp()) > recorded_s {
            low = middle;
        } else {
            high = middle;
        }
    }
    let factor = high.exp();
    Ok(Some(Calibration {
        factor,
        recorded_s,
        modelled_s: modelled(factor),
    }))
}

/// The header with every pool's link multiplied.
#[must_use]
pub fn with_links_scaled(header: &Header, factor: f64) -> Header {
    let mut header = header.clone();
    for pool in header.pools.values_mut() {
        pool.link = Bandwidth((pool.link.0 * factor).round());
    }
    header
}

/// Summed image wait of a kubelet alone, in seconds.
#[must_use]
pub fn modelled_wait(header: &Header, facts: &Facts) -> f64 {
    let stage = Stage::new(header, facts, &[]);
    Tally::of(facts, &World::new(stage, Planner::Nobody).run()).wait_s()
}
