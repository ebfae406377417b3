//! What was there before a recorded exchange, where the transcript does not say how it came.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Transcript;

/// One thing to do before an exchange.
pub enum Step {
    /// A request of the recording's own client.
    Send(&'static str, String, Value),
    /// An object that is there as recorded, uid included.
    Put(Value),
    /// Time passes.
    Wait(Duration),
    /// The server forgets its changes, as etcd's compaction and a full watch cache made it do.
    Forget,
    /// Leases elsewhere change every ten seconds from now on.
    LeasesElsewhere,
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const WIDGETS: &str = "/apis/example.com/v1alpha1/widgets";

fn config_map(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels},
        "data": {"a": "1"},
    })
}

fn post_config_map(namespace: &str, name: &str, labels: Value) -> Step {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut body = config_map(name, labels);
    if body["metadata"]["labels"].is_null() {
        body["metadata"] = json!({"name": name});
    }
    Step::Send("POST", path, body)
}

fn patch_config_map(name: &str, patch: Value) -> Step {
    Step::Send("PATCH", format!("{CONFIG_MAPS}/{name}"), patch)
}

fn delete_config_map(name: &str) -> Step {
    Step::Send("DELETE", format!("{CONFIG_MAPS}/{name}"), Value::Null)
}

/// The items of a recorded list, whole.
fn items(transcript: &Transcript, exchange: usize) -> Vec<Step> {
    let body = &transcript.exchanges[exchange]["response"]["body"];
    let items = body["items"]
        .as_array()
        .expect("the recorded answer is a list");
    let kind = body["kind"].as_str().unwrap().trim_end_matches("List");
    let typed = |item: &Value| {
        let mut item = item.clone();
        item["kind"] = json!(kind);
        item["apiVersion"] = body["apiVersion"].clone();
        Step::Put(item)
    };
    items.iter().map(typed).collect()
}

/// The definition of widgets: that of gizmos under other names.
pub fn widgets(lifecycle: &Transcript) -> Value {
    let mut crd = lifecycle.exchanges[1]["request"]["body"].clone();
    crd["metadata"]["name"] = json!("widgets.example.com");
    crd["spec"]["names"] = json!({
        "kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget",
        "shortNames": ["wd"], "categories": ["example"],
    });
    crd
}

/// What to do before exchange `index` of a transcript.
pub fn before(transcript: &Transcript, index: usize) -> Vec<Step> {
    let none = Value::Null;
    match (transcript.name.as_str(), index) {
        ("owner-references-gc", 9) => vec![Step::Wait(Duration::from_secs(4))],
        ("delete-finalizers-preconditions", 0) => {
            // All but the one that the transcript itself makes, the older one first.
            items(transcript, 10).into_iter().skip(1).rev().collect()
        }
        ("delete-finalizers-preconditions", 16) => vec![Step::Wait(Duration::from_secs(2))],
        ("delete-finalizers-preconditions", 17) => ["dc0", "dc1", "dc2"]
            .map(|name| post_config_map("demo", name, json!({"dc": "1"})))
            .into(),
        ("json-patch", 0) => vec![post_config_map("demo", "jp", none)],
        ("watch-basic", 1) => vec![
            post_config_map("demo", "w1", json!({"set": "w"})),
            patch_config_map("w1", json!({"data": {"a": "2"}})),
            patch_config_map("w1", json!({"data": {"a": "2"}})),
            delete_config_map("w1"),
        ],
        ("watch-bookmarks", 1) => vec![Step::LeasesElsewhere],
        ("watch-rv-zero", 0) => ["z1", "z2"]
            .map(|name| post_config_map("demo", name, json!({"set": "z"})))
            .into(),
        ("watch-selector-transition", 0) => {
            vec![post_config_map("demo", "s1", json!({"sel": "no"}))]
        }
        ("watch-selector-transition", 1) => ["yes", "no"]
            .map(|sel| patch_config_map("s1", json!({"metadata": {"labels": {"sel": sel}}})))
            .into(),
        ("watch-and-list-expired", 0) => expired_objects(),
        ("watch-and-list-expired", 1) => (0..5)
            .map(|n| patch_config_map("exp", json!({"data": {"n": n.to_string()}})))
            .collect(),
        ("watch-and-list-expired", 4) => vec![Step::Forget],
        ("list-limit-continue", 0) => {
            let page = |n: u8| {
                let labels = json!({"set": "page", "odd": (n % 2).to_string()});
                post_config_map("demo", &format!("page-{n}"), labels)
            };
            let certificate = items(transcript, 2).into_iter().take(1);
            certificate.chain((0..7).map(page)).collect()
        }
        ("list-limit-continue", 1) => {
            vec![post_config_map("demo", "a-late", json!({"set": "page"}))]
        }
        ("list-limit-continue", 2) => {
            let first = items(transcript, 2).into_iter().skip(1);
            first.chain(items(transcript, 3)).collect()
        }
        _ => before_selected(transcript, index),
    }
}

/// The same for the transcripts of selectors and representations.
fn before_selected(transcript: &Transcript, index: usize) -> Vec<Step> {
    let none = Value::Null;
    match (transcript.name.as_str(), index) {
        ("label-selectors", 0) => vec![
            post_config_map("demo", "l1", json!({"app": "a", "ls": "1", "tier": "x"})),
            post_config_map("demo", "l2", json!({"app": "b", "ls": "1"})),
            post_config_map("demo", "l3", json!({"ls": "1", "tier": "y"})),
        ],
        ("field-selectors", 0) => items(transcript, 6),
        ("field-selectors", 8) => {
            let blue = json!({
                "apiVersion": "example.com/v1alpha1", "kind": "Widget",
                "metadata": {"name": "blue"}, "spec": {"size": 1, "color": "blue"},
            });
            vec![Step::Send("POST", WIDGETS.to_owned(), blue)]
        }
        ("field-selectors", 13) => {
            let stream = &transcript.exchanges[13]["response"]["stream"];
            vec![Step::Put(stream[0]["event"]["object"].clone())]
        }
        ("not-found-and-media-types", 0) => vec![post_config_map("demo", "dup", none)],
        ("table-and-metadata", 5) => table_objects(transcript),
        ("table-and-metadata", 9) => {
            let stream = &transcript.exchanges[9]["response"]["stream"];
            let mut object = stream[0]["event"]["object"].clone();
            object["kind"] = json!("ConfigMap");
            object["apiVersion"] = json!("v1");
            vec![Step::Put(object)]
        }
        _ => Vec::new(),
    }
}

/// Twenty-five ConfigMaps, as many as the recording counted.
fn expired_objects() -> Vec<Step> {
    let mut steps = vec![post_config_map("demo", "dup", Value::Null)];
    let generated = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "gen-chvdv", "generateName": "gen-"},
    });
    steps.push(Step::Send("POST", CONFIG_MAPS.to_owned(), generated));
    steps.push(post_config_map("demo", "gc-owner", Value::Null));
    let others = (0..21).map(|n| post_config_map("demo", &format!("other-{n:02}"), Value::Null));
    steps.extend(others);
    steps.push(post_config_map("demo", "exp", Value::Null));
    steps
}

/// The objects of the metadata lists, and as many more as were counted beyond their pages.
fn table_objects(transcript: &Transcript) -> Vec<Step> {
    let body = |exchange: usize| &transcript.exchanges[exchange]["response"]["body"];
    let typed = |object: &Value, api_version: &str, kind: &str| {
        let mut object = object.clone();
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(api_version);
        Step::Put(object)
    };
    let listed = |exchange: usize| body(exchange)["items"].as_array().unwrap();
    let more = |exchange: usize| {
        body(exchange)["metadata"]["remainingItemCount"]
            .as_u64()
            .unwrap()
    };
    let config_map = |object: &Value| typed(object, "v1", "ConfigMap");
    let widget = |object: &Value| typed(object, "example.com/v1alpha1", "Widget");

    let mut steps = vec![config_map(body(6))];
    steps.extend(listed(5).iter().map(config_map));
    steps.extend(listed(7).iter().map(widget));
    // The ConfigMap of exchange 6 is one of those beyond the page.
    for n in 1..more(5) {
        let metadata = json!({"name": format!("z{n:02}"), "namespace": "demo"});
        steps.push(config_map(&json!({"metadata": metadata})));
    }
    for n in 0..more(7) {
        steps.push(widget(&json!({"metadata": {"name": format!("z{n:02}")}})));
    }
    steps
}
