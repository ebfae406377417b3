//! Exit codes, and which of them an error means.

use std::process::ExitCode;

use crate::cli::render::Closed;
use crate::config::Problems;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It could not.
    Failure = 1,
    /// It was asked wrongly: arguments or configuration. Also clap's own code.
    Usage = 2,
    /// It ran, and what it was to show did not hold.
    Expectation = 3,
    /// It was told to stop (Ctrl-C): 128 and SIGINT, as shells have it.
    Interrupted = 130,
}

impl Exit {
    /// What an error that reached `main` means.
    pub fn of(error: &anyhow::Error) -> Self {
        if error.is::<Closed>() {
            // The reader has seen enough (`forelay crds | head`).
            Self::Ok
        } else if error
            .chain()
            .any(|cause| cause.is::<Problems>() || cause.is::<Usage>())
        {
            Self::Usage
        } else {
            Self::Failure
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Arguments that clap could not refuse by themselves.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn configuration_problems_are_usage_however_deep_they_lie() {
        let deep = Err::<(), _>(Problems::default())
            .context("starting")
            .unwrap_err();
        assert_eq!(Exit::of(&deep), Exit::Usage);
        assert_eq!(
            Exit::of(&Usage("no such policy".into()).into()),
            Exit::Usage
        );
        assert_eq!(Exit::of(&anyhow::anyhow!("disk full")), Exit::Failure);
        assert_eq!(Exit::of(&Closed.into()), Exit::Ok);
    }
}
