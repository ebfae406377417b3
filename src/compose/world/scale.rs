//! Load and HPAs: samples come in, HPAs look at them, replicas change.

use crate::compose::cast::WorkId;
use crate::compose::hpa::Look;
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::words::{SCALERS, object};
use crate::compose::world::{Due, World};
use crate::domain::signal::{Fact, Scaler as ScalerFact};
use crate::domain::workload::WorkloadRef;

/// Samples that an HPA may look back to.
const SAMPLES_KEPT: usize = 32;

impl World<'_> {
    /// One sample of a workload's load.
    pub(super) fn sample(&mut self, work: WorkId) {
        let cast = self.cast;
        let (Some(load), Some((series, later))) =
            (&cast.works[work].spec.load, &cast.works[work].tables.load)
        else {
            return;
        };
        let at = cast.seconds(self.now) + later;
        let noise = (load.noise * self.draws.load[work].normal()).exp();
        let value = series.at(at) * load.scale * noise;
        let samples = &mut self.works[work].samples;
        samples.push_back((self.now, value / load.per_replica));
        if samples.len() > SAMPLES_KEPT {
            samples.pop_front();
        }
        if !load.hidden && self.tape.is_live() {
            let series = self.series_name(work);
            let source = format!("/load/{series}");
            // Six digits, as monitoring shows them.
            let fact = self.sample_fact(work, &series, (value * 1e6).round() / 1e6);
            let uid = cast.works[work].reference.to_string();
            let note = object(&source, &uid, "", "");
            let stamp = Stamp::Sample;
            self.tape.note(self.now, &Note { stamp, ..note }, fact);
        }
        self.after(load.sample.0.as_secs_f64(), Due::Sample(work));
    }

    /// One look of a workload's HPA.
    pub(super) fn sync(&mut self, work: WorkId) {
        let cast = self.cast;
        let Some(hpa) = &cast.works[work].spec.hpa else {
            return;
        };
        let age = self.draws.load[work].draw(&hpa.lag);
        let state = &self.works[work];
        let old = state
            .samples
            .iter()
            .rev()
            .find(|(at, _)| self.now.secs_since(*at) >= age);
        if let Some((_, load)) = old.or_else(|| state.samples.front()).copied() {
            let ready = state.ready;
            let look = Look {
                replicas: state.replicas,
                ready,
                unready: state.pods.len() as u32 - ready,
                load,
            };
            let verdict = self.works[work].scaler.sync(hpa, look, self.now);
            let fact = ScalerFact {
                current: look.replicas,
                desired: verdict.desired,
                ratio: verdict.ratio.map(|ratio| (ratio * 1e6).round() / 1e6),
                limited: verdict.limited,
                ..self.scaler_fact(work)
            };
            self.say_scaler(work, fact);
            if verdict.desired != look.replicas {
                self.works[work].replicas = verdict.desired;
                self.soon(work);
            }
        }
        self.after(hpa.sync.0.as_secs_f64(), Due::Sync(work));
    }

    /// An HPA's words where nothing is known yet.
    pub(super) fn scaler_fact(&self, work: WorkId) -> ScalerFact {
        let reference = &self.cast.works[work].reference;
        let hpa = self.cast.works[work].spec.hpa.as_ref();
        ScalerFact {
            scaler: WorkloadRef {
                kind: "HorizontalPodAutoscaler".to_owned(),
                ..reference.clone()
            },
            target: reference.clone(),
            current: self.works[work].replicas,
            desired: self.works[work].replicas,
            min: hpa.map_or(0, |hpa| hpa.min),
            max: hpa.map_or(0, |hpa| hpa.max),
            ratio: None,
            limited: None,
        }
    }

    /// A status is written only when it changes.
    fn say_scaler(&mut self, work: WorkId, fact: ScalerFact) {
        if self.works[work].told_scaler.as_ref() == Some(&fact) {
            return;
        }
        self.works[work].told_scaler = Some(fact.clone());
        let subject = self.work_subject(work);
        let note = object(SCALERS, &self.works[work].scaler_uid, "observed", &subject);
        let stamp = Stamp::Seen;
        self.tape.note(
            self.now,
            &Note { stamp, ..note },
            Fact::ScalerObserved(fact),
        );
    }
}
