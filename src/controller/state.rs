//! What was learned, kept in a ConfigMap that only the newest leader writes.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::timeout;

use crate::controller::lease::Seat;
use crate::domain::time::Timestamp;

/// Most bytes of state that are stored: etcd refuses objects above 1.5 MiB, and a ConfigMap above
/// 1 MiB of data; the engine keeps to half of that.
pub const STATE_MAX: usize = 512 * 1024;
/// Key of the text in `data`.
const KEY: &str = "state.json";
/// Annotation: epoch of the leader that wrote it.
const EPOCH: &str = "forelay.dev/epoch";
/// Annotation: when it was written.
const SAVED: &str = "forelay.dev/saved-at";
/// One request may take so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why state was not stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// This replica does not lead (any more).
    #[error("not the leader")]
    NotLeading,
    /// A newer leader has stored its own.
    #[error("the leader of epoch {0} has stored its own")]
    Outdated(u64),
    /// Larger than [`STATE_MAX`].
    #[error("{0} bytes are more than the {STATE_MAX} that fit")]
    Large(usize),
    /// The API server's words.
    #[error("{0}")]
    Unavailable(String),
}

/// State as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the engine saved.
    pub text: String,
    /// When.
    pub saved: Timestamp,
}

/// The object that holds the state.
#[derive(Clone)]
pub struct StateStore {
    api: Api<ConfigMap>,
    name: String,
    seat: Seat,
}

impl StateStore {
    /// The ConfigMap `name` in `namespace`.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str, name: &str, seat: Seat) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            seat,
        }
    }

    /// What is stored, if anything is.
    pub async fn load(&self) -> Result<Option<Stored>, StoreError> {
        let Some(map) = bounded(self.api.get_opt(&self.name)).await? else {
            return Ok(None);
        };
        let saved = annotation(&map, SAVED)
            .and_then(|text| text.parse().ok())
            .unwrap_or(Timestamp::ZERO);
        let text = map.data.and_then(|mut data| data.remove(KEY));
        Ok(text.map(|text| Stored { text, saved }))
    }

    /// Stores `text` as the leader of now.
    ///
    /// A replace of exactly the version that was read: of two leaders the older one either finds
    /// the newer one's epoch or loses the race for the version.
    pub async fn save(&self, text: String, now: Timestamp) -> Result<(), StoreError> {
        if text.len() > STATE_MAX {
            return Err(StoreError::Large(text.len()));
        }
        let found = bounded(self.api.get_opt(&self.name)).await?;
        let epoch = self.seat.epoch_now().ok_or(StoreError::NotLeading)?;
        let stored = found
            .as_ref()
            .and_then(|map| annotation(map, EPOCH)?.parse::<u64>().ok());
        if let Some(newer) = stored.filter(|stored| *stored > epoch) {
            return Err(StoreError::Outdated(newer));
        }
        let is_new = found.is_none();
        let mut metadata = found.map_or_else(
            || ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            |map| map.metadata,
        );
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(EPOCH.into(), epoch.to_string());
        annotations.insert(SAVED.into(), now.to_string());
        let map = ConfigMap {
            metadata,
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            ..ConfigMap::default()
        };
        let params = PostParams::default();
        if is_new {
            bounded(self.api.create(&params, &map)).await?;
        } else {
            bounded(self.api.replace(&self.name, &params, &map)).await?;
        }
        Ok(())
    }
}

fn annotation<'a>(map: &'a ConfigMap, name: &str) -> Option<&'a str> {
    map.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, StoreError> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer.map_err(|error| StoreError::Unavailable(error.to_string())),
        Err(_) => Err(StoreError::Unavailable(
            "the API server did not answer in time".into(),
        )),
    }
}
