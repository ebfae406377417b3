//! The embedded API server serves the real kube client.

use std::sync::Arc;
use std::time::Duration;

use forelay::api;
use forelay::embedded::apiserver::{ApiServer, Handle, ObjectRef, Options};
use forelay::telemetry::clock::SystemClock;
use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Config, Error, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A wait longer than this means that what is waited for does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a port of its own, ended at the end of the test.
struct Running {
    client: Client,
    handle: Handle,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(Arc::new(SystemClock));
        change(&mut options);
        let server = ApiServer::new(options);
        let handle = server.handle();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            server
                .serve(listener, async move { drop(stopped.await) })
                .await
        });
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        Self {
            client,
            handle,
            stop,
            served,
        }
    }

    async fn end(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.served)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    timeout(PATIENCE, stream.next())
        .await
        .expect("an event comes")
        .expect("the stream goes on")
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value},
    }))
    .unwrap()
}

fn plan_crd() -> CustomResourceDefinition {
    let image = json!({
        "type": "object", "required": ["image"],
        "properties": {"image": {"type": "string"}, "probability": {"type": "number"}},
    });
    let spec = json!({
        "type": "object",
        "required": ["epoch"],
        "properties": {
            "epoch": {"type": "integer", "format": "int64"},
            "images": {
                "type": "array", "items": image,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["image"],
            },
        },
        "x-kubernetes-validations": [
            {"rule": "self.epoch >= oldSelf.epoch", "message": "the epoch never goes back"},
        ],
    });
    let status = json!({"type": "object", "properties": {"phase": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "plans.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"kind": "Plan", "plural": "plans"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }))
    .unwrap()
}

fn plans(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("example.com", "v1", "Plan");
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

fn plan(name: &str, epoch: i64, image: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Plan", "metadata": {"name": name},
        "spec": {"epoch": epoch, "images": [{"image": image, "probability": 0.5}]},
    })
}

fn status_code(error: Error) -> u16 {
    match error {
        Error::Api(status) => status.code,
        other => panic!("not an answer of the server: {other}"),
    }
}

#[tokio::test]
async fn objects_are_created_read_replaced_patched_and_deleted() {
    let server = Running::start(|_| {}).await;
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let post = PostParams::default();
    let created = api.create(&post, &config_map("a", "1")).await.unwrap();
    assert_eq!(
        status_code(api.create(&post, &config_map("a", "1")).await.unwrap_err()),
        409
    );

    let mut changed = created.clone();
    changed.data = config_map("a", "2").data;
    let replaced = api.replace("a", &post, &changed).await.unwrap();
    assert_ne!(replaced.resource_version(), created.resource_version());
    assert_eq!(
        status_code(api.replace("a", &post, &changed).await.unwrap_err()),
        409
    );

    let patch = Patch::Merge(json!({"data": {"b": "3"}}));
    let patched = api
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap()["b"], "3");
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["a"], "2");

    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
    server.end().await;
}

#[tokio::test]
async fn a_list_comes_in_pages_of_one_version() {
    let server = Running::start(|_| {}).await;
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &config_map(name, "1"))
            .await
            .unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    api.create(&PostParams::default(), &config_map("bb", "1"))
        .await
        .unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let second = api
        .list(&ListParams::default().limit(2).continue_token(&token))
        .await
        .unwrap();
    let names = |items: &[ConfigMap]| items.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!(names(&first.items), ["a", "b"]);
    assert_eq!(names(&second.items), ["c"]);
    assert_eq!(
        first.metadata.resource_version,
        second.metadata.resource_version
    );
    server.end().await;
}

#[tokio::test]
async fn a_watcher_sees_what_was_there_and_what_changes() {
    let server = Running::start(|_| {}).await;
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    assert!(matches!(next(&mut events).await.unwrap(), Event::Init));
    assert!(matches!(next(&mut events).await.unwrap(), Event::InitApply(m) if m.name_any() == "a"));
    assert!(matches!(next(&mut events).await.unwrap(), Event::InitDone));

    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    assert!(matches!(next(&mut events).await.unwrap(), Event::Apply(m) if m.name_any() == "b"));
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(matches!(next(&mut events).await.unwrap(), Event::Delete(m) if m.name_any() == "a"));
    drop(events);
    server.end().await;
}

#[tokio::test]
async fn a_watcher_lists_again_when_its_version_expired() {
    let server = Running::start(|_| {}).await;
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let events = watcher::watcher(api.clone(), watcher::Config::default());
    let mut events = events.default_backoff().boxed();
    while !matches!(next(&mut events).await.unwrap(), Event::InitDone) {}

    server.handle.expire_watches();
    // The expiry is an error, and after it the watcher begins anew.
    let mut expired = false;
    loop {
        match next(&mut events).await {
            Ok(Event::InitDone) => break,
            Ok(_) => {}
            Err(_) => expired = true,
        }
    }
    assert!(expired);
    drop(events);
    server.end().await;
}

#[tokio::test]
async fn a_metadata_watch_carries_metadata_alone() {
    let server = Running::start(|_| {}).await;
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let metadata: Api<PartialObjectMeta<ConfigMap>> =
        Api::namespaced(server.client.clone(), "default");
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let mut events = watcher::watcher(metadata, watcher::Config::default()).boxed();
    while !matches!(next(&mut events).await.unwrap(), Event::InitDone) {}
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    assert!(matches!(next(&mut events).await.unwrap(), Event::Apply(m) if m.name_any() == "b"));
    drop(events);
    server.end().await;
}

#[tokio::test]
async fn bookmarks_come_at_the_interval() {
    let short = |options: &mut Options| options.bookmark_interval = Duration::from_millis(20);
    let server = Running::start(short).await;
    let api: Api<Pod> = Api::all(server.client.clone());
    let mut events = api
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    let first = next(&mut events).await.unwrap();
    let WatchEvent::Bookmark(first) = first else {
        panic!("{first:?}")
    };
    assert!(
        !first.metadata.annotations.is_empty(),
        "the first one ends the initial events"
    );
    server
        .handle
        .put(json!(config_map("elsewhere", "1")))
        .unwrap();
    let now = server.handle.resource_version().to_string();
    loop {
        match next(&mut events).await.unwrap() {
            WatchEvent::Bookmark(mark) if mark.metadata.resource_version == now => break,
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
    drop(events);
    server.end().await;
}

#[tokio::test]
async fn a_lease_is_held_by_whoever_wrote_the_current_version() {
    let server = Running::start(|_| {}).await;
    let api: Api<Lease> = Api::namespaced(server.client.clone(), "kube-system");
    let lease = |holder: &str, version: Option<String>| Lease {
        metadata: ObjectMeta {
            name: Some("leader".to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime("2026-01-01T00:00:00.000001Z".parse().unwrap())),
            ..LeaseSpec::default()
        }),
    };
    let post = PostParams::default();
    let held = api.create(&post, &lease("a", None)).await.unwrap();
    let taken = api
        .replace("leader", &post, &lease("b", held.resource_version()))
        .await
        .unwrap();
    let late = api
        .replace("leader", &post, &lease("a", held.resource_version()))
        .await;
    assert_eq!(status_code(late.unwrap_err()), 409);
    let blind = api.replace("leader", &post, &lease("a", None)).await;
    assert_eq!(status_code(blind.unwrap_err()), 422);
    let found = api.get("leader").await.unwrap();
    assert_eq!(found.resource_version(), taken.resource_version());
    assert_eq!(found.spec.unwrap().holder_identity.as_deref(), Some("b"));
    server.end().await;
}

#[tokio::test]
async fn an_older_epoch_is_refused_and_fields_have_owners() {
    let server = Running::start(|_| {}).await;
    let crds: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    let install = PatchParams::apply("installer").force();
    crds.patch("plans.example.com", &install, &Patch::Apply(plan_crd()))
        .await
        .unwrap();
    let api = plans(&server.client);
    let leader = PatchParams::apply("leader");
    let applied = api
        .patch("n1", &leader, &Patch::Apply(plan("n1", 3, "a")))
        .await
        .unwrap();
    let again = api
        .patch("n1", &leader, &Patch::Apply(plan("n1", 3, "a")))
        .await
        .unwrap();
    assert_eq!(applied.resource_version(), again.resource_version());
    assert_eq!(applied.metadata.generation, Some(1));

    let old = api
        .patch("n1", &leader, &Patch::Apply(plan("n1", 2, "a")))
        .await
        .unwrap_err();
    assert_eq!(status_code(old), 422);
    let other = PatchParams::apply("other");
    let contested = api
        .patch("n1", &other, &Patch::Apply(plan("n1", 4, "b")))
        .await
        .unwrap_err();
    assert_eq!(status_code(contested), 409);

    // An entry that its owner no longer sends goes; the list is told apart by image.
    let moved = api
        .patch("n1", &leader, &Patch::Apply(plan("n1", 4, "b")))
        .await
        .unwrap();
    assert_eq!(
        moved.data["spec"]["images"],
        json!([{"image": "b", "probability": 0.5}])
    );
    assert_eq!(moved.metadata.generation, Some(2));

    let status = json!({
        "apiVersion": "example.com/v1", "kind": "Plan", "metadata": {"name": "n1"},
        "status": {"phase": "Done"}, "spec": {"epoch": 9},
    });
    let agent = PatchParams::apply("agent");
    let reported = api
        .patch_status("n1", &agent, &Patch::Apply(status))
        .await
        .unwrap();
    assert_eq!(reported.data["status"]["phase"], "Done");
    assert_eq!(reported.data["spec"]["epoch"], 4);
    assert_eq!(reported.metadata.generation, Some(2));
    server.end().await;
}

#[tokio::test]
async fn what_a_node_owns_goes_with_it_but_not_what_was_played() {
    let server = Running::start(|_| {}).await;
    let crds: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    crds.create(&PostParams::default(), &plan_crd())
        .await
        .unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    let node: Node = serde_json::from_value(server.handle.put(node).unwrap()).unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node.uid()}]);
    let mut owned = plan("n1", 1, "a");
    owned["metadata"]["ownerReferences"] = owner.clone();
    let apply = PatchParams::apply("leader");
    plans(&server.client)
        .patch("n1", &apply, &Patch::Apply(owned))
        .await
        .unwrap();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {},
        "metadata": {"name": "n1", "namespace": "kube-node-lease", "ownerReferences": owner},
    });
    let played = server.handle.put(lease).unwrap();

    let nodes: Api<Node> = Api::all(server.client.clone());
    nodes.delete("n1", &DeleteParams::default()).await.unwrap();
    assert!(plans(&server.client).get_opt("n1").await.unwrap().is_none());
    assert!(server.handle.get(&ObjectRef::of(&played)).is_ok());
    server.end().await;
}

#[tokio::test]
async fn a_pod_is_selected_by_its_node() {
    let server = Running::start(|_| {}).await;
    let pod = |name: &str, node: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "busybox"}]},
            "status": {"phase": "Running"},
        })
    };
    server.handle.put(pod("a", "n1")).unwrap();
    server.handle.put(pod("b", "n2")).unwrap();
    let api: Api<Pod> = Api::all(server.client.clone());
    let found = api
        .list(&ListParams::default().fields("spec.nodeName=n1"))
        .await
        .unwrap();
    assert_eq!(
        found
            .items
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>(),
        ["a"]
    );
    let unknown = api
        .list(&ListParams::default().fields("spec.bogus=1"))
        .await
        .unwrap_err();
    assert_eq!(status_code(unknown), 400);
    server.end().await;
}

#[tokio::test]
async fn a_paused_server_answers_when_it_resumes() {
    let server = Running::start(|_| {}).await;
    let api: Api<Node> = Api::all(server.client.clone());
    server.handle.pause();
    let mut waiting = tokio::spawn(async move { api.list(&ListParams::default()).await });
    let early = timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "nothing is answered while paused");
    server.handle.resume();
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap().is_ok());
    server.end().await;
}

#[tokio::test]
async fn discovery_names_custom_kinds() {
    let server = Running::start(|_| {}).await;
    server.handle.put(json!(plan_crd())).unwrap();
    let groups = server.client.list_api_groups().await.unwrap();
    assert!(
        groups
            .groups
            .iter()
            .any(|group| group.name == "example.com")
    );
    let resources = server
        .client
        .list_api_group_resources("example.com/v1")
        .await
        .unwrap();
    let names: Vec<&str> = resources
        .resources
        .iter()
        .map(|r| r.name.as_str())
        .collect();
    assert_eq!(names, ["plans", "plans/status"]);
    assert_eq!(server.client.apiserver_version().await.unwrap().minor, "36");
    server.end().await;
}

#[tokio::test]
async fn our_own_definitions_are_installed_and_enforced() {
    let server = Running::start(|_| {}).await;
    let crds: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    let install = PatchParams::apply("installer").force();
    for crd in api::crds() {
        let name = crd.name_any();
        crds.patch(&name, &install, &Patch::Apply(&crd))
            .await
            .unwrap();
        let conditions = crds
            .get(&name)
            .await
            .unwrap()
            .status
            .unwrap()
            .conditions
            .unwrap();
        assert!(
            conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
        );
    }
    let kind = GroupVersionKind::gvk("forelay.dev", "v1alpha1", "NodePrefetch");
    let resource = ApiResource::from_gvk_with_plural(&kind, "nodeprefetches");
    let prefetches: Api<DynamicObject> = Api::all_with(server.client.clone(), &resource);
    let prefetch = |name: &str, epoch: u64| {
        let spec = json!({"node": "n1", "epoch": epoch, "made": "2026-11-23T08:31:48.174243Z"});
        Patch::Apply(json!({
            "apiVersion": "forelay.dev/v1alpha1", "kind": "NodePrefetch",
            "metadata": {"name": name}, "spec": spec,
        }))
    };
    let leader = PatchParams::apply("leader").force();
    let made = prefetches
        .patch("n1", &leader, &prefetch("n1", 2))
        .await
        .unwrap();
    assert_eq!(
        made.data["spec"]["entries"],
        json!([]),
        "defaults are filled in"
    );
    let older = prefetches
        .patch("n1", &leader, &prefetch("n1", 1))
        .await
        .unwrap_err();
    let Error::Api(status) = older else {
        panic!("{older}")
    };
    assert_eq!(status.code, 422);
    assert!(
        status.message.contains("epoch never goes back"),
        "{}",
        status.message
    );
    let misnamed = prefetches
        .patch("n2", &leader, &prefetch("n2", 2))
        .await
        .unwrap_err();
    assert_eq!(status_code(misnamed), 422);
    server.end().await;
}

#[tokio::test]
async fn a_definition_that_no_server_would_take_is_refused() {
    let server = Running::start(|_| {}).await;
    let crds: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    let changed = |change: fn(&mut Value)| {
        let mut crd = json!(plan_crd());
        change(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
        serde_json::from_value::<CustomResourceDefinition>(crd).unwrap()
    };
    let wrong_scope: fn(&mut Value) =
        |spec| spec["x-kubernetes-validations"][0]["rule"] = json!("self.spec.epoch > 0");
    let unknown_function: fn(&mut Value) =
        |spec| spec["x-kubernetes-validations"][0]["rule"] = json!("nosuch(self.epoch)");
    let no_syntax: fn(&mut Value) =
        |spec| spec["x-kubernetes-validations"][0]["rule"] = json!("self.epoch >");
    let no_type: fn(&mut Value) = |spec| spec["properties"]["epoch"] = json!({"minimum": 1});
    let no_keys: fn(&mut Value) =
        |spec| spec["properties"]["images"]["x-kubernetes-list-map-keys"] = Value::Null;
    for change in [wrong_scope, unknown_function, no_syntax, no_type, no_keys] {
        let refused = crds
            .create(&PostParams::default(), &changed(change))
            .await
            .unwrap_err();
        assert_eq!(status_code(refused), 422);
    }
    crds.create(&PostParams::default(), &plan_crd())
        .await
        .unwrap();
    server.end().await;
}

#[tokio::test]
async fn a_slow_watch_is_expired_rather_than_buffered() {
    let server = Running::start(|options| options.history_max = 4).await;
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let version = server.handle.resource_version().to_string();
    for n in 0..10 {
        server
            .handle
            .put(json!(config_map(&format!("m{n}"), "1")))
            .unwrap();
    }
    let mut events = api
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();
    let WatchEvent::Error(status) = next(&mut events).await.unwrap() else {
        panic!("the oldest changes are forgotten")
    };
    assert_eq!(status.code, 410);
    drop(events);
    server.end().await;
}
