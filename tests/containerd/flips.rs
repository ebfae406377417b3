//! One flipped byte in a config, a manifest or an index: nothing of it is believed.

use forelay::api::ImagePhase;

use crate::image::{Form, Image};
use crate::node::Node;
use crate::program::busybox;
use crate::registry::Upstream;
use crate::relay::{Fault, Relay};

/// Which document arrives with another byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    Config,
    Manifest,
}

const DOCUMENTS: [Document; 2] = [Document::Config, Document::Manifest];

/// A registry with an image, and a relay that flips a byte of each of `times` documents.
async fn spoiled(document: Document, at: usize, times: usize) -> (Upstream, Relay, Image) {
    let origin = Upstream::start();
    let image = busybox(Form::Gzip, "one");
    image.push(&origin, "team/web", "1").await;
    let flips = std::iter::repeat_n(Fault::Flip(at), times);
    let relay = match document {
        Document::Config => Relay::start(origin.address, flips).await,
        Document::Manifest => {
            let relay = Relay::start(origin.address, []).await;
            relay.spoil_manifests(flips);
            relay
        }
    };
    (origin, relay, image)
}

#[tokio::test]
async fn a_document_with_a_wrong_byte_is_asked_for_elsewhere() {
    for document in DOCUMENTS {
        for at in [0, 20] {
            let (origin, liar, image) = spoiled(document, at, 100).await;
            let node = Node::start(format!("http://{}", origin.address)).await;
            let mut site = node.site();
            site.mirrors = vec![liar.url()];
            let runtime = std::sync::Arc::new(site.runtime().await);
            let status = site.deliver_by(runtime, &[("team/web:1", &image)]).await;
            assert_eq!(status.present, 1, "{document:?} {at}: {status:?}");
        }
    }
}

#[tokio::test]
async fn a_document_with_a_wrong_byte_comes_right_another_time() {
    for document in DOCUMENTS {
        // A manifest and its index are asked for: both are wrong at first.
        let (_origin, relay, image) = spoiled(document, 20, 3).await;
        let node = Node::start(relay.url()).await;
        let status = node.deliver(&[("team/web:1", &image)]).await;
        assert_eq!(status.present, 1, "{document:?}: {status:?}");
    }
}

#[tokio::test]
async fn a_registry_that_only_has_wrong_documents_gets_nothing_into_the_daemon() {
    for document in DOCUMENTS {
        let (_origin, relay, image) = spoiled(document, 20, 1_000).await;
        let node = Node::start(relay.url()).await;
        let status = node.deliver(&[("team/web:1", &image)]).await;
        assert_eq!((status.present, status.failed), (0, 1), "{status:?}");
        assert_eq!(status.images[0].phase, ImagePhase::Failed);
        let message = status.images[0].message.clone().unwrap();
        assert!(message.contains("sha256:"), "{document:?}: {message}");
        let client = node.daemon.client().await;
        assert!(client.images(&[]).await.unwrap().is_empty());
        assert!(client.snapshots(&[]).await.unwrap().is_empty());
        assert!(client.blobs(&[]).await.unwrap().is_empty());
    }
}
