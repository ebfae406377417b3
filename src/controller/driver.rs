//! One task owns the engine: takes in, steps, and hands out what is to be done.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, trace, warn};

use crate::api::PolicyMode;
use crate::controller::desk::{Desk, Shown};
use crate::controller::lease::Seat;
use crate::controller::model::InForce;
use crate::controller::policy::{Policies, report};
use crate::controller::publish::{Found, PublishError, Publisher};
use crate::controller::resolve::Resolving;
use crate::controller::roster::Roster;
use crate::controller::state::{StateStore, StoreError, Stored};
use crate::controller::{ControllerError, Options};
use crate::domain::plan::{Plan, Target};
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::engine::cluster::{Cluster, Effect};
use crate::source::kubernetes::watch::Observation;
use crate::telemetry::log::json;

mod output;
mod seat;

/// Signals taken in between two looks at the other inputs.
const BATCH: usize = 512;
/// Signals of one moment come in a row (a Deployment, its pods, their node): a step waits so long
/// for the rest. A tenth of the 50 ms that a decision may take.
const GATHER: Duration = Duration::from_millis(5);
/// A step waits for this many times the duration of the one before: signals keep flowing when the
/// cluster is so large that steps are slow.
const STEP_SHARE: u32 = 4;
/// Without a complete first list, plans are made after so long all the same: what is known is
/// better than nothing.
const FIRST_LIST: Duration = Duration::from_mins(1);
/// How long the writes under way may take at the end.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// The engine and everything around it.
pub(super) struct Driver {
    options: Options,
    engine: Cluster,
    desk: Desk,
    roster: Roster,
    seat: Seat,
    publisher: Publisher,
    store: StateStore,
    policies: watch::Receiver<Policies>,
    models: watch::Receiver<InForce>,
    observations: mpsc::Receiver<Observation>,
    external: Option<mpsc::Receiver<Signal>>,
    resolving: Resolving,
    /// Everything that is done beside the loop.
    beside: JoinSet<Done>,
    /// Writes of plans among it.
    writing: usize,
    pace: Pace,
    /// The epoch that this replica writes with, while it leads.
    epoch: Option<u64>,
    /// The text last stored: the same is not stored again.
    stored: Option<String>,
    loaded: Timestamp,
    saving: bool,
    /// The definitions were not installed when plans were last listed.
    undefined: bool,
}

/// When the next step and the next save are due.
struct Pace {
    /// First lists are complete, or have been waited for long enough.
    begun: bool,
    begin_by: Timestamp,
    /// Something was taken in that no step has seen.
    fresh: bool,
    step_at: Timestamp,
    not_before: Timestamp,
    save_at: Timestamp,
}

/// Something that was done beside the loop.
enum Done {
    Write(Target, Result<Shown, PublishError>),
    Listed(Result<Vec<Found>, PublishError>),
    Loaded(Result<Option<Stored>, StoreError>),
    Saved(String, Result<(), StoreError>),
    Reported,
}

impl Driver {
    pub(super) fn new(
        mut options: Options,
        seat: Seat,
        observations: mpsc::Receiver<Observation>,
        (policies, models): (watch::Receiver<Policies>, watch::Receiver<InForce>),
    ) -> Self {
        let now = options.clock.now();
        let client = options.client.clone();
        Self {
            engine: Cluster::new(options.model.clone()),
            desk: Desk::new(options.revision_gap),
            roster: Roster::default(),
            publisher: Publisher::new(client.clone(), seat.clone()),
            store: StateStore::new(
                client,
                &options.lease.namespace,
                &options.state_name,
                seat.clone(),
            ),
            seat,
            policies,
            models,
            observations,
            external: options.signals.take(),
            resolving: Resolving::new(options.resolver.clone(), options.concurrency),
            beside: JoinSet::new(),
            writing: 0,
            pace: Pace {
                begun: false,
                begin_by: now + FIRST_LIST,
                fresh: false,
                step_at: now,
                not_before: now,
                save_at: now + options.state_interval,
            },
            epoch: None,
            stored: None,
            loaded: Timestamp::ZERO,
            saving: false,
            undefined: false,
            options,
        }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), ControllerError> {
        self.load_first().await;
        let mut seat = self.seat.clone();
        let mut policies = self.policies.clone();
        let mut models = self.models.clone();
        self.options
            .instruments
            .model_in_force(&self.models.borrow().digest);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = seat.changed() => self.look_at_seat(),
                Some(done) = self.beside.join_next(), if !self.beside.is_empty() => match done {
                    Ok(done) => self.conclude(done),
                    Err(_) => return Err(ControllerError::Ended("a write")),
                },
                Ok(()) = policies.changed() => self.look_at_policies(),
                Ok(()) = models.changed() => self.look_at_model(),
                () = self.options.clock.sleep_until(wake) => self.on_time(),
                answer = self.resolving.answer() => {
                    let now = self.options.clock.now();
                    if let Some(signal) = self.resolving.conclude(answer, now) {
                        self.take_in(&signal, now);
                    }
                }
                count = self.observations.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Err(ControllerError::Ended("the watch"));
                    }
                    self.observe(batch.drain(..));
                }
                signal = next_of(&mut self.external) => {
                    let now = self.options.clock.now();
                    match signal {
                        Some(signal) => self.take_in(&signal, now),
                        None => self.external = None,
                    }
                }
            }
            let now = self.options.clock.now();
            self.resolving.pump(now);
            self.write_due(now);
            self.show();
        }
        self.end().await;
        Ok(())
    }

    fn show(&self) {
        let instruments = &self.options.instruments;
        let waiting =
            self.observations.len() + self.external.as_ref().map_or(0, mpsc::Receiver::len);
        instruments.waiting_signals.set(waiting as f64);
        instruments.waiting_writes.set(self.desk.waiting() as f64);
    }

    // === time ===

    fn wake_at(&self) -> Timestamp {
        let pace = &self.pace;
        let step = if !pace.begun {
            pace.begin_by
        } else if pace.fresh {
            pace.step_at.max(pace.not_before)
        } else {
            let due = self
                .engine
                .wake_at()
                .map_or(pace.step_at, |at| at.min(pace.step_at));
            due.max(pace.not_before)
        };
        let others = [
            self.desk.wake_at().filter(|_| self.has_room()),
            self.resolving.wake_at(),
            self.epoch.map(|_| pace.save_at),
        ];
        others.into_iter().flatten().fold(step, Timestamp::min)
    }

    fn on_time(&mut self) {
        let now = self.options.clock.now();
        if !self.pace.begun && now >= self.pace.begin_by {
            warn!("the first lists are not complete: beginning with what is known");
            self.begin(now);
        }
        let due = self.engine.wake_at().is_some_and(|at| at <= now) || self.pace.step_at <= now;
        if self.pace.begun && due && self.pace.not_before <= now {
            self.step(now);
        }
        if self.epoch.is_some() && self.pace.save_at <= now {
            self.save(now);
        }
    }

    fn begin(&mut self, now: Timestamp) {
        self.pace.begun = true;
        self.pace.step_at = now;
        if let Some(gate) = &self.options.ready {
            gate.open();
        }
    }

    fn step(&mut self, now: Timestamp) {
        let began = Instant::now();
        let effects = self.engine.step(now);
        let took = began.elapsed();
        self.options.instruments.step.observe(took.as_secs_f64());
        self.options.instruments.known(&self.engine.sizes());
        for effect in effects {
            match effect {
                Effect::Publish(plan) => self.made(&plan, now),
                Effect::Retract(target) => {
                    self.desk.mark(&target, now);
                    if self.epoch.is_none() {
                        self.desk.forget(&target);
                    }
                }
                Effect::Resolve(image) => self.resolving.ask(image),
            }
        }
        self.pace.fresh = false;
        self.pace.step_at = now + self.options.step_interval;
        self.pace.not_before = now + took * STEP_SHARE;
    }

    fn made(&mut self, plan: &Plan, now: Timestamp) {
        trace!(plan = %json(plan), "made");
        self.options.instruments.made(&plan.target);
        self.desk.mark(&plan.target, now);
        let mode = self.policies.borrow().mode(self.pool_of(&plan.target));
        if mode == Some(PolicyMode::Observe) {
            // All that there is to see of a plan that nobody carries out.
            let bytes = plan.entries.iter().map(|entry| entry.bytes.0).sum::<u64>();
            let (target, images) = (plan.target.name(), plan.entries.len());
            info!(target, images, bytes, "would have sent");
        }
    }

    // === what comes in ===

    fn observe(&mut self, batch: impl Iterator<Item = Observation>) {
        let now = self.options.clock.now();
        for observation in batch {
            match observation {
                Observation::Signal(signal) => self.take_in(&signal, now),
                Observation::Settled => {
                    info!("the cluster is listed");
                    if !self.pace.begun {
                        self.begin(now);
                    }
                }
            }
        }
    }

    fn take_in(&mut self, signal: &Signal, now: Timestamp) {
        if let Some(node) = self.roster.apply(signal) {
            self.desk.mark(&Target::Node(node.to_owned()), now);
        }
        let applied = self.engine.apply(signal);
        trace!(signal = %json(signal), ?applied, "taken in");
        let lag = now.secs_since(signal.time);
        self.options.instruments.taken_in(signal, applied, lag);
        self.refresh(now);
    }

    /// A step is due soon.
    fn refresh(&mut self, now: Timestamp) {
        if !self.pace.fresh {
            self.pace.fresh = true;
            self.pace.step_at = self.pace.step_at.min(now + GATHER);
        }
    }

    fn look_at_policies(&mut self) {
        let now = self.options.clock.now();
        self.desk.mark_all(now);
        if self.epoch.is_some() {
            // Off means everything, even what an earlier leader wrote and nobody plans now.
            self.list(Duration::ZERO);
        }
        let policies = self.policies.borrow_and_update().clone();
        self.engine.set_policy(policies.for_engine());
        self.refresh(now);
        if let Some(told) = &self.options.load_queries {
            let queries = policies.load_queries();
            told.send_if_modified(|old| std::mem::replace(old, queries.clone()) != queries);
        }
        self.report(policies, now);
    }

    /// What was learned stays; everything is planned anew.
    fn look_at_model(&mut self) {
        let InForce { model, digest } = self.models.borrow_and_update().clone();
        self.options.instruments.model_in_force(&digest);
        self.engine.set_model(model);
        self.refresh(self.options.clock.now());
    }

    fn report(&mut self, policies: Policies, now: Timestamp) {
        if self.epoch.is_some() {
            let client = self.options.client.clone();
            let asked = self.options.load_queries.is_some();
            self.beside.spawn(async move {
                report(client, policies, asked, now).await;
                Done::Reported
            });
        }
    }

    async fn end(mut self) {
        let drained = tokio::time::timeout(LAST_WRITES, async {
            while self.beside.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            warn!("some writes did not end in time");
            self.beside.abort_all();
        }
        if self.seat.epoch_now().is_some() {
            let now = self.options.clock.now();
            if let Err(reason) = self.store.save(self.engine.save(now), now).await {
                warn!(%reason, "state was not stored at the end");
            }
        }
    }
}

async fn next_of(external: &mut Option<mpsc::Receiver<Signal>>) -> Option<Signal> {
    match external {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
