//! Pins: the kubelet's collector passes over an image until a time that containerd itself keeps.
//!
//! CRI calls an image pinned while one of its records has a label for it (since v1.6.22 and v1.7.3). That
//! label has no end: an agent that is gone for good would keep an image on a full disk for ever. Leases have an
//! end, but CRI does not ask them, and layers that only a lease keeps would be counted as freed by a
//! kubelet that took the record away: it would evict pods next. So a pin is a record of its own, with the label
//! and with an expiry. containerd collects records that have expired since v2.0 (`isExpiredImage` in
//! core/metadata/gc.go) and says so to CRI, which forgets the pin; with older daemons there are no pins.

use std::sync::Arc;

use crate::domain::image::Digest;
use crate::domain::time::Timestamp;
use crate::port::{PIN_LONGEST, RuntimeError};
use crate::runtime::containerd::client::Client;
use crate::runtime::containerd::delivery::{Shared, failed};
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::label::{CRI_PINNED, EXPIRE};
use crate::runtime::containerd::lease::Collect;
use crate::runtime::containerd::record;

/// Begins the names of pins, which are no names of images: no tag, no digest, so that CRI tells the kubelet
/// nothing of them.
const PIN: &str = "dev.forelay/pin/";

/// Whether this is the name of a pin.
pub(super) fn is_pin(name: &str) -> bool {
    name.starts_with(PIN)
}

/// Whether the daemon ends pins by itself.
pub(super) async fn end_by_themselves(client: &Client) -> Result<bool, ContainerdError> {
    let version = client.version().await?.version;
    // `v2.3.4`, `1.6.20~ds1`: a version that cannot be read is none that we know.
    let major = version.trim_start_matches('v').split('.').next();
    let major = major.and_then(|major| major.parse::<u32>().ok());
    Ok(major.is_some_and(|major| major >= 2))
}

/// Pins what is recorded for a manifest, or moves the end of its pin; nothing where nothing is recorded.
pub(super) async fn pin(
    shared: &Arc<Shared>,
    manifest: &Digest,
    until: Timestamp,
) -> Result<(), RuntimeError> {
    if !shared.pins || shared.images().get(manifest).is_none() {
        return Ok(());
    }
    let _turn = shared.places.turn().await;
    let records = record::ours(shared, manifest).await?;
    let recorded = records.into_iter().find(|record| !is_pin(&record.name));
    let Some(target) = recorded.and_then(|record| record.target) else {
        return Ok(());
    };
    let until = until.min(shared.clock.now() + PIN_LONGEST);
    let mut labels = record::marks(manifest, &target);
    labels.insert(CRI_PINNED.to_owned(), "pinned".to_owned());
    labels.insert(EXPIRE.to_owned(), until.to_string());
    let (client, name) = (&shared.client, format!("{PIN}{}", manifest.hex()));
    let made = client.create_image(&name, target.clone(), labels.clone());
    match made.await {
        Err(ContainerdError::Exists(_)) => {
            let moved = client.update_image(&name, Some(target), labels);
            moved.await.map_err(failed)
        }
        made => made.map_err(failed),
    }
}

/// Ends the pins of earlier runs: what is still foreseen is pinned again.
pub(super) async fn sweep(shared: &Shared) -> Result<(), RuntimeError> {
    let ours = record::all_ours(shared).await?;
    for name in ours.iter().filter(|name| is_pin(name)) {
        let deleted = shared.client.delete_image(name, None, Collect::Later);
        deleted.await.map_err(failed)?;
    }
    Ok(())
}
