//! The cache behind a line that breaks, stalls and lies.

use std::collections::HashSet;

use forelay::domain::quantity::ByteSize;
use futures::StreamExt;

use crate::cache::{image, options, start};
use crate::relay::{Fault, Relay};
use crate::upstream::{Upstream, client};

const SIZE: usize = 3_000_000;

#[tokio::test]
async fn a_cut_upstream_is_resumed_where_it_broke_and_readers_notice_nothing() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, SIZE)]).await;
    let faults = [Fault::Cut(1_000_000), Fault::Stall(500_000)];
    let relay = Relay::start(origin.address, faults).await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &relay.url())).await;

    assert_eq!(running.blob(&pushed, 0).await.unwrap(), pushed.layers[0]);
    let seen: Vec<_> = relay.seen().into_iter().map(|seen| seen.range).collect();
    let resumed = |from: usize| Some(format!("bytes={from}-"));
    assert_eq!(seen, [None, resumed(1_000_000), resumed(1_500_000)]);
    assert_eq!(running.cache.origin_bytes(), ByteSize(SIZE as u64));
}

#[tokio::test]
async fn a_reader_of_a_wrong_layer_never_gets_its_end_and_the_next_one_gets_the_right_one() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, SIZE)]).await;
    let relay = Relay::start(origin.address, [Fault::Flip(1234)]).await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &relay.url())).await;

    let answer = client()
        .get(running.blob_url(&pushed, 0))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let (mut got, mut failed) = (0, false);
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => got += chunk.len(),
            Err(_) => failed = true,
        }
    }
    assert!(
        failed && got < SIZE,
        "{got} of {SIZE} bytes of a wrong layer were given out"
    );
    assert_eq!(running.cache.store().used(), ByteSize(0));

    let mut tries = 0;
    let right = loop {
        match running.blob(&pushed, 0).await {
            Ok(bytes) => break bytes,
            Err(_) => tries += 1,
        }
        assert!(tries < 1000, "the back-off never ends");
    };
    assert_eq!(right, pushed.layers[0]);
    let digest = &pushed.manifest.layers[0].digest;
    running.cache.store().verify(digest).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_cannot_resume_is_asked_for_everything_again() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, SIZE)]).await;
    let faults = [Fault::Cut(1_000_000), Fault::NoRange];
    let relay = Relay::start(origin.address, faults).await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &relay.url())).await;

    let mut seen = HashSet::new();
    let right = loop {
        match running.blob(&pushed, 0).await {
            Ok(bytes) => break bytes,
            Err(error) => seen.insert(error.to_string()),
        };
    };
    assert_eq!(right, pushed.layers[0]);
    // The readers of the first attempt had seen its beginning: they are cut, not misled.
    assert!(!seen.is_empty());
}

#[tokio::test]
async fn a_killed_cache_resumes_its_partial_blobs() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, SIZE)]).await;
    let relay = Relay::start(origin.address, []).await;
    let folder = tempfile::tempdir().unwrap();
    let digest = &pushed.manifest.layers[0].digest;
    // What a killed process leaves: a partial file, no more.
    let ingest = folder.path().join("ingest");
    std::fs::create_dir_all(&ingest).unwrap();
    let partial = ingest.join(format!("{}.partial", digest.hex()));
    std::fs::write(partial, &pushed.layers[0][..700_001]).unwrap();

    let running = start(options(&folder, &relay.url())).await;
    assert_eq!(running.blob(&pushed, 0).await.unwrap(), pushed.layers[0]);
    assert_eq!(relay.seen()[0].range.as_deref(), Some("bytes=700001-"));
    assert_eq!(
        running.cache.origin_bytes(),
        ByteSize((SIZE - 700_001) as u64)
    );
}
