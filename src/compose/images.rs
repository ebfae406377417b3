//! The images of a spec: from the catalogue, or made of layers of given sizes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

use crate::compose::error::{ComposeError, Faults};
use crate::compose::spec::{MadeImage, Spec};
use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use crate::domain::quantity::ByteSize;
use crate::source::recording::{Catalogue, UNPACKED_RATIO};

/// Index into [`Images::list`].
pub type ImageId = usize;
/// Index into [`Images::layers`].
pub type LayerId = u32;

/// Longest chain of `base`s.
const BASES_MAX: usize = 8;

/// Architectures that the catalogue is asked for.
const ARCHS: [&str; 5] = ["amd64", "arm64", "arm", "ppc64le", "s390x"];

/// All images that containers of the spec name.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// In the order of their names.
    pub list: Vec<Image>,
    /// Compressed bytes of each layer.
    pub layers: Vec<u64>,
    by_name: HashMap<ImageRef, ImageId>,
}

/// One image.
#[derive(Clone, Debug)]
pub struct Image {
    /// As pods name it.
    pub name: ImageRef,
    /// One per platform.
    pub manifests: Vec<ImageManifest>,
    /// Layers by architecture, each once, base first.
    pub layers: BTreeMap<String, Vec<LayerId>>,
}

impl Images {
    /// Reads what containers and rollouts name; every image that is nowhere is a fault.
    pub fn read(spec: &Spec, folder: &Path, faults: &mut Faults) -> Result<Self, ComposeError> {
        let named = named(spec);
        let wanted: BTreeSet<ImageRef> = named
            .keys()
            .filter(|image| !spec.images.contains_key(image))
            .cloned()
            .collect();
        let catalogue = match &spec.catalogue {
            Some(files) if !wanted.is_empty() => Catalogue::read(
                &folder.join(&files.images),
                &folder.join(&files.layers),
                &wanted,
            )?,
            _ => Catalogue::default(),
        };
        let mut images = Self::default();
        let mut by_digest = HashMap::new();
        for (name, key) in named {
            let manifests: Vec<ImageManifest> = if let Some(made) = spec.images.get(&name) {
                made_manifests(&name, made, &spec.images, faults)
            } else {
                let found = ARCHS
                    .iter()
                    .filter_map(|arch| catalogue.manifest(&name, arch));
                found.cloned().collect()
            };
            if manifests.is_empty() {
                let near = catalogue.near(&name);
                let mend = if near.is_empty() {
                    "take one of the catalogue, or describe it under [images]".to_owned()
                } else {
                    let near = near.join(", ");
                    format!("the catalogue has its tags {near}; or describe it under [images]")
                };
                faults.add(key, format!("no image `{name}` is known"), mend);
            }
            images.add(name, manifests, &mut by_digest);
        }
        Ok(images)
    }

    /// The image of this name, where a container names it.
    #[must_use]
    pub fn find(&self, name: &ImageRef) -> Option<ImageId> {
        self.by_name.get(name).copied()
    }

    /// Layers of an image on an architecture.
    #[must_use]
    pub fn layers_of(&self, image: ImageId, arch: &str) -> &[LayerId] {
        self.list[image].layers.get(arch).map_or(&[], Vec::as_slice)
    }

    /// Compressed bytes of an image on an architecture.
    #[must_use]
    pub fn size(&self, image: ImageId, arch: &str) -> u64 {
        let layers = self.layers_of(image, arch).iter();
        layers.map(|layer| self.layers[*layer as usize]).sum()
    }

    fn add(
        &mut self,
        name: ImageRef,
        manifests: Vec<ImageManifest>,
        by_digest: &mut HashMap<Digest, LayerId>,
    ) {
        let mut layers = BTreeMap::new();
        for manifest in &manifests {
            let mut own = Vec::new();
            for layer in &manifest.layers {
                let id = *by_digest.entry(layer.digest.clone()).or_insert_with(|| {
                    self.layers.push(layer.size.0);
                    self.layers.len() as LayerId - 1
                });
                if !own.contains(&id) {
                    own.push(id);
                }
            }
            layers.insert(manifest.platform.arch.clone(), own);
        }
        self.by_name.insert(name.clone(), self.list.len());
        self.list.push(Image {
            name,
            manifests,
            layers,
        });
    }
}

/// Every image that is named, with the key of its first mention.
fn named(spec: &Spec) -> BTreeMap<ImageRef, String> {
    let mut named = BTreeMap::new();
    for (w, work) in spec.workloads.iter().enumerate() {
        for (c, container) in work.containers.iter().enumerate() {
            let key = format!("workloads[{w}].containers[{c}].image");
            named.entry(container.image.clone()).or_insert(key);
        }
        for (r, rollout) in work.rollouts.iter().enumerate() {
            let key = format!("workloads[{w}].rollouts[{r}].image");
            named.entry(rollout.image.clone()).or_insert(key);
        }
    }
    named
}

fn made_manifests(
    name: &ImageRef,
    made: &MadeImage,
    all: &BTreeMap<ImageRef, MadeImage>,
    faults: &mut Faults,
) -> Vec<ImageManifest> {
    let mut chain = vec![(name, made)];
    while let Some(base) = &chain[chain.len() - 1].1.base {
        let Some((base, found)) = all.get_key_value(base) else {
            let mend = "describe it under [images] too, or leave `base` out";
            faults.add(
                format!("images.\"{name}\".base"),
                format!("no image `{base}` there"),
                mend,
            );
            break;
        };
        if chain.len() == BASES_MAX {
            let reason = format!("more than {BASES_MAX} images on top of each other");
            faults.add(format!("images.\"{name}\".base"), reason, "end the chain");
            break;
        }
        chain.push((base, found));
    }
    let manifest = |arch: &String| {
        let mut layers = Vec::new();
        for (name, made) in chain.iter().rev() {
            for (index, size) in made.layers.iter().enumerate() {
                layers.push(Layer {
                    digest: sha256(&format!("{name} {arch} {index} {}", size.0.0)),
                    size: size.0,
                    unpacked: Some(ByteSize((size.0.0 as f64 * UNPACKED_RATIO) as u64)),
                });
            }
        }
        let text: String = layers.iter().map(|layer| layer.digest.as_str()).collect();
        ImageManifest {
            digest: sha256(&format!("{name} {arch} {text}")),
            platform: Platform::linux(arch),
            layers,
        }
    };
    made.archs.iter().map(manifest).collect()
}

/// Not a digest of bytes that exist: made of what tells the blob apart.
fn sha256(text: &str) -> Digest {
    Digest::from_sha256(digest(&SHA256, text.as_bytes()).as_ref())
}
