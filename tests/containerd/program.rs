//! The programs that images of the tests are made of.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::image::{Form, Image, Layer, file, folder};

/// An image that runs: a static busybox, asleep, and a layer that makes it another image than others.
pub fn busybox(form: Form, name: &str) -> Image {
    let program = Layer::new(form, |tar| {
        folder(tar, "bin/", 0o755);
        file(tar, "bin/busybox", 0o755, &busybox_binary());
    });
    let named = Layer::new(form, |tar| file(tar, "name", 0o644, name.as_bytes()));
    Image::new(
        vec![program, named],
        &json!({"Entrypoint": ["/bin/busybox", "sleep", "1000000"]}),
    )
}

/// The bytes of this machine's busybox, which needs no libraries.
pub fn busybox_binary() -> Vec<u8> {
    let run = Command::new("busybox")
        .args(["readlink", "-f", "/proc/self/exe"])
        .output();
    let run = run.unwrap_or_else(|e| panic!("busybox: {e}; apt-get install busybox-static"));
    let path = String::from_utf8(run.stdout).unwrap();
    fs::read(path.trim()).unwrap()
}
