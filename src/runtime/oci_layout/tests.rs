//! What a layout promises, over a store in memory (the one on disk is L4, too).

use std::collections::HashMap;
use std::sync::{Mutex as StdMutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use tempfile::TempDir;

use super::*;

/// Verified blobs in a map.
#[derive(Default)]
struct Memory(StdMutex<HashMap<Digest, Bytes>>);

impl Memory {
    fn add(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::from_sha256(digest(&SHA256, bytes).as_ref());
        self.blobs()
            .insert(digest.clone(), Bytes::copy_from_slice(bytes));
        digest
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, Bytes>> {
        self.0.lock().unwrap()
    }
}

impl BlobStore for Memory {
    fn list(&self) -> Vec<(Digest, ByteSize)> {
        let blobs = self.blobs();
        blobs
            .iter()
            .map(|(d, b)| (d.clone(), ByteSize(b.len() as u64)))
            .collect()
    }

    fn size(&self, digest: &Digest) -> Option<ByteSize> {
        self.blobs()
            .get(digest)
            .map(|bytes| ByteSize(bytes.len() as u64))
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        let found = self.blobs().get(digest).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        _size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::Busy(digest.clone())) })
    }

    fn file(&self, _: &Digest) -> Option<PathBuf> {
        None
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn remove<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.blobs().remove(digest);
        Box::pin(async { Ok(()) })
    }
}

struct World {
    folder: TempDir,
    store: Arc<Memory>,
    layout: OciLayout,
}

impl World {
    async fn record(&self, name: &str, digest: &Digest) -> Result<(), RuntimeError> {
        self.show(name, digest, Show::Record).await
    }

    async fn show(&self, name: &str, digest: &Digest, show: Show) -> Result<(), RuntimeError> {
        let whole = Whole {
            image: image(name),
            digest: digest.clone(),
            index: None,
            show,
        };
        self.layout.record(&whole).await
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Memory::default());
        let layout = OciLayout::open(folder.path(), store.clone()).unwrap();
        Self {
            folder,
            store,
            layout,
        }
    }

    /// A manifest over blobs with these contents; config first.
    fn manifest(&self, parts: &[&str]) -> Digest {
        let described: Vec<Value> = parts
            .iter()
            .map(|part| {
                let digest = self.store.add(part.as_bytes());
                json!({"mediaType": "a/b", "digest": digest, "size": part.len()})
            })
            .collect();
        let manifest =
            json!({"schemaVersion": 2, "config": described[0], "layers": described[1..]});
        self.store.add(manifest.to_string().as_bytes())
    }

    fn index(&self) -> Value {
        let text = fs::read(self.folder.path().join("index.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

fn image(name: &str) -> ImageRef {
    name.parse().unwrap()
}

#[tokio::test]
async fn what_is_only_held_is_not_listed() {
    let world = World::new();
    let manifest = world.manifest(&["config", "layer"]);
    world.show("a:1", &manifest, Show::Warm).await.unwrap();
    assert_eq!(world.layout.listed().await.unwrap(), []);
    world.show("a:1", &manifest, Show::Record).await.unwrap();
    assert_eq!(world.layout.listed().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_image_is_listed_only_when_every_part_is_there() {
    let world = World::new();
    let manifest = world.manifest(&["config", "base", "top"]);
    let top = world.store.add(b"top");
    world.store.blobs().remove(&top);
    let error = world.record("a:1", &manifest).await.unwrap_err();
    let expected = RuntimeError::Incomplete {
        image: image("a:1"),
        missing: top,
    };
    assert_eq!(error, expected);
    assert_eq!(world.index()["manifests"], json!([]));
    world.store.add(b"top");
    world.record("a:1", &manifest).await.unwrap();
    assert_eq!(
        world.layout.listed().await.unwrap(),
        [(image("a:1"), manifest)]
    );
}

#[tokio::test]
async fn recording_twice_lists_once_and_a_new_meaning_replaces_the_old() {
    let world = World::new();
    let old = world.manifest(&["config", "base"]);
    let new = world.manifest(&["config", "base", "top"]);
    for digest in [&old, &old, &new] {
        world.record("a:1", digest).await.unwrap();
    }
    assert_eq!(world.layout.listed().await.unwrap(), [(image("a:1"), new)]);
}

#[tokio::test]
async fn a_release_drops_what_only_it_needed() {
    let world = World::new();
    let first = world.manifest(&["config 1", "shared", "own"]);
    let second = world.manifest(&["config 2", "shared"]);
    world.record("a:1", &first).await.unwrap();
    world.record("b:1", &second).await.unwrap();
    world.layout.release(&first).await.unwrap();
    let left: BTreeSet<Digest> = world.store.list().into_iter().map(|(d, _)| d).collect();
    let expected = ["config 2", "shared"].map(|text| world.store.add(text.as_bytes()));
    assert_eq!(left, expected.into_iter().chain([second.clone()]).collect());
    assert_eq!(
        world.layout.listed().await.unwrap(),
        [(image("b:1"), second)]
    );
}

#[tokio::test]
async fn a_withdrawn_image_loses_its_name_and_keeps_its_blobs_until_it_is_released() {
    let world = World::new();
    let manifest = world.manifest(&["config", "layer"]);
    let blobs = world.store.list().len();
    world.record("a:1", &manifest).await.unwrap();
    world.layout.withdraw(&manifest, None).await.unwrap();
    assert_eq!(world.layout.listed().await.unwrap(), []);
    assert_eq!(world.store.list().len(), blobs);
    world.layout.release(&manifest).await.unwrap();
    assert_eq!(world.store.list().len(), 0);
}

#[tokio::test]
async fn a_name_that_is_withdrawn_leaves_the_manifests_other_names() {
    let world = World::new();
    let manifest = world.manifest(&["config", "layer"]);
    for name in ["a:1", "a:2"] {
        world.record(name, &manifest).await.unwrap();
    }
    let moved = image("a:1");
    let withdrawn = world.layout.withdraw(&manifest, Some(&moved)).await;
    withdrawn.unwrap();
    assert_eq!(
        world.layout.listed().await.unwrap(),
        [(image("a:2"), manifest)]
    );
}

#[tokio::test]
async fn images_of_others_are_never_touched() {
    let world = World::new();
    let theirs = world.manifest(&["config", "base"]);
    let ours = world.manifest(&["config", "base", "top"]);
    let foreign = json!({"mediaType": "x/y", "digest": theirs, "size": 9, "platform": {"os": "linux"},
        "annotations": {REF_NAME: image("a:1").as_str()}});
    let index = json!({"schemaVersion": 2, "annotations": {"kept": "yes"}, "manifests": [foreign]});
    fs::write(world.folder.path().join("index.json"), index.to_string()).unwrap();

    world.record("a:1", &theirs).await.unwrap();
    let error = world.record("a:1", &ours).await.unwrap_err().to_string();
    assert!(error.contains("somebody else"), "{error}");
    world.record("b:1", &ours).await.unwrap();
    world.layout.release(&ours).await.unwrap();
    world.layout.release(&theirs).await.unwrap();
    let mut expected = index;
    expected["manifests"][0] = foreign;
    assert_eq!(world.index(), expected);
    let top = world.store.add(b"top");
    assert_eq!(
        world.store.list().len(),
        4,
        "their three blobs, and {top} added again"
    );
}

#[tokio::test]
async fn a_directory_that_holds_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.json"), "[1]").unwrap();
    let error = OciLayout::open(folder.path(), Arc::new(Memory::default()));
    assert!(error.err().unwrap().to_string().contains("no OCI index"));
}
