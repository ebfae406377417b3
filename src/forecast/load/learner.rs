//! Learns from the samples of a series one by one, and forecasts.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::forecast::load::burst::Burst;
use crate::forecast::load::grid::{Grid, Taken};
use crate::forecast::load::horizon::Horizon;
use crate::forecast::load::units::Units;
use crate::forecast::load::{LoadForecast, LoadSettings};

/// All that is known of one series.
#[derive(Clone, Debug)]
pub(super) struct Learner {
    settings: LoadSettings,
    grid: Grid,
    burst: Burst,
    units: Units,
    signed: bool,
    horizons: Vec<Horizon>,
}

impl Learner {
    pub(super) fn new(settings: LoadSettings) -> Self {
        let longest = settings.horizons.iter().copied().max().unwrap_or(0);
        let horizons = settings.horizons.iter().map(|steps| Horizon::new(*steps));
        Self {
            grid: Grid::new(settings.step, settings.period, longest),
            burst: Burst::default(),
            units: Units::default(),
            signed: false,
            horizons: horizons.collect(),
            settings,
        }
    }

    /// Takes a finite sample; one that is older than the last is left out.
    pub(super) fn observe(&mut self, at: Timestamp, value: f64) {
        let slot = match self.grid.take(at, value) {
            Taken::New(slot) => slot,
            Taken::Old | Taken::Same => return,
        };
        self.signed |= value < 0.0;
        if let Some(factor) = self.units.observe(value) {
            self.grid.rescale(factor);
            self.burst.end();
            for horizon in &mut self.horizons {
                horizon.rescale(factor);
            }
        }
        let jumped = self.burst.is_on();
        for horizon in &mut self.horizons {
            if let Some(error) = horizon.settle(slot, value) {
                self.burst.observe(error);
            }
        }
        if self.burst.is_on() && !jumped {
            self.horizons.iter_mut().for_each(Horizon::shorten_memory);
        }
        let Some(start) = self.grid.start() else {
            return;
        };
        let widening = self.burst.widening();
        for horizon in &mut self.horizons {
            let members = self.grid.members(&start, horizon.steps);
            horizon.open(slot, members, widening);
        }
    }

    pub(super) fn forecast(&self, ahead: Duration) -> Option<LoadForecast> {
        let step_s = self.settings.step.as_secs_f64().max(1e-3);
        let steps = (ahead.as_secs_f64() / step_s).ceil() as usize;
        let mut horizons = self.horizons.iter();
        let horizon = horizons
            .find(|horizon| horizon.steps >= steps)
            .or(self.horizons.last())?;
        let members = self.grid.members(&self.grid.start()?, horizon.steps);
        horizon.forecast(&members, self.burst.widening(), self.signed)
    }

    pub(super) fn season(&self) -> Option<Duration> {
        self.grid.season()
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        self.grid.last()
    }
}
