//! Node groups of cluster-autoscaler: sizes asked for, reached, given up.

mod status;

use crate::domain::signal::{Fact, NodeRemoved, NodeRequested};
use crate::source::kubernetes::objects::node::ConfigMap;
use crate::source::kubernetes::text::GroupSize;
use crate::source::kubernetes::{Change, Out, Translator, name_of};

pub use status::{GroupStatus, autoscaler_status};

/// What is remembered of a group.
#[derive(Default)]
pub(super) struct GroupState {
    target: Option<u32>,
    before: u32,
    failed: bool,
}

impl Translator {
    pub(super) fn config_map(&mut self, change: Change, map: &ConfigMap, out: &mut Out<'_>) {
        if name_of(&map.metadata) != "cluster-autoscaler-status" {
            self.skip("config map of no interest", 1);
            return;
        }
        let Some(text) = map.data.get("status").filter(|_| change == Change::Applied) else {
            return;
        };
        match autoscaler_status(text) {
            Some(groups) => {
                for group in groups {
                    self.group_status(&group, out);
                }
            }
            None => self.skip("autoscaler status not understood", 1),
        }
    }

    fn group_status(&mut self, status: &GroupStatus, out: &mut Out<'_>) {
        let pool = self.pool_of_group(&status.name);
        let state = self.groups.entry(pool.clone()).or_default();
        // What never registered is a part of the target that will not come.
        let target = status.target.saturating_sub(status.long_unregistered);
        let reached = state.target.unwrap_or(status.registered);
        if target != reached {
            state.before = reached;
            let what = format!("target:{pool}");
            let requested = NodeRequested {
                pool: pool.clone(),
                count: target.saturating_sub(reached),
                target: Some(target),
                ..NodeRequested::default()
            };
            out.push(&what, None, Fact::NodeRequested(requested));
        }
        state.target = Some(target);
        if status.backoff && !std::mem::replace(&mut state.failed, true) {
            let what = format!("backoff:{pool}");
            let fact = Fact::NodeRemoved(given_up(pool, &status.error));
            out.push(&what, None, fact);
        } else if !status.backoff {
            state.failed = false;
        }
    }

    /// The autoscaler says that a group grows. The decision, the confirmation and every pod of it say
    /// the same: without pods it is worth saying once.
    pub(super) fn group_grows(&mut self, grown: &GroupSize, pods: Vec<String>, out: &mut Out<'_>) {
        let pool = self.pool_of_group(&grown.group);
        let state = self.groups.entry(pool.clone()).or_default();
        if state.target == Some(grown.size) && pods.is_empty() {
            return;
        }
        if state.target != Some(grown.size) {
            state.before = grown.was;
            state.target = Some(grown.size);
        }
        state.failed = false;
        let requested = NodeRequested {
            pool: pool.clone(),
            count: grown.size.saturating_sub(grown.was),
            target: Some(grown.size),
            pods,
            ..NodeRequested::default()
        };
        let what = format!("requested:{pool}");
        out.push(&what, out.created(), Fact::NodeRequested(requested));
    }

    /// The autoscaler says that a group could not grow.
    pub(super) fn group_failed(&mut self, group: &str, reason: &str, out: &mut Out<'_>) {
        let pool = self.pool_of_group(group);
        let state = self.groups.entry(pool.clone()).or_default();
        state.failed = true;
        state.target = state.target.map(|target| target.min(state.before));
        let what = format!("failed:{pool}");
        out.push(
            &what,
            out.created(),
            Fact::NodeRemoved(given_up(pool, reason)),
        );
    }

    /// The pool whose label its nodes will carry. Clouds wrap the pool's name into a longer group id
    /// (`eks-POOL-uuid`, `gke-CLUSTER-POOL-hash-grp`, `aks-POOL-123-vmss`, a MIG's URL): the longest
    /// known pool that is a part of the id between separators is taken, else the id itself.
    pub(super) fn pool_of_group(&self, group: &str) -> String {
        if let Some(pool) = self.sampled_pool(group) {
            return pool.clone();
        }
        if self.pools.contains(group) {
            return group.to_owned();
        }
        let inside = |pool: &&String| {
            let separated = |c: Option<char>| c.is_none_or(|c| matches!(c, '-' | '_' | '/' | '.'));
            group.match_indices(pool.as_str()).any(|(at, found)| {
                separated(group[..at].chars().next_back())
                    && separated(group[at + found.len()..].chars().next())
            })
        };
        let known = self.pools.iter().filter(|pool| !pool.is_empty());
        let longest = known.filter(inside).max_by_key(|pool| pool.len());
        longest.map_or_else(|| group.to_owned(), String::clone)
    }
}

fn given_up(pool: String, reason: &str) -> NodeRemoved {
    NodeRemoved {
        pool: Some(pool),
        reason: reason.to_owned(),
        ..NodeRemoved::default()
    }
}
