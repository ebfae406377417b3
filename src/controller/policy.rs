//! What operators allow: the `PrefetchPolicy` objects, as one answer per pool and image.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams, Resource};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::api::{CONTROLLER_MANAGER, PolicyMode, PrefetchPolicy, PrefetchPolicySpec};
use crate::domain::image::ImageRef;
use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::plan::policy::{Mode, Policy};
use crate::source::kubernetes::guard::Guarded;
use crate::source::prometheus::LoadQuery;

/// All policies at one moment.
#[derive(Clone, Debug)]
pub struct Policies {
    /// `None` until the API server has told which there are.
    by_name: Option<Arc<BTreeMap<String, Noted>>>,
    default_mode: PolicyMode,
}

/// One policy, and which version of it.
#[derive(Clone, Debug, PartialEq)]
struct Noted {
    spec: PrefetchPolicySpec,
    generation: Option<i64>,
}

/// What a policy makes of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Publish this.
    Publish(Plan),
    /// Nothing of it may be on the API server.
    Withhold(PolicyMode),
    /// Nobody knows yet what is allowed.
    Wait,
}

impl Policies {
    /// Nothing is known yet.
    #[must_use]
    pub fn unknown(default_mode: PolicyMode) -> Self {
        Self {
            by_name: None,
            default_mode,
        }
    }

    /// Exactly these policies.
    #[must_use]
    pub fn of(
        default_mode: PolicyMode,
        policies: impl IntoIterator<Item = (String, PrefetchPolicySpec)>,
    ) -> Self {
        let noted = policies.into_iter().map(|(name, spec)| {
            let generation = None;
            (name, Noted { spec, generation })
        });
        Self {
            by_name: Some(Arc::new(noted.collect())),
            default_mode,
        }
    }

    /// The policy that counts for a pool: the closest, of equals the first by name.
    fn closest(&self, pool: &str) -> Option<&PrefetchPolicySpec> {
        let mut best: Option<(usize, &PrefetchPolicySpec)> = None;
        for Noted { spec, .. } in self.by_name.iter().flat_map(|all| all.values()) {
            if let Some(closeness) = spec.closeness(pool)
                && best.is_none_or(|(most, _)| closeness > most)
            {
                best = Some((closeness, spec));
            }
        }
        best.map(|(_, spec)| spec)
    }

    /// What is done with the plans of a pool; `None` while nobody knows.
    #[must_use]
    pub fn mode(&self, pool: &str) -> Option<PolicyMode> {
        self.by_name.as_ref()?;
        let policy = self.closest(pool);
        Some(policy.map_or(self.default_mode, |policy| policy.mode))
    }

    /// What the engine has to know to plan within its budgets.
    ///
    /// Its words are fewer than an operator's: one list of patterns for all pools. Where there is one
    /// policy and it is about all pools, images that may not be sent take no room in plans; otherwise
    /// `judge` takes them out of finished ones.
    #[must_use]
    pub fn for_engine(&self) -> Policy {
        let mut all = self.by_name.iter().flat_map(|all| all.values());
        match (all.next(), all.next()) {
            (Some(Noted { spec, .. }), None) if spec.pools.is_empty() => Policy {
                default: match spec.mode {
                    PolicyMode::Off => Mode::Off,
                    PolicyMode::Observe => Mode::Observe,
                    PolicyMode::On => Mode::On,
                },
                ..spec.images()
            },
            _ => Policy::default(),
        }
    }

    /// What may be published of a plan for a node or for the nodes of `pool`.
    #[must_use]
    pub fn judge(&self, pool: &str, plan: &Plan) -> Verdict {
        match self.mode(pool) {
            None => return Verdict::Wait,
            Some(PolicyMode::On) => {}
            Some(other) => return Verdict::Withhold(other),
        }
        let images = self.closest(pool).map(PrefetchPolicySpec::images);
        let mut plan = plan.clone();
        let wanted = plan.entries.len();
        let is_allowed =
            |image: &ImageRef| images.as_ref().is_none_or(|images| images.allows(image));
        plan.entries.retain(|entry| is_allowed(&entry.image));
        let kept_out = wanted - plan.entries.len();
        if kept_out > 0 {
            *plan.left_out.entry("policy".to_owned()).or_default() += kept_out as u32;
        }
        Verdict::Publish(plan)
    }

    /// The load queries of all policies that are not off, in the order of the policies' names. One
    /// whose workload cannot be read is left out: [`Policies::findings`] tells of it.
    #[must_use]
    pub fn load_queries(&self) -> Vec<LoadQuery> {
        self.by_name
            .iter()
            .flat_map(|all| all.values())
            .filter(|noted| noted.spec.mode != PolicyMode::Off)
            .flat_map(|noted| &noted.spec.load_queries)
            .filter_map(|query| {
                Some(LoadQuery {
                    name: query.name.clone(),
                    query: query.query.clone(),
                    workload: match &query.workload {
                        Some(workload) => Some(workload.parse().ok()?),
                        None => None,
                    },
                })
            })
            .collect()
    }

    /// Conditions that the policies should show: name, generation, and what is wrong with it.
    /// `asked`: whether there is a Prometheus that load queries are put to.
    pub fn findings(&self, asked: bool) -> Vec<(String, Option<i64>, Option<String>)> {
        let mut names = BTreeSet::new();
        let mut wrong = |query: &crate::api::LoadQuery| {
            if !names.insert(query.name.clone()) {
                return Some("an earlier query, or another policy's, has this name".to_owned());
            }
            if !asked {
                return Some("there is no Prometheus: set controller.prometheus.url".to_owned());
            }
            WorkloadRef::from_str(query.workload.as_deref()?).err()
        };
        let finding = |(name, noted): (&String, &Noted)| {
            let wrong = noted.spec.load_queries.iter().find_map(|query| {
                let wrong = wrong(query)?;
                Some(format!("load query `{}`: {wrong}", query.name))
            });
            (name.clone(), noted.generation, wrong)
        };
        self.by_name
            .iter()
            .flat_map(|all| all.iter())
            .map(finding)
            .collect()
    }
}

/// Follows the policies for ever. Where the definitions are not installed there are none; where
/// the API server is away, the last ones known stay in force.
pub async fn follow(client: kube::Client, policies: watch::Sender<Policies>) {
    let api = Api::<Guarded<PrefetchPolicy>>::all(client);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut known = BTreeMap::new();
    let mut listing = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing = Some(BTreeMap::new()),
            Ok(Event::InitApply(object)) => {
                note(listing.get_or_insert_default(), object);
            }
            Ok(Event::InitDone) => {
                known = listing.take().unwrap_or_default();
                announce(&policies, &known);
            }
            Ok(Event::Apply(object)) => {
                note(&mut known, object);
                announce(&policies, &known);
            }
            Ok(Event::Delete(object)) => {
                known.remove(object.meta().name.as_deref().unwrap_or_default());
                announce(&policies, &known);
            }
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if status.code == 404 =>
            {
                debug!("no PrefetchPolicy is defined here");
                known.clear();
                announce(&policies, &known);
            }
            Err(reason) => warn!(%reason, "policies cannot be followed now"),
        }
    }
}

fn note(known: &mut BTreeMap<String, Noted>, object: Guarded<PrefetchPolicy>) {
    match object {
        Guarded::Good(policy) => {
            let name = policy.metadata.name.unwrap_or_default();
            let generation = policy.metadata.generation;
            let spec = policy.spec;
            known.insert(name, Noted { spec, generation });
        }
        Guarded::Bad(broken) => {
            // An operator meant something by it: until it can be read, its last state counts.
            warn!(name = ?broken.metadata.name, reason = %broken.reason, "unreadable policy");
        }
    }
}

fn announce(policies: &watch::Sender<Policies>, known: &BTreeMap<String, Noted>) {
    policies.send_if_modified(|current| {
        if current.by_name.as_deref() == Some(known) {
            return false;
        }
        current.by_name = Some(Arc::new(known.clone()));
        true
    });
}

/// Writes each policy's `Ready` condition.
pub async fn report(client: kube::Client, policies: Policies, asked: bool, now: Timestamp) {
    let api = Api::<PrefetchPolicy>::all(client);
    for (name, generation, wrong) in policies.findings(asked) {
        let condition = Condition {
            type_: "Ready".into(),
            status: if wrong.is_some() { "False" } else { "True" }.into(),
            reason: if wrong.is_some() {
                "InvalidLoadQuery"
            } else {
                "InForce"
            }
            .into(),
            message: wrong.unwrap_or_default(),
            observed_generation: generation,
            last_transition_time: Time(
                jiff::Timestamp::from_microsecond(now.as_micros()).unwrap_or_default(),
            ),
        };
        let kept = api.get_opt(&name).await.ok().flatten().is_some_and(|old| {
            let conditions = old.status.unwrap_or_default().conditions;
            conditions.iter().any(|c| {
                c.type_ == condition.type_
                    && c.status == condition.status
                    && c.message == condition.message
                    && c.observed_generation == condition.observed_generation
            })
        });
        if kept {
            continue;
        }
        let patch = json!({
            "apiVersion": PrefetchPolicy::api_version(&()),
            "kind": PrefetchPolicy::kind(&()),
            "metadata": {"name": name},
            "status": {"observedGeneration": generation, "conditions": [condition]},
        });
        let params = PatchParams::apply(CONTROLLER_MANAGER).force();
        if let Err(reason) = api.patch_status(&name, &params, &Patch::Apply(patch)).await {
            warn!(%name, %reason, "the policy's condition was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::image::{Digest, Platform};
    use crate::domain::plan::{PlanEntry, Priority, Reason, Target};
    use crate::domain::quantity::ByteSize;

    fn plan() -> Plan {
        let entry = |image: &str| PlanEntry {
            image: image.parse().unwrap(),
            digest: Digest::from_sha256(&[1; 32]),
            platform: Platform::linux("amd64"),
            priority: Priority::Pending,
            reason: Reason::PendingPod("a/b".into()),
            probability: 1.0,
            bytes: ByteSize(1),
            deadline: None,
            expires: Timestamp::ZERO,
        };
        Plan {
            entries: vec![entry("quay.io/a/b:1"), entry("nginx:1")],
            ..Plan::empty(Target::Node("n".into()), 0, Timestamp::ZERO)
        }
    }

    fn policy(mode: PolicyMode, pools: &[&str]) -> PrefetchPolicySpec {
        PrefetchPolicySpec {
            mode,
            pools: pools.iter().map(|p| (*p).to_owned()).collect(),
            ..PrefetchPolicySpec::default()
        }
    }

    #[test]
    fn without_a_policy_the_default_mode_counts() {
        let on = Policies::of(PolicyMode::On, []);
        assert_eq!(on.judge("p", &plan()), Verdict::Publish(plan()));
        let observe = Policies::of(PolicyMode::Observe, []);
        let withheld = Verdict::Withhold(PolicyMode::Observe);
        assert_eq!(observe.judge("p", &plan()), withheld);
    }

    #[test]
    fn nothing_is_written_before_the_policies_are_known() {
        let unknown = Policies::unknown(PolicyMode::On);
        assert_eq!(unknown.judge("p", &plan()), Verdict::Wait);
    }

    #[test]
    fn the_policy_that_names_the_pool_more_closely_counts() {
        let policies = Policies::of(
            PolicyMode::Observe,
            [
                ("a".to_owned(), policy(PolicyMode::On, &[])),
                ("b".to_owned(), policy(PolicyMode::Off, &["gpu-*"])),
            ],
        );
        let off = Verdict::Withhold(PolicyMode::Off);
        assert_eq!(policies.judge("gpu-1", &plan()), off);
        assert_eq!(policies.judge("cpu-1", &plan()), Verdict::Publish(plan()));
    }

    #[test]
    fn an_excluded_image_is_taken_out_and_counted() {
        let mut on = policy(PolicyMode::On, &[]);
        on.exclude.push("quay.io/*".into());
        let policies = Policies::of(PolicyMode::Off, [("a".to_owned(), on)]);
        let Verdict::Publish(kept) = policies.judge("p", &plan()) else {
            panic!("withheld");
        };
        assert_eq!(kept.entries.len(), 1);
        assert_eq!(kept.left_out["policy"], 1);
    }

    #[test]
    fn the_engine_is_told_of_the_one_policy_that_is_about_everything() {
        let mut one = policy(PolicyMode::Off, &[]);
        one.exclude.push("quay.io/*".into());
        let told = Policies::of(PolicyMode::On, [("a".to_owned(), one.clone())]).for_engine();
        assert_eq!((told.default, told.exclude.len()), (Mode::Off, 1));
        let other = policy(PolicyMode::On, &["gpu"]);
        let both = [("a".to_owned(), one), ("b".to_owned(), other)];
        let told = Policies::of(PolicyMode::On, both).for_engine();
        assert_eq!(told, Policy::default());
    }

    #[test]
    fn a_load_query_for_no_workload_is_told_with_its_name() {
        let mut spec = policy(PolicyMode::On, &[]);
        for workload in ["web", "Deployment/shop/web"] {
            spec.load_queries.push(crate::api::LoadQuery {
                name: format!("rps of {workload}"),
                query: "1".into(),
                workload: Some(workload.into()),
            });
        }
        let policies = Policies::of(PolicyMode::Off, [("a".to_owned(), spec)]);
        let asked = policies.load_queries();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let (_, _, wrong) = policies.findings(true).remove(0);
        assert!(wrong.is_some_and(|w| w.contains("rps") && w.contains("Kind/namespace/name")));
    }

    #[test]
    fn queries_that_nobody_will_ask_are_told() {
        let mut spec = policy(PolicyMode::On, &[]);
        spec.load_queries.push(crate::api::LoadQuery {
            name: "rps".into(),
            query: "1".into(),
            workload: None,
        });
        let two = [("a".to_owned(), spec.clone()), ("b".to_owned(), spec)];
        let policies = Policies::of(PolicyMode::Off, two);
        let told = |asked: bool| -> Vec<Option<String>> {
            let findings = policies.findings(asked).into_iter();
            findings.map(|(_, _, wrong)| wrong).collect()
        };
        let [first, second] = &told(true)[..] else {
            panic!()
        };
        assert_eq!(*first, None);
        assert!(
            second
                .as_ref()
                .is_some_and(|w| w.contains("another policy"))
        );
        assert!(
            told(false)[0]
                .as_ref()
                .is_some_and(|w| w.contains("no Prometheus"))
        );
    }
}
