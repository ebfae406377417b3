//! The least that a signal can cost: its object looked up by name, in a cluster of that size.
//!
//! This machine's speed moves by a factor of 1.7 within hours, so the engine's is read beside a floor
//! that was measured in the same minute on the same signals.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use forelay::domain::signal::{Fact, Signal};
use forelay::domain::time::Timestamp;
use forelay::domain::workload::WorkloadRef;
use forelay::source::scenario::{ScenarioReader, Strictness};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::CHUNK;
use crate::process::thread_cpu;

/// Asks for it, in the place of a pacing.
pub const FLOOR: &str = "floor";

/// What the floor cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct Floor {
    signals: u64,
    /// Objects at the end.
    objects: usize,
    /// Signals a second of CPU.
    pub signals_per_s: f64,
}

/// When each object was last heard of, by name, with the standard library's map.
#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<String, Timestamp>,
    /// Objects whose names have parts, by the parts.
    workloads: HashMap<WorkloadRef, Timestamp>,
}

/// Reads a whole scenario; the answer is one JSON object.
pub fn feed(file: &Path) -> anyhow::Result<Value> {
    let (_, mut reader) = ScenarioReader::open(file, Strictness::Strict)?;
    let mut names = Names::default();
    let (mut signals, mut cpu) = (0, Duration::ZERO);
    let mut chunk: Vec<Signal> = Vec::with_capacity(CHUNK);
    loop {
        for signal in reader.by_ref().take(CHUNK) {
            let signal = signal?;
            if !signal.truth {
                chunk.push(signal);
            }
        }
        if chunk.is_empty() {
            break;
        }
        let began = thread_cpu()?;
        for signal in &chunk {
            names.hear(signal);
        }
        cpu += thread_cpu()?.saturating_sub(began);
        signals += chunk.len() as u64;
        chunk.clear();
    }
    Ok(serde_json::to_value(Floor {
        signals,
        objects: names.by_name.len() + names.workloads.len(),
        signals_per_s: signals as f64 / cpu.as_secs_f64(),
    })?)
}

// === impl Names ===

impl Names {
    fn hear(&mut self, signal: &Signal) {
        let at = signal.observedtime;
        match &signal.fact {
            Fact::PodPending(told) | Fact::PodGated(told) => self.note(&told.pod.name, at),
            Fact::PodNominated(told) => self.note(&told.pod.name, at),
            Fact::PodStarted(told) => self.note(&told.pod.name, at),
            Fact::PodRemoved(told) => drop(self.by_name.remove(&told.pod.name)),
            Fact::PodBound(told) => {
                self.note(&told.pod.name, at);
                self.note(&told.node, at);
            }
            Fact::ImagePulled(told) => {
                self.note(&told.pod.name, at);
                self.note(&told.node, at);
            }
            Fact::NodeJoined(told) => self.note(&told.node, at),
            Fact::NodeReady(told) => self.note(&told.node, at),
            Fact::LoadSampled(told) => self.note(&told.series, at),
            Fact::WorkloadApplied(told) => self.know(&told.workload, at),
            Fact::ScalerObserved(told) => self.know(&told.scaler, at),
            // Together less than a thousandth of a composed day.
            _ => {}
        }
    }

    fn note(&mut self, name: &str, at: Timestamp) {
        match self.by_name.get_mut(name) {
            Some(last) => *last = at,
            None => drop(self.by_name.insert(name.to_owned(), at)),
        }
    }

    fn know(&mut self, name: &WorkloadRef, at: Timestamp) {
        match self.workloads.get_mut(name) {
            Some(last) => *last = at,
            None => drop(self.workloads.insert(name.clone(), at)),
        }
    }
}
