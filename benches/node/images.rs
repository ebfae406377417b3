//! The images: real files of this machine, in layers as large and with as many entries as real images have.
//!
//! Made once, straight into a registry's own layout below `target/bench/images`, so that no byte lies there
//! twice. Each image has three tags: `gzip`, `zstd` and `plain`, one for each form of its layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Form, say};

/// Where registries keep what they have (distribution v2, `filesystem` driver).
const LAYOUT: &str = "data/docker/registry/v2";

const MIB: u64 = 1 << 20;

/// What one layer should hold.
struct Wish {
    mib: u64,
    entries: u64,
    /// Below `/usr`, before all the rest of it.
    first: &'static [&'static str],
}

/// One image, as it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    pub layers: Vec<Layer>,
    /// Of the manifest of each form.
    pub manifests: BTreeMap<Form, String>,
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    pub entries: u64,
    /// Digest and size of each form; the plain one's digest is the diff ID.
    pub blobs: BTreeMap<Form, (String, u64)>,
}

/// Files in the order in which they are handed out; none twice in an image.
struct Pile {
    files: Vec<(PathBuf, u64)>,
    taken: BTreeSet<PathBuf>,
}

/// Numbers and shapes of the images that `streaming.md` measured: a Python one, one with one large layer,
/// one with many small files; and a small one to try the bench with.
fn wishes(name: &str) -> anyhow::Result<Vec<Wish>> {
    let wish = |mib, entries, first| Wish {
        mib,
        entries,
        first,
    };
    Ok(match name {
        "quick" => vec![wish(20, 1_000, &["bin"][..]), wish(20, 1_000, &["lib"])],
        "py" => vec![
            wish(75, 2_500, &["bin"][..]),
            wish(55, 2_500, &["lib/python3", "lib/python3.11"]),
            wish(180, 6_200, &["lib/python3", "share"]),
        ],
        "jdk" => vec![
            wish(75, 2_500, &["bin"][..]),
            wish(588, 2_000, &["lib/jvm", "lib"]),
            wish(90, 800, &["share"]),
        ],
        "big" => vec![
            wish(75, 2_500, &["bin"][..]),
            wish(200, 4_000, &["lib/gcc"]),
            wish(350, 1_500, &["lib/x86_64-linux-gnu", "lib"]),
            wish(400, 35_000, &["share", "lib", "include"]),
            wish(120, 4_000, &["lib"]),
            wish(209, 5_000, &["lib/python3", "lib"]),
            wish(100, 2_500, &["lib"]),
            wish(20, 500, &["share"]),
        ],
        other => bail!("{other}: no image of this bench"),
    })
}

/// The image of this name below `root`, made if it is not there.
pub fn image(root: &Path, name: &str) -> anyhow::Result<Image> {
    let note = root.join(format!("{name}.json"));
    if let Ok(text) = fs::read(&note) {
        return Ok(serde_json::from_slice(&text)?);
    }
    say(&format!("{name}: collecting its files"));
    let mut pile = Pile::collect()?;
    let mut layers = Vec::new();
    for wish in wishes(name)? {
        say(&format!("{name}: packing {} MiB", wish.mib));
        let files = pile.take(&wish);
        layers.push(pack(root, name, &files)?);
    }
    let mut manifests = BTreeMap::new();
    for form in Form::ALL {
        manifests.insert(form, describe(root, name, &layers, form)?);
    }
    let image = Image {
        name: name.to_owned(),
        layers,
        manifests,
    };
    fs::write(&note, serde_json::to_vec_pretty(&image)?)?;
    Ok(image)
}

// === impl Image ===

impl Image {
    /// Bytes of the layers in a form.
    pub fn bytes(&self, form: Form) -> u64 {
        self.layers.iter().map(|layer| layer.blobs[&form].1).sum()
    }

    /// For people.
    pub fn row(&self) -> String {
        let entries: u64 = self.layers.iter().map(|layer| layer.entries).sum();
        let mb = |form| self.bytes(form) as f64 / 1e6;
        format!(
            "image {}: {} layers, {entries} entries, gzip {:.0} MB, zstd {:.0} MB, plain {:.0} MB",
            self.name,
            self.layers.len(),
            mb(Form::Gzip),
            mb(Form::Zstd),
            mb(Form::Plain)
        )
    }

    /// Blobs of the layers in a form.
    pub fn digests(&self, form: Form) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter();
        layers.map(move |layer| layer.blobs[&form].0.as_str())
    }

    /// Files of the layers in a form.
    pub fn files(&self, root: &Path, form: Form) -> Vec<PathBuf> {
        let layers = self.layers.iter();
        layers
            .map(|layer| data(root, &layer.blobs[&form].0))
            .collect()
    }

    /// Brings them into the page cache, where a busy registry has them.
    pub fn warm(&self, root: &Path, form: Form) -> anyhow::Result<()> {
        for file in self.files(root, form) {
            io::copy(&mut File::open(&file)?, &mut io::sink())?;
        }
        Ok(())
    }
}

// === impl Pile ===

impl Pile {
    /// All files of `/usr`, in the order of their paths.
    fn collect() -> anyhow::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::from("/usr")];
        while let Some(folder) = folders.pop() {
            let read = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
            let mut entries: Vec<_> = read.collect::<Result<_, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push((entry.path(), entry.metadata()?.len()));
                } else if kind.is_symlink() {
                    files.push((entry.path(), 0));
                }
            }
        }
        files.sort();
        Ok(Self {
            files,
            taken: BTreeSet::new(),
        })
    }

    /// Files with about so many bytes and entries: one is taken when it moves the mean size of those so far
    /// towards the wished one.
    fn take(&mut self, wish: &Wish) -> Vec<PathBuf> {
        let folders = wish
            .first
            .iter()
            .map(|first| Path::new("/usr").join(first))
            .chain([PathBuf::from("/usr")]);
        let mean = wish.mib * MIB / wish.entries;
        let (mut bytes, mut chosen) = (0, Vec::new());
        for folder in folders {
            for (path, size) in &self.files {
                if bytes >= wish.mib * MIB || chosen.len() as u64 >= wish.entries {
                    return chosen;
                }
                let is_behind = bytes < chosen.len() as u64 * mean;
                let fits = *size <= wish.mib * MIB - bytes;
                let is_new = path.starts_with(&folder) && !self.taken.contains(path);
                if is_new && fits && is_behind == (*size >= mean) {
                    self.taken.insert(path.clone());
                    chosen.push(path.clone());
                    bytes += size;
                }
            }
        }
        chosen
    }
}

/// One layer in its three forms.
fn pack(root: &Path, name: &str, files: &[PathBuf]) -> anyhow::Result<Layer> {
    fs::create_dir_all(root.join(LAYOUT))?;
    let plain = root.join("layer.tar");
    let entries = archive(&plain, files)?;
    let gzip = root.join("layer.tar.gz");
    // As most images are made, by level and by program: `gzip -6`.
    let status = Command::new("gzip")
        .args(["-n", "-6", "-c"])
        .stdin(File::open(&plain)?)
        .stdout(Stdio::from(File::create(&gzip)?))
        .status()
        .context("gzip")?;
    anyhow::ensure!(status.success(), "gzip: {status}");
    let zstd = root.join("layer.tar.zst");
    zstd::stream::copy_encode(File::open(&plain)?, File::create(&zstd)?, 3)?;
    let mut blobs = BTreeMap::new();
    for (form, file) in [(Form::Gzip, gzip), (Form::Zstd, zstd), (Form::Plain, plain)] {
        let (digest, size) = digest(&file)?;
        keep(root, name, &digest, |to| fs::rename(&file, to))?;
        blobs.insert(form, (digest, size));
    }
    Ok(Layer { entries, blobs })
}

/// A tar of these files with the folders they are in, as the machine has them.
fn archive(to: &Path, files: &[PathBuf]) -> anyhow::Result<u64> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(to)?));
    tar.follow_symlinks(false);
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        let mut above: Vec<&Path> = file.ancestors().skip(1).collect();
        above.retain(|folder| folder.parent().is_some());
        for folder in above.into_iter().rev() {
            if folders.insert(folder.to_owned()) {
                tar.append_dir(folder.strip_prefix("/")?, folder)?;
            }
        }
        tar.append_path_with_name(file, file.strip_prefix("/")?)?;
    }
    tar.into_inner()?.flush()?;
    Ok((files.len() + folders.len()) as u64)
}

/// Config and manifest of a form, tagged with its name.
fn describe(root: &Path, name: &str, layers: &[Layer], form: Form) -> anyhow::Result<String> {
    let ids: Vec<&str> = layers
        .iter()
        .map(|layer| layer.blobs[&Form::Plain].0.as_str())
        .collect();
    let config = json!({"os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = text(root, name, &config)?;
    let described: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let (digest, size) = &layer.blobs[&form];
            json!({"mediaType": form.media_type(), "digest": digest, "size": size})
        })
        .collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "layers": described,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.0, "size": config.1}});
    let (digest, _) = text(root, name, &manifest)?;
    let manifests = repository(root, name).join("_manifests");
    let hex = hex(&digest);
    link(&manifests.join("revisions/sha256").join(hex), &digest)?;
    let tag = manifests.join("tags").join(form.word());
    link(&tag.join("current"), &digest)?;
    link(&tag.join("index/sha256").join(hex), &digest)?;
    Ok(digest)
}

fn text(root: &Path, name: &str, value: &Value) -> anyhow::Result<(String, u64)> {
    let text = value.to_string();
    let digest = named(Context::new(&SHA256), text.as_bytes());
    keep(root, name, &digest, |to| fs::write(to, &text))?;
    Ok((digest, text.len() as u64))
}

/// A blob into the registry's layout, and into the repository.
fn keep(
    root: &Path,
    name: &str,
    digest: &str,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> anyhow::Result<()> {
    let to = data(root, digest);
    fs::create_dir_all(to.parent().expect("a file in a folder"))?;
    put(&to)?;
    let layers = repository(root, name).join("_layers/sha256");
    link(&layers.join(hex(digest)), digest)
}

fn data(root: &Path, digest: &str) -> PathBuf {
    let hex = hex(digest);
    let blobs = root.join(LAYOUT).join("blobs/sha256");
    blobs.join(&hex[..2]).join(hex).join("data")
}

fn repository(root: &Path, name: &str) -> PathBuf {
    root.join(LAYOUT).join("repositories").join(name)
}

fn link(folder: &Path, digest: &str) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("link"), digest)?)
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn digest(file: &Path) -> anyhow::Result<(String, u64)> {
    let mut from = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut context = Context::new(&SHA256);
    let (mut buffer, mut size) = (vec![0; 1 << 20], 0);
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok((named(context, b""), size));
        }
        context.update(&buffer[..length]);
        size += length as u64;
    }
}

fn named(mut context: Context, rest: &[u8]) -> String {
    context.update(rest);
    format!("sha256:{}", hex::encode(context.finish().as_ref()))
}
