//! What CRI tells of a runtime: its version, where its images are, and how much may be added there.

use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use crate::port::RuntimeError;
use crate::runtime::cri::runtime::failed;
use crate::runtime::cri::{Cri, CriError};
use crate::runtime::room::Space;

/// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h).
const OVERLAY: u64 = 0x794c_7630;

/// A runtime, as its CRI socket tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `containerd`, `cri-o`.
    pub runtime: String,
    /// As it writes it.
    pub version: String,
    /// Where its images are, as it sees it.
    pub folder: Option<PathBuf>,
    /// Room of the file system they are on; `None` where nothing here is on it.
    pub space: Option<Space>,
}

/// Looks at the runtime on `socket`.
///
/// # Errors
/// [`CriError`] when nobody serves CRI there.
pub async fn look(socket: &Path) -> Result<Found, CriError> {
    let cri = Cri::connect(socket).await?;
    let version = cri.version().await?;
    let images = cri.file_systems().await?.into_iter().next();
    let id = images.as_ref().and_then(|images| images.fs_id.clone());
    Ok(Found {
        runtime: version.runtime_name,
        version: version.runtime_version,
        folder: id.map(|id| PathBuf::from(id.mountpoint)),
        space: space(&cri).await.ok().flatten(),
    })
}

/// Room where the runtime keeps its images. CRI tells what is used and not what there is: the disk has to be
/// seen from here.
pub(super) async fn space(cri: &Cri) -> Result<Option<Space>, RuntimeError> {
    let images = cri.file_systems().await.map_err(|e| failed(&e))?;
    let Some(images) = images.into_iter().next() else {
        return Ok(None);
    };
    let used = images.used_bytes.map_or(0, |used| used.value);
    let folder = images.fs_id.map(|id| PathBuf::from(id.mountpoint));
    let seen = folder.filter(|folder| folder.is_dir());
    // A container's own root is an overlay whose upper directory this runtime keeps beside its images, and
    // `statfs` of an overlay tells of the upper directory's disk.
    let own = || is_overlay(Path::new("/")).then(|| PathBuf::from("/"));
    let Some(path) = seen.or_else(own) else {
        return Ok(None);
    };
    let space = Space::of(&path)?;
    // A disk that holds less than the images do is another one.
    let holds = space.bytes.saturating_sub(space.bytes_free) >= used;
    Ok(holds.then_some(space))
}

fn is_overlay(path: &Path) -> bool {
    statfs(path).is_ok_and(|told| told.f_type as u64 == OVERLAY)
}
