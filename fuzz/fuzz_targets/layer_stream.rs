//! Any stream becomes a tree or a named error: no thread panics, and nothing leaves the tree.

#![no_main]

use bytes::Bytes;
use forelay::domain::image::Digest;
use forelay::domain::quantity::ByteSize;
use forelay::runtime::layer::{LayerError, Limits, Unpacking, Wanted, remove_tree};
use libfuzzer_sys::fuzz_target;

// Run as root: owners, devices and whiteouts are refused to others.
fuzz_target!(|input: &[u8]| {
    let Some((first, stream)) = input.split_first() else {
        return;
    };
    let yard = tempfile::tempdir().expect("a folder for temporary files");
    let tree = yard.path().join("tree");
    let nothing: Digest = format!("sha256:{}", "0".repeat(64)).parse().expect("a digest");
    let wanted = Wanted {
        blob: None,
        size: None,
        diff_id: Some(nothing),
        is_bottom: first & 1 == 1,
        limits: Limits {
            raw: ByteSize(1 << 24),
            entries: 1_000,
            pax: ByteSize(1 << 22),
            ..Limits::default()
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let outcome = runtime.expect("a runtime").block_on(async {
        let mut unpacking = Unpacking::begin(&tree, wanted)?;
        for chunk in stream.chunks(1 + usize::from(*first)) {
            unpacking.write(Bytes::copy_from_slice(chunk)).await?;
        }
        unpacking.finish().await
    });
    match outcome {
        Err(LayerError::Io(reason)) => panic!("{reason}"),
        Err(_) => {}
        Ok(_) => panic!("no stream has that digest"),
    }
    remove_tree(&tree).expect("the tree can be removed");
    let left = std::fs::read_dir(yard.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "something lies beside the tree");
});
