//! What `deploy/` installs is well-formed, and fits what the programs ask for and listen on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use forelay::config::raw::{RawAgent, RawCache, RawController};
use forelay::source::kubernetes::objects::Kind;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Namespace, PodSpec, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn base() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/kustomize/base"
    ))
}

/// Every object that the kustomization lists in its own folder, by file.
fn objects() -> Vec<(String, Value)> {
    let text = fs::read_to_string(base().join("kustomization.yaml")).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&text).unwrap();
    let mut objects = Vec::new();
    for resource in kustomization["resources"].as_array().unwrap() {
        let name = resource.as_str().unwrap();
        if name.starts_with("..") {
            assert!(
                base().join(name).join("kustomization.yaml").is_file(),
                "{name}"
            );
            continue;
        }
        let text = fs::read_to_string(base().join(name)).unwrap();
        for document in text.split("\n---\n") {
            objects.push((name.to_owned(), serde_saphyr::from_str(document).unwrap()));
        }
    }
    objects
}

/// Decodes, and checks that no member was lost: one that is misspelt is.
fn exact<T: Serialize + DeserializeOwned>(object: &Value) -> T {
    let decoded: T = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&decoded).unwrap(), object);
    decoded
}

fn pod(kind: &str, name: &str) -> PodSpec {
    let is_it = |o: &&(String, Value)| o.1["kind"] == kind && o.1["metadata"]["name"] == name;
    let objects = objects();
    let (_, object) = objects.iter().find(is_it).unwrap();
    serde_json::from_value(object["spec"]["template"]["spec"].clone()).unwrap()
}

#[test]
fn every_manifest_is_what_the_api_server_understands() {
    for (file, object) in objects() {
        match object["kind"].as_str().unwrap() {
            "Namespace" => drop(exact::<Namespace>(&object)),
            "ServiceAccount" => drop(exact::<ServiceAccount>(&object)),
            "ClusterRole" => drop(exact::<ClusterRole>(&object)),
            "ClusterRoleBinding" => drop(exact::<ClusterRoleBinding>(&object)),
            "Role" => drop(exact::<Role>(&object)),
            "RoleBinding" => drop(exact::<RoleBinding>(&object)),
            "Service" => drop(exact::<Service>(&object)),
            "Deployment" => drop(exact::<Deployment>(&object)),
            "DaemonSet" => drop(exact::<DaemonSet>(&object)),
            other => panic!("{file}: {other}"),
        }
    }
}

#[test]
fn the_controller_may_watch_every_kind_that_it_understands_and_no_other() {
    let objects = objects();
    let role = objects
        .iter()
        .find(|(_, o)| o["kind"] == "ClusterRole" && o["metadata"]["name"] == "forelay-controller")
        .map(|(_, o)| exact::<ClusterRole>(o))
        .unwrap();
    let mut allowed = BTreeSet::new();
    for rule in role.rules.unwrap_or_default() {
        let PolicyRule {
            api_groups,
            resources,
            verbs,
            ..
        } = rule;
        for group in api_groups.unwrap_or_default() {
            for resource in resources.clone().unwrap_or_default() {
                let policies = resource == "prefetchpolicies";
                if !policies && verbs.iter().any(|verb| verb == "watch") {
                    assert_eq!(verbs, ["list", "watch"], "{resource}");
                    allowed.insert((group.clone(), resource));
                }
            }
        }
    }
    let understood: BTreeSet<(String, String)> = Kind::ALL
        .iter()
        .map(|kind| (kind.group().to_owned(), kind.plural().to_owned()))
        .collect();
    assert_eq!(allowed, understood);
}

#[test]
fn ports_names_and_folders_are_those_of_the_defaults() {
    let port = |listen: &str| listen.rsplit_once(':').unwrap().1.parse::<i32>().unwrap();
    let ports = |spec: &PodSpec| -> BTreeMap<String, i32> {
        let ports = spec.containers[0].ports.clone().unwrap_or_default();
        let named =
            |p: k8s_openapi::api::core::v1::ContainerPort| (p.name.unwrap(), p.container_port);
        ports.into_iter().map(named).collect()
    };
    let controller = RawController::default();
    let spec = pod("Deployment", "forelay-controller");
    assert_eq!(ports(&spec)["http-metrics"], port(&controller.listen));
    let role = fs::read_to_string(base().join("controller-rbac.yaml")).unwrap();
    assert!(role.contains(&format!("resourceNames: [{}]", controller.lease.name)));
    assert!(role.contains(&format!("resourceNames: [{}]", controller.state.name)));

    let agent = RawAgent::default();
    let spec = pod("DaemonSet", "forelay-agent");
    assert_eq!(ports(&spec)["http-metrics"], port(&agent.listen));

    let cache = RawCache::default();
    let spec = pod("Deployment", "forelay-cache");
    assert_eq!(ports(&spec)["http-metrics"], port(&cache.admin_listen));
    assert_eq!(ports(&spec)["registry"], port(&cache.listen));
    let mounts = spec.containers[0].volume_mounts.clone().unwrap();
    assert!(cache.directory.starts_with(&mounts[0].mount_path));
}
