//! Lists what the node has, and has that written to its object: only there somebody reads it.

use crate::agent::work::{Done, Work};
use crate::api::Inventory;
use crate::domain::inventory::StoredImage;
use crate::domain::time::Timestamp;
use crate::port::RuntimeError;

impl Work {
    /// Lists images when it is time to; answers when it will be. After the first status: the object is there.
    pub(super) fn list_images(&mut self, now: Timestamp) -> Option<Timestamp> {
        let told = self.plans.0.is_some() && self.journal.is_told();
        if !told || !self.reporter.takes_inventory() {
            return None;
        }
        let due = self.shelf.due()?;
        if due > now {
            return Some(due);
        }
        self.shelf.begin(now);
        let runtime = self.runtime.clone();
        self.spawn(async move { Done::Images(runtime.images().await) });
        None
    }

    pub(super) fn images_listed(&mut self, found: Result<Option<Vec<StoredImage>>, RuntimeError>) {
        let images = match found {
            Ok(Some(images)) => images,
            Ok(None) => return self.shelf.rest(),
            Err(error) => {
                tracing::warn!(node = self.node, %error, "cannot list the node's images");
                return self.shelf.failed(self.clock.now());
            }
        };
        let bytes = images.iter().filter_map(|image| image.bytes);
        let bytes: u64 = bytes.map(|bytes| bytes.0).sum();
        self.measures.stored_images.set(images.len() as f64);
        self.measures.image_bytes.set(bytes as f64);
        if let Some((change, all)) = self.shelf.take(images) {
            let writing = self.reporter.inventory(&change, &all);
            self.spawn(async move { Done::Shelved(Box::new(all), writing.await) });
        }
    }

    pub(super) fn shelved(&mut self, all: Inventory, stored: Result<Option<Inventory>, String>) {
        let now = self.clock.now();
        match stored {
            Ok(stored) => self.shelf.wrote(all, stored.as_ref(), now),
            Err(error) => {
                tracing::warn!(node = self.node, %error, "cannot write the node's images");
                self.shelf.failed(now);
            }
        }
    }
}
