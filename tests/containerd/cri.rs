//! The runtime behind CRI alone, and what a look at a node finds.

use std::time::Duration;

use forelay::runtime::containerd::Collect;
use forelay::runtime::containerd::check::look;
use forelay::runtime::cri::{Cri, CriError};
use forelay::runtime::socket::SocketError;
use forelay::runtime::wire::cri::AuthConfig;

use crate::daemon::{Containerd, Options};
use crate::image::Form;
use crate::program::busybox;
use crate::recipe::lease;
use crate::registry::{Upstream, sha256};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_image_is_pulled_listed_weighed_and_removed() {
    let mut origin = Upstream::start();
    let image = busybox(Form::Gzip, "one");
    image.push(&origin, "team/tool", "1").await;
    let options = Options {
        discard_unpacked_layers: true,
        ..Options::default()
    };
    let daemon = Containerd::start_in(&std::env::temp_dir(), &options).await;
    // A name that means nothing but what `hosts.toml` says.
    daemon.mirror("registry.forelay.test", &origin.address.to_string());
    let cri = Cri::connect(&daemon.socket()).await.unwrap();
    assert_eq!(cri.version().await.unwrap().runtime_name, "containerd");
    assert_eq!(cri.images().await.unwrap(), []);
    let name = "registry.forelay.test/team/tool:1";
    assert_eq!(cri.image(name).await.unwrap(), None);
    let auth = AuthConfig {
        username: "robot".to_owned(),
        password: "hidden".to_owned(),
        ..AuthConfig::default()
    };
    assert!(!format!("{auth:?}").contains("hidden"));
    let id = cri.pull(name, Some(auth), PATIENCE).await.unwrap();
    assert_eq!(id, sha256(&image.config).to_string());
    let [listed] = &cri.images().await.unwrap()[..] else {
        panic!("one image was pulled");
    };
    assert_eq!(
        (&listed.id, &listed.repo_tags[..]),
        (&id, &[name.to_owned()][..])
    );
    let client = daemon.client().await;
    let lease = lease(&client).await;
    client.lease_end(&lease, Collect::Now).await.unwrap();
    let stored = client.blob(&image.layers[0].digest()).await.unwrap();
    assert_eq!(stored, None, "layers go once they are unpacked");

    let missing = cri
        .pull("registry.forelay.test/team/none:1", None, PATIENCE)
        .await;
    assert!(
        matches!(missing, Err(CriError::NotFound { .. })),
        "{missing:?}"
    );
    cri.remove(name).await.unwrap();
    cri.remove(name).await.unwrap();
    assert_eq!(cri.images().await.unwrap(), []);
    origin.kill();
    let gone = cri.pull(name, None, PATIENCE).await.unwrap_err();
    assert!(gone.to_string().contains(name), "{gone}");
    drop(daemon);
    assert!(matches!(
        cri.images().await,
        Err(CriError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn a_look_at_a_node_tells_what_is_there() {
    let daemon = Containerd::start().await;
    let found = look(&daemon.socket()).await.unwrap();
    assert_eq!(
        found.version,
        daemon.client().await.version().await.unwrap().version
    );
    assert_eq!(found.snapshotter.as_deref(), Some("overlayfs"));
    let root = daemon.client().await.snapshotter_root().await.unwrap();
    assert_eq!(found.root, Some(root));
    let space = found.space.unwrap();
    assert!(
        space.bytes > space.bytes_free && space.inodes > space.inodes_free,
        "{space:?}"
    );
    assert_eq!(found.lazy, []);
    // 2.x keeps what concerns images to itself.
    let tells = found.version.trim_start_matches('v').starts_with("1.");
    let config_paths = tells.then(|| vec![daemon.certificates()]);
    assert_eq!(found.config_paths, config_paths);
    assert_eq!(found.discards_layers, tells.then_some(false));
    assert!(!found.verifies);
    assert_eq!(found.obstacle(), None);
    let nowhere = Cri::connect(&daemon.stage().join("none"))
        .await
        .unwrap_err();
    assert!(matches!(nowhere, CriError::Socket(SocketError::Missing(_))));
}
