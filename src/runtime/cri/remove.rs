//! Gives images back that were pulled for us, and nobody else's.

use std::sync::Arc;

use crate::domain::image::{Digest, ImageRef};
use crate::port::RuntimeError;
use crate::runtime::cri::names::{self, Standing, standing};
use crate::runtime::cri::runtime::{Shared, failed};

/// What became of an image that was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// It is gone, with all its names and whatever only it needed.
    Yes,
    /// It was not there, or never ours.
    NotOurs,
    /// A container was made from it.
    Used,
    /// Somebody else relies on it, in words.
    Shared(String),
}

/// Takes a name back that may lead to something old by and by. CRI can do that only with the whole image, so
/// a name that is a digest stays until its image is released: it cannot mislead.
pub(super) async fn withdraw(
    shared: &Arc<Shared>,
    manifest: &Digest,
    name: Option<&ImageRef>,
) -> Result<(), RuntimeError> {
    if let Some(name) = name
        && !is_pulled_by(shared, manifest, name).await
    {
        return Ok(());
    }
    let only_exact = {
        let ledger = shared.ledger.lock().await;
        let names = ledger.get(manifest).map(|pulled| pulled.names.as_slice());
        names.is_none_or(|names| names.iter().all(|name| name.contains('@')))
    };
    if only_exact {
        return Ok(());
    }
    match take_back(shared, manifest).await? {
        Removed::Yes | Removed::NotOurs => Ok(()),
        Removed::Used => Err(RuntimeError::InUse(manifest.clone())),
        Removed::Shared(why) => Err(RuntimeError::Io(format!(
            "{manifest} cannot lose one name alone through CRI, and {why}: it stays"
        ))),
    }
}

/// Whether an image is ours by this name: by another one it says nothing of this one.
pub(super) async fn is_pulled_by(shared: &Shared, manifest: &Digest, name: &ImageRef) -> bool {
    let reference = names::name(name);
    let ledger = shared.ledger.lock().await;
    let pulled = ledger.get(manifest);
    pulled.is_some_and(|pulled| pulled.names.contains(&reference))
}

/// Gives up an image and its documents. One that is used, or that others rely on, is the kubelet's to remove
/// from now on.
pub(super) async fn release(shared: &Arc<Shared>, manifest: &Digest) -> Result<(), RuntimeError> {
    let taken = take_back(shared, manifest).await?;
    if matches!(taken, Removed::Used | Removed::Shared(_)) {
        tracing::debug!(%manifest, ?taken, "left to the kubelet");
        shared.ledger.lock().await.strike(manifest).await;
    }
    shared.forget(manifest).await
}

/// Removes an image if it is ours alone.
///
/// Between the look and the removal a kubelet may find the image and make a container of it: it then pulls
/// again, as after its own collection of images, which has the same gap.
pub(super) async fn take_back(
    shared: &Arc<Shared>,
    manifest: &Digest,
) -> Result<Removed, RuntimeError> {
    let mut ledger = shared.ledger.lock().await;
    let Some(pulled) = ledger.get(manifest).cloned() else {
        return Ok(Removed::NotOurs);
    };
    let images = shared.images().await?;
    let containers = shared.cri.containers().await.map_err(|e| failed(&e))?;
    match standing(&images, &containers, &pulled) {
        Standing::Gone => {
            ledger.strike(manifest).await;
            Ok(Removed::NotOurs)
        }
        Standing::Used => Ok(Removed::Used),
        Standing::Shared(why) => Ok(Removed::Shared(why)),
        Standing::Ours(image) => {
            // Struck first: a crash in between leaves an image to the kubelet, not another's to us.
            ledger.strike(manifest).await;
            if let Err(error) = shared.cri.remove(&image.id).await {
                ledger.restore(manifest, pulled).await;
                return Err(failed(&error));
            }
            Ok(Removed::Yes)
        }
    }
}
