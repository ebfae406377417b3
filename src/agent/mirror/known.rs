//! What a mirror knows: names, the manifests that they were brought for, what origins last said.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::time::Timestamp;
use crate::port::RawManifest;

/// Names that are known at most: a node has two plans of up to 256 images each, and some that linger.
const NAMES_MAX: usize = 1_024;

/// Bytes of all indexes that are kept: one has 1 to 10 KB, an agent at rest 10 MiB in all.
const INDEX_BYTES_MAX: usize = 2 << 20;

/// All of it. Pure: times are arguments.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: BTreeMap<ImageRef, Name>,
    index_bytes: usize,
}

/// Who may read an image, by what its origin said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// Anybody, without a credential.
    Everybody,
    /// Only who shows the origin a credential.
    Some,
}

/// A name that a plan brought to this node.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The manifest of this platform, which the runtime has.
    pub(super) manifest: Digest,
    pub(super) access: Access,
    /// What the origin last said that the name means, and when.
    said: Option<(Digest, Timestamp)>,
    /// What it means where that is an index around the manifest.
    pub(super) index: Option<RawManifest>,
    /// What it means by now where that does not lead to the manifest.
    pub(super) moved: Option<Digest>,
    /// When it was last brought.
    held: Timestamp,
}

/// A manifest that a digest may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// The runtime has it.
    Manifest(Digest),
    /// It is here.
    Index(RawManifest),
}

// === impl Known ===

impl Known {
    /// A plan has brought this manifest for the name.
    pub(super) fn hold(&mut self, image: &ImageRef, manifest: &Digest, now: Timestamp) {
        if let Some(name) = self.names.get_mut(image)
            && name.manifest == *manifest
        {
            name.held = now;
            return;
        }
        self.drop_name(image);
        if self.names.len() >= NAMES_MAX {
            let oldest = self.names.iter().min_by_key(|(_, name)| name.held);
            let oldest = oldest.map(|(image, _)| image.clone());
            oldest.inspect(|image| self.drop_name(image));
        }
        let name = Name {
            manifest: manifest.clone(),
            access: Access::Unknown,
            said: None,
            index: None,
            moved: None,
            held: now,
        };
        self.names.insert(image.clone(), name);
    }

    /// The origin told nobody in particular what the name means.
    pub(super) fn said(&mut self, image: &ImageRef, means: &Digest, now: Timestamp) {
        if let Some(name) = self.names.get_mut(image) {
            name.access = Access::Everybody;
            name.said = Some((means.clone(), now));
        }
    }

    /// The origin tells nobody without a credential what the name means.
    pub(super) fn closed(&mut self, image: &ImageRef) {
        if let Some(name) = self.names.get_mut(image) {
            name.access = Access::Some;
            name.said = None;
        }
    }

    /// The name means this index, in which the manifest is.
    pub(super) fn indexed(&mut self, image: &ImageRef, index: &RawManifest) {
        let Some(name) = self.names.get_mut(image) else {
            return;
        };
        let freed = name.index.take().map_or(0, |old| old.bytes.len());
        self.index_bytes -= freed;
        if self.index_bytes + index.bytes.len() <= INDEX_BYTES_MAX {
            self.index_bytes += index.bytes.len();
            name.index = Some(index.clone());
        }
    }

    /// The name means something else; whether that is news.
    pub(super) fn moved(&mut self, image: &ImageRef, to: &Digest) -> bool {
        let Some(name) = self.names.get_mut(image) else {
            return false;
        };
        let news = name.moved.as_ref() != Some(to);
        name.moved = Some(to.clone());
        news
    }

    /// The runtime gives this manifest up.
    pub(super) fn forget(&mut self, manifest: &Digest) {
        let names = self.names.iter();
        let gone = names.filter(|(_, name)| name.manifest == *manifest);
        let gone: Vec<ImageRef> = gone.map(|(image, _)| image.clone()).collect();
        for image in gone {
            self.drop_name(&image);
        }
    }

    /// What is known of a name.
    pub(super) fn name(&self, image: &ImageRef) -> Option<&Name> {
        self.names.get(image)
    }

    /// What the origin told everybody within `fresh`: as good as an answer where it gives none now.
    pub(super) fn remembered(
        &self,
        image: &ImageRef,
        fresh: Duration,
        now: Timestamp,
    ) -> Option<Digest> {
        let name = self.names.get(image)?;
        let (means, at) = name.said.as_ref()?;
        (name.access == Access::Everybody && now.since(*at) <= fresh).then(|| means.clone())
    }

    /// Whether there is any name of this repository.
    pub(super) fn has(&self, registry: &str, repository: &str) -> bool {
        let mut names = self.names.keys();
        names.any(|name| name.registry() == registry && name.repository() == repository)
    }

    /// Names in the repository of `image`, with what is known of them.
    pub(super) fn siblings<'a>(
        &'a self,
        image: &'a ImageRef,
    ) -> impl Iterator<Item = (&'a ImageRef, &'a Name)> {
        let same = |other: &ImageRef| {
            other.registry() == image.registry() && other.repository() == image.repository()
        };
        self.names.iter().filter(move |(other, _)| same(other))
    }

    /// The document of this digest in the repository of `image`; whether anybody may read it.
    pub(super) fn document(&self, image: &ImageRef, digest: &Digest) -> Option<(Document, Access)> {
        let found = self.siblings(image).filter_map(|(_, name)| {
            let document = name.document(digest)?;
            Some((document, name.access))
        });
        // One name that everybody may read is enough.
        found.max_by_key(|(_, access)| *access == Access::Everybody)
    }

    fn drop_name(&mut self, image: &ImageRef) {
        let gone = self.names.remove(image).and_then(|name| name.index);
        self.index_bytes -= gone.map_or(0, |index| index.bytes.len());
    }
}

// === impl Name ===

impl Name {
    /// What the digest leads to, if it is the manifest or the index around it.
    pub(super) fn document(&self, digest: &Digest) -> Option<Document> {
        if self.manifest == *digest {
            return Some(Document::Manifest(digest.clone()));
        }
        let index = self.index.as_ref();
        let index = index.filter(|index| index.digest == *digest);
        index.cloned().map(Document::Index)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const FRESH: Duration = Duration::from_mins(1);

    fn digest(n: u8) -> Digest {
        Digest::from_sha256(&[n; 32])
    }

    fn index(n: u8, size: usize) -> RawManifest {
        RawManifest {
            digest: digest(n),
            media_type: String::new(),
            bytes: Bytes::from(vec![0; size]),
        }
    }

    fn image(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_tag_is_remembered_for_as_long_as_it_is_fresh_and_no_longer() {
        let mut known = Known::default();
        let web = image("a.io/web:1");
        known.said(&web, &digest(1), at(0));
        assert_eq!(known.remembered(&web, FRESH, at(0)), None, "nobody's name");
        known.hold(&web, &digest(1), at(0));
        assert_eq!(known.remembered(&web, FRESH, at(0)), None, "nobody asked");
        known.said(&web, &digest(2), at(10));
        assert_eq!(known.remembered(&web, FRESH, at(70)), Some(digest(2)));
        assert_eq!(known.remembered(&web, FRESH, at(71)), None);
        known.said(&web, &digest(2), at(71));
        known.closed(&web);
        assert_eq!(known.remembered(&web, FRESH, at(71)), None, "closed since");
    }

    #[test]
    fn a_new_manifest_makes_a_name_anew_and_the_same_one_does_not() {
        let mut known = Known::default();
        let web = image("a.io/web:1");
        known.hold(&web, &digest(1), at(0));
        known.said(&web, &digest(1), at(0));
        known.hold(&web, &digest(1), at(1));
        assert!(known.remembered(&web, FRESH, at(1)).is_some());
        known.hold(&web, &digest(2), at(2));
        assert_eq!(known.remembered(&web, FRESH, at(2)), None);
        assert_eq!(known.name(&web).unwrap().access, Access::Unknown);
    }

    #[test]
    fn a_digest_is_found_in_its_own_repository_only() {
        let mut known = Known::default();
        let (web, other) = (image("a.io/team/web:1"), image("a.io/team/other:1"));
        known.hold(&web, &digest(1), at(0));
        known.indexed(&web, &index(2, 10));
        known.hold(&other, &digest(3), at(0));
        let found = |n| known.document(&image("a.io/team/web:7"), &digest(n));
        let here = Document::Manifest(digest(1));
        assert_eq!(found(1), Some((here, Access::Unknown)));
        assert!(matches!(found(2), Some((Document::Index(_), _))));
        assert_eq!(found(3), None);
        let elsewhere = image("b.io/team/web:1");
        assert_eq!(known.document(&elsewhere, &digest(1)), None);
        assert!(known.has("a.io", "team/web"));
        assert!(!known.has("b.io", "team/web") && !known.has("a.io", "team"));
        known.forget(&digest(1));
        assert_eq!(known.document(&web, &digest(2)), None);
    }

    #[test]
    fn what_everybody_may_read_under_one_name_is_open_under_the_repository() {
        let mut known = Known::default();
        for name in ["a.io/web:1", "a.io/web:2", "a.io/web:3"] {
            known.hold(&image(name), &digest(1), at(0));
        }
        known.closed(&image("a.io/web:1"));
        known.said(&image("a.io/web:2"), &digest(1), at(0));
        let (_, access) = known.document(&image("a.io/web:1"), &digest(1)).unwrap();
        assert_eq!(access, Access::Everybody);
    }

    #[test]
    fn a_move_is_news_once() {
        let mut known = Known::default();
        let web = image("a.io/web:1");
        assert!(!known.moved(&web, &digest(2)));
        known.hold(&web, &digest(1), at(0));
        assert!(known.moved(&web, &digest(2)));
        assert!(!known.moved(&web, &digest(2)));
        assert!(known.moved(&web, &digest(3)));
    }

    proptest! {
        /// Whatever happens in whatever order, the bounds hold and the count of bytes is right.
        #[test]
        fn names_and_bytes_are_bounded(
            steps in prop::collection::vec((0u8..5, 0u16..1_500, 0u8..4, 0usize..400_000), 0..400),
        ) {
            let mut known = Known::default();
            for n in 0..1_010u16 {
                known.hold(&image(&format!("a.io/web:{n}")), &digest(0), at(u64::from(n)));
            }
            for (i, (what, n, d, size)) in steps.into_iter().enumerate() {
                let (web, now) = (image(&format!("a.io/web:{n}")), at(2_000 + i as u64));
                match what {
                    0 | 1 => known.hold(&web, &digest(d), now),
                    2 => known.indexed(&web, &index(d, size)),
                    3 => known.said(&web, &digest(d), now),
                    _ if d == 3 => known.forget(&digest(3)),
                    _ => known.closed(&web),
                }
                let indexes = known.names.values().filter_map(|name| name.index.as_ref());
                let bytes: usize = indexes.map(|index| index.bytes.len()).sum();
                prop_assert_eq!(bytes, known.index_bytes);
                prop_assert!(bytes <= INDEX_BYTES_MAX && known.names.len() <= NAMES_MAX);
            }
        }
    }
}
