//! The text of cluster-autoscaler's status ConfigMap as numbers per group.

use serde::Deserialize;

/// One group of the status ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// Group as cluster-autoscaler names it.
    pub name: String,
    /// `cloudProviderTarget`
    pub target: u32,
    /// Node objects that exist.
    pub registered: u32,
    /// Machines that never became nodes.
    pub long_unregistered: u32,
    /// The group is left alone after a failure.
    pub backoff: bool,
    /// `errorMessage` or `errorCode` of the failure.
    pub error: String,
}

/// The groups of the status text: YAML since cluster-autoscaler 1.30, lines of prose before.
#[must_use]
pub fn autoscaler_status(text: &str) -> Option<Vec<GroupStatus>> {
    if text
        .trim_start()
        .starts_with("Cluster-autoscaler status at")
    {
        return Some(prose_status(text));
    }
    let status: Status = serde_saphyr::from_str(text)
        .or_else(|_| serde_saphyr::from_str(&quoted_errors(text)))
        .ok()?;
    let groups = status.node_groups.unwrap_or_default().into_iter();
    Some(groups.map(GroupStatus::from).collect())
}

/// The text with its error messages in quotes: not every writer of the ConfigMap quotes a message
/// with a colon in it (the recordings' does not), and one message must not hide all groups.
fn quoted_errors(text: &str) -> String {
    const KEY: &str = "errorMessage: ";
    let line = |line: &str| match line.split_once(KEY) {
        Some((before, message)) if !message.starts_with(['"', '\'', '|', '>']) => {
            let message = serde_json::Value::from(message); // a JSON text is a YAML scalar
            format!("{before}{KEY}{message}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The form before 1.30: `Name: G` and `Health: Healthy (ready=3 .. cloudProviderTarget=3 (..))`.
fn prose_status(text: &str) -> Vec<GroupStatus> {
    let mut groups: Vec<GroupStatus> = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(':') else {
            continue;
        };
        let value = value.trim();
        if key == "Name" {
            groups.push(GroupStatus {
                name: value.to_owned(),
                ..GroupStatus::default()
            });
        }
        let Some(group) = groups.last_mut() else {
            continue; // the cluster-wide part comes first
        };
        let number = |name: &str| -> u32 {
            let mut words = value.split([' ', '(', ')']);
            let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        match key {
            "Health" => {
                group.target = number("cloudProviderTarget");
                group.registered = number("registered");
                group.long_unregistered = number("longUnregistered");
            }
            "ScaleUp" => group.backoff = value.starts_with("Backoff"),
            _ => {}
        }
    }
    groups
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    node_groups: Option<Vec<Group>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    scale_up: ScaleUp,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Health {
    cloud_provider_target: u32,
    node_counts: NodeCounts,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeCounts {
    registered: Registered,
    long_unregistered: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Registered {
    total: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScaleUp {
    status: String,
    backoff_info: BackoffInfo,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BackoffInfo {
    error_code: String,
    error_message: String,
}

impl From<Group> for GroupStatus {
    fn from(group: Group) -> Self {
        let counts = group.health.node_counts;
        let info = group.scale_up.backoff_info;
        Self {
            name: group.name,
            target: group.health.cloud_provider_target,
            registered: counts.registered.total,
            long_unregistered: counts.long_unregistered,
            backoff: group.scale_up.status == "Backoff",
            error: if info.error_message.is_empty() {
                info.error_code
            } else {
                info.error_message
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "autoscalerStatus: Running
nodeGroups:
- name: gpu
  health:
    cloudProviderTarget: 4
    nodeCounts:
      longUnregistered: 1
      registered:
        total: 2
  scaleUp:
    status: Backoff
    backoffInfo:
      errorCode: cloudProviderError
      errorMessage: no room: zone b
";

    #[test]
    fn a_group_is_read_even_when_its_error_message_is_not_quoted() {
        let group = GroupStatus {
            name: "gpu".into(),
            target: 4,
            registered: 2,
            long_unregistered: 1,
            backoff: true,
            error: "no room: zone b".into(),
        };
        assert_eq!(autoscaler_status(YAML), Some(vec![group.clone()]));
        let quoted = YAML.replace("no room: zone b", "'no room: zone b'");
        assert_eq!(autoscaler_status(&quoted), Some(vec![group]));
    }

    #[test]
    fn a_status_without_groups_has_none() {
        let text = "autoscalerStatus: Initializing\n";
        assert_eq!(autoscaler_status(text), Some(vec![]));
        assert_eq!(autoscaler_status(": ["), None);
    }

    #[test]
    fn the_prose_of_older_autoscalers_says_the_same() {
        let text = "Cluster-autoscaler status at 2023-01-01 00:00:00 +0000 UTC:
Cluster-wide:
  Health:      Healthy (ready=3 unready=0 registered=3 longUnregistered=0)
NodeGroups:
  Name:        gpu
  Health:      Healthy (ready=2 unready=0 (resourceUnready=0) notStarted=0 registered=2 longUnregistered=1 cloudProviderTarget=4 (minSize=0, maxSize=9))
  ScaleUp:     Backoff (ready=2 cloudProviderTarget=4)
";
        let groups = autoscaler_status(text).unwrap();
        let group = &groups[0];
        assert_eq!((groups.len(), group.name.as_str()), (1, "gpu"));
        assert_eq!((group.target, group.registered), (4, 2));
        assert!(group.backoff && group.long_unregistered == 1);
    }
}
