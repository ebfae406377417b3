//! Has the runtime pull an image, and looks whether it is the planned one that came.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::image::Digest;
use crate::port::{RuntimeError, Show, Whole};
use crate::runtime::cri::names::{Step, exact, find, has, holder, is_id, name, step, uses};
use crate::runtime::cri::remove::{Removed, is_pulled_by, take_back};
use crate::runtime::cri::runtime::{Shared, failed};
use crate::runtime::wire::cri::Image;

/// Longest pull: 20 GiB at 50 Mbit/s take an hour. One that stands still is ended by containerd itself
/// (`image_pull_progress_timeout`), and by whoever drops the call.
const LONGEST: Duration = Duration::from_hours(2);

/// A pull that ended, and what was there before it.
struct Came {
    manifest: Digest,
    config: Digest,
    /// What was asked for.
    reference: String,
    before: Vec<Image>,
}

/// Makes an image usable under its name. Dropping the future stops the runtime's pull.
///
/// The tag is pulled, not the digest: pods name it, and what the registry means by it now is never older than
/// what they would get without us. That the planned image came is looked at afterwards.
pub(super) async fn record(shared: &Arc<Shared>, whole: &Whole) -> Result<(), RuntimeError> {
    let config = shared.learn(&whole.digest).await?;
    if whole.show == Show::Warm {
        return hide(shared, whole, &config).await;
    }
    let _turn = shared.turn.acquire().await.expect("nobody closes it");
    let before = shared.images().await?;
    let name = name(&whole.image);
    let target = whole.index.as_ref().map(|index| &index.digest);
    let exact = exact(&whole.image, target.unwrap_or(&whole.digest));
    let next = {
        let ledger = shared.ledger.lock().await;
        let is_ours = |image: &Image| ledger.has_config(|config| is_id(&image.id, config));
        step(&before, &config, (&name, &exact), is_ours)
    };
    let Step::Pull(reference) = next else {
        return Ok(());
    };
    let parts = shared.parts(&whole.digest).await?;
    let layers = parts.layers.iter().map(|layer| &layer.digest);
    let blobs = layers.chain(target).chain([&whole.digest, &config]);
    let asking = shared.asked.begin(blobs.cloned().collect());
    // No credentials: only what everybody may read is recorded.
    let pulled = shared.cri.pull(&reference, None, LONGEST).await;
    drop(asking);
    pulled.map_err(|e| failed(&e))?;
    let came = Came {
        manifest: whole.digest.clone(),
        config,
        reference,
        before,
    };
    // A task of its own: what has come is noted even when whoever waits for it is gone.
    let noted = tokio::spawn(note(shared.clone(), came));
    let ended = |e| RuntimeError::Io(format!("the look at a pulled image was ended: {e}"));
    noted.await.map_err(ended)?
}

/// Notes an image that came as ours, unless it was there before; one that was not planned is taken back.
async fn note(shared: Arc<Shared>, came: Came) -> Result<(), RuntimeError> {
    let mut ledger = shared.ledger.lock().await;
    let now = shared.images().await?;
    let planned = find(&now, &came.config);
    // CRI-O may list a digest in other words than it was asked for.
    let named = |image: &&Image| has(image, &came.reference) || came.reference.contains('@');
    if planned.is_some_and(|image| named(&image)) {
        let is_new = find(&came.before, &came.config).is_none();
        let (manifest, config) = (&came.manifest, &came.config);
        // One image may be planned by two manifests: of one config are the same files.
        if is_new || ledger.has_config(|ours| ours == config) {
            ledger.note(manifest, config, &came.reference).await;
        }
        return Ok(());
    }
    let Came { reference, .. } = &came;
    let Some(other) = holder(&now, reference) else {
        return Err(RuntimeError::Io(format!(
            "{reference} was pulled and is not there: somebody removed it at once"
        )));
    };
    let was_there = came.before.iter().any(|image| image.id == other.id);
    let containers = shared.cri.containers().await.map_err(|e| failed(&e))?;
    let is_used = containers.iter().any(|container| uses(container, other));
    let what = if was_there || is_used || other.pinned {
        "stays"
    } else {
        // Nobody would ask again what its tag means.
        shared.cri.remove(&other.id).await.map_err(|e| failed(&e))?;
        "is taken back"
    };
    Err(RuntimeError::Io(format!(
        "{reference} moved while it was pulled: {} came, not what was planned, and {what}",
        other.id
    )))
}

/// What must not be shown is not pulled; what an earlier run had pulled is taken back.
async fn hide(shared: &Arc<Shared>, whole: &Whole, config: &Digest) -> Result<(), RuntimeError> {
    let taken = if is_pulled_by(shared, &whole.digest, &whole.image).await {
        take_back(shared, &whole.digest).await?
    } else {
        Removed::NotOurs
    };
    let images = shared.images().await?;
    // Somebody else's, or in use: a kubelet that asks the registry moves no layer.
    if taken != Removed::Yes && find(&images, config).is_some() {
        return Ok(());
    }
    Err(RuntimeError::Incomplete {
        image: whole.image.clone(),
        missing: whole.digest.clone(),
    })
}
