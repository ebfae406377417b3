//! Image records: made last, when all else is there; taken back while no container uses them.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::manifest::Manifest;
use crate::port::{RuntimeError, Show, Whole};
use crate::runtime::containerd::chain::{Image, Link};
use crate::runtime::containerd::content::NewBlob;
use crate::runtime::containerd::delivery::{Made, Shared, blocking, failed};
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::label::{self, Labels};
use crate::runtime::containerd::lease::{Collect, LeaseId};
use crate::runtime::containerd::pin::is_pin;
use crate::runtime::containerd::users::Users;
use crate::runtime::wire::images::Image as Record;
use crate::runtime::wire::types::Descriptor;

/// Our mark on records: the manifest that they were made for.
const OURS: &str = "dev.forelay/manifest";

/// Beside it: what we made them point at. A pull that points one elsewhere leaves our labels on it.
const TARGET: &str = "dev.forelay/target";

/// Puts everything into its place that a record leads to, and onto the disk.
pub(super) async fn prepare(
    shared: &Arc<Shared>,
    name: &ImageRef,
    manifest: &Digest,
) -> Result<(), RuntimeError> {
    let image = shared.learn(manifest).await?;
    let placed = shared.places.standing(shared, &image).await?;
    if let Some(missing) = image.links.get(placed) {
        return Err(incomplete(name, missing));
    }
    write_documents(shared, &image, name).await?;
    if !shared.sync {
        return Ok(());
    }
    let staging = shared.staging.clone();
    blocking(move || {
        // One file of the file system stands for all of it (syncfs(2)).
        let synced = File::open(&staging).and_then(|file| Ok(rustix::fs::syncfs(file)?));
        synced.map_err(|e| RuntimeError::Io(format!("cannot sync {}: {e}", staging.display())))
    })
    .await
}

/// Shows a prepared image: an index and its records, some milliseconds each. containerd itself brings
/// what its store and its database take onto the disk.
pub(super) async fn show(shared: &Arc<Shared>, whole: &Whole) -> Result<(), RuntimeError> {
    let image = shared.learn(&whole.digest).await?;
    if whole.show == Show::Warm || !shared.records {
        // An earlier run's record may say more than is allowed by now.
        let name = shared.records.then_some(&whole.image);
        return match withdraw(shared, &image.manifest, name).await {
            Ok(()) | Err(RuntimeError::InUse(_)) => Ok(()),
            Err(error) => Err(error),
        };
    }
    let turn = shared.places.turn().await;
    let placed = shared.places.placed(&image.manifest);
    if !shared.places.stands(shared, &image, placed).await? {
        // The record of another name has let it go, or the daemon was started anew.
        shared.places.hold(shared, &image, &turn).await?;
        write_documents(shared, &image, &whole.image).await?;
    }
    if let Some(missing) = image.links.get(shared.places.placed(&image.manifest)) {
        return Err(incomplete(&whole.image, missing));
    }
    let target = write_target(shared, &image, whole).await?;
    for (i, name) in names(&whole.image, &target.digest).iter().enumerate() {
        let made = Made {
            manifest: image.manifest.clone(),
            asked: (i == 0).then(|| whole.image.clone()),
        };
        create(shared, name, &target, made).await?;
    }
    shared.places.let_go(shared, &image.manifest, &turn).await
}

fn incomplete(image: &ImageRef, missing: &Link) -> RuntimeError {
    RuntimeError::Incomplete {
        image: image.clone(),
        missing: missing.layer.clone(),
    }
}

/// Config and manifest into the content store, each with the label that keeps what it names.
async fn write_documents(
    shared: &Shared,
    image: &Image,
    name: &ImageRef,
) -> Result<(), RuntimeError> {
    let config = stored(shared, &image.config).await?;
    let top = image.top().map_or_else(Labels::new, |top| {
        label::unpacked(shared.client.snapshotter(), top.as_str())
    });
    write(shared, image, name, (&image.config, config, top)).await?;
    let manifest = stored(shared, &image.manifest).await?;
    let layers = image.links.iter().map(|link| &link.layer);
    let kept = if shared.blobs.is_some() {
        label::parts(&image.config, layers)
    } else {
        label::children([&image.config])
    };
    write(shared, image, name, (&image.manifest, manifest, kept)).await
}

/// The index, if there is one, into the content store; the descriptor of what the name means.
async fn write_target(
    shared: &Shared,
    image: &Image,
    whole: &Whole,
) -> Result<Descriptor, RuntimeError> {
    if let Some(index) = &whole.index {
        let kept = label::children([&image.manifest]);
        let document = (&index.digest, index.bytes.clone(), kept);
        write(shared, image, &whole.image, document).await?;
        let (media_type, size) = (index.media_type.clone(), index.bytes.len());
        return Ok(descriptor(&index.digest, media_type, size));
    }
    let manifest = stored(shared, &image.manifest).await?;
    let media_type = Manifest::media_type(&manifest);
    Ok(descriptor(&image.manifest, media_type, manifest.len()))
}

/// One document of an image, held as long as its layers.
async fn write(
    shared: &Shared,
    image: &Image,
    name: &ImageRef,
    (digest, bytes, mut labels): (&Digest, Bytes, Labels),
) -> Result<(), RuntimeError> {
    labels.extend(label::from(name.registry(), name.repository()));
    let blob = NewBlob {
        digest: digest.clone(),
        size: bytes.len() as u64,
        labels,
    };
    let lease = lease(shared, image)?;
    let written = shared.client.write_blob(&lease, &blob, bytes).await;
    written.map_err(failed)
}

/// A name that somebody else gave to something else is left as it is: a pod that names the digest
/// finds ours, one that names the tag finds what it would have found without us.
async fn create(
    shared: &Shared,
    name: &str,
    target: &Descriptor,
    made: Made,
) -> Result<(), RuntimeError> {
    let labels = marks(&made.manifest, target);
    match shared
        .client
        .create_image(name, target.clone(), labels.clone())
        .await
    {
        Ok(()) => {
            shared.note_record(name, made);
            return Ok(());
        }
        Err(ContainerdError::Exists(_)) => {}
        Err(error) => return Err(failed(error)),
    }
    let Some(there) = shared.client.image(name).await.map_err(failed)? else {
        return Ok(());
    };
    if is_ours(&there) {
        let updated = shared
            .client
            .update_image(name, Some(target.clone()), labels);
        updated.await.map_err(failed)?;
        shared.note_record(name, made);
    } else if points_at(&there) != Some(target.digest.as_str()) {
        tracing::info!(
            name,
            there = points_at(&there),
            "somebody else's record is left as it is"
        );
    }
    Ok(())
}

/// Takes back the record of one name of a manifest, or those of all, and holds what they led to instead.
pub(super) async fn withdraw(
    shared: &Arc<Shared>,
    manifest: &Digest,
    name: Option<&ImageRef>,
) -> Result<(), RuntimeError> {
    let Some(image) = shared.images().get(manifest) else {
        return Ok(());
    };
    let turn = shared.places.turn().await;
    let records = ours(shared, manifest).await?;
    if records.is_empty() {
        return Ok(());
    }
    let (pins, records): (Vec<Record>, Vec<Record>) =
        records.into_iter().partition(|record| is_pin(&record.name));
    let users = Users::of(&shared.client, &image, &records).await;
    let users = users.map_err(failed)?;
    let (going, others): (Vec<Record>, Vec<Record>) = match name {
        Some(name) => going_with(shared, name, records),
        None => (records, Vec::new()),
    };
    let (kept, mut gone): (Vec<Record>, Vec<Record>) = going
        .into_iter()
        .partition(|record| users.keep(&record.name));
    let all = kept.is_empty() && others.is_empty();
    if all {
        shared.places.hold(shared, &image, &turn).await?;
    }
    // A pin is for what a plan foresees, and keeps nothing by itself.
    if all || name.is_none() {
        gone.extend(pins);
    }
    remove(shared, &image, gone).await?;
    // What names the digest may stay for others; it gets no older.
    let meant = |record: &Record| name.is_none_or(|name| record.name == recorded_as(name));
    if kept.iter().any(meant) {
        return Err(RuntimeError::InUse(manifest.clone()));
    }
    Ok(())
}

/// The record of a name, and that of its digest unless another tag of the repository leads there, or a
/// plan named the digest itself; and all others.
fn going_with(
    shared: &Shared,
    image: &ImageRef,
    records: Vec<Record>,
) -> (Vec<Record>, Vec<Record>) {
    let repository = format!("{}/{}", image.registry(), image.repository());
    let own = recorded_as(image);
    let of = |record: &Record, mark: char| {
        let rest = record.name.strip_prefix(&repository);
        rest.is_some_and(|rest| rest.starts_with(mark)) && record.name != own
    };
    let needed = records.iter().any(|record| of(record, ':'));
    let asked = |record: &Record| {
        let made = shared.made_record(&record.name);
        made.is_some_and(|made| made.asked.is_some())
    };
    records
        .into_iter()
        .partition(|record| record.name == own || of(record, '@') && !needed && !asked(record))
}

/// Gives up everything that only this manifest needs.
pub(super) async fn release(shared: &Arc<Shared>, manifest: &Digest) -> Result<(), RuntimeError> {
    let Some(image) = shared.images().get(manifest) else {
        return Ok(());
    };
    let turn = shared.places.turn().await;
    let mut records = ours(shared, manifest).await?;
    let users = Users::of(&shared.client, &image, &records).await;
    let users = users.map_err(failed)?;
    records.retain(|record| is_pin(&record.name) || !users.keep(&record.name));
    remove(shared, &image, records).await?;
    shared.images().forget(manifest);
    let needed = shared.images().blobs();
    let layers: BTreeSet<&Digest> = image.links.iter().map(|link| &link.layer).collect();
    for layer in layers {
        if !needed.contains(layer) {
            // Its claim is held until its tree is gone.
            let parked = shared.unpark(layer);
            let _claim = match parked {
                Some((claim, work)) => {
                    work.abandon().await;
                    Some(claim)
                }
                None => None,
            };
            shared.stage.drop_layer(layer)?;
            shared.store.remove(layer).await?;
            if let Some(blobs) = &shared.blobs {
                blobs.forget(layer);
            }
        }
    }
    for document in [&image.manifest, &image.config] {
        if !needed.contains(document) {
            shared.store.remove(document).await?;
        }
    }
    shared.places.let_go(shared, manifest, &turn).await
}

/// Our names of an image, and the one that CRI gave it because of them.
async fn remove(shared: &Shared, image: &Image, records: Vec<Record>) -> Result<(), RuntimeError> {
    let targets: BTreeSet<String> = records
        .iter()
        .filter_map(|record| Some(record.target.as_ref()?.digest.clone()))
        .collect();
    for record in records {
        // Taken back by us: nobody else's doing.
        shared.forget_record(&record.name);
        let deleted = shared
            .client
            .delete_image(&record.name, record.target, Collect::Later);
        deleted.await.map_err(failed)?;
    }
    for target in targets {
        let filter = format!("target.digest=={target}");
        let left = shared.client.images(&[filter]).await.map_err(failed)?;
        // The image ID is the config's digest: CRI's own record of what it saw.
        if let [only] = left.as_slice()
            && only.name == image.config.as_str()
        {
            let (name, target) = (only.name.clone(), only.target.clone());
            let deleted = shared.client.delete_image(&name, target, Collect::Later);
            deleted.await.map_err(failed)?;
        }
    }
    Ok(())
}

/// What holds an image on its way; none is left where it was released meanwhile.
fn lease(shared: &Shared, image: &Image) -> Result<LeaseId, RuntimeError> {
    let lease = shared.places.lease(&image.manifest);
    lease.ok_or_else(|| RuntimeError::Io(format!("{} was released meanwhile", image.manifest)))
}

/// Names of all records that we made, and that are as we made them.
pub(super) async fn all_ours(shared: &Shared) -> Result<BTreeSet<String>, RuntimeError> {
    let filter = format!("labels.\"{OURS}\"");
    let records = shared.client.images(&[filter]).await.map_err(failed)?;
    let ours = records.into_iter().filter(is_ours);
    Ok(ours.map(|record| record.name).collect())
}

/// Our labels of a record.
pub(super) fn marks(manifest: &Digest, target: &Descriptor) -> Labels {
    Labels::from([
        (OURS.to_owned(), manifest.to_string()),
        (TARGET.to_owned(), target.digest.clone()),
    ])
}

/// Records that were made for a manifest, its pin among them.
pub(super) async fn ours(shared: &Shared, manifest: &Digest) -> Result<Vec<Record>, RuntimeError> {
    let filter = format!("labels.\"{OURS}\"=={manifest}");
    let mut records = shared.client.images(&[filter]).await.map_err(failed)?;
    records.retain(is_ours);
    Ok(records)
}

/// Made by us for a plan that has not given the image up: it goes when that does, unless a container uses it.
pub(super) fn goes_with_plan(shared: &Shared, record: &Record) -> bool {
    let made_for = record.labels.get(OURS);
    let made_for = made_for.and_then(|manifest| manifest.parse().ok());
    let is_planned = |manifest: Digest| shared.images().get(&manifest).is_some();
    is_ours(record) && made_for.is_some_and(is_planned)
}

/// Made by us, and as we made it.
fn is_ours(record: &Record) -> bool {
    let target = record.labels.get(TARGET).map(String::as_str);
    record.labels.contains_key(OURS)
        && target.is_none_or(|target| points_at(record) == Some(target))
}

async fn stored(shared: &Shared, digest: &Digest) -> Result<Bytes, RuntimeError> {
    let bytes = shared.store.read(digest).await?;
    bytes.ok_or_else(|| RuntimeError::Io(format!("{digest} is not in the store any more")))
}

/// As CRI normalises names: a digest takes the tag's place; a tag has the digest's name beside it, by
/// which the kubelet tells what it has.
fn names(image: &ImageRef, target: &str) -> Vec<String> {
    let by_digest = format!("{}/{}@{target}", image.registry(), image.repository());
    let own = recorded_as(image);
    let other = (by_digest != own).then_some(by_digest);
    [own].into_iter().chain(other).collect()
}

/// The record of this very name.
pub(super) fn recorded_as(image: &ImageRef) -> String {
    match image.digest() {
        Some(digest) => format!("{}/{}@{digest}", image.registry(), image.repository()),
        None => image.to_string(),
    }
}

fn descriptor(digest: &Digest, media_type: String, size: usize) -> Descriptor {
    Descriptor {
        media_type,
        digest: digest.to_string(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..Descriptor::default()
    }
}

fn points_at(record: &Record) -> Option<&str> {
    record.target.as_ref().map(|target| target.digest.as_str())
}
