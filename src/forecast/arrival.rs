//! How long nodes of a pool take, as quantiles over the last ones.

use std::collections::BTreeSet;

use crate::domain::time::Timestamp;

/// Which way a duration is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From the request to Ready.
    Request,
    /// From the Node object to Ready.
    Boot,
}

/// The last durations of one pool; durations are whole milliseconds, so that they have an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    request: BTreeSet<(Timestamp, u64)>,
    boot: BTreeSet<(Timestamp, u64)>,
}

/// Seconds at p10, p50 and p95 where nothing was seen: request to Ready as in prediction section
/// 3.6, Node object to Ready between the EKS and GKE medians (12 and 21 s).
const PRIOR_REQUEST: [f64; 3] = [30.0, 60.0, 180.0];
const PRIOR_BOOT: [f64; 3] = [10.0, 16.0, 33.0];

impl Arrivals {
    /// Remembers one duration that ended at `ended`, of the last `most`.
    pub fn note(&mut self, leg: Leg, ended: Timestamp, seconds: f64, most: usize) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let series = match leg {
            Leg::Request => &mut self.request,
            Leg::Boot => &mut self.boot,
        };
        series.insert((ended, (seconds * 1000.0) as u64));
        while series.len() > most {
            series.pop_first();
        }
    }

    /// The durations of one leg, oldest first: when each ended, and milliseconds.
    pub fn durations(&self, leg: Leg) -> impl Iterator<Item = (Timestamp, u64)> + '_ {
        match leg {
            Leg::Request => self.request.iter().copied(),
            Leg::Boot => self.boot.iter().copied(),
        }
    }

    /// The q-quantile in seconds; the prior's three points count as three observations.
    #[must_use]
    pub fn quantile(&self, leg: Leg, q: f64) -> f64 {
        let prior = match leg {
            Leg::Request => PRIOR_REQUEST,
            Leg::Boot => PRIOR_BOOT,
        };
        let mut seconds: Vec<f64> = self
            .durations(leg)
            .map(|(_, millis)| millis as f64 / 1000.0)
            .chain(prior)
            .collect();
        seconds.sort_by(f64::total_cmp);
        let place = q.clamp(0.0, 1.0) * (seconds.len() - 1) as f64;
        let low = place.floor() as usize;
        let high = (low + 1).min(seconds.len() - 1);
        seconds[low] + (seconds[high] - seconds[low]) * (place - low as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn without_observations_the_prior_answers() {
        assert_eq!(Arrivals::default().quantile(Leg::Request, 0.5), 60.0);
        assert_eq!(Arrivals::default().quantile(Leg::Boot, 0.0), 10.0);
    }

    #[test]
    fn observations_outweigh_the_prior_and_old_ones_go() {
        let mut arrivals = Arrivals::default();
        for n in 0..100_u64 {
            let seconds = if n < 50 { 500.0 } else { 40.0 };
            let at = Timestamp::ZERO + Duration::from_secs(n);
            arrivals.note(Leg::Request, at, seconds, 32);
        }
        assert_eq!(arrivals.quantile(Leg::Request, 0.5), 40.0);
        assert_eq!(arrivals.durations(Leg::Request).count(), 32);
    }
}
