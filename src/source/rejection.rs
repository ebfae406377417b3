//! Why something that arrived did not become a signal.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::time::Timestamp;

/// The reasons, as labels: a closed set, so that metrics stay bounded whatever producers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not an event at all, or a member of the wrong form.
    Malformed,
    /// A CloudEvents `type` that this version does not know.
    UnknownType,
    /// A `specversion` other than 1.0.
    UnknownVersion,
    /// Longer than the limits allow.
    TooLarge,
    /// No value: what compaction leaves behind.
    Tombstone,
    /// (`source`, `id`) has been seen.
    Duplicate,
    /// Observed longer ago than the allowed lateness.
    Late,
    /// Claims to be observed further ahead than clocks can differ.
    Future,
    /// From before the history that was asked for.
    BeforeHistory,
    /// A sample that is NaN (Prometheus' staleness marker is one too) or infinite.
    NotFinite,
    /// A query answered with more series than it may have.
    TooManySeries,
}

/// One thing that was not taken, with the place and the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// See [`Reason::Malformed`].
    #[error("{place}: {problem}")]
    Malformed {
        /// Path of the member, or name of the header: `data.needs.images[0].image`, `ce_id`.
        place: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// See [`Reason::UnknownType`].
    #[error("type: `{0}` is none of the signal types (docs/schema/signal.v1.json)")]
    UnknownType(String),
    /// See [`Reason::UnknownVersion`].
    #[error("specversion: `{0}`: only CloudEvents 1.0 is understood")]
    UnknownVersion(String),
    /// See [`Reason::TooLarge`].
    #[error("{place}: {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// `value`, a member or a header.
        place: String,
        /// As it came.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// See [`Reason::Tombstone`].
    #[error("value: none (a tombstone)")]
    Tombstone,
    /// See [`Reason::Duplicate`].
    #[error("id: `{id}` of `{source_name}` was seen before")]
    Duplicate {
        /// `source`
        source_name: String,
        /// `id`
        id: String,
    },
    /// See [`Reason::Late`].
    #[error("observedtime: {behind_s:.1} s behind the signals already taken")]
    Late {
        /// Seconds, in a form that compares.
        behind_s: Behind,
    },
    /// See [`Reason::Future`].
    #[error("observedtime: {ahead_s:.1} s ahead of this clock: set the producer's clock")]
    Future {
        /// Seconds, in a form that compares.
        ahead_s: Behind,
    },
}

/// Seconds between two instants, kept in microseconds so that errors compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind(pub i64);

/// Counts of what was taken and what was not; cheap to share between a source and `/metrics`.
#[derive(Debug, Default)]
pub struct Tally {
    taken: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

// === impl Reason ===

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownType,
        Self::UnknownVersion,
        Self::TooLarge,
        Self::Tombstone,
        Self::Duplicate,
        Self::Late,
        Self::Future,
        Self::BeforeHistory,
        Self::NotFinite,
        Self::TooManySeries,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::UnknownVersion => "unknown_version",
            Self::TooLarge => "too_large",
            Self::Tombstone => "tombstone",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Future => "future",
            Self::BeforeHistory => "before_history",
            Self::NotFinite => "not_finite",
            Self::TooManySeries => "too_many_series",
        }
    }
}

// === impl Rejection ===

impl Rejection {
    /// Its class.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Malformed { .. } => Reason::Malformed,
            Self::UnknownType(_) => Reason::UnknownType,
            Self::UnknownVersion(_) => Reason::UnknownVersion,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Tombstone => Reason::Tombstone,
            Self::Duplicate { .. } => Reason::Duplicate,
            Self::Late { .. } => Reason::Late,
            Self::Future { .. } => Reason::Future,
        }
    }
}

impl Behind {
    /// From the earlier to the later.
    #[must_use]
    pub fn between(earlier: Timestamp, later: Timestamp) -> Self {
        Self(later.as_micros().saturating_sub(earlier.as_micros()))
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&(self.0 as f64 / 1e6), f)
    }
}

// === impl Tally ===

impl Tally {
    /// One more was taken.
    pub fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// One more was not; the count so far where this one is worth a log line.
    #[must_use]
    pub fn refuse(&self, reason: Reason) -> Option<u64> {
        let count = self.refused[reason as usize].fetch_add(1, Ordering::Relaxed) + 1;
        is_sampled(count).then_some(count)
    }

    /// How many were taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many were not, for this reason.
    #[must_use]
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    /// Every reason that has occurred, with its count.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.refused(reason)))
            .filter(|(_, count)| *count > 0)
    }
}

/// The first and then every power of ten: a flood of one kind costs a handful of lines.
#[must_use]
pub fn is_sampled(count: u64) -> bool {
    count > 0 && 10_u64.pow(count.ilog10()) == count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_every_power_of_ten_is_logged() {
        let logged: Vec<u64> = (0..=100_000).filter(|n| is_sampled(*n)).collect();
        assert_eq!(logged, [1, 10, 100, 1_000, 10_000, 100_000]);
        assert!(!is_sampled(u64::MAX));
    }

    #[test]
    fn every_reason_has_its_own_place_and_label() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        let labels: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::label).into();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
