//! Plans to objects, objects to plans.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

use crate::api::entry::{Because, Entry, LetGoEntry, MAX_ENTRIES, NodesExpected};
use crate::api::{NodePrefetchSpec, PoolPrefetchSpec};
use crate::domain::image::Platform;
use crate::domain::plan::{LetGo, Plan, PlanEntry, Reason, Staging, Target};
use crate::domain::time::Timestamp;

/// 9999-12-30T00:00:00Z, just before the last instant that jiff writes as RFC 3339.
const LAST_INSTANT: Timestamp = Timestamp::from_micros(253_402_128_000_000_000);
/// Longest text of a reason's object.
const OF_MAX: usize = 512;

/// An object that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A platform that is not `os/arch`.
    #[error("entry {index}: platform `{text}` is not os/arch")]
    Platform {
        /// position in `entries`
        index: usize,
        /// as written
        text: String,
    },
}

/// Name of a pool's object: the pool's own where that is a valid object name, otherwise a readable
/// part of it and eight digits of its SHA-256, so that no two pools share one.
#[must_use]
pub fn pool_object_name(pool: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = !pool.is_empty()
        && pool.len() <= 240
        && pool.starts_with(plain)
        && pool.ends_with(plain)
        && pool.chars().all(|c| plain(c) || c == '-');
    if valid {
        return pool.to_owned();
    }
    let readable: String = pool
        .to_ascii_lowercase()
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .take(200)
        .collect();
    let readable = readable.trim_matches('-');
    let hash = hex::encode(&digest(&SHA256, pool.as_bytes()).as_ref()[..4]);
    // A dot cannot be part of a valid name above, so the two forms never meet.
    if readable.is_empty() {
        format!("pool.{hash}")
    } else {
        format!("{readable}.{hash}")
    }
}

fn writable(at: Timestamp) -> Timestamp {
    at.min(LAST_INSTANT)
}

impl From<&Reason> for Because {
    fn from(reason: &Reason) -> Self {
        let (kind, of) = match reason {
            Reason::Bound(of) => ("Bound", of),
            Reason::Nominated(of) => ("Nominated", of),
            Reason::PendingPod(of) => ("PendingPod", of),
            Reason::DaemonSet(of) => ("DaemonSet", of),
            Reason::Announced(of) => ("Announced", of),
            Reason::ScalerWish(of) => ("ScalerWish", of),
            Reason::Rollout(of) => ("Rollout", of),
            Reason::Replacement(of) => ("Replacement", of),
            Reason::Schedule(of) => ("Schedule", of),
            Reason::History(of) => ("History", of),
        };
        Self {
            kind: kind.to_owned(),
            of: of.chars().take(OF_MAX).collect(),
        }
    }
}

impl From<&Because> for Reason {
    /// A kind that this program does not know is read as the weakest one: the entry stays usable.
    fn from(because: &Because) -> Self {
        let of = because.of.as_str().into();
        match because.kind.as_str() {
            "Bound" => Self::Bound(of),
            "Nominated" => Self::Nominated(of),
            "PendingPod" => Self::PendingPod(of),
            "DaemonSet" => Self::DaemonSet(of),
            "Announced" => Self::Announced(of),
            "ScalerWish" => Self::ScalerWish(of),
            "Rollout" => Self::Rollout(of),
            "Replacement" => Self::Replacement(of),
            "Schedule" => Self::Schedule(of),
            _ => Self::History(of),
        }
    }
}

impl From<&PlanEntry> for Entry {
    fn from(entry: &PlanEntry) -> Self {
        Self {
            image: entry.image.clone(),
            digest: entry.digest.clone(),
            platform: entry.platform.to_string(),
            priority: entry.priority,
            reason: Because::from(&entry.reason),
            probability: entry.probability.clamp(0.0, 1.0),
            bytes: entry.bytes,
            deadline: entry.deadline.map(writable),
            expires: writable(entry.expires),
        }
    }
}

impl From<&LetGo> for LetGoEntry {
    fn from(gone: &LetGo) -> Self {
        let LetGo { image, digest } = gone.clone();
        Self { image, digest }
    }
}

impl From<&LetGoEntry> for LetGo {
    fn from(gone: &LetGoEntry) -> Self {
        let LetGoEntry { image, digest } = gone.clone();
        Self { image, digest }
    }
}

impl From<Staging> for NodesExpected {
    fn from(Staging { p50, p90, least }: Staging) -> Self {
        Self { p50, p90, least }
    }
}

impl From<&NodesExpected> for Staging {
    fn from(nodes: &NodesExpected) -> Self {
        let NodesExpected { p50, p90, least } = *nodes;
        Self { p50, p90, least }
    }
}

fn entries_of(plan: &Plan) -> (Vec<Entry>, BTreeMap<String, u32>) {
    let entries = plan.entries.iter().take(MAX_ENTRIES).map(Entry::from);
    let mut left_out = plan.left_out.clone();
    let surplus = plan.entries.len().saturating_sub(MAX_ENTRIES);
    if surplus > 0 {
        *left_out.entry("object-size".to_owned()).or_default() += surplus as u32;
    }
    (entries.collect(), left_out)
}

impl From<&Plan> for NodePrefetchSpec {
    fn from(plan: &Plan) -> Self {
        let (entries, left_out) = entries_of(plan);
        Self {
            node: plan.target.name().to_owned(),
            epoch: plan.epoch,
            made: writable(plan.made),
            entries,
            left_out,
            let_go: plan
                .let_go
                .iter()
                .take(MAX_ENTRIES)
                .map(LetGoEntry::from)
                .collect(),
        }
    }
}

impl From<&Plan> for PoolPrefetchSpec {
    fn from(plan: &Plan) -> Self {
        let (entries, left_out) = entries_of(plan);
        Self {
            pool: plan.target.name().to_owned(),
            epoch: plan.epoch,
            made: writable(plan.made),
            entries,
            left_out,
            nodes: plan.nodes.map(NodesExpected::from),
        }
    }
}

fn plan_entries(entries: &[Entry]) -> Result<Vec<PlanEntry>, ConvertError> {
    let convert = |(index, entry): (usize, &Entry)| {
        let platform = match entry.platform.split_once('/') {
            Some((os, arch)) if !os.is_empty() && !arch.is_empty() => Platform {
                os: os.to_owned(),
                arch: arch.to_owned(),
            },
            _ => {
                return Err(ConvertError::Platform {
                    index,
                    text: entry.platform.clone(),
                });
            }
        };
        Ok(PlanEntry {
            image: entry.image.clone(),
            digest: entry.digest.clone(),
            platform,
            priority: entry.priority,
            reason: Reason::from(&entry.reason),
            probability: entry.probability,
            bytes: entry.bytes,
            deadline: entry.deadline,
            expires: entry.expires,
        })
    };
    entries.iter().enumerate().map(convert).collect()
}

impl TryFrom<&NodePrefetchSpec> for Plan {
    type Error = ConvertError;

    fn try_from(spec: &NodePrefetchSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            entries: plan_entries(&spec.entries)?,
            left_out: spec.left_out.clone(),
            let_go: spec.let_go.iter().map(LetGo::from).collect(),
            ..Self::empty(Target::Node(spec.node.clone()), spec.epoch, spec.made)
        })
    }
}

impl TryFrom<&PoolPrefetchSpec> for Plan {
    type Error = ConvertError;

    fn try_from(spec: &PoolPrefetchSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            entries: plan_entries(&spec.entries)?,
            left_out: spec.left_out.clone(),
            nodes: spec.nodes.as_ref().map(Staging::from),
            ..Self::empty(Target::Pool(spec.pool.clone()), spec.epoch, spec.made)
        })
    }
}
