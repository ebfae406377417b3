//! What is said of a node where the runtime has to pull images itself.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::agent::check::{added, free, lines};
use crate::domain::quantity::ByteSize;
use crate::runtime::cri::look::Found;
use crate::runtime::room::Space;

const DOES: &str =
    "has the runtime pull images itself, whole, one at a time: pods start without a pull";

const OPEN: &str = "what it pulls every pod can use: private images and those of agent.unrecorded are \
    left to the kubelet";

const BLIND: &str =
    "how far a pull is CRI does not tell, nor who else pulls: that only containerd does";

const UNSEEN: &str = "its disk is not seen from here: only agent.disk_budget bounds what is added; mount \
    its folder to have the disk looked at";

/// What was found where the runtime would pull images itself, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Pulls {
    socket: PathBuf,
    runtime: String,
    version: String,
    /// Where its images are, as it says.
    images: Option<PathBuf>,
    bytes: Option<ByteSize>,
    bytes_free: Option<ByteSize>,
    inodes_free: Option<u64>,
    may_be_added: Option<ByteSize>,
    /// `pull`.
    may: &'static str,
    /// Why not more than that.
    because: Vec<String>,
}

impl Pulls {
    pub(super) fn new(socket: PathBuf, found: &Found, why: String) -> Self {
        let space = |pick: fn(&Space) -> u64| found.space.as_ref().map(pick);
        let mut because = vec![why, OPEN.to_owned(), BLIND.to_owned()];
        if found.space.is_none() {
            because.push(UNSEEN.to_owned());
        }
        Self {
            socket,
            runtime: found.runtime.clone(),
            version: found.version.clone(),
            images: found.folder.clone(),
            bytes: space(|s| s.bytes).map(ByteSize),
            bytes_free: space(|s| s.bytes_free).map(ByteSize),
            inodes_free: space(|s| s.inodes_free),
            may_be_added: found.space.as_ref().map(Space::may_be_added),
            may: "pull",
            because,
        }
    }

    pub(super) fn words(&self) -> String {
        let socket = self.socket.display();
        let images = self.images.as_ref();
        let rows = [
            (
                "runtime",
                format!("{} {} at {socket}", self.runtime, self.version),
            ),
            (
                "images in",
                images.map_or_else(|| "not told".to_owned(), |f| f.display().to_string()),
            ),
            (
                "free there",
                free(self.bytes_free, self.bytes, self.inodes_free),
            ),
            ("may be added", added(self.may_be_added)),
            ("an agent here", DOES.to_owned()),
        ];
        lines(&rows, &self.because)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_pulls_itself_is_told_with_what_it_cannot_do() {
        let found = Found {
            runtime: "cri-o".into(),
            version: "1.36.0".into(),
            folder: Some("/images".into()),
            space: None,
        };
        let pulls = Pulls::new("/crio.sock".into(), &found, "there is no containerd".into());
        let words = pulls.words();
        for part in [
            "cri-o 1.36.0 at /crio.sock",
            "no containerd",
            "private",
            "agent.disk_budget",
        ] {
            assert!(words.contains(part), "{part} is not in\n{words}");
        }
    }
}
