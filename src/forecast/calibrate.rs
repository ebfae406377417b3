//! Probabilities corrected by how often what they promised came true.
//!
//! Per class of reason a decayed, binned reliability table: hits and misses per bin of the stated
//! probability, shrunk to the statement itself by imagined observations, made monotone by pooling
//! adjacent violators (Ayer et al. 1955; isotonic calibration: Zadrozny and Elkan 2002). Bins are equal
//! in log-odds, because what decides is whether 0.02 is 0.01 and whether 0.98 is 0.9. State is at most
//! 2 KiB of text for twelve classes: three integers per bin that was ever used.

pub mod score;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bins per class.
pub const BINS: usize = 9;

/// Log-odds at the middle of the outermost bins: 0.018 and 0.982.
const LOGIT_MAX: f64 = 4.0;

/// Imagined observations per bin that agree with the statement: a bin moves half-way after so many.
/// With 8, a constant bias is corrected by six sevenths after 50 observations of one bin.
const SHRINK: f64 = 8.0;

/// Imagined observations that the whole class shares out: a bias seen in one bin is believed of its
/// neighbours in part (see [`Class::shift`]).
const SHRINK_CLASS: f64 = 20.0;

/// An observation counts half after so many of its class.
const HALF_LIFE: f64 = 500.0;

/// No probability is corrected beyond these: nothing is certain.
const SURE: f64 = 0.999;

/// Weights are kept in so many parts of an observation.
const PARTS: f64 = 10.0;

/// Corrections by class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calibration {
    classes: BTreeMap<String, Class>,
}

/// The table of one class.
#[derive(Clone, Debug, PartialEq)]
struct Class {
    bins: [Bin; BINS],
}

/// Decayed sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    hits: f64,
    misses: f64,
    /// Sum of what was stated.
    stated: f64,
}

/// Corrections as they stand at one instant, made once for thousands of questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Corrected log-odds per bin.
    logits: BTreeMap<String, [f64; BINS]>,
}

/// Classes beyond this many are not learned: there are as many as kinds of reason.
const CLASSES_MAX: usize = 64;

// === impl Calibration ===

impl Calibration {
    /// What happens with the probability `p` (0 to 1) that was stated for a reason of this class:
    /// never falling in `p`, within [0, 1], `p` itself for a class of which nothing is known. What is
    /// not a number comes back as 0.
    #[must_use]
    pub fn calibrated(&self, class: &str, p: f64) -> f64 {
        if p.is_nan() {
            return 0.0;
        }
        let p = p.clamp(0.0, 1.0);
        self.classes
            .get(class)
            .map_or(p, |class| class.calibrated(p))
    }

    /// Learns what became of a probability that was stated before any correction.
    pub fn observe(&mut self, class: &str, p: f64, happened: bool) {
        self.observe_part(class, p, happened, 1.0);
    }

    /// The same of one of several statements on one outcome: `part` of an observation (0 to 1).
    pub fn observe_part(&mut self, class: &str, p: f64, happened: bool, part: f64) {
        if !p.is_finite() {
            return;
        }
        if !self.classes.contains_key(class) && self.classes.len() >= CLASSES_MAX {
            return;
        }
        let known = self.classes.entry(class.to_owned()).or_default();
        known.observe(p.clamp(0.0, 1.0), happened, part.clamp(0.0, 1.0));
    }

    /// The corrections as they stand now.
    #[must_use]
    pub fn curves(&self) -> Curves {
        let curve = |(name, class): (&String, &Class)| (name.clone(), class.logits());
        Curves {
            logits: self.classes.iter().map(curve).collect(),
        }
    }

    /// Whether nothing was ever observed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Observations of a class that still count.
    #[must_use]
    pub fn weight(&self, class: &str) -> f64 {
        let class = self.classes.get(class);
        class.map_or(0.0, |class| class.bins.iter().map(Bin::weight).sum())
    }

    /// (class, mean stated, share that happened, weight) of every bin that was used, in order: a
    /// reliability diagram.
    pub fn bins(&self) -> impl Iterator<Item = (&str, f64, f64, f64)> {
        self.classes.iter().flat_map(|(name, class)| {
            let used = class.bins.iter().filter(|bin| bin.weight() > 0.0);
            used.map(|bin| {
                let weight = bin.weight();
                (
                    name.as_str(),
                    bin.stated / weight,
                    bin.hits / weight,
                    weight,
                )
            })
        })
    }
}

// === impl Class ===

impl Default for Class {
    fn default() -> Self {
        Self {
            bins: [Bin::default(); BINS],
        }
    }
}

impl Class {
    fn observe(&mut self, p: f64, happened: bool, part: f64) {
        let keep = 0.5_f64.powf(part / HALF_LIFE);
        for bin in &mut self.bins {
            bin.hits *= keep;
            bin.misses *= keep;
            bin.stated *= keep;
        }
        let bin = &mut self.bins[bin_of(p)];
        bin.stated += p * part;
        if happened {
            bin.hits += part;
        } else {
            bin.misses += part;
        }
    }

    fn calibrated(&self, p: f64) -> f64 {
        between(&self.logits(), p)
    }

    /// Corrected log-odds at the middle of each bin, never falling.
    fn logits(&self) -> [f64; BINS] {
        let shift = self.shift();
        let mut pooled: Vec<(f64, f64, usize)> = Vec::with_capacity(BINS);
        for (at, bin) in self.bins.iter().enumerate() {
            let seen = bin.weight();
            // The statement that is corrected is the mean one of the bin, not its middle.
            let middle = middle(at);
            let stated = if seen > 0.0 {
                (bin.stated / seen).clamp(1.0 - SURE, SURE)
            } else {
                expit(middle)
            };
            let prior = expit(logit(stated) + shift);
            let share = (bin.hits + SHRINK * prior) / (seen + SHRINK);
            let moved = middle + logit(share) - logit(stated);
            pooled.push((moved, seen + SHRINK, 1));
            while let [.., before, last] = pooled.as_slice()
                && before.0 > last.0
            {
                let weight = before.1 + last.1;
                let mean = (before.0 * before.1 + last.0 * last.1) / weight;
                let merged = (mean, weight, before.2 + last.2);
                pooled.truncate(pooled.len() - 2);
                pooled.push(merged);
            }
        }
        let mut logits = [0.0; BINS];
        let spread = pooled
            .iter()
            .flat_map(|(logit, _, bins)| std::iter::repeat_n(*logit, *bins));
        for (slot, logit) in logits.iter_mut().zip(spread) {
            *slot = logit;
        }
        logits
    }

    /// The correction in log-odds that fits the whole class, towards none: one step of Newton's method
    /// for a logistic regression with the statement as offset and a prior of mean 0.
    fn shift(&self) -> f64 {
        let (mut slope, mut bend) = (0.0, 0.0);
        for bin in &self.bins {
            let seen = bin.weight();
            if seen > 0.0 {
                let stated = (bin.stated / seen).clamp(1.0 - SURE, SURE);
                slope += bin.hits - seen * stated;
                bend += seen * stated * (1.0 - stated);
            }
        }
        // A quarter is the largest bend of one observation.
        (slope / (bend + 0.25 * SHRINK_CLASS)).clamp(-3.0, 3.0)
    }
}

// === impl Curves ===

impl Curves {
    /// As [`Calibration::calibrated`], of the instant at which the curves were made.
    #[must_use]
    pub fn calibrated(&self, class: &str, p: f64) -> f64 {
        if p.is_nan() {
            return 0.0;
        }
        let p = p.clamp(0.0, 1.0);
        self.logits
            .get(class)
            .map_or(p, |logits| between(logits, p))
    }

    /// The farthest that any correction has moved since `before`, in log-odds.
    #[must_use]
    pub fn moved(&self, before: &Self) -> f64 {
        let uncorrected: [f64; BINS] = std::array::from_fn(middle);
        let classes = self.logits.keys().chain(before.logits.keys());
        let moves = classes.flat_map(|class| {
            let of = |curves: &Self| curves.logits.get(class).copied().unwrap_or(uncorrected);
            let (now, then) = (of(self), of(before));
            (0..BINS).map(move |at| (now[at] - then[at]).abs())
        });
        moves.fold(0.0, f64::max)
    }
}

/// The statement in log-odds plus the correction between the two nearest bins.
fn between(logits: &[f64; BINS], p: f64) -> f64 {
    let at = place(p);
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let line = logits[low] + (logits[high] - logits[low]) * at.fract();
    // Beyond the outermost bins the statement goes on from the bin's own correction.
    let own = logit(p);
    let beyond = own - own.clamp(-LOGIT_MAX, LOGIT_MAX);
    let corrected = expit(line + beyond);
    let most = f64::max(SURE, p);
    corrected.clamp((1.0 - SURE).min(p), most)
}

impl Bin {
    fn weight(&self) -> f64 {
        self.hits + self.misses
    }
}

/// The place among the bins, 0 to `BINS - 1`, fractional.
fn place(p: f64) -> f64 {
    let scaled = (logit(p).clamp(-LOGIT_MAX, LOGIT_MAX) + LOGIT_MAX) / (2.0 * LOGIT_MAX);
    scaled * (BINS - 1) as f64
}

/// The bin (0 to `BINS - 1`) that a statement of `p` (0 to 1) is counted in.
#[must_use]
pub fn bin_of(p: f64) -> usize {
    place(p).round() as usize
}

fn middle(at: usize) -> f64 {
    at as f64 / (BINS - 1) as f64 * 2.0 * LOGIT_MAX - LOGIT_MAX
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

fn expit(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

// === The compact form: [bin, hits and misses in tenths, mean of what was stated in thousandths]. ===

impl Serialize for Class {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = |value: f64| (value * PARTS).round() as u64;
        let used = self
            .bins
            .iter()
            .enumerate()
            .filter(|(_, bin)| parts(bin.weight()) > 0);
        let rows = used.map(|(at, bin)| {
            let stated = bin.stated / bin.weight();
            [
                at as u64,
                parts(bin.hits),
                parts(bin.misses),
                (stated * 1e3).round() as u64,
            ]
        });
        serializer.collect_seq(rows)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut class = Self::default();
        for [at, hits, misses, stated] in Vec::<[u32; 4]>::deserialize(deserializer)? {
            let bin = class.bins.get_mut(at as usize).ok_or_else(|| {
                serde::de::Error::custom(format!("there is no bin number {at}: 0 to {}", BINS - 1))
            })?;
            if stated > 1000 {
                return Err(serde::de::Error::custom(format!(
                    "{stated} thousandths is no probability"
                )));
            }
            bin.hits = f64::from(hits) / PARTS;
            bin.misses = f64::from(misses) / PARTS;
            bin.stated = f64::from(stated) / 1e3 * bin.weight();
        }
        Ok(class)
    }
}
