//! The stream: forms, digests, sizes, cuts.

use super::archive::{dir, file};
use super::*;

fn small() -> Archive {
    Archive::of([
        dir("a"),
        file("a/b", b"hello"),
        file("c", &vec![7; 300_000]),
    ])
}

fn assert_small(yard: &Yard) {
    assert_eq!(yard.read("a/b"), b"hello");
    assert_eq!(yard.read("c"), vec![7; 300_000]);
}

#[test]
fn a_layer_in_every_form_is_unpacked_and_hashed() {
    let raw = small().ended();
    let (front, back) = raw.split_at(1_000);
    let members = [gzip(front), gzip(back)].concat();
    let frames = [front, back].map(|part| zstd::encode_all(part, 1).unwrap());
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    let skipped = [skipped, frames.concat()].concat();
    let forms = [gzip(&raw), members, frames.concat(), skipped, raw.clone()];
    for (at, blob) in forms.iter().enumerate() {
        for chunk in [7, 1_000, 1 << 20] {
            let yard = Yard::new();
            let unpacked = unpack(&yard.path("tree"), blob, wanted(blob, false), chunk);
            let unpacked = unpacked.unwrap_or_else(|e| panic!("form {at}: {e}"));
            assert_small(&yard);
            assert_eq!(unpacked.blob, Some(sha256(blob)));
            assert_eq!(unpacked.blob_bytes.0, blob.len() as u64);
            assert_eq!(unpacked.diff_id, sha256(&raw));
            assert_eq!(unpacked.raw_bytes.0, raw.len() as u64);
            // The root, a, a/b, c.
            assert_eq!(unpacked.inodes, 4);
            assert!(unpacked.rest.is_empty());
        }
    }
}

#[test]
fn a_prepared_form_is_proved_by_its_diff_id_alone() {
    let raw = small().ended();
    for blob in [raw.clone(), gzip(&raw)] {
        let yard = Yard::new();
        let mut by_diff = wanted(&blob, false);
        by_diff.blob = None;
        by_diff.diff_id = Some(sha256(&raw));
        let unpacked = yard.unpack("tree", &blob, by_diff.clone()).unwrap();
        assert_eq!(unpacked.diff_id, sha256(&raw));
        assert_small(&yard);
        by_diff.diff_id = Some(sha256(b"another"));
        let error = yard.unpack("other", &blob, by_diff).unwrap_err();
        assert!(matches!(error, LayerError::WrongDiff { .. }), "{error}");
        assert_eq!(error.advice(), Advice::Refuse);
    }
}

#[test]
fn a_layer_that_nothing_proves_is_not_begun() {
    let yard = Yard::new();
    let mut nothing = wanted(b"", false);
    nothing.blob = None;
    let error = yard.unpack("tree", b"", nothing).unwrap_err();
    assert_eq!(error, LayerError::Unproved);
    assert!(!yard.path("tree").exists());
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    for blob in [
        Vec::new(),
        gzip(b""),
        vec![0; 512],
        vec![0; 1_024],
        vec![0; 10_240],
    ] {
        let yard = Yard::new();
        yard.unpack("tree", &blob, wanted(&blob, true)).unwrap();
        assert_eq!(fs::read_dir(yard.path("tree")).unwrap().count(), 0);
        assert_eq!(
            fs::metadata(yard.path("tree")).unwrap().mode() & 0o7777,
            0o755
        );
    }
}

#[test]
fn one_flipped_bit_anywhere_is_told_as_wrong_bytes() {
    let raw = small().ended();
    for blob in [gzip(&raw), zstd::encode_all(raw.as_slice(), 1).unwrap()] {
        for at in (0..blob.len()).step_by(1 + blob.len() / 40) {
            let mut flipped = blob.clone();
            flipped[at] ^= 0x10;
            let yard = Yard::new();
            let error = yard
                .unpack("tree", &flipped, wanted(&blob, false))
                .unwrap_err();
            assert!(
                matches!(error, LayerError::WrongBlob { .. }),
                "byte {at}: {error}"
            );
            assert_eq!(error.advice(), Advice::FetchAgain);
        }
    }
}

#[test]
fn a_blob_that_is_too_short_or_too_long_is_told_by_its_size() {
    let blob = small().gzip();
    let yard = Yard::new();
    let sent = &blob[..blob.len() - 3];
    let error = yard.unpack("tree", sent, wanted(&blob, false)).unwrap_err();
    let (expected, found) = (blob.len() as u64, sent.len() as u64);
    assert_eq!(error, LayerError::WrongSize { expected, found });
    let longer = [blob.as_slice(), b"x"].concat();
    let yard = Yard::new();
    let error = yard
        .unpack("tree", &longer, wanted(&blob, false))
        .unwrap_err();
    assert!(matches!(error, LayerError::WrongSize { .. }), "{error}");
}

#[test]
fn a_blob_that_is_broken_by_its_own_digest_is_called_broken() {
    let raw = small().ended();
    let mut garbage = gzip(&raw);
    garbage.extend_from_slice(b"garbage");
    let mut crc = gzip(&raw);
    let at = crc.len() - 6;
    crc[at] ^= 1;
    let truncated = gzip(&raw)[..200].to_vec();
    let text = b"<html>not found</html>".repeat(100);
    let window = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&raw).unwrap();
        encoder.finish().unwrap()
    };
    for (what, blob) in [
        ("garbage after it", garbage),
        ("crc", crc),
        ("truncated", truncated),
        ("text", text),
        ("window", window),
        ("half a header", raw[..700].to_vec()),
        ("half a file", raw[..100_000].to_vec()),
    ] {
        let yard = Yard::new();
        let error = yard
            .unpack("tree", &blob, wanted(&blob, false))
            .unwrap_err();
        assert!(matches!(error, LayerError::Broken(_)), "{what}: {error}");
        assert_eq!(error.advice(), Advice::AskContainerd, "{what}");
    }
}

#[test]
fn what_follows_the_archive_is_hashed_and_not_used() {
    let raw = [
        small().ended(),
        file("evil", b"x").header().to_vec(),
        vec![9; 70_000],
    ]
    .concat();
    let blob = gzip(&raw);
    let yard = Yard::new();
    let unpacked = yard.unpack("tree", &blob, wanted(&blob, false)).unwrap();
    assert_eq!(unpacked.diff_id, sha256(&raw));
    assert_small(&yard);
    assert!(!yard.has("evil"));
}

#[test]
fn an_archive_without_its_end_is_whole_as_at_containerd() {
    let archive = Archive::of([file("a", b"hello")]);
    let whole = archive.raw.len();
    // Without the two blocks of zeros, and without the padding of the last file.
    for length in [whole, whole + 512, whole - 100] {
        let mut raw = archive.ended();
        raw.truncate(length);
        let yard = Yard::new();
        yard.unpack("tree", &raw, wanted(&raw, false)).unwrap();
        assert_eq!(yard.read("a"), b"hello", "{length}");
    }
}

#[test]
fn a_tree_that_exists_is_left_alone() {
    let yard = Yard::new();
    fs::create_dir(yard.path("tree")).unwrap();
    let blob = small().gzip();
    let error = yard
        .unpack("tree", &blob, wanted(&blob, false))
        .unwrap_err();
    assert!(matches!(error, LayerError::Io(_)), "{error}");
    assert_eq!(fs::read_dir(yard.path("tree")).unwrap().count(), 0);
}

#[tokio::test]
async fn after_an_abandon_no_thread_touches_the_tree() {
    let yard = Yard::new();
    let blob = Archive::of([file("a", &vec![1; 9_000_000])]).ended();
    let mut unpacking = Unpacking::begin(&yard.path("tree"), wanted(&blob, false)).unwrap();
    for chunk in blob[..5_000_000].chunks(100_000) {
        unpacking
            .write(Bytes::copy_from_slice(chunk))
            .await
            .unwrap();
    }
    unpacking.abandon().await;
    remove_tree(&yard.path("tree")).unwrap();
    assert!(!yard.path("tree").exists());
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_no_bytes() {
    let yard = Yard::new();
    let raw = Archive::of([file("a", &vec![1; 9_000_000])]).ended();
    let mut unpacking = Unpacking::begin(&yard.path("tree"), wanted(&raw, false)).unwrap();
    let mut waits = 0;
    for chunk in raw.chunks(700_000) {
        let chunk = Bytes::copy_from_slice(chunk);
        // Polled once: where the queue is full it is dropped in the middle of its wait.
        match futures::poll!(std::pin::pin!(unpacking.write(chunk))) {
            std::task::Poll::Ready(done) => done.unwrap(),
            std::task::Poll::Pending => waits += 1,
        }
    }
    assert!(
        waits > 0,
        "the queue was never full: this test showed nothing"
    );
    assert_eq!(unpacking.offset(), raw.len() as u64);
    unpacking.finish().await.unwrap();
    assert_eq!(yard.read("a"), vec![1; 9_000_000]);
}
