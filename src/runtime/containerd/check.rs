//! What is found on a node: which containerd, which snapshotter, and what of it we can reach.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::Deserialize;

use crate::runtime::containerd::client::{Client, SNAPSHOTTER};
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::cri::{Cri, CriError};
pub use crate::runtime::room::Space;
use crate::runtime::wire::introspection::Plugin;

/// Types of plugins (`plugins/types.go`).
const SNAPSHOTTER_TYPE: &str = "io.containerd.snapshotter.v1";
const VERIFIER_TYPE: &str = "io.containerd.image-verifier.v1";

/// Where containerd 2.x looks for image verifiers when nobody says otherwise
/// (`plugins/imageverifier/path_unix.go`); what else is configured cannot be asked for.
pub const VERIFIERS: &str = "/opt/containerd/image-verifier/bin";

/// Names under which lazy snapshotters are registered by their own documentation, and what they are.
const LAZY: [(&str, &str); 6] = [
    ("soci", "SOCI (AWS)"),
    ("stargz", "stargz (eStargz)"),
    ("nydus", "Nydus"),
    ("overlaybd", "overlaybd (AKS artifact streaming)"),
    ("gcfs", "Riptide (GKE image streaming)"),
    ("cvmfs-snapshotter", "CernVM-FS"),
];

/// A node's runtime, as its sockets tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `1.6.20`, as containerd writes it.
    pub version: String,
    /// Which snapshotter CRI unpacks into; `None` when no plugin has the folder that CRI names.
    pub snapshotter: Option<String>,
    /// That snapshotter's folder, as the daemon sees it.
    pub root: Option<PathBuf>,
    /// What we see of that folder; `None` when it is not mounted here at the same path.
    pub space: Option<Space>,
    /// Snapshotters that fetch files when they are read, registered and started ones only; we leave their images alone.
    pub lazy: Vec<Lazy>,
    /// Folders that `hosts.toml` files are read from, the first one that has a registry's being used; empty when
    /// none is configured, `None` when the daemon does not tell: 2.x keeps this to itself.
    pub config_paths: Option<Vec<PathBuf>>,
    /// Whether layers' blobs go once they are unpacked; `None` when the daemon does not tell.
    pub discards_layers: Option<bool>,
    /// Something judges images before they are used: then no record may be made past it.
    pub verifies: bool,
}

/// A lazy snapshotter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lazy {
    /// As the plugin is called.
    pub id: String,
    /// As people call it.
    pub name: &'static str,
    /// Whether CRI unpacks into it.
    pub in_use: bool,
}

/// What of CRI's configuration we read: 1.6 and 1.7 tell all of it, 2.x only what concerns containers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    registry: Option<Registry>,
    containerd: Option<Unpacking>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Registry {
    config_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Unpacking {
    snapshotter: String,
    discard_unpacked_layers: Option<bool>,
}

/// What keeps an agent from putting layers beside the snapshotter's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The snapshotter in use is a lazy one.
    #[error("{0} fetches files when they are read")]
    Lazy(&'static str),
    /// Nobody says which is in use, and a lazy one is there.
    #[error("it is not told which snapshotter CRI uses, and {0} is there")]
    MaybeLazy(&'static str),
    /// Nobody says which is in use.
    #[error("CRI's snapshotter is none that containerd lists")]
    Unknown,
    /// It is another one.
    #[error("the snapshotter is {0}, not overlayfs")]
    Foreign(String),
    /// Its folder is not here.
    #[error("{} is not mounted here at the same path", .0.as_deref().unwrap_or(Path::new("the snapshotter's folder")).display())]
    Unseen(Option<PathBuf>),
    /// Trees cannot be renamed from there.
    #[error("{} is on another mount than the snapshots", .0.display())]
    Apart(PathBuf),
}

/// A node that cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// containerd's own API.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// CRI on the same socket.
    #[error(transparent)]
    Cri(#[from] CriError),
}

/// Looks at the runtime on `socket`.
///
/// # Errors
/// [`CheckError`] when it cannot be asked, or does not serve CRI.
pub async fn look(socket: &Path) -> Result<Found, CheckError> {
    let client = Client::connect(socket).await?;
    let cri = Cri::connect(socket).await?;
    let version = client.version().await?.version;
    let plugins = client.plugins().await?;
    let status = cri.status().await?;
    let config = status.info.get("config").map(String::as_str);
    let file_systems = cri.file_systems().await?;
    let folder = file_systems.into_iter().find_map(|fs| fs.fs_id);
    let folder = folder.map(|id| PathBuf::from(id.mountpoint));
    let mut found = read(&plugins, config.unwrap_or_default(), folder.as_deref());
    found.version = version;
    found.space = found.root.as_deref().and_then(space);
    found.verifies = verifies(&plugins, Path::new(VERIFIERS));
    Ok(found)
}

/// What plugins, CRI's configuration and the folder of its images say together.
fn read(plugins: &[Plugin], config: &str, folder: Option<&Path>) -> Found {
    let config: Config = serde_json::from_str(config).unwrap_or_default();
    let snapshotters = plugins
        .iter()
        .filter(|plugin| plugin.r#type == SNAPSHOTTER_TYPE && plugin.init_err.is_none());
    let told = config.containerd.as_ref().map(|c| c.snapshotter.as_str());
    let told = told.filter(|name| !name.is_empty());
    // 2.x does not tell the name, and every version tells the folder.
    let in_use = snapshotters.clone().find(|plugin| match told {
        Some(name) => plugin.id == name,
        None => folder.is_some() && root(plugin).as_deref() == folder,
    });
    let snapshotter = in_use.map(|plugin| plugin.id.clone());
    let lazy = LAZY.iter().filter_map(|(id, name)| {
        let plugin = snapshotters.clone().find(|plugin| plugin.id == *id)?;
        Some(Lazy {
            id: plugin.id.clone(),
            name,
            in_use: snapshotter.as_deref() == Some(id),
        })
    });
    let lazy = lazy.collect();
    let config_paths = config.registry.map(|registry| {
        let paths = registry.config_path.split(':');
        let paths = paths.filter(|path| !path.is_empty());
        paths.map(PathBuf::from).collect()
    });
    Found {
        version: String::new(),
        root: in_use.and_then(root),
        snapshotter,
        space: None,
        lazy,
        config_paths,
        discards_layers: config.containerd.and_then(|c| c.discard_unpacked_layers),
        verifies: false,
    }
}

fn root(plugin: &Plugin) -> Option<PathBuf> {
    plugin.exports.get("root").map(PathBuf::from)
}

/// Whether a verifier judges images: containerd's own one where it has programs to ask, or another.
fn verifies(plugins: &[Plugin], programs: &Path) -> bool {
    let mut verifiers = plugins
        .iter()
        .filter(|plugin| plugin.r#type == VERIFIER_TYPE && plugin.init_err.is_none());
    verifiers.any(|plugin| {
        plugin.id != "bindir"
            || fs::read_dir(programs).is_ok_and(|mut found| found.next().is_some())
    })
}

/// The room of a snapshotter's folder, if what is here at its path is that folder.
fn space(root: &Path) -> Option<Space> {
    // The snapshotter makes this at its start: an empty folder may be here by chance.
    if !root.join("snapshots").is_dir() {
        return None;
    }
    Space::of(root).ok()
}

// === impl Found ===

impl Found {
    /// Why layers cannot be put beside this snapshotter's by renaming; `None` when they can.
    pub fn obstacle(&self) -> Option<Obstacle> {
        if let Some(lazy) = self.lazy.iter().find(|lazy| lazy.in_use) {
            return Some(Obstacle::Lazy(lazy.name));
        }
        let Some(snapshotter) = &self.snapshotter else {
            // A proxied snapshotter tells no folder by which it could be known.
            let maybe = self.lazy.first().map(|lazy| lazy.name);
            return Some(maybe.map_or(Obstacle::Unknown, Obstacle::MaybeLazy));
        };
        if snapshotter != SNAPSHOTTER {
            return Some(Obstacle::Foreign(snapshotter.clone()));
        }
        match (&self.root, &self.space) {
            (Some(_), Some(_)) => None,
            (root, _) => Some(Obstacle::Unseen(root.clone())),
        }
    }

    /// Whether `staging`, or what stands nearest above it, is on another mount than the snapshots: nothing can
    /// be renamed across, be it one file system (rename(2), EXDEV). A kernel before 5.8 does not tell.
    pub fn is_apart(&self, staging: Option<&Path>) -> Option<Obstacle> {
        let root = self.root.as_deref()?;
        let staging = staging.or(root.parent())?;
        let stands = staging.ancestors().find(|path| path.exists())?;
        (mount(root)? != mount(stands)?).then(|| Obstacle::Apart(staging.to_owned()))
    }
}

fn mount(path: &Path) -> Option<u64> {
    let told = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let knows = told.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    knows.then_some(told.stx_mnt_id)
}

// === impl Obstacle ===

impl Obstacle {
    /// Whether the runtime may be asked to pull images itself instead: not where it fetches files only when
    /// they are read.
    pub fn permits_pulls(&self) -> bool {
        !matches!(self, Self::Lazy(_) | Self::MaybeLazy(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wire::introspection::RpcStatus;

    fn plugin(kind: &str, id: &str, root: &str) -> Plugin {
        let exports = [("root".to_owned(), root.to_owned())];
        Plugin {
            r#type: kind.to_owned(),
            id: id.to_owned(),
            exports: exports.into(),
            ..Plugin::default()
        }
    }

    #[test]
    fn a_daemon_that_tells_no_name_is_known_by_the_folder_of_its_images() {
        let plugins = [
            plugin(SNAPSHOTTER_TYPE, "native", "/r/native"),
            plugin(SNAPSHOTTER_TYPE, "overlayfs", "/r/overlayfs"),
        ];
        let found = read(&plugins, "{}", Some(Path::new("/r/overlayfs")));
        assert_eq!(found.snapshotter.as_deref(), Some("overlayfs"));
        assert_eq!((found.config_paths, found.discards_layers), (None, None));
        let none = read(&plugins, r#"{"registry": {}}"#, None);
        assert_eq!(none.config_paths, Some(Vec::new()), "told, and none");
        let elsewhere = read(&plugins, "no JSON", Some(Path::new("/elsewhere")));
        assert_eq!(elsewhere.snapshotter, None);
        assert!(elsewhere.obstacle().is_some());
        assert_eq!(read(&plugins, "", None).snapshotter, None);
    }

    #[test]
    fn a_lazy_snapshotter_is_told_and_whether_it_is_used() {
        let mut broken = plugin(SNAPSHOTTER_TYPE, "nydus", "");
        broken.init_err = Some(RpcStatus::default());
        let plugins = [
            plugin(SNAPSHOTTER_TYPE, "overlayfs", "/r/overlayfs"),
            plugin(SNAPSHOTTER_TYPE, "soci", "/r/soci"),
            broken,
        ];
        let config =
            r#"{"containerd": {"snapshotter": "soci"}, "registry": {"configPath": "/a:/b"}}"#;
        let found = read(&plugins, config, None);
        let [lazy] = &found.lazy[..] else {
            panic!("{:?}", found.lazy);
        };
        assert!(lazy.in_use && lazy.id == "soci");
        let paths = ["/a", "/b"].map(PathBuf::from);
        assert_eq!(found.config_paths, Some(paths.to_vec()));
        let obstacle = found.obstacle().unwrap();
        assert!(obstacle.to_string().contains("SOCI") && !obstacle.permits_pulls());
        // 2.x tells no name, and a proxied snapshotter no folder.
        let untold = read(&plugins, "", Some(Path::new("/r/elsewhere")));
        let obstacle = untold.obstacle().unwrap();
        assert!(matches!(obstacle, Obstacle::MaybeLazy(_)) && !obstacle.permits_pulls());
        let foreign = read(
            &plugins[..1],
            r#"{"containerd": {"snapshotter": "zfs"}}"#,
            None,
        );
        assert_eq!(foreign.obstacle(), Some(Obstacle::Unknown));
    }

    #[test]
    fn a_folder_that_is_not_here_leaves_pulls_to_the_runtime() {
        let plugins = [plugin(SNAPSHOTTER_TYPE, "overlayfs", "/r/overlayfs")];
        let found = read(&plugins, "", Some(Path::new("/r/overlayfs")));
        let obstacle = found.obstacle().unwrap();
        assert!(obstacle.to_string().contains("/r/overlayfs") && obstacle.permits_pulls());
        assert_eq!(found.is_apart(None), None, "nothing to compare");
    }

    #[test]
    fn another_mount_is_told_from_another_folder() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().to_str().unwrap();
        let plugins = [plugin(SNAPSHOTTER_TYPE, "overlayfs", name)];
        let found = read(&plugins, "", Some(folder.path()));
        assert_eq!(found.is_apart(None), None);
        let elsewhere = Path::new("/proc/self/none");
        let apart = found.is_apart(Some(elsewhere)).unwrap();
        assert!(apart.permits_pulls() && apart.to_string().contains("mount"));
    }

    #[test]
    fn a_verifier_counts_where_it_has_programs() {
        let folder = tempfile::tempdir().unwrap();
        let bindir = [plugin(VERIFIER_TYPE, "bindir", "")];
        assert!(!verifies(&bindir, &folder.path().join("none")));
        assert!(!verifies(&bindir, folder.path()));
        assert!(verifies(
            &[plugin(VERIFIER_TYPE, "policy", "")],
            folder.path()
        ));
        fs::write(folder.path().join("verify"), "").unwrap();
        assert!(verifies(&bindir, folder.path()));
        assert!(!verifies(&[], folder.path()));
    }
}
