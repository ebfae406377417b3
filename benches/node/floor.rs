//! What must be done for a layer whoever does it, each step alone: receive, inflate, hash twice, write the files.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use aws_lc_rs::digest::{Context, SHA256};
use flate2::bufread::MultiGzDecoder;

use crate::disk::Disk;
use crate::images::Image;
use crate::process::{thread_cpu_s, wait};
use crate::site::Registry;
use crate::{Form, stream};

/// Read, inflated and hashed at once: what stays in a core's second cache.
const PIECE: usize = 256 << 10;

/// CPU seconds of each step.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Of both ends: the registry is on this machine.
    pub transfer: f64,
    pub inflate: f64,
    pub raw_hash: f64,
    pub blob_hash: f64,
    pub untar: f64,
}

/// Measures one image in one form.
pub fn measure(
    (root, registry): (&Path, &Registry),
    image: &Image,
    form: Form,
) -> anyhow::Result<Floor> {
    let (blobs, tars) = (image.files(root, form), image.files(root, Form::Plain));
    let mut floor = Floor {
        transfer: stream::both_ends((registry.port, registry.pid()), image, form)?,
        inflate: 0.0,
        raw_hash: 0.0,
        blob_hash: 0.0,
        untar: 0.0,
    };
    for (blob, tar) in blobs.iter().zip(&tars) {
        floor.blob_hash += hash(blob)?;
        if form != Form::Plain {
            floor.inflate += inflate(blob, form)?;
            floor.raw_hash += hash(tar)?;
        }
    }
    let disk = Disk::fresh()?;
    for (at, tar) in tars.iter().enumerate() {
        floor.untar += untar(tar, &disk.path().join(at.to_string()))?;
    }
    Ok(floor)
}

// === impl Floor ===

impl Floor {
    pub fn cpu_s(&self) -> f64 {
        self.transfer + self.inflate + self.raw_hash + self.blob_hash + self.untar
    }
}

fn inflate(blob: &Path, form: Form) -> anyhow::Result<f64> {
    let bytes = fs::read(blob)?;
    let mut into = vec![0; PIECE];
    let began = thread_cpu_s()?;
    match form {
        Form::Gzip => drain(MultiGzDecoder::new(&bytes[..]), &mut into)?,
        Form::Zstd => drain(zstd::stream::read::Decoder::new(&bytes[..])?, &mut into)?,
        Form::Plain => {}
    }
    Ok(thread_cpu_s()? - began)
}

fn drain(mut from: impl Read, into: &mut [u8]) -> io::Result<()> {
    while from.read(into)? > 0 {}
    Ok(())
}

/// Reading the file is not counted.
fn hash(file: &Path) -> anyhow::Result<f64> {
    let mut from = BufReader::with_capacity(PIECE, File::open(file)?);
    let mut piece = vec![0; PIECE];
    let (mut context, mut cpu) = (Context::new(&SHA256), 0.0);
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            break;
        }
        let began = thread_cpu_s()?;
        context.update(&piece[..length]);
        cpu += thread_cpu_s()? - began;
    }
    std::hint::black_box(context.finish());
    Ok(cpu)
}

/// By GNU tar, from the page cache.
fn untar(tar: &Path, into: &Path) -> anyhow::Result<f64> {
    fs::create_dir(into)?;
    let mut command = Command::new("tar");
    let command = command.args(["--numeric-owner", "-xpf"]).arg(tar);
    let child = command.arg("-C").arg(into).spawn().context("tar")?;
    let spent = wait(child, Instant::now())?;
    anyhow::ensure!(spent.status.success(), "tar: {}", spent.status);
    Ok(spent.cpu_s)
}
