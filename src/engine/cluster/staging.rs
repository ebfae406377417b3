//! How many new nodes of a pool to be ready for, by packing who waits and who is foreseen.

use std::time::Duration;

use crate::domain::node::NodeShape;
use crate::domain::plan::{Priority, Staging};
use crate::domain::time::Timestamp;
use crate::forecast::counts::{Counts, LEVELS};
use crate::forecast::demand::Group;
use crate::forecast::packing::{NodeCount, Pods, Rooms};

use super::Cluster;
use super::demand::View;
use super::pools::Pool;

/// A pool's count stays so long: with at most [`NODES_MAX`] nodes one takes some milliseconds.
const PAUSE: Duration = Duration::from_secs(10);

/// New nodes that are counted, at most: beyond them nobody stages for each one.
const NODES_MAX: u32 = 250;

/// Kinds of pods that are packed, those that wait first; what is foreseen beyond them is not counted.
const KINDS_MAX: usize = 64;

impl Cluster {
    /// New nodes to be ready for, and when that was counted: anew at most every [`PAUSE`]. None where
    /// nobody knows what a node of the pool offers.
    pub(super) fn staged(
        &self,
        pool: &Pool,
        view: &View,
        now: Timestamp,
    ) -> Option<(Timestamp, Staging)> {
        let known = pool.staged;
        match known {
            // A clock that was set back keeps nothing.
            Some((at, _)) if at <= now && now < at + PAUSE => known,
            _ => Some((now, self.stage(pool, view)?)),
        }
    }

    /// Who waits needs nodes for certain; who is foreseen as likely as they come at all, and only beyond
    /// what existing nodes have room for. Pods that fit several pools count in each. What a group may
    /// grow to no signal tells.
    fn stage(&self, pool: &Pool, view: &View) -> Option<Staging> {
        let room = self.room_for(pool, &NodeShape::default());
        let node = room.free.clone()?;
        let groups = self.groups.list();
        let waiting = groups
            .iter()
            .take_while(|group| group.priority == Priority::Pending)
            .count();
        let (waits, expected) = groups.split_at(waiting);
        let beside = self.beside_existing(pool, view, !waits.is_empty(), expected);
        let waits = waits.iter().map(|group| (group, group.count));
        let demand: Vec<Pods> = waits
            .chain(expected.iter().zip(beside))
            .filter(|(group, count)| *count >= 0.5 && room.admits(&group.template.needs))
            .take(KINDS_MAX)
            .map(|(group, count)| Pods {
                request: group.template.needs.requests.clone(),
                count: counts(group, count),
            })
            .collect();
        let rooms = Rooms {
            node,
            free: Vec::new(),
            most: NODES_MAX,
        };
        let count = NodeCount::of(&demand, &rooms);
        // Those on their way come, whoever they are for.
        let coming = view.rooms as u32;
        Some(Staging {
            p50: count.quantile(0.5).max(coming),
            p90: count.quantile(0.9).max(coming),
            least: count.least.quantile(0.5),
        })
    }
}

/// So many pods of a group with its chance, none of them otherwise.
fn counts(group: &Group, count: f64) -> Counts {
    let pods = count.round().clamp(0.0, 1e6) as u32;
    let comes = |level: f64| level > 1.0 - group.chance;
    Counts::rising(LEVELS.map(|level| if comes(level) { pods } else { 0 }))
}
