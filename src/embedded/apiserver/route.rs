//! Paths of the API, taken apart.

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/version`.
    Version,
    /// A health endpoint and the single check asked for.
    Health(Option<String>),
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    Resources(GroupVersion),
    /// Objects.
    Objects(ObjectPath),
    /// Nowhere.
    Unknown,
}

/// An API group (empty for the core group) with a version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupVersion {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
}

/// The path of a collection, an object or a subresource; what is absent is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectPath {
    /// Group and version.
    pub group_version: GroupVersion,
    /// Namespace.
    pub namespace: String,
    /// Plural of the resource.
    pub plural: String,
    /// Name of the object.
    pub name: String,
    /// Subresource.
    pub subresource: String,
    /// The old `/watch/` form.
    pub watch: bool,
}

impl Route {
    /// Takes a path apart. Names of Kubernetes objects need no percent-decoding.
    pub fn parse(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let text = |part: &str| part.to_owned();
        match parts.as_slice() {
            ["version"] => Self::Version,
            ["livez" | "readyz" | "healthz"] => Self::Health(None),
            ["livez" | "readyz" | "healthz", check] => Self::Health(Some(text(check))),
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group(text(group)),
            ["api", version] => Self::Resources(GroupVersion {
                group: String::new(),
                version: text(version),
            }),
            ["apis", group, version] => Self::Resources(GroupVersion {
                group: text(group),
                version: text(version),
            }),
            ["api", version, rest @ ..] => objects("", version, rest),
            ["apis", group, version, rest @ ..] => objects(group, version, rest),
            _ => Self::Unknown,
        }
    }
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Route {
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    // A namespace is itself an object of the core group, with two subresources.
    let (namespace, rest) = match rest {
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] if group.is_empty() => {
            ("", rest)
        }
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Route::Unknown,
    };
    Route::Objects(ObjectPath {
        group_version: GroupVersion {
            group: group.to_owned(),
            version: version.to_owned(),
        },
        namespace: namespace.to_owned(),
        plural: plural.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        watch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> (String, String, String, String) {
        match Route::parse(text) {
            Route::Objects(path) => (path.namespace, path.plural, path.name, path.subresource),
            other => panic!("{text} leads to {other:?}"),
        }
    }

    fn strings(parts: [&str; 4]) -> (String, String, String, String) {
        let [a, b, c, d] = parts.map(str::to_owned);
        (a, b, c, d)
    }

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        assert_eq!(
            path("/api/v1/namespaces"),
            strings(["", "namespaces", "", ""])
        );
        assert_eq!(
            path("/api/v1/namespaces/a"),
            strings(["", "namespaces", "a", ""])
        );
        assert_eq!(
            path("/api/v1/namespaces/a/status"),
            strings(["", "namespaces", "a", "status"])
        );
        assert_eq!(
            path("/api/v1/namespaces/a/pods"),
            strings(["a", "pods", "", ""])
        );
        assert_eq!(
            path("/api/v1/namespaces/a/pods/b"),
            strings(["a", "pods", "b", ""])
        );
        assert_eq!(
            path("/apis/g/v1/things/x/status"),
            strings(["", "things", "x", "status"])
        );
    }

    #[test]
    fn paths_of_nothing_are_unknown() {
        for text in ["/", "/nosuch", "/api/v1/a/b/c/d", "/openapi/v3"] {
            assert_eq!(Route::parse(text), Route::Unknown, "{text}");
        }
    }
}
