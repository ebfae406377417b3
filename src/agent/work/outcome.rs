//! What an agent makes of its tasks' results: inputs for the engine, signals, reasons.

use std::collections::BTreeSet;

use crate::agent::pull::{Moved, PullError};
use crate::agent::show::ShowError;
use crate::agent::work::undone::Undone;
use crate::agent::work::{Done, Work};
use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::signal::{Fact, PrefetchFinished, Signal, TransferFinished};
use crate::engine::node::Input;
use crate::port::RuntimeError;

impl Work {
    /// Takes one task's result.
    pub(super) fn take(&mut self, done: Done) {
        if let Done::Record(_, _, Ok(_)) | Done::Withdrawn(_, _, Ok(())) | Done::Inventory(..) =
            done
        {
            self.shelf.note(self.clock.now());
        }
        match done {
            Done::Manifest(image, digest, Ok((manifest, lacking))) => {
                tracing::debug!(%image, %digest, lacking = lacking.len(), "manifest is there");
                self.messages.remove(&digest);
                // A pull that comes before the layers are here finds the manifest.
                if let Some(book) = &self.book {
                    book.hold(&image, &digest);
                }
                self.manifests.insert(digest.clone(), manifest.clone());
                self.tell(Input::Manifest(manifest));
                self.tell(Input::Lacking {
                    manifest: digest,
                    layers: lacking,
                });
            }
            Done::Manifest(image, digest, Err(error)) => self.failed(&image, digest, &error),
            Done::Blob(digest, number, moved, result) => {
                self.blob_done(digest, number, &moved, result);
            }
            // The plan let go of it while its registry was asked: nobody would ask about it again.
            Done::Record(image, digest, Ok(_)) if !self.is_planned(&image, &digest) => {
                self.withdraw(digest, Some(image));
            }
            Done::Record(image, digest, Ok(show)) => {
                let now = self.clock.now();
                self.rechecks.note(&image, &digest, show, now);
                self.finished(&image, &digest);
                self.tell(Input::Recorded { image, digest });
            }
            Done::Record(image, digest, Err(error)) => self.not_recorded(image, digest, &error),
            Done::Rechecked(image, digest, gone) => self.rechecked(image, digest, gone),
            Done::Lacking(manifest, Ok(layers)) => {
                self.tell(Input::Lacking { manifest, layers });
            }
            Done::Lacking(digest, Err(error)) => {
                tracing::warn!(%digest, %error, "cannot tell which layers are missing");
            }
            Done::Withdrawn(_, _, Ok(())) => self.is_gone(),
            Done::Withdrawn(_, _, Err(RuntimeError::InUse(_))) => {}
            Done::Withdrawn(digest, name, Err(error)) => {
                tracing::warn!(node = self.node, %digest, %error, "cannot withdraw an image");
                self.undone(Undone::Withdraw(digest, name));
            }
            Done::Pinned(_, Ok(())) => {}
            // Tried again when its end has moved on: until then the kubelet may have it.
            Done::Pinned(digest, Err(error)) => {
                tracing::warn!(node = self.node, %digest, %error, "cannot pin an image");
            }
            Done::Look(look) => self.looked(look),
            Done::Inventory(found, kept) => self.stock_taken(found, kept),
            Done::Images(found) => self.images_listed(found),
            Done::Shelved(all, stored) => self.shelved(*all, stored),
            Done::Report(status, result) => {
                self.reporting = false;
                let now = self.clock.now();
                match result {
                    Ok(()) => self.journal.wrote(*status, now),
                    Err(error) => {
                        tracing::warn!(node = self.node, %error, "cannot write the status");
                        self.journal.failed(now);
                    }
                }
            }
        }
    }

    fn stock_taken(&mut self, found: Result<Vec<Digest>, RuntimeError>, kept: Vec<Digest>) {
        self.taking_stock = false;
        for digest in kept {
            self.undone(Undone::Release(digest));
        }
        let came = std::mem::take(&mut self.came_meanwhile);
        match found {
            Ok(mut present) => {
                present.extend(came);
                self.tell(Input::Inventory(present));
            }
            Err(error) => tracing::warn!(%error, "cannot list what is on the node"),
        }
        if std::mem::take(&mut self.stock_due) {
            self.take_stock(BTreeSet::new());
        }
    }

    fn blob_done(
        &mut self,
        digest: Digest,
        number: u64,
        moved: &Moved,
        result: Result<(), PullError>,
    ) {
        let now = self.clock.now();
        if let Some(account) = self.accounts.get_mut(&digest) {
            account.bytes += moved.bytes;
        }
        let current = self.transfers.get(&digest).map(|transfer| transfer.number);
        let cancelled = current == Some(0);
        if current == Some(number) || cancelled {
            self.transfers.remove(&digest);
        }
        match result {
            Ok(()) => {
                // A second transfer that was begun after this one was cancelled has nothing to do.
                if let Some(other) = self.transfers.remove(&digest) {
                    other.stop.cancel();
                }
                let account = self.accounts.remove(&digest);
                let bytes = ByteSize(account.as_ref().map_or(0, |account| account.bytes));
                let finished = TransferFinished {
                    node: self.node.clone(),
                    digest: digest.clone(),
                    bytes,
                    from: moved.from.unwrap_or("disk").to_owned(),
                    seconds: account.map_or(0.0, |account| now.secs_since(account.since)),
                };
                tracing::debug!(node = self.node, %digest, %bytes, "layer is there");
                if self.taking_stock {
                    self.came_meanwhile.push(digest.clone());
                }
                self.signal(&digest, Fact::TransferFinished(finished));
                self.tell(if cancelled {
                    Input::BlobPresent(digest)
                } else {
                    Input::Fetched {
                        digest,
                        moved: bytes,
                    }
                });
            }
            Err(PullError::Stopped) => {}
            Err(_) if cancelled || current != Some(number) => {}
            Err(error) => {
                self.measures.failed.of(error.reason()).inc();
                tracing::warn!(node = self.node, %digest, %error, "layer did not come");
                self.explain(&digest, &error);
                if matches!(error, PullError::Runtime(RuntimeError::Full(_))) {
                    // Until the next look says otherwise.
                    self.tell(Input::Room(ByteSize(0)));
                }
                let mut lasting = error.is_lasting();
                // A name by which an image may not be shown says nothing of its other names.
                if let PullError::Show(
                    ShowError::Hidden { image, .. } | ShowError::Moved { image, .. },
                ) = &error
                {
                    let (image, digest) = (image.clone(), digest.clone());
                    self.tell(Input::Unrecorded { image, digest });
                    lasting = false;
                }
                self.tell(Input::Failed { digest, lasting });
            }
        }
    }

    fn not_recorded(&mut self, image: ImageRef, digest: Digest, error: &PullError) {
        self.explain_image(&image, &digest, error);
        self.tell(Input::NotRecorded {
            image,
            digest: digest.clone(),
            lasting: error.is_lasting(),
        });
        match error {
            PullError::Runtime(RuntimeError::Incomplete { .. }) => self.ask_lacking(digest),
            PullError::Runtime(_) => self.take_stock(BTreeSet::new()),
            // Where images come whole, what may not be shown may have been taken back.
            _ => self.is_gone(),
        }
    }

    fn is_planned(&self, image: &ImageRef, digest: &Digest) -> bool {
        let mut live = self.engine.progress().into_iter();
        live.any(|entry| entry.digest == *digest && entry.image == *image)
    }

    /// A layer that stands in another image may be of no use to this one: asks which have to come.
    fn ask_lacking(&mut self, digest: Digest) {
        let Some(manifest) = self.manifests.get(&digest).cloned() else {
            return;
        };
        let runtime = self.runtime.clone();
        self.spawn(async move { Done::Lacking(digest, runtime.lacking(&manifest).await) });
    }

    /// A layer's failure is every image's that needs it.
    fn explain(&mut self, layer: &Digest, error: &PullError) {
        let needs = |m: &&ImageManifest| m.layers.iter().any(|l| l.digest == *layer);
        for manifest in self.manifests.values().filter(needs) {
            self.messages
                .insert(manifest.digest.clone(), error.to_string());
        }
    }

    fn explain_image(&mut self, image: &ImageRef, digest: &Digest, error: &PullError) {
        self.measures.failed.of(error.reason()).inc();
        tracing::warn!(node = self.node, %image, %digest, %error, "image is not to be had now");
        self.messages.insert(digest.clone(), error.to_string());
    }

    fn failed(&mut self, image: &ImageRef, digest: Digest, error: &PullError) {
        self.explain_image(image, &digest, error);
        let lasting = error.is_lasting();
        self.tell(Input::Failed { digest, lasting });
    }

    fn finished(&mut self, image: &ImageRef, digest: &Digest) {
        let now = self.clock.now();
        tracing::info!(node = self.node, %image, %digest, "image is whole");
        self.messages.remove(digest);
        let since = self.entries.get(digest).copied().unwrap_or(now);
        let size = self.manifests.get(digest).map(ImageManifest::size);
        let finished = PrefetchFinished {
            node: self.node.clone(),
            image: image.clone(),
            bytes: size.unwrap_or_default(),
            seconds: now.secs_since(since),
        };
        self.signal(digest, Fact::PrefetchFinished(finished));
    }

    fn signal(&self, digest: &Digest, fact: Fact) {
        let Some(signals) = &self.signals else {
            return;
        };
        let now = self.clock.now();
        let source = format!("/forelay/agent/{}", self.node);
        let id = format!("{}/{}/{}", fact.event_type(), digest.hex(), now.as_micros());
        if signals
            .try_send(Signal::new(&source, id, now, fact))
            .is_err()
        {
            tracing::debug!(node = self.node, "nobody takes signals: one is lost");
        }
    }
}
