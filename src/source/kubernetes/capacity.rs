//! Room asked for ahead of pods: capacity buffers and provisioning requests.

use std::collections::{BTreeMap, HashSet};

use crate::domain::signal::{Capacity, Fact};
use crate::domain::workload::{PodNeeds, WorkloadRef};
use crate::source::kubernetes::needs::pod_needs;
use crate::source::kubernetes::objects::autoscaling::{CapacityBuffer, ProvisioningRequest};
use crate::source::kubernetes::objects::pod::PodTemplate;
use crate::source::kubernetes::objects::{Kind, condition};
use crate::source::kubernetes::{Change, Out, Translator, full_name, uid_of};

/// Announcements that stand, and the templates that they may name.
#[derive(Default)]
pub(super) struct Announcements {
    templates: BTreeMap<String, PodNeeds>,
    standing: BTreeMap<String, Announced>,
}

/// One announcement as it was last said.
struct Announced {
    uid: String,
    template: Option<String>,
    said: Capacity,
}

/// Conditions after which a provisioning request asks for nothing any more.
const ENDED: [&str; 3] = ["Failed", "BookingExpired", "CapacityRevoked"];

impl Translator {
    pub(super) fn buffer(&mut self, change: Change, buffer: &CapacityBuffer, out: &mut Out<'_>) {
        let (spec, status) = (&buffer.spec, &buffer.status);
        let namespace = buffer.metadata.namespace.clone().unwrap_or_default();
        let template = status
            .pod_template_ref
            .as_ref()
            .or(spec.pod_template_ref.as_ref());
        let template = template.map(|t| format!("{namespace}/{}", t.name));
        let count = status.replicas.or(spec.replicas).unwrap_or(0);
        let workload = spec.scalable_ref.as_ref().map(|target| WorkloadRef {
            kind: target.kind.clone(),
            namespace,
            name: target.name.clone(),
        });
        let capacity = Capacity {
            name: format!("CapacityBuffer/{}", full_name(&buffer.metadata)),
            count: if change == Change::Deleted { 0 } else { count },
            needs: None,
            workload,
            at: None,
            pool: None,
        };
        self.announce(template, capacity, out);
    }

    pub(super) fn provisioning(
        &mut self,
        change: Change,
        request: &ProvisioningRequest,
        out: &mut Out<'_>,
    ) {
        let conditions = &request.status.conditions;
        let holds = |name: &&str| condition(conditions, name).is_some_and(|c| c.status == "True");
        let ended = change == Change::Deleted || ENDED.iter().any(holds);
        let namespace = request.metadata.namespace.clone().unwrap_or_default();
        let name = format!("ProvisioningRequest/{}", full_name(&request.metadata));
        for (index, set) in request.spec.pod_sets.iter().enumerate() {
            let name = match index {
                0 => name.clone(),
                _ => format!("{name}/{index}"),
            };
            let capacity = Capacity {
                name,
                count: if ended { 0 } else { set.count },
                needs: None,
                workload: None,
                at: None,
                pool: None,
            };
            let template = format!("{namespace}/{}", set.pod_template_ref.name);
            self.announce(Some(template), capacity, out);
        }
    }

    /// A template may come after the announcement that names it.
    pub(super) fn pod_template(&mut self, change: Change, found: &PodTemplate, out: &mut Out<'_>) {
        let key = full_name(&found.metadata);
        if change == Change::Deleted {
            self.capacity.templates.remove(&key);
            return;
        }
        let (needs, unreadable) = pod_needs(&found.template.spec);
        self.skip("image reference not valid", unreadable);
        self.capacity.templates.insert(key.clone(), needs.clone());
        let standing = self.capacity.standing.values_mut();
        for announced in standing.filter(|a| a.template.as_ref() == Some(&key)) {
            if announced.said.needs.as_ref() != Some(&needs) {
                announced.said.needs = Some(needs.clone());
                let what = format!("announced:{}", announced.said.name);
                out.push(&what, None, Fact::CapacityAnnounced(announced.said.clone()));
            }
        }
    }

    fn announce(&mut self, template: Option<String>, mut capacity: Capacity, out: &mut Out<'_>) {
        let key = template.as_ref();
        capacity.needs = key.and_then(|key| self.capacity.templates.get(key).cloned());
        let name = capacity.name.clone();
        let before = self.capacity.standing.get(&name).map(|a| &a.said);
        let nothing_new = match before {
            Some(said) => *said == capacity,
            None => capacity.count == 0,
        };
        if !nothing_new {
            let what = format!("announced:{name}");
            let time = out.created().filter(|_| before.is_none());
            out.push(&what, time, Fact::CapacityAnnounced(capacity.clone()));
        }
        if capacity.count == 0 {
            self.capacity.standing.remove(&name);
        } else {
            let announced = Announced {
                uid: uid_of(out.meta).to_owned(),
                template,
                said: capacity,
            };
            self.capacity.standing.insert(name, announced);
        }
    }

    pub(super) fn forget_announcements(
        &mut self,
        kind: Kind,
        kept: &HashSet<String>,
        out: &mut Out<'_>,
    ) {
        let word = format!("{kind:?}/");
        let standing = self.capacity.standing.iter();
        let lost = standing.filter(|(name, a)| name.starts_with(&word) && !kept.contains(&a.uid));
        let lost: Vec<_> = lost.map(|(name, _)| name.clone()).collect();
        for name in lost {
            if let Some(mut announced) = self.capacity.standing.remove(&name) {
                announced.said.count = 0;
                let uid = format!("{}/{name}", announced.uid);
                out.push_lost(&uid, Fact::CapacityAnnounced(announced.said));
            }
        }
    }
}
