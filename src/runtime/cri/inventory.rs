//! Every image of the runtime's, as CRI tells of it: manifests only of those that are planned.

use std::collections::BTreeMap;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::inventory::StoredImage;
use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;
use crate::runtime::cri::ledger::Pulled;
use crate::runtime::cri::names::{is_id, is_made_by, names};
use crate::runtime::cri::runtime::Shared;
use crate::runtime::wire::cri::Image;

/// An image that was planned: manifest and config, and what we had pulled of it.
type Known = (Digest, Digest, Option<Pulled>);

/// All of them.
pub(super) async fn images(shared: &Shared) -> Result<Vec<StoredImage>, RuntimeError> {
    let listed = shared.images().await?;
    let ledger = shared.ledger.lock().await;
    let planned = shared.known().into_iter();
    let mut known: BTreeMap<Digest, Known> = planned
        .map(|(manifest, config)| (config.clone(), (manifest, config, None)))
        .collect();
    for (manifest, pulled) in ledger.all() {
        let entry = (
            manifest.clone(),
            pulled.config.clone(),
            Some(pulled.clone()),
        );
        known.insert(pulled.config.clone(), entry);
    }
    let stored = listed.iter().filter_map(|image| {
        let known = known
            .values()
            .find(|(_, config, _)| is_id(&image.id, config));
        stored(image, known)
    });
    Ok(stored.collect())
}

/// An image in the words of the port; none where nothing names it that we can read.
fn stored(image: &Image, known: Option<&Known>) -> Option<StoredImage> {
    let read: Vec<(&str, ImageRef)> = names(image)
        .filter_map(|name| Some((name, name.parse().ok()?)))
        .collect();
    let named = read.iter().find_map(|(_, name)| name.digest());
    let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let by_id = || format!("sha256:{id}").parse().ok();
    let digest = known.map(|(manifest, _, _)| manifest.clone());
    let digest = digest.or(named).or_else(by_id)?;
    let pulled = known.and_then(|(_, _, pulled)| pulled.as_ref());
    let is_ours = |name: &str| pulled.is_some_and(|pulled| is_made_by(name, pulled));
    let (planned, theirs): (Vec<_>, Vec<_>) = read.iter().partition(|(name, _)| is_ours(name));
    let names = |read: Vec<&(&str, ImageRef)>| read.iter().map(|(_, name)| name.clone()).collect();
    Some(StoredImage {
        digest,
        names: names(theirs),
        planned: names(planned),
        // Zero is CRI's word for unknown.
        bytes: (image.size > 0).then_some(ByteSize(image.size)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(salt: u8) -> Digest {
        Digest::from_sha256(&[salt; 32])
    }

    fn image(id: &str, tags: &[&str]) -> Image {
        Image {
            id: id.to_owned(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: vec![format!("r.io/web@{}", digest(9))],
            size: 7,
            ..Image::default()
        }
    }

    #[test]
    fn an_image_of_others_is_named_by_what_its_digest_leads_to() {
        let found = stored(&image(digest(1).as_str(), &["r.io/web:1"]), None).unwrap();
        assert_eq!((found.digest, found.names.len()), (digest(9), 2));
        assert!(found.planned.is_empty() && found.bytes == Some(ByteSize(7)));
        // CRI-O: a bare ID, and a word for no name.
        let mut bare = image(digest(1).hex(), &["<none>:<none>"]);
        (bare.repo_digests, bare.size) = (Vec::new(), 0);
        let found = stored(&bare, None).unwrap();
        assert_eq!((found.digest, found.bytes), (digest(1), None));
        bare.id = "no digest".to_owned();
        assert_eq!(stored(&bare, None), None);
    }

    #[test]
    fn of_an_image_that_was_pulled_for_us_other_peoples_names_are_theirs() {
        let pulled = Pulled {
            config: digest(1),
            names: vec!["r.io/web:1".to_owned()],
        };
        let known = (digest(2), digest(1), Some(pulled));
        let both = image(digest(1).as_str(), &["r.io/web:1", "r.io/other:1"]);
        let found = stored(&both, Some(&known)).unwrap();
        assert_eq!(found.digest, digest(2));
        let texts = |names: &[ImageRef]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&found.names), ["r.io/other:1"]);
        let by_digest = format!("r.io/web@{}", digest(9));
        assert_eq!(texts(&found.planned), ["r.io/web:1".to_owned(), by_digest]);
    }
}
