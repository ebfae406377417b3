//! Images that the runtime brings itself, whole: to the engine each of them is one blob.

use tokio_util::sync::CancellationToken;

use crate::agent::pull::{Moved, Order, PullError};
use crate::agent::show::{ShowError, Shower};
use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use crate::port::{ContainerRuntime, RuntimeError, Show};

/// Who brought what travelled, in signals and metrics.
const FROM: &str = "runtime";

/// What is said of an image meanwhile.
pub(super) const UNDER_WAY: &str = "the runtime pulls it whole, and does not tell how far it is";

/// The image as one blob that has its manifest's digest: so it is counted against the budget, waits for its
/// turn, gives way and is given up like any other. Layers that another image has count again: which are there
/// the runtime does not tell.
pub(super) fn as_one(manifest: ImageManifest) -> ImageManifest {
    let unpacked = manifest.layers.iter().map(|layer| layer.unpacked);
    let one = Layer {
        digest: manifest.digest.clone(),
        size: manifest.size(),
        unpacked: unpacked.sum(),
    };
    ImageManifest {
        layers: vec![one],
        ..manifest
    }
}

/// Has the runtime bring an image, if it may be shown to all pods. Stopping stops the runtime.
pub(super) async fn bring(
    runtime: &dyn ContainerRuntime,
    shower: &Shower,
    order: &Order,
    stop: &CancellationToken,
) -> (Moved, Result<(), PullError>) {
    let brought = tokio::select! {
        shown = show(runtime, shower, (&order.image, &order.digest), order.platform.as_ref()) => {
            shown.map(drop)
        }
        () = stop.cancelled() => Err(PullError::Stopped),
    };
    let moved = match &brought {
        // How many of them were there already nobody tells.
        Ok(()) => Moved {
            bytes: order.size.0,
            from: Some(FROM),
        },
        Err(_) => Moved::default(),
    };
    (moved, brought)
}

/// Shows an image to pods, where it may be. A registry that is silent says nothing against an image that is
/// there: it stays as it is.
pub(super) async fn show(
    runtime: &dyn ContainerRuntime,
    shower: &Shower,
    (image, digest): (&ImageRef, &Digest),
    platform: Option<&Platform>,
) -> Result<Show, PullError> {
    let (whole, doubt) = shower.whole(image, digest, platform).await;
    if let Err(doubt) = doubt {
        if doubt.is_lasting() {
            match runtime.withdraw(digest, Some(image)).await {
                Ok(()) | Err(RuntimeError::InUse(_)) => {}
                Err(error) => {
                    tracing::warn!(%image, %digest, %error, "a wrong record stays for now");
                }
            }
        }
        return Err(doubt.into());
    }
    match runtime.record(&whole).await {
        Ok(()) => Ok(whole.show),
        Err(RuntimeError::Incomplete { .. }) if whole.show == Show::Warm => {
            Err(ShowError::Hidden {
                image: image.clone(),
                why: shower.why_warm(image),
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::ByteSize;

    #[test]
    fn an_image_as_one_blob_has_the_bytes_of_all() {
        let layer = |salt: u8, unpacked: Option<u64>| Layer {
            digest: Digest::from_sha256(&[salt; 32]),
            size: ByteSize(10),
            unpacked: unpacked.map(ByteSize),
        };
        let image = |last| ImageManifest {
            digest: Digest::from_sha256(&[9; 32]),
            platform: Platform::linux("amd64"),
            layers: vec![layer(1, Some(30)), layer(2, last)],
        };
        let one = as_one(image(Some(5)));
        let [blob] = &one.layers[..] else {
            panic!("{one:?}");
        };
        assert_eq!((&blob.digest, blob.size), (&one.digest, ByteSize(20)));
        assert_eq!(blob.unpacked, Some(ByteSize(35)));
        assert_eq!(as_one(image(None)).layers[0].unpacked, None);
    }
}
