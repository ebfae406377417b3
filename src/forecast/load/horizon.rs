//! What is learned for one horizon: members' weights with each sample, intervals with each few.

use crate::forecast::load::LoadForecast;
use crate::forecast::load::mixture::{Members, Mixture};
use crate::forecast::load::panel::{Panel, Said};

/// Parts of a horizon: one lies between two of its intervals that are scored. Outcomes of forecasts ten
/// steps ahead overlap by nine tenths and say little new: with all scored, 14 real series lose 0.724 of
/// what persistence does (1, 5 and 10 minutes ahead, p90 and p99, geometric mean), with four or five parts
/// 0.724, with three 0.725, with two 0.731, with one 0.742. Members and units, which cost little, learn
/// from all: from as few as intervals, with three parts, it was 1 % more.
const PARTS: usize = 4;

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
    /// Intervals that wait and their slots, as many as strides fit into the steps, and the oldest one's
    /// place.
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
        let stride = steps.div_ceil(PARTS);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots for which intervals wait, after a sample in each of these.
    fn waiting(steps: usize, slots: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut horizon = Horizon::new(steps);
        let mut now = 0;
        for slot in slots {
            now = slot;
            horizon.settle(slot, 1.0);
            horizon.open(slot, Members::default(), 1.0);
        }
        let mut then: Vec<i64> = horizon.said.iter().map(|(then, _)| *then).collect();
        then.retain(|then| *then > now);
        then.sort_unstable();
        then
    }

    #[test]
    fn an_interval_waits_in_each_quarter_of_a_horizon() {
        // Ten steps' quarter is three, rounded up: at 0, 3, ... 99.
        assert_eq!(waiting(10, 0..101), [103, 106, 109]);
        assert_eq!(waiting(10, 0..100), [100, 103, 106, 109]);
        assert_eq!(waiting(5, 0..101), [101, 103, 105]);
        assert_eq!(waiting(1, 0..101), [101]);
        // Whatever slots samples come in.
        assert_eq!(waiting(10, (1..100).step_by(2)), [103, 107]);
        assert_eq!(waiting(10, [0, 1, 70].into_iter()), [80]);
    }

    #[test]
    fn members_learn_from_each_sample_whose_forecast_was_made() {
        let mut horizon = Horizon::new(1);
        assert_eq!(horizon.settle(7, 1.0), None);
        horizon.open(7, Members::default(), 1.0);
        assert_eq!(horizon.settle(8, 1.0), None);
        horizon.open(8, Members::default(), 1.0);
        let error = horizon.settle(9, 1.0);
        assert_eq!(error, Some(1.0));
        horizon.open(9, Members::default(), 1.0);
        // Slot 10 is missing.
        assert_eq!(horizon.settle(11, 1.0), None);
    }
}
