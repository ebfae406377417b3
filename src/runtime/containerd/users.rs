//! Who runs from an image, and by which of its names.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tonic::transport::Channel;

use crate::domain::image::ImageRef;
use crate::runtime::containerd::chain::Image;
use crate::runtime::containerd::client::{Client, DEADLINE, MESSAGE_MAX, answer};
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::pin::is_pin;
use crate::runtime::containerd::place::KEY;
use crate::runtime::containerd::record::recorded_as;
use crate::runtime::wire::containers::containers_client::ContainersClient;
use crate::runtime::wire::containers::{Container, ListContainersRequest};
use crate::runtime::wire::images::Image as Record;

/// What `Info.kind` says of a snapshot that a container writes to (snapshots.proto, `Kind`).
const ACTIVE: i32 = 2;

/// Where CRI notes the name of a container's image (`annotations.ImageName`): since 2.0 the one that the
/// pod gives, where the kubelet tells it (1.28); before, the first of all that the image has.
const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";

/// Users of one image.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// Somebody runs from it, by whatever name.
    any: bool,
    /// Names by which containers were started, and whether it is sure that it was these.
    names: BTreeMap<String, bool>,
    /// Tags that lead to it, whoever made them.
    tags: BTreeSet<String>,
}

/// The part of a container's specification that we read.
#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

// === impl Users ===

impl Users {
    /// Looks for users of what `records` lead to.
    ///
    /// Containers name a record, sandboxes too, and so do those whose snapshot stands on nothing as their
    /// image has no layer. A snapshot on the image's top counts as well: its container may have been
    /// started by a name that is gone, or leads elsewhere by now.
    pub(super) async fn of(
        client: &Client,
        image: &Image,
        records: &[Record],
    ) -> Result<Self, ContainerdError> {
        let targets = records.iter().filter_map(|record| record.target.as_ref());
        let targets: BTreeSet<&str> = targets.map(|target| target.digest.as_str()).collect();
        let filters: Vec<String> = targets
            .into_iter()
            .map(|target| format!("target.digest=={target}"))
            .collect();
        if filters.is_empty() {
            return Ok(Self::default());
        }
        let named = client.images(&filters).await?;
        let filters = named
            .iter()
            .map(|record| format!("image=={:?}", record.name));
        let containers = client.containers(&filters.collect::<Vec<_>>()).await?;
        let names = told_names(&containers);
        let tags = named.into_iter().map(|record| record.name);
        Ok(Self {
            any: !containers.is_empty() || stands_below(client, image).await?,
            names,
            tags: tags.filter(|name| is_tag(name)).collect(),
        })
    }

    /// Whether this record has to stay, as without us it would be there.
    ///
    /// A container that is started again after a crash needs the name by which its pod was started: the
    /// kubelet of a node without us would have pulled exactly this, and would start it from it even where the tag
    /// has moved and the registry is away. Any other tag of the image nobody on this node has asked for: a pod that
    /// comes with it has to get what it means then. Where it is not sure which of several tags a container
    /// was started by, none of them stays: a pull that was needless is less than a pod of an older image.
    /// What names a digest never gets old: it stays as long as anybody runs from it.
    pub(super) fn keep(&self, name: &str) -> bool {
        if !is_tag(name) {
            return self.any;
        }
        let only = self.tags.len() == 1 && self.tags.contains(name);
        self.names.get(name).is_some_and(|sure| *sure || only)
    }
}

impl Client {
    /// Containers that pass one of the filters (`image==..`); none without any.
    async fn containers(&self, filters: &[String]) -> Result<Vec<Container>, ContainerdError> {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        let service = ContainersClient::<Channel>::new(self.channel());
        let mut service = service.max_decoding_message_size(MESSAGE_MAX);
        let filters = filters.to_vec();
        let call = service.list(self.request(ListContainersRequest { filters }, None));
        Ok(answer("list containers", DEADLINE, call).await?.containers)
    }
}

fn told_names(containers: &[Container]) -> BTreeMap<String, bool> {
    let mut names = BTreeMap::new();
    for (name, sure) in containers.iter().map(told) {
        *names.entry(name).or_default() |= sure;
    }
    names
}

/// The name by which a container was started, and whether it is its pod's word: CRI's own choice is what the
/// container's record says, too.
fn told(container: &Container) -> (String, bool) {
    let spec = container.spec.as_ref();
    let spec = spec.and_then(|spec| serde_json::from_slice::<Spec>(&spec.value).ok());
    let mut annotations = spec.unwrap_or_default().annotations;
    // As the pod's author wrote it: `nginx:1.27`.
    let written = annotations.remove(IMAGE_NAME);
    let named = written.map(|name| match name.parse::<ImageRef>() {
        Ok(image) if !name.starts_with("sha256:") => recorded_as(&image),
        _ => name,
    });
    match named {
        Some(name) if name != container.image => (name, true),
        _ => (container.image.clone(), false),
    }
}

/// Whether somebody's writable snapshot stands on the image's top.
async fn stands_below(client: &Client, image: &Image) -> Result<bool, ContainerdError> {
    let Some(top) = image.top() else {
        return Ok(false);
    };
    let above = client.snapshots(&[format!("parent=={top}")]).await?;
    let mut above = above.iter();
    Ok(above.any(|info| info.kind == ACTIVE && !info.name.starts_with(KEY)))
}

/// `registry/repository:tag`; not `..@sha256:..`, nor the ID under which CRI keeps an image, nor a pin.
fn is_tag(name: &str) -> bool {
    !name.contains('@') && !name.starts_with("sha256:") && !is_pin(name)
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    fn container(image: &str, annotated: Option<&str>) -> Container {
        let text =
            annotated.map(|name| format!(r#"{{"annotations": {{"{IMAGE_NAME}": "{name}"}}}}"#));
        Container {
            image: image.to_owned(),
            spec: text.map(|text| Any {
                type_url: String::new(),
                value: text.into_bytes(),
            }),
            ..Container::default()
        }
    }

    fn users(containers: &[Container], tags: &[&str]) -> Users {
        Users {
            any: !containers.is_empty(),
            names: told_names(containers),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    #[test]
    fn the_only_tag_of_what_runs_stays_and_so_does_its_digest() {
        let users = users(&[container("r.io/a:1", Some("r.io/a:1"))], &["r.io/a:1"]);
        assert!(
            users.keep("r.io/a:1") && users.keep("r.io/a@sha256:77") && users.keep("sha256:77")
        );
    }

    #[test]
    fn of_several_tags_only_one_stays_that_a_pod_surely_named() {
        let tags = ["r.io/a:1", "r.io/a:2"];
        let told = users(&[container("r.io/a:1", Some("r.io/a:2"))], &tags);
        assert!(told.keep("r.io/a:2") && !told.keep("r.io/a:1"));
        let guessed = users(&[container("r.io/a:1", None)], &tags);
        assert!(!guessed.keep("r.io/a:2") && !guessed.keep("r.io/a:1"));
    }

    #[test]
    fn a_pods_word_is_read_as_the_kubelet_reads_it() {
        let tags = ["docker.io/library/a:1", "docker.io/library/a:2"];
        let users = users(&[container("docker.io/library/a:1", Some("a:2"))], &tags);
        assert!(users.keep(tags[1]) && !users.keep(tags[0]));
    }

    #[test]
    fn nobody_keeps_nothing() {
        let users = users(&[], &["r.io/a:1"]);
        assert!(!users.keep("r.io/a:1") && !users.keep("r.io/a@sha256:77"));
    }
}
