//! One scenario, prepared so that a trial plays nothing but the engine under test.

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::forecast::model::{Model, Source};
use crate::sim::facts::{Facts, FactsError};
use crate::sim::policy::{Policy, replay, run};
use crate::sim::score::LEAST_WAIT_S;
use crate::sim::tune::objective::Run;
use crate::sim::world::Stage;

/// A scenario with everything that does not depend on the trial.
#[derive(Debug)]
pub struct Course {
    /// Name and digest.
    pub source: Source,
    /// Last instant.
    pub end: Timestamp,
    /// Nobody prepares anything.
    pub reactive: Run,
    /// The best schedule known.
    pub oracle: Run,
    /// The model where the search begins.
    pub start: Run,
    /// Only pods that exist already.
    pub pending_only: Run,
    /// Only decayed counts.
    pub decayed: Run,
    header: Header,
    signals: Vec<Signal>,
    facts: Facts,
}

// === impl Course ===

impl Course {
    /// Plays what every trial is compared with.
    pub fn prepare(
        header: Header,
        signals: Vec<Signal>,
        start: &Model,
    ) -> Result<Self, FactsError> {
        let policies = [Policy::Decayed, Policy::PendingOnly, Policy::Forelay];
        let replay = replay(&header, &signals, &policies, start, |_| {})?;
        let of = |policy| {
            let run = replay.runs.get(&policy);
            run.map_or_else(Run::default, |run| Run::of(&run.tally))
        };
        Ok(Self {
            source: Source {
                name: header.name.clone(),
                sha256: digest(&header, &signals),
            },
            end: header.end,
            reactive: of(Policy::Reactive),
            oracle: of(Policy::Oracle),
            start: of(Policy::Forelay),
            pending_only: of(Policy::PendingOnly),
            decayed: of(Policy::Decayed),
            facts: replay.facts,
            header,
            signals,
        })
    }

    /// Whether nobody waits, whoever prepares: only harm can be done.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.reactive.wait_s < LEAST_WAIT_S || self.reactive.wait_s <= self.oracle.wait_s
    }

    /// What this model's engine makes of it.
    #[must_use]
    pub fn play(&self, model: &Model) -> Run {
        let stage = Stage::new(&self.header, &self.facts, &self.signals);
        Run::of(&run(stage, Policy::Forelay, model).tally)
    }
}

/// SHA-256 of the header and the signals as JSON lines, however the file is compressed.
fn digest(header: &Header, signals: &[Signal]) -> String {
    let mut context = Context::new(&SHA256);
    let line = |text: serde_json::Result<String>| {
        text.expect("what was read from JSON can be written as JSON") + "\n"
    };
    context.update(line(serde_json::to_string(header)).as_bytes());
    for signal in signals {
        context.update(line(serde_json::to_string(signal)).as_bytes());
    }
    hex::encode(context.finish())
}
