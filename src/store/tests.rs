//! What a store promises, against real files.

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(digest(&SHA256, bytes).as_ref())
}

fn store(folder: &TempDir) -> Store {
    Store::open(folder.path(), NOW).unwrap().0
}

fn size(bytes: &[u8]) -> ByteSize {
    ByteSize(bytes.len() as u64)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn a_blob_is_visible_only_after_it_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let content = vec![7; 600_000];
    let digest = digest_of(&content);
    let mut writer = store.writer(&digest, Some(size(&content))).await.unwrap();
    writer.append(Bytes::from(content.clone())).await.unwrap();
    writer.flush().await.unwrap();
    assert!(!store.blob_path(&digest).exists());
    assert_eq!(store.size(&digest), None);
    writer.finish().await.unwrap();
    assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), content);
    assert_eq!(store.used(), ByteSize(600_000));
    assert!(!store.partial_path(&digest).exists());
}

#[tokio::test]
async fn wrong_bytes_are_discarded_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let digest = digest_of(b"right");
    let mut writer = store.writer(&digest, Some(ByteSize(5))).await.unwrap();
    writer.append(Bytes::from_static(b"wrong")).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, RuntimeError::WrongDigest { .. }), "{error}");
    assert!(!store.partial_path(&digest).exists());
    assert!(!store.blob_path(&digest).exists());
    store
        .put(&digest, Bytes::from_static(b"right"))
        .await
        .unwrap();
}

#[tokio::test]
async fn more_bytes_than_the_blob_has_are_refused_before_they_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let digest = digest_of(b"right");
    let mut writer = store.writer(&digest, Some(ByteSize(5))).await.unwrap();
    writer
        .append(Bytes::from_static(b"right and more"))
        .await
        .unwrap();
    let error = writer.flush().await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::WrongSize { expected: 5, .. }),
        "{error}"
    );
    assert_eq!(store.partial(&digest), 0);
}

#[tokio::test]
async fn one_blob_has_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let digest = digest_of(b"x");
    let first = store.writer(&digest, None).await.unwrap();
    let second = store.writer(&digest, None).await.unwrap_err();
    assert_eq!(second, RuntimeError::Busy(digest.clone()));
    drop(first);
    store.writer(&digest, None).await.unwrap();
}

#[test]
fn a_directory_has_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let held = store(&folder);
    let error = Store::open(folder.path(), NOW).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(held);
    store(&folder);
}

#[tokio::test]
async fn a_start_keeps_partials_and_drops_what_has_no_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let kept = digest_of(b"kept");
    let stale = digest_of(b"stale");
    {
        let store = store(&folder);
        fs::write(store.partial_path(&kept), b"ke").unwrap();
        fs::write(store.partial_path(&stale), b"st").unwrap();
        fs::write(folder.path().join("ingest/.tmp123"), b"?").unwrap();
        fs::write(folder.path().join("blobs/sha256/README"), b"?").unwrap();
        store
            .put(&digest_of(b"whole"), Bytes::from_static(b"whole"))
            .await
            .unwrap();
        for (digest, age) in [(&kept, 3600), (&stale, 90_000)] {
            let file = File::open(store.partial_path(digest)).unwrap();
            let at = recover::system_time(NOW - std::time::Duration::from_secs(age));
            file.set_modified(at).unwrap();
        }
    }
    let (store, recovery) = Store::open(folder.path(), NOW).unwrap();
    let expected = Recovery {
        blobs: 1,
        partials: 1,
        dropped: 2,
        strange: 1,
    };
    assert_eq!(recovery, expected);
    assert_eq!(store.used(), ByteSize(5));
    assert_eq!(store.partial(&kept), 2);
    assert!(folder.path().join("blobs/sha256/README").exists());
}

#[tokio::test]
async fn a_stored_blob_that_rots_goes_to_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    for n in 0..QUARANTINE_MAX + 3 {
        let content = format!("blob {n}");
        let digest = digest_of(content.as_bytes());
        store.put(&digest, Bytes::from(content)).await.unwrap();
        store.verify(&digest).await.unwrap();
        fs::write(store.blob_path(&digest), b"rotten").unwrap();
        let error = store.verify(&digest).await.unwrap_err();
        assert!(matches!(error, RuntimeError::WrongDigest { .. }), "{error}");
        assert_eq!(store.size(&digest), None);
        assert!(!store.blob_path(&digest).exists());
    }
    let kept = fs::read_dir(folder.path().join("quarantine"))
        .unwrap()
        .count();
    assert_eq!(kept, QUARANTINE_MAX);
    assert_eq!(store.used(), ByteSize(0));
}

#[tokio::test]
async fn a_removed_blob_is_gone_with_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let digest = digest_of(b"abc");
    store
        .put(&digest, Bytes::from_static(b"abc"))
        .await
        .unwrap();
    store.remove(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert_eq!(store.read(&digest).await.unwrap(), None);
    assert_eq!(store.used(), ByteSize(0));
}

#[tokio::test]
async fn the_order_of_use_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let digest = digest_of(b"abc");
    let later = NOW + std::time::Duration::from_secs(500);
    {
        let store = store(&folder);
        store
            .put(&digest, Bytes::from_static(b"abc"))
            .await
            .unwrap();
        store.touch(&digest, later);
    }
    let entries = store(&folder).entries();
    assert_eq!(entries[0].1.used, later);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a transfer is cut, by drop, suspension or restart of the process, the end is the
    /// whole blob or nothing.
    #[test]
    fn a_blob_survives_any_cuts(
        content in proptest::collection::vec(any::<u8>(), 1..4000),
        cuts in proptest::collection::vec((0usize..5000, 0u8..4), 0..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let digest = digest_of(&content);
        runtime().block_on(async {
            let mut open = store(&folder);
            for (take, how) in cuts {
                let mut writer = open.writer(&digest, Some(size(&content))).await.unwrap();
                let from = writer.position() as usize;
                let to = (from + take).min(content.len());
                writer.append(Bytes::copy_from_slice(&content[from..to])).await.unwrap();
                match how {
                    0 => drop(writer),
                    1 => Box::new(writer).suspend().await.unwrap(),
                    2 => writer.restart().await.unwrap(),
                    _ => {
                        writer.flush().await.unwrap();
                        drop(writer);
                        drop(open);
                        open = store(&folder);
                        prop_assert_eq!(open.partial(&digest), to as u64);
                    }
                }
                prop_assert_eq!(open.size(&digest), None);
            }
            let mut writer = open.writer(&digest, Some(size(&content))).await.unwrap();
            let from = writer.position() as usize;
            writer.append(Bytes::copy_from_slice(&content[from..])).await.unwrap();
            writer.finish().await.unwrap();
            let stored = open.read(&digest).await.unwrap();
            prop_assert_eq!(stored.as_deref(), Some(content.as_slice()));
            Ok(())
        })?;
    }
}
