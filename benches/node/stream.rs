//! One plain stream of an image's layers, one after the other: what their way takes at least.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::images::Image;
use crate::process::{Spent, wait};
use crate::{Form, process};

/// Receives all layers from a registry and drops them; behind words that begin a command.
pub fn receive(
    before: &[String],
    address: &str,
    image: &Image,
    form: Form,
) -> anyhow::Result<Spent> {
    let mut words = before.to_vec();
    words.extend(["curl", "--silent", "--fail", "--noproxy", "*"].map(str::to_owned));
    for layer in &image.layers {
        let digest = &layer.blobs[&form].0;
        let url = format!("http://{address}/v2/{}/blobs/{digest}", image.name);
        words.extend(["--output".into(), "/dev/null".into(), url]);
    }
    let (program, rest) = words.split_first().context("a program")?;
    let began = Instant::now();
    let child = Command::new(program).args(rest).spawn().context("curl")?;
    let spent = wait(child, began)?;
    ensure!(spent.status.success(), "curl: {}", spent.status);
    Ok(spent)
}

/// CPU seconds of both ends of a stream on this machine.
pub fn both_ends((port, pid): (u16, u32), image: &Image, form: Form) -> anyhow::Result<f64> {
    let before = process::cpu_s(pid)?;
    let spent = receive(&[], &format!("127.0.0.1:{port}"), image, form)?;
    Ok(spent.cpu_s + process::cpu_s(pid)? - before)
}
