//! Each call of the client against the real daemon, its refusals above all.

use std::time::Duration;

use bytes::Bytes;
use forelay::runtime::containerd::event::Event;
use forelay::runtime::containerd::label::{self, Labels, SNAPSHOT_REF};
use forelay::runtime::containerd::{Client, Collect, ContainerdError};
use forelay::runtime::socket::SocketError;
use forelay::runtime::wire::snapshots::Kind;
use forelay::runtime::wire::types::Descriptor;
use futures::{Stream, StreamExt};
use rustix::mount::{MountFlags, mount};

use crate::daemon::{Containerd, Options};
use crate::image::{Form, Layer, OCI_CONFIG, file, folder};
use crate::place::{blob, place, record, target};
use crate::program::busybox;
use crate::recipe::{directory, lease};
use crate::registry::sha256;

#[tokio::test]
async fn a_socket_without_a_daemon_is_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.sock");
    let error = Client::connect(&path).await.unwrap_err();
    assert_eq!(
        error,
        ContainerdError::Socket(SocketError::Missing(path.clone()))
    );
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Client::connect(&path).await.unwrap_err();
    assert_eq!(
        error,
        ContainerdError::Socket(SocketError::Refused(path.clone()))
    );
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let error = Client::connect(&path).await.unwrap_err();
    assert!(error.to_string().contains("c.sock"), "{error}");
}

#[tokio::test]
async fn the_daemon_tells_what_it_is_and_where_its_snapshots_are() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let version = client.version().await.unwrap().version;
    assert!(
        version.starts_with(|c: char| c.is_ascii_digit() || c == 'v'),
        "{version}"
    );
    let root = client.snapshotter_root().await.unwrap();
    assert!(root.join("snapshots").is_dir(), "{}", root.display());
    let other = client.clone().with_snapshotter("soci");
    let error = other.snapshotter_root().await.unwrap_err();
    assert!(matches!(error, ContainerdError::Unsupported(_)), "{error}");
    assert_eq!(other.images(&[]).await.unwrap(), []);
    let elsewhere = client.in_namespace("two\nlines").unwrap_err();
    assert!(
        matches!(elsewhere, ContainerdError::Invalid(_)),
        "{elsewhere}"
    );
}

#[tokio::test]
async fn a_client_survives_the_death_of_the_daemon() {
    let mut daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    daemon.kill9();
    let error = client.version().await.unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    daemon.restart().await;
    client.version().await.unwrap();
    assert_eq!(client.leases().await.unwrap()[0].id, held);
}

#[tokio::test]
async fn a_blob_of_any_size_comes_back_as_it_was_written() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    // None, one, one less than a message, a whole one, and several with a rest.
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 7] {
        let bytes: Bytes = (0..size)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let new = blob(sha256(&bytes), &bytes, Labels::new());
        let reader = std::io::Cursor::new(bytes.clone());
        client.write_blob_from(&held, &new, reader).await.unwrap();
        let read = client.read_blob(&new.digest, 8 << 20).await.unwrap();
        assert_eq!(read, Some(bytes), "{size} bytes");
    }
    assert_eq!(client.blobs(&[]).await.unwrap().len(), 5);
    assert_eq!(client.ingests().await.unwrap(), []);
}

#[tokio::test]
async fn a_blob_that_is_there_gets_the_labels_that_it_lacks() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let bytes = Bytes::from_static(b"twice");
    let first = blob(sha256(&bytes), &bytes, label::from("a.test", "one"));
    client
        .write_blob(&held, &first, bytes.clone())
        .await
        .unwrap();
    let second = blob(
        sha256(&bytes),
        &bytes,
        label::unpacked("overlayfs", "sha256:x"),
    );
    client
        .write_blob(&held, &second, bytes.clone())
        .await
        .unwrap();
    let third = blob(sha256(&bytes), &bytes, label::from("b.test", "two"));
    let unread = std::io::Cursor::new(bytes.clone());
    client.write_blob_from(&held, &third, unread).await.unwrap();
    client
        .label_blob(&first.digest, Labels::new())
        .await
        .unwrap();
    let labels = client.blob(&first.digest).await.unwrap().unwrap().labels;
    let wanted = [first.labels, second.labels, third.labels].concat_labels();
    assert_eq!(labels, wanted);
    let filter = r#"labels."containerd.io/distribution.source.b.test"==two"#.to_owned();
    assert_eq!(client.blobs(&[filter]).await.unwrap().len(), 1);
    assert_eq!(
        client
            .blobs(&["digest==sha256:none".to_owned()])
            .await
            .unwrap(),
        []
    );
}

trait Concat {
    fn concat_labels(self) -> Labels;
}

impl<const N: usize> Concat for [Labels; N] {
    fn concat_labels(self) -> Labels {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_leave_nothing() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let right = Bytes::from_static(b"right");
    let new = blob(sha256(&right), &right, Labels::new());
    for wrong in ["wrong", "right and more", "r", ""] {
        let bytes = Bytes::from_static(wrong.as_bytes());
        let error = client
            .write_blob(&held, &new, bytes.clone())
            .await
            .unwrap_err();
        assert!(
            matches!(error, ContainerdError::Precondition(_)),
            "{wrong}: {error:?}"
        );
        let reader = std::io::Cursor::new(bytes);
        let error = client
            .write_blob_from(&held, &new, reader)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ContainerdError::Precondition(_)),
            "{wrong}: {error:?}"
        );
    }
    let broken = torn();
    let error = client
        .write_blob_from(&held, &new, broken)
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerdError::Source { .. }), "{error:?}");
    assert_eq!(client.ingests().await.unwrap(), []);
    assert_eq!(client.blobs(&[]).await.unwrap(), []);
    client.write_blob(&held, &new, right).await.unwrap();
    assert!(client.delete_blob(&new.digest).await.unwrap());
    assert!(!client.delete_blob(&new.digest).await.unwrap());
}

/// Some bytes, and then an error.
fn torn() -> impl tokio::io::AsyncRead + Send + Unpin + 'static {
    let parts = [
        Ok(Bytes::from_static(b"ri")),
        Err(std::io::Error::other("torn")),
    ];
    tokio_util::io::StreamReader::new(futures::stream::iter(parts))
}

#[tokio::test]
async fn a_read_is_bounded_and_its_bytes_are_verified() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let bytes = Bytes::from_static(b"ten bytes.");
    let new = blob(sha256(&bytes), &bytes, Labels::new());
    assert_eq!(client.read_blob(&new.digest, 10).await.unwrap(), None);
    client.write_blob(&held, &new, bytes.clone()).await.unwrap();
    assert_eq!(
        client.read_blob(&new.digest, 10).await.unwrap(),
        Some(bytes)
    );
    let error = client.read_blob(&new.digest, 9).await.unwrap_err();
    assert!(
        matches!(
            error,
            ContainerdError::TooLarge {
                size: 10,
                max: 9,
                ..
            }
        ),
        "{error}"
    );
    let stored = client.snapshotter_root().await.unwrap();
    let stored = stored
        .parent()
        .unwrap()
        .join("io.containerd.content.v1.content/blobs/sha256");
    std::fs::write(stored.join(new.digest.hex()), "ten wrongs").unwrap();
    let error = client.read_blob(&new.digest, 10).await.unwrap_err();
    assert!(matches!(error, ContainerdError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    mount(
        "tmpfs",
        &small,
        "tmpfs",
        MountFlags::empty(),
        Some(c"size=12m"),
    )
    .unwrap();
    let daemon = Containerd::start_in(&small, &Options::default()).await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let bytes = Bytes::from(vec![7; 14 << 20]);
    let new = blob(sha256(&bytes), &bytes, Labels::new());
    let error = client
        .write_blob_from(&held, &new, std::io::Cursor::new(bytes))
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerdError::NoSpace(_)), "{error:?}");
    drop(daemon);
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[tokio::test]
async fn a_snapshot_that_is_there_is_told_apart_from_a_failure() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let is_ref = |chain: &str| Labels::from([(SNAPSHOT_REF.to_owned(), chain.to_owned())]);
    let first = client
        .prepare(&held, "k1", None, is_ref("c1"))
        .await
        .unwrap();
    assert!(first.overlay().unwrap().lowers.is_empty());
    assert_eq!(client.mounts("k1").await.unwrap(), first);
    assert_eq!(
        client.snapshot("k1").await.unwrap().unwrap().kind(),
        Kind::Active
    );
    std::fs::write(first.overlay().unwrap().upper.join("f"), "12345").unwrap();
    client
        .commit(&held, "c1", "k1", is_ref("c1"))
        .await
        .unwrap();
    assert_eq!(client.snapshot("k1").await.unwrap(), None);
    assert!(client.usage("c1").await.unwrap().size >= 5);

    let error = client
        .prepare(&held, "k2", None, is_ref("c1"))
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerdError::Exists(_)), "{error}");
    client
        .prepare(&held, "k3", None, Labels::new())
        .await
        .unwrap();
    let error = client
        .commit(&held, "c1", "k3", Labels::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerdError::Exists(_)), "{error}");
    let error = client
        .prepare(&held, "k4", Some("c0"), Labels::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerdError::NotFound(_)), "{error}");
    let second = client
        .prepare(&held, "k5", Some("c1"), is_ref("c2"))
        .await
        .unwrap();
    let lower = first.overlay().unwrap().upper;
    assert_eq!(
        second.overlay().unwrap().lowers,
        std::slice::from_ref(&lower)
    );
    assert_eq!(directory(&client, &held, "c1").await, lower);
    let error = client.remove_snapshot("c1").await.unwrap_err();
    assert!(matches!(error, ContainerdError::Precondition(_)), "{error}");
    assert!(client.remove_snapshot("k5").await.unwrap());
    assert!(!client.remove_snapshot("k5").await.unwrap());
    let on_c1 = client.snapshots(&["parent==c1".to_owned()]).await.unwrap();
    assert_eq!(on_c1, []);
    assert_eq!(client.snapshots(&[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_daemon_unpacks_a_layer_by_itself() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let lower = Layer::new(Form::Gzip, |tar| {
        folder(tar, "d/", 0o750);
        file(tar, "d/gone", 0o644, b"1");
    });
    let upper = Layer::new(Form::Gzip, |tar| file(tar, "d/.wh.gone", 0o644, b""));
    let mut parent = None;
    for (name, layer) in [("c1", &lower), ("c2", &upper)] {
        let new = blob(layer.digest(), &layer.blob, Labels::new());
        client
            .write_blob(&held, &new, layer.blob.clone())
            .await
            .unwrap();
        let mounts = client
            .prepare(&held, "k", parent, Labels::new())
            .await
            .unwrap();
        let described = Descriptor {
            media_type: layer.form.media_type().to_owned(),
            digest: layer.digest().to_string(),
            size: layer.blob.len() as i64,
            ..Default::default()
        };
        let applied = client.apply(&held, described, &mounts).await.unwrap();
        assert_eq!(applied.digest, layer.diff_id().to_string());
        client
            .commit(&held, name, "k", Labels::new())
            .await
            .unwrap();
        parent = Some(name);
    }
    // The directory is copied up with its mode, and the file hidden by a device.
    let path = directory(&client, &held, "c2").await;
    let mode = std::fs::metadata(path.join("d")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o750);
    let hidden = std::fs::symlink_metadata(path.join("d/gone")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(
        &hidden.file_type()
    ));
}

#[tokio::test]
async fn what_happens_is_told_from_the_first_moment_to_the_daemons_end() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let mut events = client.events().await.unwrap();
    let image = busybox(Form::Gzip, "one");
    place(&client, &held, &daemon.stage(), &image).await;
    let prepared = heard(&mut events, |e| matches!(e, Event::SnapshotPrepared { .. })).await;
    let Event::SnapshotPrepared { key, parent } = prepared else {
        unreachable!()
    };
    assert_eq!(parent, "", "nothing before it was missed");
    let name = image.chain_ids().remove(0);
    let committed = Event::SnapshotCommitted { key, name };
    heard(&mut events, |e| *e == committed).await;

    record(&client, "forelay.test/tool", "1", &image).await;
    let name = "forelay.test/tool:1".to_owned();
    let created = Event::ImageCreated(name.clone());
    heard(&mut events, |e| *e == created).await;
    let pinned = Labels::from([(label::CRI_PINNED.to_owned(), "pinned".to_owned())]);
    client.update_image(&name, None, pinned).await.unwrap();
    let updated = Event::ImageUpdated(name.clone());
    heard(&mut events, |e| *e == updated).await;
    client
        .delete_image(&name, None, Collect::Now)
        .await
        .unwrap();
    let deleted = Event::ImageDeleted(name);
    heard(&mut events, |e| *e == deleted).await;

    drop(daemon);
    let last = async {
        loop {
            if let Err(error) = events.next().await.expect("an end is told as an error") {
                return error;
            }
        }
    };
    let last = tokio::time::timeout(Duration::from_secs(10), last).await;
    assert!(last.unwrap().is_passing());
}

#[tokio::test]
async fn an_image_record_changes_where_it_is_told_to_and_nowhere_else() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let image = busybox(Form::Gzip, "one");
    place(&client, &held, &daemon.stage(), &image).await;
    record(&client, "forelay.test/tool", "1", &image).await;
    let name = "forelay.test/tool:1";
    let again = client.create_image(name, target(&image), Labels::new());
    assert!(matches!(again.await, Err(ContainerdError::Exists(_))));
    let pinned = Labels::from([(label::CRI_PINNED.to_owned(), "pinned".to_owned())]);
    client.update_image(name, None, pinned).await.unwrap();
    client
        .update_image(name, None, Labels::new())
        .await
        .unwrap();
    let seen = client.image(name).await.unwrap().unwrap();
    assert_eq!(seen.labels[label::CRI_PINNED], "pinned");
    assert_eq!(seen.target.unwrap().digest, target(&image).digest);

    let other = Descriptor {
        media_type: OCI_CONFIG.to_owned(),
        digest: sha256(&image.config).to_string(),
        size: image.config.len() as i64,
        ..Descriptor::default()
    };
    let changed = client.update_image(name, Some(other.clone()), Labels::new());
    changed.await.unwrap();
    let seen = client.image(name).await.unwrap().unwrap();
    assert_eq!(seen.labels[label::CRI_PINNED], "pinned");
    assert_eq!(seen.target.unwrap().digest, other.digest);

    assert!(client.delete_image(name, None, Collect::Now).await.unwrap());
    // CRI answers to changes by a task of its own, which may make the record again: as often as it changed.
    let mut made_again = 0;
    while client
        .delete_image(name, None, Collect::Later)
        .await
        .unwrap()
    {
        made_again += 1;
        assert!(made_again <= 3);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.image(name).await.unwrap(), None);
    assert_eq!(client.images(&[format!("name=={name}")]).await.unwrap(), []);
    let gone = client.update_image(name, Some(other), Labels::new());
    assert!(matches!(gone.await, Err(ContainerdError::NotFound(_))));
}

/// The next event that is meant.
async fn heard(
    events: &mut (impl Stream<Item = Result<Event, ContainerdError>> + Unpin),
    meant: impl Fn(&Event) -> bool,
) -> Event {
    let wait = async {
        loop {
            let event = events.next().await.unwrap().unwrap();
            if meant(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it is announced")
}

#[test]
fn labels_of_children_are_numbered_in_order() {
    let digests = [sha256(b"1"), sha256(b"2")];
    let labels = label::children(&digests);
    assert_eq!(
        labels["containerd.io/gc.ref.content.1"],
        digests[1].to_string()
    );
    assert_eq!(labels.len(), 2);
}
