//! Images of real trees: Debian packages, whose archives are tars already.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::json;
use tar::Archive;

use crate::image::{Form, Image, Layer, Tar};

/// One download at a time: what one test fetched the next one finds.
static TURN: Mutex<()> = Mutex::new(());

/// A language with its packages, as most services have it: about 1 300 files in 3 layers.
pub fn python(form: Form) -> Image {
    let layers = [
        &["tzdata"][..],
        &["python3-setuptools", "python3-wheel"],
        &["python3-pip"],
    ];
    image(form, &layers)
}

/// One layer that outweighs the rest: two programs of 50 MB each.
pub fn large(form: Form) -> Image {
    image(form, &[&["tzdata"][..], &["prometheus"]])
}

/// Many small files: headers, time zones and manual pages, about 5 000, with many symbolic links.
pub fn small_files(form: Form) -> Image {
    image(
        form,
        &[&["linux-libc-dev"][..], &["manpages-dev", "tzdata"]],
    )
}

fn image(form: Form, layers: &[&[&str]]) -> Image {
    let layers = layers.iter().map(|packages| {
        Layer::new(form, |tar| {
            for package in *packages {
                append(tar, &archive(package));
            }
        })
    });
    Image::new(layers.collect(), &json!({"Cmd": ["/bin/true"]}))
}

/// Every entry of a package's tar, as it is.
fn append(tar: &mut Tar, archive: &[u8]) {
    for entry in Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut header = entry.header().clone();
        let path = entry.path().unwrap().into_owned();
        let target = entry.link_name().unwrap().map(Cow::into_owned);
        if let Some(target) = target {
            tar.append_link(&mut header, path, target).unwrap();
        } else {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            tar.append_data(&mut header, path, &bytes[..]).unwrap();
        }
    }
}

/// The tar in a package, which is fetched once for this build folder.
fn archive(package: &str) -> Vec<u8> {
    let run = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(fetched(package))
        .output();
    let run = run.unwrap_or_else(|e| panic!("dpkg-deb: {e}; apt-get install dpkg"));
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    run.stdout
}

fn fetched(package: &str) -> PathBuf {
    let _turn = TURN.lock();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("debian")
        .join(package);
    if !folder.exists() {
        let new = folder.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).unwrap();
        let run = Command::new("apt-get")
            .args(["--quiet", "download", package])
            .current_dir(&new)
            .output();
        let run = run.unwrap_or_else(|e| panic!("apt-get: {e}; these images are Debian's"));
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(
            run.status.success(),
            "no package {package}; apt-get update: {said}"
        );
        fs::rename(&new, &folder).unwrap();
    }
    let mut files = fs::read_dir(&folder).unwrap();
    files.next().unwrap().unwrap().path()
}
