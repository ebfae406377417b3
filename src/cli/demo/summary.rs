//! The numbers of a demo: the object that `--output json` prints.

use serde::Serialize;

use crate::cli::demo::late::Late;
use crate::cli::demo::ledger::Ledger;
use crate::domain::outcome::PodOutcome;

/// Everything that the demo reports, in the recording's own seconds and bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the scenario.
    pub scenario: String,
    /// How the recording was made smaller.
    pub scale: Scale,
    /// Nodes pulled when pods asked.
    pub reactive: Run,
    /// Forelay went ahead.
    pub forelay: Run,
    /// How long before a node's Ready its used images had entered the plan for good, in seconds.
    pub lead_s: Lead,
    /// How late the machine's timers fired, in seconds of the recording: what a busy machine adds to
    /// every step of a wait.
    pub late_s: Late,
}

/// Scale of time and bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scale {
    /// Recorded seconds per real second.
    pub time: f64,
    /// Recorded bytes per byte that travelled.
    pub bytes: u64,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Scored pods: those on nodes that joined during the recording.
    pub pods: usize,
    /// Pods that found all their images when they were bound.
    pub warm_pods: usize,
    /// Image wait.
    pub wait_s: Waits,
    /// Bytes that the cache fetched.
    pub origin_bytes: u64,
    /// Bytes that nodes got from the cache.
    pub cache_bytes: u64,
    /// Bytes that agents brought to new nodes and no pod used.
    pub wasted_bytes: u64,
}

/// Image wait in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the quantiles are their own meaning")]
pub struct Waits {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub sum: f64,
}

/// Lead in seconds; `null` where nothing was planned.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the quantiles are their own meaning")]
pub struct Lead {
    pub p10: Option<f64>,
    pub p50: Option<f64>,
}

/// What the replay says of the same recording: summed image wait in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Replayed {
    /// Nodes pulled when pods asked.
    pub reactive_wait_s: f64,
    /// Forelay went ahead.
    pub forelay_wait_s: f64,
}

impl Replayed {
    /// A sentence that holds the demo against the replay.
    #[must_use]
    pub fn sentence(&self, summary: &Summary) -> String {
        let off = |played: f64, replayed: f64| (played / replayed.max(1.0) - 1.0) * 100.0;
        format!(
            "The replay of this recording says {:.0} s and {:.0} s: the demo is off by {:+.1} % and \
             {:+.1} %.",
            self.reactive_wait_s,
            self.forelay_wait_s,
            off(summary.reactive.wait_s.sum, self.reactive_wait_s),
            off(summary.forelay.wait_s.sum, self.forelay_wait_s),
        )
    }
}

impl Run {
    /// Adds a ledger up. Byte counts are those that travelled, `scale` makes them the recording's.
    #[must_use]
    pub fn of(ledger: &Ledger, origin_bytes: u64, cache_bytes: u64, scale: Scale) -> Self {
        // `+ 0.0`: an empty sum is -0.
        let mut waits: Vec<f64> = ledger.scored().map(PodOutcome::wait_s).collect();
        waits.sort_by(f64::total_cmp);
        let at = |q| milli(quantile(&waits, q).unwrap_or(0.0));
        Self {
            pods: waits.len(),
            warm_pods: ledger.scored().filter(|pod| pod.warm).count(),
            wait_s: Waits {
                p50: at(0.5),
                p95: at(0.95),
                p99: at(0.99),
                sum: milli(waits.iter().sum::<f64>() + 0.0),
            },
            origin_bytes: origin_bytes * scale.bytes,
            cache_bytes: cache_bytes * scale.bytes,
            wasted_bytes: ledger.wasted_bytes(),
        }
    }
}

impl Lead {
    /// Quantiles of a ledger's leads.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let leads = ledger.leads();
        Self {
            p10: quantile(&leads, 0.1).map(milli),
            p50: quantile(&leads, 0.5).map(milli),
        }
    }
}

/// Nearest-rank quantile of ascending values.
fn quantile(ascending: &[f64], q: f64) -> Option<f64> {
    let rank = (q * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied()
}

/// Milliseconds are as fine as a scaled clock can tell.
fn milli(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
