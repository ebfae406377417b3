//! The recipe by hand: an image put into containerd without a pull, unpacked by plain `tar`.

use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use forelay::domain::image::Digest;
use forelay::runtime::containerd::label::{self, Labels, SNAPSHOT_REF};
use forelay::runtime::containerd::{Client, ContainerdError, LeaseId, NewBlob};
use forelay::runtime::wire::types::Descriptor;

use crate::image::{Image, Layer, OCI_INDEX};
use crate::registry::sha256;

/// Snapshots, config, manifest and index of an image, held by the lease; no record yet.
pub async fn place(client: &Client, lease: &LeaseId, stage: &Path, image: &Image) {
    let mut parent: Option<String> = None;
    for (layer, chain) in image.layers.iter().zip(image.chain_ids()) {
        snapshot(client, lease, stage, (layer, &chain, parent.as_deref())).await;
        parent = Some(chain);
    }
    let top = label::unpacked(client.snapshotter(), &parent.unwrap());
    write(client, lease, &image.config, top).await;
    // Layers' blobs are not put there: what leads to nothing needs no label.
    let parts = label::children([&sha256(&image.config)]);
    write(client, lease, &image.manifest, parts).await;
    let parts = label::children([&sha256(&image.manifest)]);
    write(client, lease, &image.index, parts).await;
}

/// What an image record points at.
pub fn target(image: &Image) -> Descriptor {
    Descriptor {
        media_type: OCI_INDEX.to_owned(),
        digest: sha256(&image.index).to_string(),
        size: image.index.len() as i64,
        ..Descriptor::default()
    }
}

/// Makes records of an image: `name` by tag, and by the index's digest.
pub async fn record(client: &Client, repository: &str, tag: &str, image: &Image) {
    let digest = sha256(&image.index);
    for name in [
        format!("{repository}:{tag}"),
        format!("{repository}@{digest}"),
    ] {
        client
            .create_image(&name, target(image), Labels::new())
            .await
            .unwrap();
    }
}

async fn snapshot(
    client: &Client,
    lease: &LeaseId,
    stage: &Path,
    (layer, chain, parent): (&Layer, &str, Option<&str>),
) {
    if client.hold_snapshot(lease, chain).await.unwrap() {
        return;
    }
    let staged = tempfile::tempdir_in(stage).unwrap().keep();
    untar(&layer.tar, &staged);
    let key = format!("extract-{} {chain}", staged.file_name().unwrap().display());
    let labels = Labels::from([(SNAPSHOT_REF.to_owned(), chain.to_owned())]);
    let mounts = client
        .prepare(lease, &key, parent, labels.clone())
        .await
        .unwrap();
    std::fs::rename(&staged, mounts.overlay().unwrap().upper).unwrap();
    match client.commit(lease, chain, &key, labels).await {
        Ok(()) => {}
        Err(ContainerdError::Exists(_)) => {
            assert!(client.hold_snapshot(lease, chain).await.unwrap());
            assert!(client.remove_snapshot(&key).await.unwrap());
        }
        Err(error) => panic!("{error}"),
    }
}

async fn write(client: &Client, lease: &LeaseId, bytes: &Bytes, labels: Labels) {
    client
        .write_blob(lease, &blob(sha256(bytes), bytes, labels), bytes.clone())
        .await
        .unwrap();
}

pub fn blob(digest: Digest, bytes: &Bytes, labels: Labels) -> NewBlob {
    NewBlob {
        digest,
        size: bytes.len() as u64,
        labels,
    }
}

fn untar(tar: &Bytes, into: &Path) {
    let mut child = Command::new("tar")
        // Without these, tar changes directories once more after it has set their times: placeholders of links
        // that lead upwards become links at the very end.
        .args(["--extract", "--absolute-names", "--delay-directory-restore"])
        .args(["--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*"])
        .arg("--directory")
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("tar: {e}; apt-get install tar"));
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, tar).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    // The root of a layer is its own: tar leaves the temporary folder's mode.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(into, mode).unwrap();
}
