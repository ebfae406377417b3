//! Pod specs as needs, by example.

use crate::source::kubernetes::needs::*;

fn spec(json: &str) -> PodSpec {
    serde_json::from_str(json).unwrap()
}

#[test]
fn images_come_in_the_order_in_which_the_kubelet_needs_them() {
    let spec = spec(
        r#"{"containers":[{"name":"main","image":"nginx","imagePullPolicy":"Always"}],
            "initContainers":[{"name":"first","image":"busybox:1"}],
            "volumes":[{"name":"tmp"},{"name":"data","image":{"reference":"quay.io/a/b:2"}}]}"#,
    );
    let (needs, unreadable) = pod_needs(&spec);
    let names: Vec<_> = needs.images.iter().map(|i| i.container.as_str()).collect();
    assert_eq!(names, ["data", "first", "main"]);
    assert!(needs.images[2].always_pull && !needs.images[1].always_pull);
    assert_eq!(unreadable, 0);
}

#[test]
fn an_image_that_is_no_reference_is_counted_and_the_others_stay() {
    let spec =
        spec(r#"{"containers":[{"name":"a","image":"no image"},{"name":"b","image":"ok"}]}"#);
    let (needs, unreadable) = pod_needs(&spec);
    assert_eq!((needs.images.len(), unreadable), (1, 1));
}

#[test]
fn the_hungriest_moment_of_the_init_sequence_counts() {
    let container = |name: &str, cpu: &str, restart: &str| {
        format!(
            r#"{{"name":"{name}","image":"x","restartPolicy":"{restart}",
                "resources":{{"requests":{{"cpu":"{cpu}"}}}}}}"#
        )
    };
    let json = format!(
        r#"{{"initContainers":[{},{},{}],"containers":[{}],"overhead":{{"cpu":"10m"}}}}"#,
        container("early", "100m", ""),
        container("side", "200m", "Always"),
        container("late", "1", ""),
        container("main", "500m", ""),
    );
    assert_eq!(pod_needs(&spec(&json)).0.requests.cpu_milli, 1210);
}

#[test]
fn a_limit_is_a_request_where_the_request_is_silent() {
    let spec = spec(
        r#"{"containers":[{"name":"a","image":"x","resources":{
            "limits":{"nvidia.com/gpu":"1","cpu":"4"},"requests":{"cpu":"2"}}}]}"#,
    );
    let requests = pod_needs(&spec).0.requests;
    assert_eq!(requests.extended["nvidia.com/gpu"], 1);
    assert_eq!((requests.cpu_milli, requests.pods), (2000, 1));
}

#[test]
fn what_admission_adds_to_a_pod_does_not_tell_it_from_its_template() {
    let pod = spec(
        r#"{"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists",
            "effect":"NoExecute","tolerationSeconds":300},{"key":"gpu","operator":"Exists"}]}"#,
    );
    let template = spec(r#"{"tolerations":[{"key":"gpu","operator":"Exists"}]}"#);
    assert_eq!(pod_needs(&pod), pod_needs(&template));
}

#[test]
fn a_daemonset_pod_names_its_node() {
    let spec = spec(
        r#"{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{
            "nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In",
            "values":["node-1"]}]}]}}}}"#,
    );
    assert_eq!(pinned_node(&spec), Some("node-1"));
    assert_eq!(pod_needs(&spec).0.affinity[0][0].key, NODE_NAME_FIELD);
}
