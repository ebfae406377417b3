//! A model file that changes under a running controller.

use std::path::Path;
use std::time::Duration;

use forelay::config::model::text;
use forelay::controller::model::Followed;
use forelay::forecast::model::{Model, Uses};

use crate::cluster::{TestCluster, eventually, images};
use crate::replica::Replica;

const WEB: &str = "docker.io/library/nginx:1.27";

/// As a ConfigMap's mount does it: a symbolic link is swapped.
fn swap(folder: &Path, version: u32, content: &str) {
    let file = folder.join(format!("v{version}.toml"));
    std::fs::write(&file, content).unwrap();
    let next = folder.join("next");
    std::os::unix::fs::symlink(&file, &next).unwrap();
    std::fs::rename(&next, folder.join("model.toml")).unwrap();
}

/// A model that knows of nothing plans nothing; what cannot be read changes nothing; then a model that
/// knows of pods plans the pod's image.
pub async fn followed(cluster: &TestCluster) {
    let folder = tempfile::tempdir().unwrap();
    let blind = "[uses]\ndaemonsets = false\npods = false\nscalers = false\nrollouts = false\n\
                 announcements = false\nhistory = false\n";
    swap(folder.path(), 1, blind);
    let path = folder.path().join("model.toml");
    let file = Followed {
        path: path.clone(),
        interval: Duration::from_millis(50),
    };
    let replica = Replica::start(&cluster.client, "only", |options| {
        options.model = Model {
            uses: Uses::nothing(),
            ..Model::default()
        };
        options.model_file = Some(file);
    });
    let digest = text(&path).unwrap().digest;
    let in_force = || async { replica.instruments.has_model(&digest).then_some(()) };
    eventually("the first model is in force", in_force).await;
    cluster.pod_waits("model-waits", "nginx:1.27").await;
    cluster.node_joins("model-1", "general").await;
    let empty = cluster.node_plan("model-1", "a plan", |_| true).await;
    assert!(images(&empty).is_empty());

    for (version, bad) in [
        (2, "version = 99\n"),
        (3, "[chances]\nsure = 1.5\n"),
        (4, "[price]\nsecond_bytes = 0.0\n"),
        (5, "[times]\nwindow_s = nan\n"),
        (6, "[times\n"),
    ] {
        let before = replica.instruments.refused_models();
        swap(folder.path(), version, bad);
        let refused = || async {
            let refused = replica.instruments.refused_models();
            (refused > before).then_some(())
        };
        eventually("it is refused", refused).await;
        assert!(replica.instruments.has_model(&digest), "{bad}");
    }
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(replica.instruments.has_model(&digest));
    let plans = cluster.node_plans();
    let plan = plans.get("model-1").await.unwrap();
    assert!(images(&plan).is_empty());

    // The node is Ready when it is first seen: the shipped model leaves it to the scheduler.
    let good = "[price]\nkeep = 0.5\n[chances]\nvacancy = 0.5\n";
    swap(folder.path(), 7, good);
    let has_web = |plan: &_| images(plan).iter().any(|image| image == WEB);
    cluster
        .node_plan("model-1", "the pod's image", has_web)
        .await;
    let digest = text(&path).unwrap().digest;
    assert!(replica.instruments.has_model(&digest));
    replica.stop().await;
}
