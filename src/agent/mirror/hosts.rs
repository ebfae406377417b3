//! The `hosts.toml` that leads containerd to the mirror: ours only, and never in anybody's way.
//!
//! containerd takes, in the first folder of its `config_path` that has one, the directory of the registry
//! asked for, else `_default` (`docs/hosts.md`, `remotes/docker/config`); it reads it anew at every pull.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The first line of every file of ours.
const MARK: &str =
    "# dev.forelay/mirror: written by forelay's agent, which takes it away when it ends.";

/// The second one where the directory is ours, too.
const MARK_DIRECTORY: &str = "# The directory is forelay's, too.";

/// How the names of files begin that are being written.
const BEGUN: &str = ".forelay-";

/// The directory of registries that have none of their own.
const DEFAULT: &str = "_default";
const FILE: &str = "hosts.toml";

/// What stands in a `config_path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Where our file goes, or stands; `None` when it cannot.
    pub file: Option<PathBuf>,
    /// Why not.
    pub obstacle: Option<String>,
    /// Directories of registries that are configured by themselves: pulls from these pass the mirror by.
    pub apart: Vec<PathBuf>,
}

/// Our file, standing. Taken away when dropped.
#[derive(Debug)]
pub(super) struct Placed {
    file: PathBuf,
}

/// A file that cannot be put where it belongs.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostsError {
    /// Somebody else's stands there, or there is no folder.
    #[error("{0}")]
    Obstacle(String),
    /// The system's words.
    #[error("{}: {error}", path.display())]
    Io {
        /// what was touched
        path: PathBuf,
        /// why
        error: io::Error,
    },
}

/// Looks, and changes nothing.
///
/// With several folders ours goes into the last one that is there: a `_default` in an earlier one would hide
/// the registries' own directories in those behind it.
pub fn look(roots: &[PathBuf]) -> Outlook {
    let there: Vec<&PathBuf> = roots.iter().filter(|root| root.is_dir()).collect();
    let apart = there.iter().flat_map(|root| registries(root)).collect();
    let failed = |obstacle: String| Outlook {
        file: None,
        obstacle: Some(obstacle),
        apart: Vec::new(),
    };
    let Some((last, earlier)) = there.split_last() else {
        let names: Vec<String> = roots
            .iter()
            .map(|root| root.display().to_string())
            .collect();
        return failed(match names.as_slice() {
            [] => "containerd has no config_path".to_owned(),
            names => format!("{} is not here", names.join(", ")),
        });
    };
    let earlier = earlier
        .iter()
        .find_map(|root| obstacle(&root.join(DEFAULT)));
    match earlier.or_else(|| obstacle(&last.join(DEFAULT))) {
        Some(obstacle) => Outlook {
            apart,
            ..failed(obstacle)
        },
        None => Outlook {
            file: Some(last.join(DEFAULT).join(FILE)),
            obstacle: None,
            apart,
        },
    }
}

/// Writes the file whole, or not at all.
pub(super) fn place(roots: &[PathBuf], address: SocketAddr) -> Result<Placed, HostsError> {
    let outlook = look(roots);
    let Some(file) = outlook.file else {
        return Err(HostsError::Obstacle(outlook.obstacle.unwrap_or_default()));
    };
    let directory = file.parent().expect("it is in a directory");
    let failed = |error| HostsError::Io {
        path: file.clone(),
        error,
    };
    let made = match fs::create_dir(directory) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_made_by_us(&file),
        Err(error) => return Err(failed(error)),
    };
    write(directory, &file, &text(address, made)).map_err(failed)?;
    Ok(Placed { file })
}

/// Takes away what a run left that was killed.
pub fn sweep(roots: &[PathBuf]) {
    for root in roots {
        let directory = root.join(DEFAULT);
        // Begun and not renamed.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(BEGUN) {
                let _ = fs::remove_file(entry.path());
            }
        }
        withdraw(&directory.join(FILE));
    }
}

fn write(directory: &Path, file: &Path, text: &str) -> io::Result<()> {
    let mut new = NamedTempFile::with_prefix_in(BEGUN, directory)?;
    new.write_all(text.as_bytes())?;
    new.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    if is_ours(file) {
        new.persist(file)?;
    } else {
        // Somebody may have come in between: theirs stays.
        new.persist_noclobber(file)?;
    }
    Ok(())
}

/// No `server`: containerd then goes on to the registry itself, under its name. Newer than 1.x it gives up
/// on a connection after `dial_timeout`; older ones ignore the line.
fn text(address: SocketAddr, made: bool) -> String {
    let directory = if made { MARK_DIRECTORY } else { "#" };
    format!(
        "{MARK}\n{directory}\n\
         [host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"1s\"\n"
    )
}

/// Whose `_default` this is, in words, where it is not ours.
fn obstacle(directory: &Path) -> Option<String> {
    let file = directory.join(FILE);
    if is_ours(&file) {
        return None;
    }
    let mut entries = fs::read_dir(directory).ok()?;
    // Certificates count where there is no hosts.toml, and would not beside ours.
    let theirs = entries.any(|entry| {
        let name = entry.map(|entry| entry.file_name());
        name.is_ok_and(|name| !name.to_string_lossy().starts_with(BEGUN))
    });
    theirs.then(|| {
        let path = if file.exists() { &file } else { directory };
        format!("{} is somebody else's", path.display())
    })
}

/// Directories of registries that are configured by themselves.
fn registries(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let directories = entries.map(|entry| entry.path());
    let mut apart: Vec<PathBuf> = directories
        .filter(|path| path.is_dir() && !path.ends_with(DEFAULT))
        .collect();
    apart.sort();
    apart
}

fn is_ours(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.lines().next() == Some(MARK))
}

fn is_made_by_us(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    lines.next() == Some(MARK) && lines.next() == Some(MARK_DIRECTORY)
}

fn withdraw(file: &Path) {
    if !is_ours(file) {
        return;
    }
    let directory = file.parent().filter(|_| is_made_by_us(file));
    if let Err(error) = fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "cannot take the mirror's hosts.toml away");
        return;
    }
    // Somebody may have put something into it: then it stays.
    let _ = directory.map(fs::remove_dir);
}

// === impl Placed ===

impl Placed {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        withdraw(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn root() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        (folder, root)
    }

    #[test]
    fn the_file_stands_for_as_long_as_it_is_held_and_its_directory_goes_with_it() {
        let (_folder, root) = root();
        let roots = [root.clone()];
        let placed = place(&roots, address(7)).unwrap();
        let text = fs::read_to_string(placed.file()).unwrap();
        assert!(text.contains("[host.\"http://127.0.0.1:7\"]"), "{text}");
        assert!(!text.contains("server"), "{text}");
        let parsed: toml::Table = text.parse().unwrap();
        assert!(parsed["host"]["http://127.0.0.1:7"]["capabilities"].is_array());
        drop(placed);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_runs_file_is_taken_over_or_swept_away_with_its_directory() {
        let (_folder, root) = root();
        let roots = [root.clone()];
        std::mem::forget(place(&roots, address(7)).unwrap());
        let placed = place(&roots, address(8)).unwrap();
        let text = fs::read_to_string(placed.file()).unwrap();
        assert!(text.contains(":8\"") && !text.contains(":7\""), "{text}");
        std::mem::forget(placed);
        sweep(&roots);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn what_is_somebody_elses_is_left_as_it_is() {
        for name in ["hosts.toml", "ca.crt"] {
            let (_folder, root) = root();
            let roots = [root.clone()];
            let directory = root.join(DEFAULT);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join(name), "theirs").unwrap();
            let error = place(&roots, address(7)).unwrap_err().to_string();
            assert!(error.contains("somebody else's"), "{error}");
            sweep(&roots);
            let left = fs::read_to_string(directory.join(name)).unwrap();
            assert_eq!(left, "theirs");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        }
    }

    #[test]
    fn an_empty_directory_of_somebody_else_is_used_and_stays() {
        let (_folder, root) = root();
        fs::create_dir(root.join(DEFAULT)).unwrap();
        drop(place(slice::from_ref(&root), address(7)).unwrap());
        assert_eq!(fs::read_dir(root.join(DEFAULT)).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_was_replaced_meanwhile_is_not_taken_away() {
        let (_folder, root) = root();
        let placed = place(slice::from_ref(&root), address(7)).unwrap();
        fs::write(placed.file(), "theirs now").unwrap();
        drop(placed);
        let left = fs::read_to_string(root.join(DEFAULT).join(FILE)).unwrap();
        assert_eq!(left, "theirs now");
    }

    #[test]
    fn of_several_folders_the_last_one_is_used_and_nobodys_directory_is_hidden() {
        let (_one, first) = root();
        let (_two, second) = root();
        fs::create_dir(second.join("quay.io")).unwrap();
        let missing = second.join("none");
        let roots = [first.clone(), second.clone(), missing];
        let outlook = look(&roots);
        assert_eq!(outlook.file, Some(second.join(DEFAULT).join(FILE)));
        assert_eq!(outlook.apart, [second.join("quay.io")]);
        fs::create_dir(first.join(DEFAULT)).unwrap();
        fs::write(first.join(DEFAULT).join(FILE), "theirs").unwrap();
        let outlook = look(&roots);
        assert_eq!(outlook.file, None, "theirs is found first");
        assert!(outlook.obstacle.unwrap().contains(first.to_str().unwrap()));
    }

    #[test]
    fn without_a_folder_there_is_a_reason() {
        let (_folder, root) = root();
        let none = [root.join("none")];
        assert!(look(&none).obstacle.unwrap().contains("none is not here"));
        assert!(look(&[]).obstacle.unwrap().contains("config_path"));
        assert!(!root.join("none").exists());
    }
}
