//! How an image may be shown to pods: never older, and to nobody else, than its registry would.

use std::sync::Arc;

use crate::agent::mirror::Book;
use crate::domain::image::{Digest, ImageRef, Platform};
use crate::domain::manifest::{IndexEntry, Manifest, ManifestError};
use crate::plan::policy::Pattern;
use crate::port::{BlobSource, FetchError, RawManifest, ResolveError, Show, Tags, Whole};

/// Asks registries just before images are recorded.
#[derive(Clone)]
pub(super) struct Shower {
    pub(super) tags: Option<Arc<dyn Tags>>,
    pub(super) source: Arc<dyn BlobSource>,
    /// Images that never get a record.
    pub(super) unrecorded: Arc<[Pattern]>,
    /// What the mirror answers from: registries are asked here anyway.
    pub(super) book: Option<Book>,
}

/// Why an image is held without a record, though it might have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShowError {
    /// The tag means something else by now: the plan is about to say so, too.
    #[error("{image} means {now} by now: {planned} is held without a record")]
    Moved {
        /// the reference
        image: ImageRef,
        /// what was planned and brought
        planned: Digest,
        /// what the registry says
        now: Digest,
    },
    /// It must not be recorded, and a runtime that brings images itself records them all.
    #[error(
        "{image} is left to the kubelet: what this runtime pulls every pod of the node can use, and {why}"
    )]
    Hidden {
        /// the reference
        image: ImageRef,
        /// what keeps it from a record
        why: &'static str,
    },
    /// Nobody says what the tag means.
    #[error("{image} is held without a record until its registry answers: {reason}")]
    Unknown {
        /// the reference
        image: ImageRef,
        /// the last failure
        reason: String,
    },
}

// === impl Shower ===

impl Shower {
    /// What to tell the runtime now, and what keeps it from being a record for the time being. `platform` is
    /// the node's.
    pub(super) async fn whole(
        &self,
        image: &ImageRef,
        digest: &Digest,
        platform: Option<&Platform>,
    ) -> (Whole, Result<(), ShowError>) {
        let whole = |show, index| Whole {
            image: image.clone(),
            digest: digest.clone(),
            index,
            show,
        };
        self.note(|book| book.hold(image, digest));
        if self.unrecorded.iter().any(|p| p.matches(image.as_str())) {
            return (whole(Show::Warm, None), Ok(()));
        }
        let Some(tags) = &self.tags else {
            return (whole(Show::Warm, None), Ok(()));
        };
        match self.meaning(&**tags, (image, digest), platform).await {
            Ok(Some(index)) => (whole(Show::Record, index), Ok(())),
            Ok(None) => (whole(Show::Warm, None), Ok(())),
            Err(doubt) => (whole(Show::Warm, None), Err(doubt)),
        }
    }

    /// Why an image gets no record, where nothing is in doubt.
    pub(super) fn why_warm(&self, image: &ImageRef) -> &'static str {
        if self.unrecorded.iter().any(|p| p.matches(image.as_str())) {
            "agent.unrecorded names it"
        } else if self.tags.is_none() {
            "nobody may be asked what its name means (agent.origin_fallback)"
        } else {
            "its registry does not give it to everybody"
        }
    }

    /// The index (if any) through which the reference leads to this manifest; `None` where it is not
    /// for everybody.
    async fn meaning(
        &self,
        tags: &dyn Tags,
        (image, digest): (&ImageRef, &Digest),
        platform: Option<&Platform>,
    ) -> Result<Option<Option<RawManifest>>, ShowError> {
        let unknown = |reason| ShowError::Unknown {
            image: image.clone(),
            reason,
        };
        let now = match tags.meaning(image).await {
            Ok(now) => now,
            // A repository that hides itself from the unknown answers either way.
            Err(ResolveError::Denied { .. } | ResolveError::NotFound { .. }) => {
                self.note(|book| book.closed(image));
                return Ok(None);
            }
            Err(error) => return Err(unknown(error.to_string())),
        };
        self.note(|book| book.said(image, &now));
        if now == *digest {
            return Ok(Some(None));
        }
        let moved = || ShowError::Moved {
            image: image.clone(),
            planned: digest.clone(),
            now: now.clone(),
        };
        let raw = match self.source.manifest(image, &now).await {
            Ok(raw) => raw,
            Err(FetchError::Denied(_)) => return Ok(None),
            Err(error) => return Err(unknown(error.to_string())),
        };
        let lists = lists(&raw, digest, platform).map_err(|e| unknown(e.to_string()))?;
        if lists {
            self.note(|book| book.indexed(image, &raw));
            Ok(Some(Some(raw)))
        } else {
            Err(moved())
        }
    }

    fn note(&self, what: impl FnOnce(&Book)) {
        if let Some(book) = &self.book {
            what(book);
        }
    }
}

/// Whether this is an index that leads this node to that manifest: one that lists it for another platform
/// leads pods here to something else. What an index does not say, the config has said.
fn lists(
    raw: &RawManifest,
    digest: &Digest,
    platform: Option<&Platform>,
) -> Result<bool, ManifestError> {
    let Manifest::Index(entries) = Manifest::parse(&raw.bytes)? else {
        return Ok(false);
    };
    let fits = |entry: &IndexEntry| match (&entry.platform, platform) {
        (Some(listed), Some(wanted)) => listed == wanted,
        _ => true,
    };
    let mut entries = entries.iter().filter(|entry| entry.digest == *digest);
    Ok(entries.any(fits))
}

// === impl ShowError ===

impl ShowError {
    /// Whether asking again is no use while the plan stays as it is.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Hidden { .. })
    }

    /// A word for the metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Moved { .. } => "moved",
            Self::Hidden { .. } => "hidden",
            Self::Unknown { .. } => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_lc_rs::digest::{SHA256, digest as sha256};
    use bytes::Bytes;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::domain::manifest::{OCI_IMAGE, OCI_INDEX};
    use crate::port::{BlobStream, BlobWanted};

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest::from_sha256(sha256(&SHA256, bytes).as_ref())
    }

    /// A registry of two answers.
    struct Registry {
        means: Result<Digest, ResolveError>,
        manifests: BTreeMap<Digest, Bytes>,
    }

    impl Tags for Registry {
        fn meaning<'a>(&'a self, _: &'a ImageRef) -> BoxFuture<'a, Result<Digest, ResolveError>> {
            async { self.means.clone() }.boxed()
        }
    }

    impl BlobSource for Registry {
        fn manifest<'a>(
            &'a self,
            _: &'a ImageRef,
            digest: &'a Digest,
        ) -> BoxFuture<'a, Result<RawManifest, FetchError>> {
            let found = self.manifests.get(digest).map(|bytes| RawManifest {
                digest: digest.clone(),
                media_type: OCI_INDEX.to_owned(),
                bytes: bytes.clone(),
            });
            let found = found.ok_or_else(|| FetchError::NotFound(digest.clone()));
            async { found }.boxed()
        }

        fn blob<'a>(&'a self, _: &'a BlobWanted) -> BoxFuture<'a, Result<BlobStream, FetchError>> {
            unreachable!("showing an image moves no layer")
        }
    }

    fn image() -> ImageRef {
        "shop/web:1".parse().unwrap()
    }

    fn index_of(digest: &Digest) -> Bytes {
        index_for("amd64", digest)
    }

    fn index_for(arch: &str, digest: &Digest) -> Bytes {
        let entry = json!({"mediaType": OCI_IMAGE, "size": 9, "digest": digest.as_str(),
            "platform": {"os": "linux", "architecture": arch}});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        Bytes::from(index.to_string())
    }

    async fn shown(
        means: Result<Digest, ResolveError>,
        manifests: &[&Bytes],
        never: &str,
    ) -> (Whole, Result<(), ShowError>) {
        let by_digest = manifests.iter().map(|&m| (digest_of(m), m.clone()));
        let registry = Arc::new(Registry {
            means,
            manifests: by_digest.collect(),
        });
        let shower = Shower {
            tags: Some(registry.clone()),
            source: registry,
            unrecorded: [Pattern::new(never)].into(),
            book: None,
        };
        let amd64 = Platform::linux("amd64");
        let planned = digest_of(b"planned");
        shower.whole(&image(), &planned, Some(&amd64)).await
    }

    #[tokio::test]
    async fn a_tag_that_means_what_was_planned_is_recorded() {
        let planned = digest_of(b"planned");
        let (whole, doubt) = shown(Ok(planned.clone()), &[], "").await;
        assert_eq!(
            (whole.show, whole.index, doubt),
            (Show::Record, None, Ok(()))
        );
        let index = index_of(&planned);
        let (whole, doubt) = shown(Ok(digest_of(&index)), &[&index], "").await;
        assert_eq!((whole.show, doubt), (Show::Record, Ok(())));
        assert_eq!(whole.index.unwrap().bytes, index);
    }

    #[tokio::test]
    async fn a_tag_that_moved_is_not_recorded() {
        let other = index_of(&digest_of(b"another"));
        let (whole, doubt) = shown(Ok(digest_of(&other)), &[&other], "").await;
        assert_eq!(whole.show, Show::Warm);
        let doubt = doubt.unwrap_err();
        assert!(doubt.is_lasting() && doubt.to_string().contains(digest_of(&other).as_str()));
    }

    #[tokio::test]
    async fn an_index_that_lists_it_for_another_platform_leads_elsewhere() {
        let index = index_for("arm64", &digest_of(b"planned"));
        let (whole, doubt) = shown(Ok(digest_of(&index)), &[&index], "").await;
        assert_eq!(whole.show, Show::Warm);
        assert!(doubt.unwrap_err().is_lasting());
    }

    #[tokio::test]
    async fn what_is_not_for_everybody_is_held_without_a_record() {
        let denied = ResolveError::Denied {
            image: image(),
            reason: "401".into(),
        };
        let (whole, doubt) = shown(Err(denied), &[], "").await;
        assert_eq!((whole.show, doubt), (Show::Warm, Ok(())));
    }

    #[tokio::test]
    async fn a_silent_registry_is_asked_again() {
        let silent = ResolveError::Unavailable {
            image: image(),
            reason: "timed out".into(),
        };
        let (whole, doubt) = shown(Err(silent), &[], "").await;
        assert_eq!(whole.show, Show::Warm);
        assert!(!doubt.unwrap_err().is_lasting());
    }

    #[tokio::test]
    async fn images_that_an_operator_names_never_get_a_record() {
        let (whole, doubt) = shown(Ok(digest_of(b"planned")), &[], "*/shop/web:*").await;
        assert_eq!((whole.show, doubt), (Show::Warm, Ok(())));
    }
}
