//! What is learned for one horizon: members' weights with each sample, intervals with each few.

use crate::forecast::load::LoadForecast;
use crate::forecast::load::mixture::{Members, Mixture};
use crate::forecast::load::panel::{Panel, Said};

/// Steps of a horizon for each slot between two of its intervals that are scored. Outcomes of forecasts
/// 10 steps ahead overlap by nine tenths: scoring a fourth of them, 14 real series lose 0.1 % more at p90
/// and p99 (horizons 1, 5 and 10); with a fifth and 2 steps instead of 3 it is 0.8 %. Members and units,
/// which cost little, learn from all: their share of the loss is three times that.
const STEPS_PER_SLOT: usize = 4;

/// No slot: what waits for it waits for nothing.
const NEVER: i64 = i64::MIN;

/// One horizon.
#[derive(Clone, Debug)]
pub(super) struct Horizon {
    pub(super) steps: usize,
    /// Slots between two intervals that wait for their outcomes.
    stride: i64,
    mixture: Mixture,
    panel: Panel,
    /// Forecasts that wait, by slot modulo steps: the cell of the slot that comes is the one that is free
    /// next.
    open: Vec<Open>,
    /// Intervals that wait, as many as strides fit into the steps, and the oldest one's place.
    said: Vec<(i64, Said)>,
    oldest: usize,
}

/// A forecast that waits for its outcome.
#[derive(Clone, Debug)]
struct Open {
    slot: i64,
    members: Members,
    middle: f64,
    /// In which its error is counted, one step ahead; none before the first outcome.
    unit: Option<f64>,
}

impl Horizon {
    pub(super) fn new(steps: usize) -> Self {
        let steps = steps.max(1);
        let stride = steps.div_ceil(STEPS_PER_SLOT);
        let open = Open {
            slot: NEVER,
            members: Members::default(),
            middle: 0.0,
            unit: None,
        };
        Self {
            steps,
            stride: stride as i64,
            mixture: Mixture::default(),
            panel: Panel::new(stride),
            open: vec![open; steps],
            said: vec![(NEVER, Said::default()); steps.div_ceil(stride)],
            oldest: 0,
        }
    }

    /// Learns from the forecast that was made for this slot; its error in usual ones, one step ahead.
    pub(super) fn settle(&mut self, slot: i64, value: f64) -> Option<f64> {
        let cell = self.cell(slot);
        let open = &self.open[cell];
        if open.slot != slot {
            return None;
        }
        self.mixture.observe(&open.members, value);
        self.panel
            .measure([f64::from(open.members[0]), open.middle], value);
        if let Some((_, said)) = self.said.iter().find(|(then, _)| *then == slot) {
            self.panel.observe(said, value);
        }
        open.unit.map(|unit| (value - open.middle) / unit)
    }

    /// Makes the forecast for so many steps after this slot.
    pub(super) fn open(&mut self, slot: i64, members: Members, widening: f64) {
        let then = slot.saturating_add(self.steps as i64);
        let middle = self.mixture.middle(&members);
        let newest = if self.oldest == 0 {
            self.said.len() - 1
        } else {
            self.oldest - 1
        };
        if self.said[newest].0.saturating_add(self.stride) <= then {
            let (slot, said) = &mut self.said[self.oldest];
            *slot = then;
            self.panel
                .say(f64::from(members[0]), middle, widening, said);
            self.oldest = (self.oldest + 1) % self.said.len();
        }
        let cell = self.cell(slot);
        self.open[cell] = Open {
            slot: then,
            members,
            middle,
            unit: if self.steps == 1 {
                self.panel.unit(widening)
            } else {
                None
            },
        };
    }

    /// None before the first outcome.
    pub(super) fn forecast(
        &self,
        members: &Members,
        widening: f64,
        signed: bool,
    ) -> Option<LoadForecast> {
        let middle = self.mixture.middle(members);
        let mut said = Said::default();
        self.panel
            .say(f64::from(members[0]), middle, widening, &mut said);
        said.is_founded().then(|| LoadForecast {
            middle,
            quantiles: self.panel.together(&said),
            signed,
        })
    }

    /// What was said in the old unit is not scored; what was learned holds in the new one.
    pub(super) fn rescale(&mut self, factor: f64) {
        self.forget_open();
        self.mixture.rescale(factor);
        self.panel.rescale(factor);
    }

    /// What was said before a burst tells nothing of who is good after it.
    pub(super) fn shorten_memory(&mut self) {
        self.forget_open();
        self.mixture.shorten_memory();
        self.panel.shorten_memory();
    }

    fn forget_open(&mut self) {
        self.open.iter_mut().for_each(|open| open.slot = NEVER);
        self.said.iter_mut().for_each(|(then, _)| *then = NEVER);
    }

    /// Of this slot and of the one so many steps later.
    fn cell(&self, slot: i64) -> usize {
        slot.rem_euclid(self.steps as i64) as usize
    }
}
