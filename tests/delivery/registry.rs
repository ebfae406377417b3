//! Debian's `docker-registry` as a real origin, and what can be put into it.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use forelay::domain::image::Digest;
use tempfile::TempDir;

/// The registry process; killed when dropped.
pub struct Upstream {
    child: Option<Child>,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Upstream {
    /// Starts an empty one, on a port that is free.
    pub fn start() -> Self {
        let mut new = Self {
            child: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            folder: tempfile::tempdir().unwrap(),
        };
        new.run();
        new
    }

    /// Starts it with what it had, on the port that it had.
    pub fn run(&mut self) {
        let (child, address) = serve(self.folder.path(), self.address);
        self.child = Some(child);
        self.address = address;
    }

    /// Ends it at once, as a machine that goes away.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: Bytes) {
        let answer = client()
            .put(self.url(&format!("/v2/{repository}/manifests/{tag}")))
            .header("content-type", media_type)
            .body(bytes)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    pub async fn upload(&self, repository: &str, blob: Bytes) {
        let begin = self.url(&format!("/v2/{repository}/blobs/uploads/"));
        let begun = client().post(begin).send().await.unwrap();
        let place = begun.headers()["location"].to_str().unwrap().to_owned();
        let place = if place.starts_with('/') {
            self.url(&place)
        } else {
            place
        };
        let url = format!("{place}&digest={}", sha256(&blob));
        let answer = client().put(url).body(blob).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The registry over what `folder` holds, and where it listens.
pub fn serve(folder: &Path, address: SocketAddr) -> (Child, SocketAddr) {
    let config = folder.join("config.yml");
    let root = folder.join("data");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{address}'}}\n",
            root.display()
        ),
    )
    .unwrap();
    let mut child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("docker-registry: {e}; apt-get install docker-registry"));
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            let end = rest.find(['"', ' ']).unwrap_or(rest.len());
            Some(rest[..end].parse().unwrap())
        })
        .expect("the registry says where it listens");
    // Its log is read to the end, or it would block on a full pipe.
    thread::spawn(move || lines.for_each(drop));
    (child, address)
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(digest(&SHA256, bytes).as_ref())
}
