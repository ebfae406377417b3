//! The header's images: every reference that a signal names, with layers where any are known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::domain::image::{ImageManifest, ImageRef, Layer, Platform};
use crate::domain::quantity::ByteSize;
use crate::domain::signal::{Fact, Signal};
use crate::domain::workload::PodNeeds;
use crate::source::recording::RecordingError;
use crate::source::recording::catalogue::{Catalogue, manifest, manifest_digest};

/// Where the layers of images came from.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct ImageReport {
    /// References that signals name.
    pub named: u64,
    /// Manifests (one per architecture) from the catalogue.
    pub catalogue: u64,
    /// Manifests with the layers that the catalogue has for another architecture of the same size.
    pub other_arch: u64,
    /// Manifests of one layer, sized by the kubelet.
    pub size_only: u64,
    /// References that nothing is known of: they are not in the header.
    pub unknown: Vec<String>,
}

/// What the signals say about images.
#[derive(Default)]
struct Seen {
    named: BTreeSet<ImageRef>,
    arches: BTreeSet<String>,
    arch_of: BTreeMap<String, String>,
    sizes: BTreeMap<(ImageRef, String), ByteSize>,
}

type Images = BTreeMap<ImageRef, Vec<ImageManifest>>;

/// Looks up every image for every architecture that a node has.
pub(super) fn look_up(
    signals: &[Signal],
    catalogue: Option<&(PathBuf, PathBuf)>,
) -> Result<(Images, ImageReport), RecordingError> {
    let seen = Seen::of(signals);
    let catalogue = match catalogue {
        Some((images, layers)) => Catalogue::read(images, layers, &seen.named)?,
        None => Catalogue::default(),
    };
    let mut report = ImageReport {
        named: seen.named.len() as u64,
        ..ImageReport::default()
    };
    let mut found = Images::new();
    for image in &seen.named {
        let mut manifests = Vec::new();
        for arch in &seen.arches {
            let size = seen.sizes.get(&(image.clone(), arch.clone())).copied();
            manifests.extend(one(&catalogue, image, arch, size, &mut report));
        }
        if manifests.is_empty() {
            report.unknown.push(image.to_string());
        } else {
            found.insert(image.clone(), manifests);
        }
    }
    Ok((found, report))
}

fn one(
    catalogue: &Catalogue,
    image: &ImageRef,
    arch: &str,
    size: Option<ByteSize>,
    report: &mut ImageReport,
) -> Option<ImageManifest> {
    if let Some(found) = catalogue.manifest(image, arch) {
        report.catalogue += 1;
        return Some(found.clone());
    }
    let size = size?;
    if let Some(other) = catalogue.of_size(image, size) {
        report.other_arch += 1;
        let layers: Vec<Layer> = other.layers.clone();
        return Some(ImageManifest {
            digest: manifest_digest(image, arch, &layers),
            platform: Platform::linux(arch),
            layers,
        });
    }
    report.size_only += 1;
    let made_up = format!("{image} {arch}"); // not 16 digits: all of the digest is made
    Some(manifest(image, arch, &[(&made_up, size.0)]))
}

impl Seen {
    fn of(signals: &[Signal]) -> Self {
        let mut seen = Self::default();
        for signal in signals {
            match &signal.fact {
                Fact::NodeJoined(joined) => {
                    if let Some(arch) = joined.shape.architecture() {
                        seen.arches.insert(arch.to_owned());
                        seen.arch_of.insert(joined.node.clone(), arch.to_owned());
                    }
                }
                Fact::PodPending(wanted) | Fact::PodGated(wanted) => seen.needs(&wanted.needs),
                Fact::PodBound(bound) => seen.needs(&bound.needs),
                Fact::WorkloadApplied(workload) => seen.needs(&workload.needs),
                Fact::CapacityAnnounced(capacity) => {
                    if let Some(needs) = &capacity.needs {
                        seen.needs(needs);
                    }
                }
                Fact::ImagePulled(pulled) => {
                    let arch = seen.arch_of.get(&pulled.node).cloned();
                    if let Some((arch, size)) = arch.zip(pulled.size) {
                        seen.sizes.insert((pulled.image.clone(), arch), size);
                    }
                }
                _ => {}
            }
        }
        seen
    }

    fn needs(&mut self, needs: &PodNeeds) {
        let images = needs.images.iter().map(|used| used.image.clone());
        self.named.extend(images);
    }
}
