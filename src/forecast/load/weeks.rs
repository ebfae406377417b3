//! Two weeks of a series in quarters of an hour, and the seasons that show in them.

use std::time::Duration;

use crate::forecast::load::in_bounds;

/// Length of a bucket, and buckets of a day: changes within a quarter of an hour are taken as even.
const BUCKET_US: i64 = 15 * 60 * 1_000_000;
const DAY: usize = 96;
const WEEK: usize = 7 * DAY;

/// Buckets kept: two weeks, so that a week can be compared with the one before. 5.4 KiB.
const KEPT: usize = 2 * WEEK + 2;

/// Seasons that are looked for. Searches over all lags find periods that are not there (511 min on
/// minute data: prediction section 6), so these two are the only ones.
const CANDIDATES: [usize; 2] = [DAY, WEEK];

/// Correlation with one season earlier from which it is believed: with n days of buckets chance alone
/// stays below 2 / sqrt(96 n), and 0.3 is beyond it from the first day on.
const BELIEVED: f64 = 0.3;

/// Ring of bucket means; NaN where nothing was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Weeks {
    ring: Vec<f32>,
    /// The bucket that is being filled, its sum and its samples.
    open: Option<(i64, f64, f64)>,
}

impl Weeks {
    pub(super) fn take(&mut self, at_us: i64, value: f64) {
        let bucket = at_us.div_euclid(BUCKET_US);
        match &mut self.open {
            Some((open, sum, count)) if *open == bucket => {
                *sum += value;
                *count += 1.0;
            }
            Some((open, _, _)) if *open > bucket => {}
            _ => {
                self.close(bucket);
                self.open = Some((bucket, value, 1.0));
            }
        }
    }

    /// The series a week before an instant; none unless it was seen.
    pub(super) fn last_week(&self, at_us: i64) -> Option<f64> {
        self.at(at_us.saturating_sub(WEEK as i64 * BUCKET_US))
    }

    /// The longest of a day and a week after which the series repeats itself, where one does.
    pub(super) fn season(&self) -> Option<Duration> {
        let believed = |lag: &&usize| self.correlation(**lag).is_some_and(|r| r > BELIEVED);
        let lag = CANDIDATES.iter().rev().find(believed)?;
        let minutes = u64::try_from(*lag).unwrap_or(0) * 15;
        Some(Duration::from_mins(minutes))
    }

    /// Everything in another unit.
    pub(super) fn rescale(&mut self, factor: f64) {
        for mean in &mut self.ring {
            *mean = in_bounds(f64::from(*mean) * factor);
        }
        if let Some((_, sum, _)) = &mut self.open {
            *sum *= factor;
        }
    }

    /// Between the middles of the two nearest buckets.
    fn at(&self, at_us: i64) -> Option<f64> {
        let from_middle = at_us.saturating_sub(BUCKET_US / 2);
        let low = from_middle.div_euclid(BUCKET_US);
        let from = self.mean(low)?;
        let until = self.mean(low + 1)?;
        let share = (from_middle - low * BUCKET_US) as f64 / BUCKET_US as f64;
        Some(from + (until - from) * share)
    }

    fn mean(&self, bucket: i64) -> Option<f64> {
        let (open, _, _) = self.open?;
        if self.ring.is_empty() || bucket >= open || bucket <= open - KEPT as i64 {
            return None;
        }
        let mean = f64::from(self.ring[bucket.rem_euclid(KEPT as i64) as usize]);
        (!mean.is_nan()).then_some(mean)
    }

    fn close(&mut self, next: i64) {
        if self.ring.is_empty() {
            self.ring = vec![f32::NAN; KEPT];
        }
        let Some((open, sum, count)) = self.open else {
            return;
        };
        let mut put = |bucket: i64, mean: f32| {
            self.ring[bucket.rem_euclid(KEPT as i64) as usize] = mean;
        };
        put(open, (sum / count) as f32);
        for missing in (open + 1..next).take(KEPT) {
            put(missing, f32::NAN);
        }
    }

    /// Pearson's, over all pairs of buckets that are so far apart; none below a day of pairs.
    fn correlation(&self, lag: usize) -> Option<f64> {
        let (open, _, _) = self.open?;
        let first = open - KEPT as i64 + 1 + lag as i64;
        let pairs: Vec<(f64, f64)> = (first..open)
            .filter_map(|bucket| Some((self.mean(bucket)?, self.mean(bucket - lag as i64)?)))
            .collect();
        if pairs.len() < DAY {
            return None;
        }
        let count = pairs.len() as f64;
        let mean_x = pairs.iter().map(|pair| pair.0).sum::<f64>() / count;
        let mean_y = pairs.iter().map(|pair| pair.1).sum::<f64>() / count;
        let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in pairs {
            let (x, y) = (x - mean_x, y - mean_y);
            (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
        }
        (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
    }
}
