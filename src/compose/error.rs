//! Why a spec makes no scenario; every message says where and what to do.

use std::fmt;
use std::path::PathBuf;

use crate::source::recording::RecordingError;
use crate::source::scenario::ScenarioError;

/// One contradiction of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `pools.general.min`, `workloads[2].hpa.max`.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to write.
    pub mend: String,
}

/// All contradictions of a spec, in the order of the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

/// A spec that makes no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A file could not be read.
    #[error("{}: cannot be read", file.display())]
    Io {
        /// which
        file: PathBuf,
        /// the system's words
        source: std::io::Error,
    },
    /// The spec is no TOML of the expected form.
    #[error("{}:{line}:{column}: {key}: {reason}; all keys are in docs/compose.md", file.display())]
    Form {
        /// which
        file: PathBuf,
        /// from one
        line: usize,
        /// from one
        column: usize,
        /// path of the key, where known
        key: String,
        /// the parser's words
        reason: String,
    },
    /// The scenario is a recording.
    #[error("{}: the scenario `{name}` is recorded, made by `{by}`: there is nothing to compose", file.display())]
    Recorded {
        /// which
        file: PathBuf,
        /// its name
        name: String,
        /// what made it
        by: String,
    },
    /// The spec contradicts itself, or what it refers to.
    #[error("{}: {} wrong:{faults}", file.display(), things(faults.0.len()))]
    Faults {
        /// which
        file: PathBuf,
        /// all of them
        faults: Faults,
    },
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] RecordingError),
    /// The scenario cannot be written.
    #[error(transparent)]
    Write(#[from] ScenarioError),
}

fn things(count: usize) -> String {
    if count == 1 {
        "one thing is".to_owned()
    } else {
        format!("{count} things are")
    }
}

// === impl Faults ===

impl Faults {
    /// Notes one.
    pub fn add(
        &mut self,
        key: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Fault {
            key: key.into(),
            reason: reason.into(),
            mend: mend.into(),
        });
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Fault { key, reason, mend } in &self.0 {
            write!(f, "\n  {key}: {reason}; {mend}")?;
        }
        Ok(())
    }
}
