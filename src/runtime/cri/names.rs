//! What a runtime's listing says of an image: whose it is, and whether anybody uses it.

use crate::domain::image::{Digest, ImageRef};
use crate::runtime::cri::ledger::Pulled;
use crate::runtime::wire::cri::{Container, Image};

/// What may be done with an image that was pulled for us.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing<'a> {
    /// Nothing: it is not there.
    Gone,
    /// Nothing: a container was made from it.
    Used,
    /// Nothing, for this reason: somebody else relies on it.
    Shared(String),
    /// It can be removed.
    Ours(&'a Image),
}

/// What to ask the runtime for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All that may be done is done.
    Nothing,
    /// Pull this reference.
    Pull(String),
}

/// The image with this config. containerd's IDs begin with `sha256:`, CRI-O's do not.
pub(super) fn find<'a>(images: &'a [Image], config: &Digest) -> Option<&'a Image> {
    images.iter().find(|image| is_id(&image.id, config))
}

pub(super) fn is_id(id: &str, config: &Digest) -> bool {
    id.strip_prefix("sha256:").unwrap_or(id) == config.hex()
}

/// The image that this name leads to.
pub(super) fn holder<'a>(images: &'a [Image], name: &str) -> Option<&'a Image> {
    images.iter().find(|image| has(image, name))
}

pub(super) fn has(image: &Image, name: &str) -> bool {
    names(image).any(|known| known == name)
}

/// By which pods find it.
pub(super) fn names(image: &Image) -> impl Iterator<Item = &str> {
    let names = image.repo_tags.iter().chain(&image.repo_digests);
    // CRI-O writes `<none>:<none>` for none.
    names
        .map(String::as_str)
        .filter(|name| !name.starts_with("<none>"))
}

/// As runtimes normalise names: a digest takes the tag's place.
pub(super) fn name(image: &ImageRef) -> String {
    match image.digest() {
        Some(digest) => exact(image, &digest),
        None => image.to_string(),
    }
}

/// The name by which only this very image can be meant.
pub(super) fn exact(image: &ImageRef, digest: &Digest) -> String {
    format!("{}/{}@{digest}", image.registry(), image.repository())
}

/// How pods come by an image under `name`, or at least by its layers.
///
/// `is_ours` tells which images were pulled for us. What somebody else brought gets no name of ours: CRI
/// cannot take one name back, and a pull moves no layer of what is there. Where somebody else gave the name
/// to something else, pods find what they would have found without us.
pub(super) fn step(
    images: &[Image],
    config: &Digest,
    (name, exact): (&str, &str),
    is_ours: impl Fn(&Image) -> bool,
) -> Step {
    let there = find(images, config);
    let others_name = holder(images, name).is_some_and(|holder| !is_ours(holder));
    let reference = if others_name { exact } else { name };
    match there {
        Some(there) if has(there, name) || has(there, reference) => Step::Nothing,
        Some(there) if !is_ours(there) => Step::Nothing,
        _ => Step::Pull(reference.to_owned()),
    }
}

/// Whether an image that was pulled for us can be removed. Removing takes every name (containerd's
/// `RemoveImage`), so one that we did not make is in the way, and so is a pin.
pub(super) fn standing<'a>(
    images: &'a [Image],
    containers: &[Container],
    pulled: &Pulled,
) -> Standing<'a> {
    let Some(image) = find(images, &pulled.config) else {
        return Standing::Gone;
    };
    if containers.iter().any(|container| uses(container, image)) {
        return Standing::Used;
    }
    if image.pinned {
        return Standing::Shared("it is pinned".to_owned());
    }
    let foreign = names(image).find(|name| !is_made_by(name, pulled));
    match foreign {
        Some(name) => Standing::Shared(format!("somebody else calls it {name}")),
        None => Standing::Ours(image),
    }
}

/// A name that a pull of ours made: itself, or the digest in the same repository that comes with it.
pub(super) fn is_made_by(name: &str, pulled: &Pulled) -> bool {
    let repository = name.split_once('@').map(|(repository, _)| repository);
    pulled.names.iter().any(|ours| {
        ours == name || repository.is_some_and(|repository| repository_of(ours) == repository)
    })
}

fn repository_of(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        // A port is followed by a path.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Whether a container, running or not, was made from it: by ID (containerd), or by a name (older CRI-O).
pub(super) fn uses(container: &Container, image: &Image) -> bool {
    let bare = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    let named = container.image.iter().map(|spec| spec.image.as_str());
    let mut references = named.chain([container.image_ref.as_str()]);
    references.any(|reference| {
        !reference.is_empty() && (bare(reference) == bare(&image.id) || has(image, reference))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wire::cri::ImageSpec;

    fn config(salt: u8) -> Digest {
        Digest::from_sha256(&[salt; 32])
    }

    fn image(salt: u8, tags: &[&str], digests: &[&str]) -> Image {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Image {
            id: config(salt).to_string(),
            repo_tags: owned(tags),
            repo_digests: owned(digests),
            ..Image::default()
        }
    }

    fn pulled(names: &[&str]) -> Pulled {
        Pulled {
            config: config(1),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn next(images: &[Image], ours: &[u8]) -> Step {
        let is_ours = |image: &Image| ours.iter().any(|&salt| is_id(&image.id, &config(salt)));
        step(
            images,
            &config(1),
            ("r:5000/web:1", "r:5000/web@d"),
            is_ours,
        )
    }

    #[test]
    fn what_is_not_there_is_pulled_by_its_name() {
        let by_name = Step::Pull("r:5000/web:1".into());
        assert_eq!(next(&[], &[]), by_name);
        assert_eq!(next(&[image(2, &["r:5000/db:1"], &[])], &[]), by_name);
        // Our own older image gives the name up.
        assert_eq!(next(&[image(2, &["r:5000/web:1"], &[])], &[2]), by_name);
        // And ours under another name gets this one, too.
        assert_eq!(next(&[image(1, &["r:5000/web:2"], &[])], &[1]), by_name);
    }

    #[test]
    fn what_is_there_by_this_name_is_left_whoever_brought_it() {
        let there = [image(1, &["r:5000/web:1"], &[])];
        assert_eq!(next(&there, &[]), Step::Nothing);
        assert_eq!(next(&there, &[1]), Step::Nothing);
        assert_eq!(next(&[image(1, &["a/b:1"], &[])], &[]), Step::Nothing);
    }

    #[test]
    fn a_name_that_somebody_else_gave_to_another_image_stays_theirs() {
        let theirs = image(2, &["r:5000/web:1"], &[]);
        let exact = Step::Pull("r:5000/web@d".into());
        assert_eq!(next(std::slice::from_ref(&theirs), &[]), exact);
        let ours = image(1, &[], &["r:5000/web@d"]);
        assert_eq!(next(&[theirs, ours], &[1]), Step::Nothing);
    }

    #[test]
    fn only_an_image_that_is_nobody_elses_can_be_removed() {
        let mine = pulled(&["r:5000/web:1"]);
        let alone = image(
            1,
            &["r:5000/web:1", "<none>:<none>"],
            &["r:5000/web@sha256:7"],
        );
        let images = [image(2, &["x/y:1"], &[]), alone.clone()];
        assert_eq!(standing(&images, &[], &mine), Standing::Ours(&alone));
        assert_eq!(standing(&images[..1], &[], &mine), Standing::Gone);
        let pinned = Image {
            pinned: true,
            ..alone.clone()
        };
        let renamed = image(1, &["r:5000/web:1", "r:5000/web:2"], &[]);
        let moved = image(1, &["r:5000/web:1"], &["other/web@sha256:7"]);
        for shared in [pinned, renamed, moved] {
            let shared = [shared];
            let found = standing(&shared, &[], &mine);
            assert!(matches!(found, Standing::Shared(_)), "{found:?}");
        }
    }

    #[test]
    fn a_container_uses_an_image_by_any_of_its_names() {
        let image = image(1, &["r/web:1"], &["r/web@sha256:7"]);
        let container = |reference: &str, name: &str| Container {
            image_ref: reference.to_owned(),
            image: Some(ImageSpec {
                image: name.to_owned(),
                ..ImageSpec::default()
            }),
            ..Container::default()
        };
        assert!(uses(&container(config(1).as_str(), ""), &image));
        assert!(uses(&container(config(1).hex(), ""), &image));
        assert!(uses(&container("r/web@sha256:7", ""), &image));
        assert!(uses(&container("", "r/web:1"), &image));
        assert!(!uses(&container("", ""), &image));
        assert!(!uses(&container(config(2).as_str(), "r/web:2"), &image));
    }

    #[test]
    fn names_are_as_runtimes_write_them() {
        let digest = config(7);
        let by_tag: ImageRef = "nginx:1".parse().unwrap();
        let by_digest: ImageRef = format!("nginx@{digest}").parse().unwrap();
        assert_eq!(name(&by_tag), "docker.io/library/nginx:1");
        let exactly = format!("docker.io/library/nginx@{digest}");
        assert_eq!(name(&by_digest), exactly);
        assert_eq!(exact(&by_tag, &digest), exactly);
        assert_eq!(repository_of("r:5000/a/b:1"), "r:5000/a/b");
        assert_eq!(repository_of("r:5000/a/b"), "r:5000/a/b");
    }
}
