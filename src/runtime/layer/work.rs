//! The three threads of one layer: inflate, hash, untar.

use std::sync::mpsc::sync_channel;
use std::thread::{self, ScopedJoinHandle};

use tokio::sync::mpsc::Receiver;

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::runtime::layer::apply::{Applied, Apply};
use crate::runtime::layer::entry::Entries;
use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::feed::{Cut, Feed, Form, Gift};
use crate::runtime::layer::hash;
use crate::runtime::layer::raw::{CHUNKS_QUEUED, Reader};
use crate::runtime::layer::tree::Tree;
use crate::runtime::layer::{Unpacked, Wanted};

/// What was inflated.
struct Inflated {
    form: Form,
    raw: u64,
}

/// Unpacks one layer; called on a thread of its own, which inflates.
pub(super) fn run(
    tree: Tree,
    wanted: &Wanted,
    queue: Receiver<Gift>,
) -> Result<Unpacked, LayerError> {
    // Twice as many: compressed chunks take turns with raw ones.
    let (hash_in, hash_out) = sync_channel(2 * CHUNKS_QUEUED);
    let (raw_in, raw_out) = sync_channel(CHUNKS_QUEUED);
    thread::scope(|scope| {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let no_thread = |e| LayerError::Io(format!("cannot start a thread: {e}"));
        let hashing = named("layer-hash")
            .spawn_scoped(scope, move || hash::run(hash_out))
            .map_err(no_thread)?;
        let entries = Entries::new(Reader::new(raw_out), &wanted.limits);
        let apply = Apply::new(tree, entries, wanted.limits, wanted.is_bottom);
        let untarring = named("layer-untar")
            .spawn_scoped(scope, move || apply.run())
            .map_err(no_thread)?;
        let mut feed = Feed::new(queue, hash_in, wanted.blob.is_some());
        let inflated = feed.form().and_then(|form| {
            let raw = feed.pump(form, &wanted.limits, &raw_in)?;
            Ok(Inflated { form, raw })
        });
        drop(raw_in);
        let outcome = combine(inflated, joined(untarring)?);
        let outcome = match outcome {
            // Wrong bytes look like an odd layer until the last of them is hashed.
            Err(error) if error.may_be_the_bytes() && wanted.blob.is_some() => {
                if !feed.drain() {
                    return Err(error);
                }
                Err(error)
            }
            Err(error) => return Err(error),
            done => done,
        };
        let taken = feed.taken();
        drop(feed);
        let hashes = joined(hashing)?;
        finished(wanted, taken, &hashes, outcome)
    })
}

/// The first cause: a thread that stops makes the others stop.
fn combine(
    inflated: Result<Inflated, Cut>,
    applied: Result<Applied, LayerError>,
) -> Result<(Inflated, Applied), LayerError> {
    match (inflated, applied) {
        (Ok(inflated), Ok(applied)) => Ok((inflated, applied)),
        (Err(Cut::Fault(error)), Err(LayerError::Abandoned)) => Err(error),
        (Err(Cut::Abandoned), _) => Err(LayerError::Abandoned),
        (_, Err(error)) => Err(error),
        (Err(Cut::Fault(error)), Ok(_)) => Err(error),
        (Err(Cut::Downstream), Ok(_)) => {
            Err(LayerError::Io("the untar thread ended early".to_owned()))
        }
    }
}

fn finished(
    wanted: &Wanted,
    taken: u64,
    hashes: &hash::Hashes,
    outcome: Result<(Inflated, Applied), LayerError>,
) -> Result<Unpacked, LayerError> {
    if let Some(size) = wanted.size
        && size.0 != taken
    {
        return Err(LayerError::WrongSize {
            expected: size.0,
            found: taken,
        });
    }
    if let Some(expected) = differs(wanted.blob.as_ref(), &hashes.blob) {
        return Err(LayerError::WrongBlob {
            expected,
            found: hashes.blob.clone(),
        });
    }
    let (inflated, applied) = outcome?;
    let is_plain = inflated.form == Form::Plain;
    let diff_id = if is_plain { &hashes.blob } else { &hashes.raw };
    if let Some(expected) = differs(wanted.diff_id.as_ref(), diff_id) {
        return Err(LayerError::WrongDiff {
            expected,
            found: diff_id.clone(),
        });
    }
    Ok(Unpacked {
        blob: (is_plain || wanted.blob.is_some()).then(|| hashes.blob.clone()),
        blob_bytes: ByteSize(taken),
        diff_id: diff_id.clone(),
        raw_bytes: ByteSize(inflated.raw),
        inodes: applied.inodes,
        disk: ByteSize(applied.disk),
        rest: applied.rest,
    })
}

fn differs(wanted: Option<&Digest>, found: &Digest) -> Option<Digest> {
    wanted.filter(|wanted| *wanted != found).cloned()
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T, LayerError> {
    let panicked = |_| LayerError::Io("a thread of the layer panicked: a defect".to_owned());
    thread.join().map_err(panicked)
}
