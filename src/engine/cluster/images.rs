//! What references mean, and which of them are to be asked for when.

use std::collections::BTreeSet;
use std::time::Duration;

use foldhash::HashMap;

use crate::domain::image::{ImageManifest, ImageRef};
use crate::domain::time::Timestamp;
use crate::forecast::demand::Template;
use crate::forecast::model::{ResolveModel, Times};
use crate::plan::policy::Policy;
use crate::plan::select::Meaning;

/// Meanings of references that nothing names are kept for a while, but not more than these.
const IDLE_MAX: usize = 20_000;

/// Every reference that a template names, and some that were told without being asked for.
#[derive(Debug, Default)]
pub struct Images {
    known: HashMap<ImageRef, Image>,
    /// References to ask for, by when.
    due: BTreeSet<(Timestamp, ImageRef)>,
    /// References that nothing names, by since when.
    idle: BTreeSet<(Timestamp, ImageRef)>,
}

#[derive(Debug, Default)]
struct Image {
    users: u32,
    manifests: Vec<ImageManifest>,
    told: Option<Timestamp>,
    asked: u32,
    due: Option<Timestamp>,
    idle: Option<Timestamp>,
}

impl Images {
    /// References that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// A new template names its images.
    pub fn add_template(&mut self, template: &Template, now: Timestamp) {
        for use_ in &template.needs.images {
            let image = self.known.entry(use_.image.clone()).or_default();
            image.users += 1;
            if let Some(since) = image.idle.take() {
                self.idle.remove(&(since, use_.image.clone()));
            }
            if image.told.is_none() && image.due.is_none() {
                image.due = Some(now);
                self.due.insert((now, use_.image.clone()));
            }
        }
    }

    /// A template is gone.
    pub fn drop_template(&mut self, template: &Template, now: Timestamp) {
        for use_ in &template.needs.images {
            let Some(image) = self.known.get_mut(&use_.image) else {
                continue;
            };
            image.users = image.users.saturating_sub(1);
            if image.users == 0 {
                if let Some(at) = image.due.take() {
                    self.due.remove(&(at, use_.image.clone()));
                }
                image.idle = Some(now);
                self.idle.insert((now, use_.image.clone()));
            }
        }
    }

    /// Somebody says what a reference means. False when that is no news.
    pub fn resolved(
        &mut self,
        name: &ImageRef,
        manifests: &[ImageManifest],
        now: Timestamp,
        model: &ResolveModel,
    ) -> bool {
        let image = self.known.entry(name.clone()).or_default();
        if image.told.is_some_and(|told| told > now) {
            return false;
        }
        let news = image.told.is_none() || image.manifests != manifests;
        if news {
            image.manifests = manifests.to_vec();
        }
        image.told = Some(now);
        image.asked = 0;
        if let Some(at) = image.due.take() {
            self.due.remove(&(at, name.clone()));
        }
        if image.users == 0 {
            if let Some(since) = image.idle.replace(now) {
                self.idle.remove(&(since, name.clone()));
            }
            self.idle.insert((now, name.clone()));
            self.sweep_to(IDLE_MAX);
        } else if name.digest().is_none() {
            // A tag may move: ask again while somebody names it.
            let at = now + Duration::from_secs_f64(model.refresh_s.max(1.0));
            image.due = Some(at);
            self.due.insert((at, name.clone()));
        }
        news
    }

    /// What a reference means on a platform (system, architecture); an unknown one matches nothing.
    #[must_use]
    pub fn meaning(&self, name: &ImageRef, platform: Option<(&str, &str)>) -> Meaning<'_> {
        let on = |manifest: &ImageManifest| {
            let known = &manifest.platform;
            platform == Some((known.os.as_str(), known.arch.as_str()))
        };
        match self.known.get(name) {
            Some(image) if image.told.is_some() => image
                .manifests
                .iter()
                .find(|manifest| on(manifest))
                .map_or(Meaning::OtherPlatform, Meaning::Known),
            _ => Meaning::Unknown,
        }
    }

    /// References to ask for now, at most a batch; each is due again after a pause that doubles.
    pub fn ask(&mut self, now: Timestamp, model: &ResolveModel, policy: &Policy) -> Vec<ImageRef> {
        let mut out = Vec::new();
        while out.len() < model.batch.max(1) {
            let Some((at, name)) = self.due.first().cloned() else {
                break;
            };
            if at > now {
                break;
            }
            self.due.pop_first();
            let Some(image) = self.known.get_mut(&name) else {
                continue;
            };
            let pause = if image.told.is_some() && image.asked == 0 {
                model.retry_s
            } else {
                model.retry_s * f64::from(1_u32 << image.asked.min(16))
            };
            image.asked += 1;
            let next = now + Duration::from_secs_f64(pause.clamp(1.0, model.retry_max_s.max(1.0)));
            image.due = Some(next);
            self.due.insert((next, name.clone()));
            if policy.allows(&name) {
                out.push(name);
            }
        }
        out
    }

    /// Forgets what nothing has named for a while.
    pub fn sweep(&mut self, now: Timestamp, times: &Times) {
        let before = now - Duration::from_secs_f64(times.forget_s.max(0.0));
        while self.idle.first().is_some_and(|(since, _)| *since <= before) {
            self.forget_oldest();
        }
    }

    /// When [`Self::ask`] has something to say.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    fn sweep_to(&mut self, most: usize) {
        while self.idle.len() > most {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.idle.pop_first() {
            self.known.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::{ImageUse, PodNeeds};

    fn template() -> Template {
        let needs = PodNeeds {
            images: vec![ImageUse {
                image: "nginx".parse().unwrap(),
                container: "c".into(),
                role: crate::domain::workload::ImageRole::Main,
                always_pull: false,
            }],
            ..PodNeeds::default()
        };
        Template::new(1, needs)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn an_unanswered_reference_is_asked_for_at_growing_pauses() {
        let (model, policy) = (ResolveModel::default(), Policy::default());
        let mut images = Images::default();
        images.add_template(&template(), at(0));
        let asked: Vec<u64> = (0..400)
            .filter(|t| !images.ask(at(*t), &model, &policy).is_empty())
            .collect();
        assert_eq!(asked, [0, 30, 90, 210]);
    }

    #[test]
    fn a_digest_is_never_asked_for_again_and_a_tag_is() {
        let (model, policy) = (ResolveModel::default(), Policy::default());
        let mut images = Images::default();
        images.add_template(&template(), at(0));
        images.resolved(&"nginx".parse().unwrap(), &[], at(1), &model);
        assert!(images.ask(at(2), &model, &policy).is_empty());
        assert_eq!(images.ask(at(3602), &model, &policy).len(), 1);
    }

    #[test]
    fn what_nothing_names_is_forgotten_after_a_while() {
        let times = Times::default();
        let mut images = Images::default();
        images.add_template(&template(), at(0));
        images.drop_template(&template(), at(10));
        images.sweep(at(20), &times);
        assert_eq!(images.len(), 1);
        images.sweep(at(10 + 3600), &times);
        assert_eq!(images.len(), 0);
        assert_eq!(images.due_at(), None);
    }
}
