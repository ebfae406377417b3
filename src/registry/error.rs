//! What can go wrong between us and a registry, by what helps against it.

use std::time::Duration;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::manifest::ManifestError;
use crate::port::{FetchError, ResolveError};

/// A registry that does not give what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The options cannot be used.
    #[error("{0}")]
    Setup(String),
    /// It does not exist there.
    #[error("not found at {0}")]
    NotFound(String),
    /// Credentials are missing or not enough.
    #[error("access refused: {0}")]
    Denied(String),
    /// The answer makes no sense, or does not match its digest.
    #[error("{0}")]
    Broken(String),
    /// No answer, a cut, overload: may pass.
    #[error("{reason}")]
    Unavailable {
        /// what happened
        reason: String,
        /// how long the registry asked us to wait, at most ten seconds
        after: Duration,
    },
}

/// A registry that asks for more patience than this is treated as down for now.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

impl RegistryError {
    /// A failure that may pass.
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            after: Duration::ZERO,
        }
    }

    /// As [`RegistryError::unavailable`], with the registry's own wish.
    pub(super) fn busy(reason: String, after: Duration) -> Self {
        Self::Unavailable {
            reason,
            after: after.min(RETRY_AFTER_MAX),
        }
    }

    /// There is nobody to ask.
    pub(super) fn nowhere(image: &ImageRef) -> Self {
        Self::unavailable(format!("no endpoint left for {image}"))
    }

    /// A stream that ended early.
    pub(super) fn cut(error: FetchError) -> Self {
        Self::unavailable(error.to_string())
    }

    /// From a request that got no answer.
    pub(super) fn request(error: &reqwest::Error) -> Self {
        Self::unavailable(chain(error))
    }

    /// How long to wait before asking again; `None` when that is no use.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { after, .. } => Some(*after),
            _ => None,
        }
    }

    /// Of two endpoints' failures, the one that decides: what may pass before what says more about
    /// the wish, before "not found".
    pub(super) fn worse(first: Option<Self>, second: Self) -> Self {
        let weight = |error: &Self| match error {
            Self::Unavailable { .. } => 3,
            Self::Broken(_) | Self::Setup(_) => 2,
            Self::Denied(_) => 1,
            Self::NotFound(_) => 0,
        };
        match first {
            Some(first) if weight(&first) > weight(&second) => first,
            _ => second,
        }
    }

    /// In the words of a blob source.
    pub(super) fn for_digest(self, digest: &Digest) -> FetchError {
        match self {
            Self::NotFound(_) => FetchError::NotFound(digest.clone()),
            Self::Denied(reason) => FetchError::Denied(reason),
            Self::Broken(reason) => FetchError::Broken(reason),
            Self::Setup(reason) | Self::Unavailable { reason, .. } => {
                FetchError::Unavailable(reason)
            }
        }
    }

    /// In the words of a resolver.
    pub(super) fn for_image(self, image: &ImageRef) -> ResolveError {
        let image = image.clone();
        match self {
            Self::NotFound(_) => ResolveError::NotFound { image },
            Self::Denied(reason) => ResolveError::Denied { image, reason },
            Self::Broken(reason) => ResolveError::Broken { image, reason },
            Self::Setup(reason) | Self::Unavailable { reason, .. } => {
                ResolveError::Unavailable { image, reason }
            }
        }
    }
}

impl From<ManifestError> for RegistryError {
    fn from(error: ManifestError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// An error with its causes: reqwest's own text leaves out the one that helps.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
