//! The model file, followed: a good one replaces the old, a bad one is refused with its reason.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::model::{ReadError, Text, built_in, text};
use crate::controller::metric::Instruments;
use crate::forecast::model::{Model, ModelFile};

/// Time between two looks at a model file. It is read whole each time: a ConfigMap's mount swaps a
/// symbolic link, which changes neither the path nor, for certain, the time of change.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// A file that is looked at again and again.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Where it is.
    pub path: PathBuf,
    /// Time between two looks.
    pub interval: Duration,
}

/// Parameters, and which file they are of.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The parameters.
    pub model: Model,
    /// First digits of the file's SHA-256.
    pub digest: String,
}

impl InForce {
    /// What a controller starts with, before its file has been looked at again.
    #[must_use]
    pub fn at_start(model: Model) -> Self {
        let digest = built_in();
        Self { model, digest }
    }
}

/// Looks for ever; whatever was refused is said once, and looked at again when it has changed.
pub async fn follow(file: Followed, instruments: Instruments, models: watch::Sender<InForce>) {
    let mut seen: Option<Result<String, String>> = None;
    loop {
        let path = file.path.clone();
        let looked = spawn_blocking(move || text(&path)).await;
        let looked = looked.unwrap_or_else(|e| Err(ReadError::Io(e.into())));
        let now = match &looked {
            Ok(found) => Ok(found.digest.clone()),
            Err(reason) => Err(reason.to_string()),
        };
        if seen.as_ref() != Some(&now) {
            let first = seen.is_none();
            match looked.and_then(parsed) {
                Ok(new) if first && new.model == models.borrow().model => {
                    models.send_replace(new);
                }
                Ok(new) => {
                    let (path, digest) = (file.path.display(), &new.digest);
                    info!(%path, digest, "another model is in force");
                    instruments.model_taken();
                    models.send_replace(new);
                }
                Err(reason) => {
                    let path = file.path.display();
                    warn!(%path, %reason, "model refused: the one before stays in force");
                    instruments.model_refused();
                }
            }
            seen = Some(now);
        }
        sleep(file.interval).await;
    }
}

fn parsed(found: Text) -> Result<InForce, ReadError> {
    let file = ModelFile::parse(&found.text)?;
    Ok(InForce {
        model: file.model,
        digest: found.digest,
    })
}
