//! How long nodes of a pool take to arrive, as a distribution with a heavy, censored tail.
//!
//! Per leg the last durations, each worth less than the one after it, and what was waited for in vain
//! go into a Kaplan-Meier estimate (Kaplan and Meier 1958), which a two-piece log-normal body with
//! the pool's own median and spread smooths and continues beyond the longest wait ([`table`]).
//! A failure to get machines enters the stock-out branch: until the next success part of the
//! probability lies beyond the autoscaler's back-off. Lead times: prediction section 1.9 and 3.6.
//!
//! CRPS relative to the quantiles of the last 32 with three prior points, on sets drawn like the two
//! measured ones of GKE: 1.01 and 0.99 over 600 waits, 0.99 and 0.98 over the first twelve, 0.90 where
//! the pool changes every 40 nodes, 0.99 where long waits are cut short. What they do not have at all
//! is a tail, and so an answer for those that are late: [`Arrivals::remaining`], [`Arrivals::by`].
//! A note costs about ten microseconds, a question a tenth of one; a pool keeps under 4 KiB.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::domain::time::Timestamp;
use crate::forecast::arrival::table::{Prior, Table};

/// Which way a duration is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From the request to Ready.
    Request,
    /// From the Node object to Ready.
    Boot,
}

/// The last durations of one pool; durations are whole milliseconds, so that they have an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    request: Series,
    boot: Series,
    stock_out: Option<StockOut>,
}

/// What is known of one leg.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    prior: Prior,
    /// When each ended or was given up, after how many milliseconds, and whether it ended.
    waits: BTreeSet<(Timestamp, u64, bool)>,
    table: Table,
}

/// How long a pool's nodes take from the request to Ready, and whether they come at all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// Durations that are remembered.
    pub known: usize,
    /// Waits that were given up, and are remembered.
    pub in_vain: usize,
    /// Seconds that a request made now takes at the least, usually, at the most: p10.
    pub p10_s: f64,
    /// Median.
    pub p50_s: f64,
    /// p90.
    pub p90_s: f64,
    /// Requests that wait.
    pub waiting: usize,
    /// Seconds that the oldest of them has waited.
    pub oldest_s: Option<f64>,
    /// Median seconds that it still waits.
    pub left_s: Option<f64>,
    /// Refusals by the cloud since it last fulfilled a request: above 0 it is out of stock.
    pub refusals: u32,
    /// When it last refused one.
    pub refused: Option<Timestamp>,
}

/// The cloud has no machines of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StockOut {
    failures: u32,
    last: Timestamp,
}

/// Request to Ready as in prediction section 3.6, Node object to Ready between the EKS and GKE
/// medians (12 and 21 s): seconds at p10, p50 and p95.
const PRIOR_REQUEST: Prior = Prior([30.0, 60.0, 180.0]);
const PRIOR_BOOT: Prior = Prior([10.0, 16.0, 33.0]);

/// Failures within so many seconds are one: all claims of a batch fail together.
const ONE_FAILURE_S: f64 = 60.0;

/// Median seconds until machines come after the first failure, twice as many after each further one,
/// up to the most: cluster-autoscaler's initial and longest back-off of a node group (5 and 30 min);
/// Karpenter forgets an offering without capacity for 3 min.
const BACK_OFF_S: f64 = 300.0;
const BACK_OFF_MAX_S: f64 = 1800.0;

/// Log-scale of the time after a stock-out, wide because nothing is known of clouds' stocks.
const STOCK_OUT_SPREAD: f64 = 1.0;

// === impl Arrivals ===

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            request: Series::new(PRIOR_REQUEST),
            boot: Series::new(PRIOR_BOOT),
            stock_out: None,
        }
    }
}

impl Arrivals {
    /// Remembers one duration that ended at `ended`, of the last `most` (those given up included). A request that was fulfilled
    /// after the last failure ends the stock-out.
    pub fn note(&mut self, leg: Leg, ended: Timestamp, seconds: f64, most: usize) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        if leg == Leg::Request && self.stock_out.is_some_and(|out| ended > out.last) {
            self.stock_out = None;
        }
        self.of_mut(leg).learn((ended, seconds, true), most);
    }

    /// Remembers that somebody waited so long and gave up, or was told that nothing comes: the true
    /// duration is longer (right-censored).
    pub fn give_up(&mut self, leg: Leg, at: Timestamp, waited_s: f64, most: usize) {
        if !waited_s.is_finite() || waited_s <= 0.0 {
            return;
        }
        self.of_mut(leg).learn((at, waited_s, false), most);
    }

    /// The cloud refused a machine (`InsufficientCapacity`, `Backoff`, `ScaleUpFailed`): the stock-out
    /// branch is entered, or backs off further. False when that was known, or is older than the last
    /// request that was fulfilled.
    pub fn fail(&mut self, at: Timestamp) -> bool {
        if self.is_fulfilled_after(at) {
            return false;
        }
        let before = self.stock_out;
        let last = before.map_or(at, |out| out.last.max(at));
        let failures = match before {
            Some(out) if at.secs_since(out.last) < ONE_FAILURE_S => out.failures,
            Some(out) => out.failures.saturating_add(1),
            None => 1,
        };
        self.stock_out = Some(StockOut { failures, last });
        self.stock_out != before
    }

    /// How often requests were refused since one was fulfilled, and when last.
    #[must_use]
    pub fn stock_out(&self) -> Option<(u32, Timestamp)> {
        self.stock_out.map(|out| (out.failures, out.last))
    }

    /// Takes over what another knew of it, unless something newer is known; no failures are none.
    pub fn take_stock_out(&mut self, failures: u32, last: Timestamp) {
        let newer = self.stock_out.is_some_and(|out| out.last >= last);
        if failures > 0 && !newer && !self.is_fulfilled_after(last) {
            self.stock_out = Some(StockOut { failures, last });
        }
    }

    fn is_fulfilled_after(&self, at: Timestamp) -> bool {
        let fulfilled = self.request.waits.iter().rev().find(|wait| wait.2);
        fulfilled.is_some_and(|(ended, ..)| *ended > at)
    }

    /// Waits of one leg that were given up, oldest first: when, and milliseconds.
    pub fn in_vain(&self, leg: Leg) -> impl Iterator<Item = (Timestamp, u64)> + '_ {
        let open = self.of(leg).waits.iter().filter(|wait| !wait.2);
        open.map(|(at, millis, _)| (*at, *millis))
    }

    /// What is to be told to people, given how long requests wait by now (seconds each).
    #[must_use]
    pub fn outlook(&self, waited_s: &[f64]) -> Outlook {
        let all = self.with_open(Leg::Request, waited_s);
        let oldest_s = waited_s.iter().copied().reduce(f64::max);
        Outlook {
            known: self.durations(Leg::Request).count(),
            in_vain: self.in_vain(Leg::Request).count(),
            p10_s: all.quantile(Leg::Request, 0.1),
            p50_s: all.quantile(Leg::Request, 0.5),
            p90_s: all.quantile(Leg::Request, 0.9),
            waiting: waited_s.len(),
            oldest_s,
            left_s: oldest_s.map(|waited| all.remaining(Leg::Request, waited, 0.5)),
            refusals: self.stock_out.map_or(0, |out| out.failures),
            refused: self.stock_out.map(|out| out.last),
        }
    }

    /// Whether requests have failed and none has been fulfilled since.
    #[must_use]
    pub fn is_out_of_stock(&self) -> bool {
        self.stock_out.is_some()
    }

    /// The durations of one leg, oldest first: when each ended, and milliseconds.
    pub fn durations(&self, leg: Leg) -> impl Iterator<Item = (Timestamp, u64)> + '_ {
        let ended = self.of(leg).waits.iter().filter(|wait| wait.2);
        ended.map(|(at, millis, _)| (*at, *millis))
    }

    /// The q-quantile in seconds of one that has just begun.
    #[must_use]
    pub fn quantile(&self, leg: Leg, q: f64) -> f64 {
        self.remaining(leg, 0.0, q)
    }

    /// The q-quantile in seconds of what is left for one that has waited so long already.
    #[must_use]
    pub fn remaining(&self, leg: Leg, waited_s: f64, q: f64) -> f64 {
        let waited_s = waited_s.max(0.0);
        let before = self.chance(leg, waited_s);
        let wanted = before + q.clamp(0.0, 1.0) * (1.0 - before);
        (self.when(leg, wanted) - waited_s).max(0.0)
    }

    /// Probability (0 to 1) that one that has waited so long is here within `horizon` from now.
    #[must_use]
    pub fn by(&self, leg: Leg, waited_s: f64, horizon: Duration) -> f64 {
        let waited_s = waited_s.max(0.0);
        let before = self.chance(leg, waited_s);
        let then = self.chance(leg, waited_s + horizon.as_secs_f64());
        // Longer than anything that the table knows: the tail's own hazard is lost in rounding.
        let left = (1.0 - before).max(1e-9);
        ((then - before) / left).clamp(0.0, 1.0)
    }

    /// The same, were those that are waited for just now (seconds each so far) counted as well: many
    /// that are all late say that the next ones will be.
    #[must_use]
    pub fn with_open(&self, leg: Leg, waited_s: &[f64]) -> Self {
        let mut copy = self.clone();
        let series = copy.of_mut(leg);
        series.table = series.estimate(waited_s);
        copy
    }

    /// Probability of a duration up to `seconds`.
    fn chance(&self, leg: Leg, seconds: f64) -> f64 {
        let usual = self.of(leg).table.chance(seconds);
        let Some((share, back_off)) = self.branch(leg) else {
            return usual;
        };
        let late = table::log_normal(seconds, back_off, STOCK_OUT_SPREAD);
        (1.0 - share) * usual + share * late
    }

    /// Seconds at a probability.
    fn when(&self, leg: Leg, p: f64) -> f64 {
        if self.branch(leg).is_none() {
            return self.of(leg).table.when(p);
        }
        // Bisection over a second's hundredth to a day, by logarithms: 40 halvings are exact enough.
        let (mut low, mut high) = (0.01_f64.ln(), 86_400_f64.ln());
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if self.chance(leg, middle.exp()) < p {
                low = middle;
            } else {
                high = middle;
            }
        }
        high.exp()
    }

    /// Share of the stock-out branch and its median: after one failure one in two, after two two in
    /// three (Laplace's rule of succession, no success seen).
    fn branch(&self, leg: Leg) -> Option<(f64, f64)> {
        let out = self.stock_out.filter(|_| leg == Leg::Request)?;
        let failures = f64::from(out.failures);
        let back_off = BACK_OFF_S * 2.0_f64.powf(failures - 1.0);
        Some((failures / (failures + 1.0), back_off.min(BACK_OFF_MAX_S)))
    }

    fn of(&self, leg: Leg) -> &Series {
        match leg {
            Leg::Request => &self.request,
            Leg::Boot => &self.boot,
        }
    }

    fn of_mut(&mut self, leg: Leg) -> &mut Series {
        match leg {
            Leg::Request => &mut self.request,
            Leg::Boot => &mut self.boot,
        }
    }
}

// === impl Series ===

impl Series {
    fn new(prior: Prior) -> Self {
        Self {
            prior,
            waits: BTreeSet::new(),
            table: Table::new(&prior, Vec::new()),
        }
    }

    /// Those that were given up share the memory: a memory of their own would reach further back and
    /// count them twice.
    fn learn(&mut self, (at, seconds, ended): (Timestamp, f64, bool), most: usize) {
        self.waits.insert((at, (seconds * 1000.0) as u64, ended));
        while self.waits.len() > most {
            self.waits.pop_first();
        }
        self.table = self.estimate(&[]);
    }

    fn estimate(&self, open_s: &[f64]) -> Table {
        let waits = self.waits.iter();
        let mut waits =
            table::decayed(waits.map(|(_, millis, ended)| (*millis as f64 / 1000.0, *ended)));
        let open = open_s.iter().filter(|s| s.is_finite() && **s > 0.0);
        waits.extend(open.map(|seconds| table::Wait::open(*seconds)));
        Table::new(&self.prior, waits)
    }
}
