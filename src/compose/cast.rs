//! A spec as numbers: pools, classes of pods and workloads that the model can play.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::compose::amount::Amount;
use crate::compose::check;
use crate::compose::error::{ComposeError, Faults};
use crate::compose::images::{ImageId, Images};
use crate::compose::spec::{
    Autoscaler, AutoscalerKind, Event, Kind, Pool, Shared, Spec, Watch, Workload,
};
use crate::compose::tables::{self, Tables};
use crate::config::unit::Size;
use crate::domain::node::{NodeShape, Resources};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::domain::workload::{ImageUse, PodNeeds, WorkloadRef};

/// Index into [`Cast::pools`].
pub type PoolId = usize;
/// Index into [`Cast::zones`].
pub type ZoneId = usize;
/// Index into [`Cast::classes`].
pub type ClassId = usize;
/// Index into [`Cast::works`].
pub type WorkId = usize;

/// Everything that is played.
#[derive(Clone, Debug)]
pub struct Cast {
    /// When the silent run begins.
    pub begin: Timestamp,
    /// First instant of the scenario.
    pub start: Timestamp,
    /// Last instant.
    pub end: Timestamp,
    /// Of all draws.
    pub seed: u64,
    /// Names of zones.
    pub zones: Vec<String>,
    /// Names of extended resources.
    pub extended: Vec<String>,
    /// Images.
    pub images: Images,
    /// Pools.
    pub pools: Vec<PoolCast>,
    /// Kinds of pods: one for each template that a workload has in its time.
    pub classes: Vec<Class>,
    /// Workloads.
    pub works: Vec<Work>,
    /// Who adds nodes.
    pub autoscaler: Autoscaler,
    /// What nodes share.
    pub shared: Shared,
    /// How late and lossy watchers are.
    pub watch: Watch,
    /// What happens when.
    pub events: Vec<Event>,
}

/// One pool.
#[derive(Clone, Debug)]
pub struct PoolCast {
    /// Its name.
    pub name: String,
    /// As written.
    pub spec: Pool,
    /// Its zones.
    pub zones: Vec<ZoneId>,
    /// What an empty node has.
    pub room: Amount,
    /// What is left of it beside the DaemonSets' pods.
    pub room_for_pods: Amount,
    /// The shape of a node, one per entry of `zones`; the host name is missing.
    pub shapes: Vec<NodeShape>,
}

/// Pods that are alike.
#[derive(Clone, Debug)]
pub struct Class {
    /// Whose.
    pub work: WorkId,
    /// What one needs.
    pub needs: PodNeeds,
    /// Its requests.
    pub ask: Amount,
    /// Its images, in the order of need.
    pub images: Vec<ImageId>,
    /// By pool: by entry of the pool's `zones`: whether an empty node there takes it.
    pub admits: Vec<Vec<bool>>,
}

/// One workload (one of the copies).
#[derive(Clone, Debug)]
pub struct Work {
    /// Kind, namespace, name; a family of Jobs has the kind `Job`.
    pub reference: WorkloadRef,
    /// As written.
    pub spec: Workload,
    /// Its templates in the order of their times.
    pub classes: Vec<(Timestamp, ClassId)>,
    /// Load, firings, arrivals.
    pub tables: Tables,
}

// === impl Cast ===

impl Cast {
    /// Checks a spec and everything that it refers to; all faults at once.
    pub fn build(spec: &Spec, file: &Path, seed: u64) -> Result<Self, ComposeError> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut faults = Faults::default();
        check::check(spec, &mut faults);
        let refused = |faults: Faults| ComposeError::Faults {
            file: file.to_owned(),
            faults,
        };
        let (Some(start), Some(length)) = (spec.start, spec.length) else {
            return Err(refused(faults));
        };
        let images = Images::read(spec, folder, &mut faults)?;
        let mut cast = Self {
            begin: start - spec.settle.0,
            start,
            end: start + length.0,
            seed,
            zones: zones(spec),
            extended: extended(spec),
            images,
            pools: Vec::new(),
            classes: Vec::new(),
            works: Vec::new(),
            autoscaler: spec.autoscaler.clone(),
            shared: spec.shared.clone(),
            watch: spec.watch.clone(),
            events: spec.events.clone(),
        };
        cast.pools = spec
            .pools
            .iter()
            .map(|(name, pool)| cast.pool(name, pool))
            .collect();
        for (index, workload) in spec.workloads.iter().enumerate() {
            let key = format!("workloads[{index}]");
            cast.workload(&key, workload, folder, &mut faults);
        }
        if !faults.0.is_empty() {
            return Err(refused(faults));
        }
        cast.reserve();
        Ok(cast)
    }

    fn pool(&self, name: &str, spec: &Pool) -> PoolCast {
        let known = |zone: &String| self.zones.iter().position(|z| z == zone);
        let zones: Vec<ZoneId> = spec.zones.iter().filter_map(known).collect();
        let resources = Resources {
            cpu_milli: spec.cpu.0,
            memory: spec.memory.0,
            ephemeral: spec.ephemeral.0,
            pods: u64::from(spec.pods),
            extended: spec.extended.clone(),
        };
        let room = Amount::of(&resources, &self.extended);
        let shapes = zones.iter().map(|zone| {
            let labels = self.labels(name, spec, &self.zones[*zone]);
            NodeShape {
                arch: Some(spec.arch.clone()),
                zone: Some(self.zones[*zone].clone()),
                capacity: Some(resources.clone()),
                labels,
                taints: spec.taints.clone(),
            }
        });
        PoolCast {
            name: name.to_owned(),
            shapes: shapes.collect(),
            zones,
            room_for_pods: room.clone(),
            room,
            spec: spec.clone(),
        }
    }

    /// The labels that clouds and autoscalers put on a node, as in the recordings.
    fn labels(&self, name: &str, spec: &Pool, zone: &str) -> BTreeMap<String, String> {
        let region = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let region = if region.is_empty() { zone } else { region };
        let capacity = if spec.spot { "spot" } else { "on-demand" };
        let (group, kind) = match self.autoscaler.kind {
            AutoscalerKind::Karpenter => ("karpenter.sh/nodepool", "karpenter.sh/capacity-type"),
            _ => ("example.com/nodegroup", "example.com/capacity-type"),
        };
        let mut labels: BTreeMap<String, String> = [
            (group, name),
            (kind, capacity),
            ("kubernetes.io/arch", &spec.arch),
            ("kubernetes.io/os", "linux"),
            ("node.kubernetes.io/instance-type", &spec.instance_type),
            ("topology.kubernetes.io/region", region),
            ("topology.kubernetes.io/zone", zone),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        labels.extend(spec.labels.clone());
        labels
    }

    fn workload(&mut self, key: &str, spec: &Workload, folder: &Path, faults: &mut Faults) {
        let copies = spec.copies.unwrap_or(1);
        let stagger = spec
            .load
            .as_ref()
            .map_or(Duration::ZERO, |load| load.stagger.0);
        let until = self.end.secs_since(self.start);
        let tables = tables::read(key, spec, folder, (self.begin, self.start, until), faults);
        for copy in 0..copies {
            let name = match spec.copies {
                Some(_) => format!("{}-{}", spec.name, copy + 1),
                None => spec.name.clone(),
            };
            let kind = match spec.kind {
                Kind::Deployment => "Deployment",
                Kind::StatefulSet => "StatefulSet",
                Kind::DaemonSet => "DaemonSet",
                Kind::CronJob => "CronJob",
                Kind::Jobs => "Job",
            };
            let work = self.works.len();
            let reference = WorkloadRef {
                kind: kind.to_owned(),
                namespace: spec.namespace.clone(),
                name,
            };
            let faults_of_copy = if copy == 0 {
                &mut *faults
            } else {
                &mut Faults::default()
            };
            let classes = self.templates(key, work, spec, faults_of_copy);
            self.works.push(Work {
                reference,
                spec: spec.clone(),
                classes,
                tables: tables.staggered(copy, stagger),
            });
        }
    }

    /// One class per template: the first, then one after each instant with rollouts.
    fn templates(
        &mut self,
        key: &str,
        work: WorkId,
        spec: &Workload,
        faults: &mut Faults,
    ) -> Vec<(Timestamp, ClassId)> {
        let mut needs = Self::needs(spec);
        let mut templates = vec![(self.begin, needs.clone(), format!("{key}.containers"))];
        let mut order: Vec<usize> = (0..spec.rollouts.len()).collect();
        order.sort_by_key(|r| spec.rollouts[*r].at.0);
        for r in order {
            let rollout = &spec.rollouts[r];
            let uses = needs.images.iter_mut();
            for used in uses.filter(|used| used.container == rollout.container) {
                used.image = rollout.image.clone();
            }
            let at = self.start + rollout.at.0;
            let place = format!("{key}.rollouts[{r}]");
            match templates.last_mut() {
                Some(last) if last.0 == at => *last = (at, needs.clone(), place),
                _ => templates.push((at, needs.clone(), place)),
            }
        }
        let mut classes = Vec::new();
        for (at, needs, place) in templates {
            let class = self.class(work, needs);
            if !class.admits.iter().flatten().any(|admits| *admits) {
                let reason = self.why_nowhere(&class);
                let mend = "change requests, selectors, tolerations or a pool";
                faults.add(place, format!("its pods fit no pool: {reason}"), mend);
            }
            classes.push((at, self.classes.len()));
            self.classes.push(class);
        }
        classes
    }

    fn class(&self, work: WorkId, needs: PodNeeds) -> Class {
        let images: Vec<ImageId> = needs
            .images
            .iter()
            .filter_map(|used| self.images.find(&used.image))
            .collect();
        let admits = |pool: &PoolCast| {
            let runs = |image: &ImageId| {
                let image = &self.images.list[*image];
                // An unknown image is a fault of its own.
                image.manifests.is_empty() || image.layers.contains_key(&pool.spec.arch)
            };
            let runs = images.iter().all(runs);
            let shapes = pool.shapes.iter();
            shapes
                .map(|shape| runs && shape.admits(&needs, false))
                .collect()
        };
        Class {
            work,
            ask: Amount::of(&needs.requests, &self.extended),
            admits: self.pools.iter().map(admits).collect(),
            images,
            needs,
        }
    }

    fn needs(spec: &Workload) -> PodNeeds {
        let size = |size: Option<Size>| size.map_or(ByteSize(0), |size| size.0);
        PodNeeds {
            images: spec
                .containers
                .iter()
                .map(|container| ImageUse {
                    image: container.image.clone(),
                    container: container.name.clone(),
                    role: container.role,
                    always_pull: container.always_pull,
                })
                .collect(),
            requests: Resources {
                cpu_milli: spec.requests.cpu.0,
                memory: size(spec.requests.memory),
                ephemeral: size(spec.requests.ephemeral),
                pods: 1,
                extended: spec.requests.extended.clone(),
            },
            node_selector: spec.node_selector.clone(),
            affinity: spec.affinity.clone(),
            tolerations: spec.tolerations.clone(),
            pull_secrets: spec.pull_secrets,
        }
    }

    /// Why each pool refuses a class, for a person.
    fn why_nowhere(&self, class: &Class) -> String {
        let why = |pool: &PoolCast| {
            let arch = &pool.spec.arch;
            let missing = class.images.iter().map(|image| &self.images.list[*image]);
            let missing: Vec<&str> = missing
                .filter(|image| !image.manifests.is_empty() && !image.layers.contains_key(arch))
                .map(|image| image.name.as_str())
                .collect();
            let reason = if !class.ask.fits(&pool.room) {
                "it requests more than a node has".to_owned()
            } else if pool
                .shapes
                .iter()
                .any(|shape| shape.admits(&class.needs, false))
            {
                format!("no {arch} in {}", missing.join(", "))
            } else {
                "selector, affinity or taints keep it away".to_owned()
            };
            format!("{} ({reason})", pool.name)
        };
        if self.pools.is_empty() {
            return "there is none".to_owned();
        }
        self.pools.iter().map(why).collect::<Vec<_>>().join(", ")
    }

    /// What DaemonSets take of each pool's nodes.
    fn reserve(&mut self) {
        for (id, pool) in self.pools.iter_mut().enumerate() {
            for work in &self.works {
                let class = &self.classes[work.classes[0].1];
                if work.spec.kind == Kind::DaemonSet && class.admits[id].iter().any(|a| *a) {
                    pool.room_for_pods.take(&class.ask, 1);
                }
            }
        }
    }

    /// Seconds after `start`, negative in the silent run.
    #[must_use]
    pub fn seconds(&self, at: Timestamp) -> f64 {
        at.secs_since(self.start)
    }

    /// An instant so long after `start`.
    #[must_use]
    pub fn after(&self, span: Duration) -> Timestamp {
        self.start + span
    }
}

fn zones(spec: &Spec) -> Vec<String> {
    let zones: BTreeSet<&String> = spec.pools.values().flat_map(|pool| &pool.zones).collect();
    zones.into_iter().cloned().collect()
}

fn extended(spec: &Spec) -> Vec<String> {
    let offered = spec.pools.values().flat_map(|pool| pool.extended.keys());
    let asked = spec
        .workloads
        .iter()
        .flat_map(|work| work.requests.extended.keys());
    let names: BTreeSet<&String> = offered.chain(asked).collect();
    names.into_iter().cloned().collect()
}
