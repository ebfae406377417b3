//! What a server of the distribution protocol reads and answers, without a web framework.

use serde_json::json;

use crate::domain::image::ImageRef;

/// A request below `/v2/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `library/nginx`
    pub repository: String,
    /// Manifest or blob.
    pub kind: Kind,
    /// Tag or digest.
    pub reference: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `/manifests/`
    Manifest,
    /// `/blobs/`
    Blob,
}

/// Which bytes of a body of known size are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// All of them: 200.
    All,
    /// From the first to before the second: 206.
    Part(u64, u64),
    /// None that exist: 416.
    Beyond,
}

/// An error in the specification's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// `BLOB_UNKNOWN`, ...
    pub code: &'static str,
    /// For humans.
    pub message: String,
}

impl Asked {
    /// Reads a path such as `/v2/library/nginx/blobs/sha256:..`; `None` for any other.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        let (rest, reference) = rest.rsplit_once('/')?;
        let (repository, kind) = rest.rsplit_once('/')?;
        let kind = match kind {
            "manifests" => Kind::Manifest,
            "blobs" => Kind::Blob,
            _ => return None,
        };
        let usable = |text: &str, max: usize, extra: &str| {
            let allowed =
                |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || extra.contains(c);
            !text.is_empty() && text.len() <= max && text.chars().all(allowed)
        };
        // The specification's limits: 255 characters of a name, 128 of a tag.
        (usable(repository, 255, "/") && usable(reference, 128, ":") && !repository.contains(".."))
            .then(|| Self {
                repository: repository.to_owned(),
                kind,
                reference: reference.to_owned(),
            })
    }

    /// What is asked for at `registry`, as pods would name it; `None` where that is no name.
    pub fn image(&self, registry: &str) -> Option<ImageRef> {
        let Self {
            repository,
            reference,
            ..
        } = self;
        let joint = if reference.contains(':') { '@' } else { ':' };
        let text = format!("{registry}/{repository}{joint}{reference}");
        let image: ImageRef = text.parse().ok()?;
        // A name such as `host` without dot or port would be read as a part of the repository.
        (image.registry() == registry).then_some(image)
    }
}

impl Bytes {
    /// Reads a `Range` header. Several ranges, and units other than bytes, are ignored, as RFC 9110
    /// allows.
    pub fn parse(header: Option<&str>, size: u64) -> Self {
        let Some(range) = header.and_then(|text| text.strip_prefix("bytes=")) else {
            return Self::All;
        };
        let Some((first, last)) = range.split_once('-') else {
            return Self::All;
        };
        match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(start), _) if start >= size => Self::Beyond,
            (Ok(start), Ok(end)) if end >= start => {
                Self::Part(start, size.min(end.saturating_add(1)))
            }
            (Ok(start), Err(_)) if last.trim().is_empty() => Self::Part(start, size),
            (Err(_), Ok(0)) if first.trim().is_empty() => Self::Beyond,
            (Err(_), Ok(n)) if first.trim().is_empty() => Self::Part(size.saturating_sub(n), size),
            _ => Self::All,
        }
    }
}

impl Problem {
    /// The manifest or blob is not here: clients ask elsewhere.
    pub fn unknown(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            status: 404,
            code: match kind {
                Kind::Manifest => "MANIFEST_UNKNOWN",
                Kind::Blob => "BLOB_UNKNOWN",
            },
            message: message.into(),
        }
    }

    /// The path is none of the protocol's, or names no repository.
    pub fn no_such_path() -> Self {
        Self {
            status: 404,
            code: "NAME_UNKNOWN",
            message: "no manifest or blob has this path".into(),
        }
    }

    /// Only reading is supported.
    pub fn read_only() -> Self {
        Self {
            status: 405,
            code: "UNSUPPORTED",
            message: "this registry is read-only".into(),
        }
    }

    /// The JSON body.
    pub fn body(&self) -> String {
        json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]})
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_repository_kind_and_reference() {
        let asked = Asked::parse("/v2/library/nginx/manifests/1.27").unwrap();
        assert_eq!(asked.repository, "library/nginx");
        assert_eq!(asked.kind, Kind::Manifest);
        assert_eq!(asked.reference, "1.27");
    }

    #[test]
    fn paths_that_could_leave_the_repository_are_none() {
        for bad in [
            "/v2/",
            "/v2/a/tags/list",
            "/v2//blobs/x",
            "/v2/../x/blobs/y",
            "/v2/a b/blobs/y",
            "/v2/a/blobs/%2e%2e",
            "/v3/a/blobs/y",
        ] {
            assert_eq!(Asked::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_asked_of_a_registry_is_named_as_pods_name_it() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (path, registry, name) in [
            (
                "library/nginx/manifests/1",
                "docker.io",
                Some("docker.io/library/nginx:1".to_owned()),
            ),
            (
                &format!("team/web/manifests/{digest}"),
                "quay.io",
                Some(format!("quay.io/team/web@{digest}")),
            ),
            ("team/web/manifests/1", "host", None),
            ("team/web/manifests/1", "a b.io", None),
        ] {
            let asked = Asked::parse(&format!("/v2/{path}")).unwrap();
            let image = asked.image(registry);
            assert_eq!(image.map(|image| image.to_string()), name);
        }
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(Bytes::parse(None, 10), Bytes::All);
        assert_eq!(Bytes::parse(Some("bytes=3-"), 10), Bytes::Part(3, 10));
        assert_eq!(Bytes::parse(Some("bytes=3-99"), 10), Bytes::Part(3, 10));
        assert_eq!(Bytes::parse(Some("bytes=0-0"), 10), Bytes::Part(0, 1));
        assert_eq!(Bytes::parse(Some("bytes=-4"), 10), Bytes::Part(6, 10));
        assert_eq!(Bytes::parse(Some("bytes=10-"), 10), Bytes::Beyond);
        assert_eq!(Bytes::parse(Some("bytes=1-2,4-5"), 10), Bytes::All);
        assert_eq!(Bytes::parse(Some("lines=1-2"), 10), Bytes::All);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond_the_end(
            header in "bytes=[0-9]{0,4}-[0-9]{0,4}",
            size in 0u64..3000,
        ) {
            if let Bytes::Part(start, end) = Bytes::parse(Some(&header), size) {
                prop_assert!(start < end || size == 0, "{start} {end}");
                prop_assert!(end <= size);
            }
        }

        #[test]
        fn any_path_is_read_or_refused_without_a_panic(path in "/v2/.{0,60}") {
            let _ = Asked::parse(&path);
        }
    }
}
