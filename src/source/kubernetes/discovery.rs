//! Which of the understood kinds an API server serves.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;

use crate::source::kubernetes::objects::Kind;

/// Those of `wanted` that are served and can be watched, in the order of `wanted`.
///
/// One request per API version, none per kind. A version that is not served is no error; one that
/// everybody has and that does not answer is.
pub async fn installed(client: &kube::Client, wanted: &[Kind]) -> kube::Result<Vec<Kind>> {
    let versions: BTreeSet<(&str, &str)> =
        wanted.iter().map(|k| (k.group(), k.version())).collect();
    let mut served: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for (group, version) in versions {
        let answer = if group.is_empty() {
            client.list_core_api_resources(version).await
        } else {
            let name = format!("{group}/{version}");
            client.list_api_group_resources(&name).await
        };
        match answer {
            Ok(list) => {
                served.insert((group, version), watchable(list));
            }
            // By code: of an API that it does not have, a server speaks in plain text, and then
            // kube's `is_not_found` is false.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            // An aggregated API whose server is down answers 503 for its group alone.
            Err(kube::Error::Api(status)) if !group.is_empty() && group.contains('.') => {
                tracing::debug!(group, version, %status, "not served now");
            }
            Err(error) => return Err(error),
        }
    }
    let is_served = |kind: &&Kind| {
        served
            .get(&(kind.group(), kind.version()))
            .is_some_and(|plurals| plurals.contains(kind.plural()))
    };
    Ok(wanted.iter().filter(is_served).copied().collect())
}

fn watchable(list: APIResourceList) -> BTreeSet<String> {
    let can_watch = |verbs: &[String]| verbs.iter().any(|verb| verb == "watch");
    list.resources
        .into_iter()
        .filter(|resource| can_watch(&resource.verbs))
        .map(|resource| resource.name)
        .collect()
}
