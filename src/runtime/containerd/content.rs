//! The content store: blobs by their digest, with labels.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest as sha256};
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tonic::transport::Channel;

use crate::domain::image::Digest;
use crate::runtime::containerd::client::{
    Client, DEADLINE, DEADLINE_LONG, MESSAGE_MAX, all, answer, next,
};
use crate::runtime::containerd::error::{ContainerdError, Failure, found};
use crate::runtime::containerd::label::{self, Labels};
use crate::runtime::containerd::lease::LeaseId;
use crate::runtime::wire::content::content_client::ContentClient;
use crate::runtime::wire::content::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, ListContentRequest, ListStatusesRequest,
    ReadContentRequest, Status, UpdateRequest, WriteAction, WriteContentRequest,
};

/// Bytes in one message: as many as containerd's own client puts into one (`content/proxy`), well below
/// the 16 MiB that a message may have.
const CHUNK: usize = 1 << 20;

/// Attempts at a blob that somebody else's is collected from under.
const TRIES: u32 = 3;

/// A blob to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlob {
    /// Under which name; containerd compares it before the blob can be seen.
    pub digest: Digest,
    /// Bytes of all of it.
    pub size: u64,
    /// Labels; a blob that is there already gets those that it lacks.
    pub labels: Labels,
}

impl Client {
    /// A blob's size and labels; `None` when it is not there.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Info>, ContainerdError> {
        let request = InfoRequest {
            digest: digest.to_string(),
        };
        let what = format!("stat {digest}");
        let mut service = self.content_service();
        let call = service.info(self.request(request, None));
        let answer = found(answer(&what, DEADLINE, call).await)?;
        Ok(answer.and_then(|answer| answer.info))
    }

    /// Every blob that passes one of the filters (`labels."..."`, `digest==..`); all without any.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn blobs(&self, filters: &[String]) -> Result<Vec<Info>, ContainerdError> {
        let filters = filters.to_vec();
        let mut service = self.content_service();
        let call = service.list(self.request(ListContentRequest { filters }, None));
        all("list content", call, |part| part.info).await
    }

    /// Blobs that are being written, by anybody: a pull of CRI's names them `layer-sha256:..`.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn ingests(&self) -> Result<Vec<Status>, ContainerdError> {
        let mut service = self.content_service();
        let request = self.request(ListStatusesRequest::default(), None);
        let call = service.list_statuses(request);
        Ok(answer("list ingests", DEADLINE, call).await?.statuses)
    }

    /// The verified bytes of a small blob (manifest, config); `None` when it is not there.
    ///
    /// # Errors
    /// [`ContainerdError::TooLarge`] for more than `max` bytes; [`ContainerdError::Damaged`] when they are not its.
    pub async fn read_blob(
        &self,
        digest: &Digest,
        max: u64,
    ) -> Result<Option<Bytes>, ContainerdError> {
        let Some(info) = self.blob(digest).await? else {
            return Ok(None);
        };
        let too_large = |size: u64| ContainerdError::TooLarge {
            digest: digest.to_string(),
            size,
            max,
        };
        let size = u64::try_from(info.size).unwrap_or(0);
        if size > max {
            return Err(too_large(size));
        }
        let request = ReadContentRequest {
            digest: digest.to_string(),
            ..ReadContentRequest::default()
        };
        let what = format!("read {digest}");
        let mut service = self.content_service();
        let call = service.read(self.request(request, None));
        let Some(mut parts) = found(answer(&what, DEADLINE, call).await)? else {
            return Ok(None);
        };
        let mut bytes = BytesMut::new();
        while let Some(part) = next(&what, DEADLINE, &mut parts).await? {
            bytes.extend_from_slice(&part.data);
            if bytes.len() as u64 > max {
                return Err(too_large(bytes.len() as u64));
            }
        }
        let is = Digest::from_sha256(sha256(&SHA256, &bytes).as_ref());
        if is != *digest {
            return Err(ContainerdError::Damaged {
                wanted: digest.to_string(),
                found: is.to_string(),
            });
        }
        Ok(Some(bytes.freeze()))
    }

    /// Writes a small blob (manifest, config, index). One that is there already is held by the lease,
    /// gets the labels it lacks, and is a success.
    ///
    /// # Errors
    /// [`ContainerdError::Precondition`] when the bytes are not the blob's; [`ContainerdError::Locked`] while
    /// somebody else writes it under our name.
    pub async fn write_blob(
        &self,
        lease: &LeaseId,
        blob: &NewBlob,
        bytes: Bytes,
    ) -> Result<(), ContainerdError> {
        for _ in 0..TRIES {
            let first = stream::iter([WriteContentRequest {
                data: bytes.clone(),
                ..commit(blob, 0)
            }]);
            match self.write(lease, blob, first).await {
                Err(ContainerdError::Exists(_)) => {
                    if self.adopt(lease, blob).await? {
                        return Ok(());
                    }
                }
                other => return other,
            }
        }
        Err(vanishing(&blob.digest))
    }

    /// Writes a blob of any size from a reader, a mebibyte at a time. One that is there already is a success
    /// as in [`Client::write_blob`], and is not read.
    ///
    /// # Errors
    /// As there, and [`ContainerdError::Source`] when the reader fails.
    pub async fn write_blob_from(
        &self,
        lease: &LeaseId,
        blob: &NewBlob,
        reader: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(), ContainerdError> {
        let failed = Arc::new(Mutex::new(None));
        let parts = parts(blob.clone(), reader, Arc::clone(&failed));
        let written = self.write(lease, blob, parts).await;
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = failed {
            self.abort(&blob.digest).await;
            return Err(ContainerdError::Source {
                digest: blob.digest.to_string(),
                reason: error.to_string(),
            });
        }
        match written {
            Err(ContainerdError::Exists(_)) if self.adopt(lease, blob).await? => Ok(()),
            Err(ContainerdError::Exists(_)) => Err(vanishing(&blob.digest)),
            other => other,
        }
    }

    /// Sets labels of a blob; others stay.
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when it is not there.
    pub async fn label_blob(&self, digest: &Digest, labels: Labels) -> Result<(), ContainerdError> {
        // An empty mask replaces everything.
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info {
            digest: digest.to_string(),
            labels,
            ..Info::default()
        };
        let request = UpdateRequest {
            info: Some(info),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let what = format!("label {digest}");
        let mut service = self.content_service();
        let call = service.update(self.request(request, None));
        answer(&what, DEADLINE, call).await.map(drop)
    }

    /// Makes the lease hold a blob and what its labels lead to; false when it is not there.
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when the lease is gone.
    pub async fn hold_blob(
        &self,
        lease: &LeaseId,
        digest: &Digest,
    ) -> Result<bool, ContainerdError> {
        // Held first, looked for afterwards: a collection in between can no longer take it.
        self.lease_add(lease, digest.as_str(), "content").await?;
        Ok(self.blob(digest).await?.is_some())
    }

    /// Deletes a blob, whoever needs it; false when there was none.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<bool, ContainerdError> {
        let request = DeleteContentRequest {
            digest: digest.to_string(),
        };
        let what = format!("delete {digest}");
        let mut service = self.content_service();
        let call = service.delete(self.request(request, None));
        let answer = found(answer(&what, DEADLINE, call).await)?;
        Ok(answer.is_some())
    }

    /// Sends the messages and waits for the last answer.
    async fn write(
        &self,
        lease: &LeaseId,
        blob: &NewBlob,
        messages: impl Stream<Item = WriteContentRequest> + Send + 'static,
    ) -> Result<(), ContainerdError> {
        let what = format!("write {}", blob.digest);
        let mut service = self.content_service();
        let call = service.write(self.request(messages, Some(lease)));
        let mut answers = answer(&what, DEADLINE_LONG, call).await?;
        let mut committed = false;
        let ended = loop {
            // A commit syncs the whole blob to its disk.
            match next(&what, DEADLINE_LONG, &mut answers).await {
                Ok(Some(answer)) => committed |= answer.action() == WriteAction::Commit,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match ended {
            Ok(()) if committed => Ok(()),
            Ok(()) => {
                let failure = Failure::new(&what, "it ended before the commit");
                Err(ContainerdError::Unavailable(failure))
            }
            Err(error) => {
                // Wrong bytes stay as an ingest, which a next attempt would go on with; those of a full disk are
                // in everybody's way.
                if matches!(
                    error,
                    ContainerdError::Precondition(_) | ContainerdError::NoSpace(_)
                ) {
                    self.abort(&blob.digest).await;
                }
                Err(error)
            }
        }
    }

    /// Holds and labels a blob that somebody else wrote; false when it is gone again.
    pub(super) async fn adopt(
        &self,
        lease: &LeaseId,
        blob: &NewBlob,
    ) -> Result<bool, ContainerdError> {
        if !self.hold_blob(lease, &blob.digest).await? {
            return Ok(false);
        }
        let Some(info) = self.blob(&blob.digest).await? else {
            return Ok(false);
        };
        let lacking = label::lacking(&info.labels, &blob.labels);
        let labelled = self.label_blob(&blob.digest, lacking).await;
        Ok(found(labelled)?.is_some())
    }

    /// Throws away what was written of a blob under our name. What this cannot do the lease's end does.
    pub(super) async fn abort(&self, digest: &Digest) {
        let request = AbortRequest {
            r#ref: reference(digest),
        };
        let what = format!("abort {digest}");
        let mut service = self.content_service();
        let call = service.abort(self.request(request, None));
        let _ = answer(&what, DEADLINE, call).await;
    }

    fn content_service(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }
}

/// Our name for a blob that is being written: another than CRI's, whose lock would make us wait for it.
fn reference(digest: &Digest) -> String {
    format!("forelay-{digest}")
}

fn vanishing(digest: &Digest) -> ContainerdError {
    let what = format!("keep {digest}");
    let message = "it was there, and collected before it could be held";
    ContainerdError::Unavailable(Failure::new(&what, message))
}

/// The last message, which begins at `offset`. Its offset of 0 throws away what an earlier attempt left.
fn commit(blob: &NewBlob, offset: u64) -> WriteContentRequest {
    WriteContentRequest {
        action: WriteAction::Commit.into(),
        r#ref: reference(&blob.digest),
        total: i64::try_from(blob.size).unwrap_or(i64::MAX),
        expected: blob.digest.to_string(),
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        data: Bytes::new(),
        labels: blob.labels.clone(),
    }
}

/// What the reader has, as messages; ends without a commit, and with the error in `failed`, when it fails.
fn parts(
    blob: NewBlob,
    reader: impl AsyncRead + Send + Unpin + 'static,
    failed: Arc<Mutex<Option<io::Error>>>,
) -> impl Stream<Item = WriteContentRequest> + Send + 'static {
    stream::unfold((Some(reader), 0), move |(reader, offset)| {
        let (blob, failed) = (blob.clone(), Arc::clone(&failed));
        async move {
            let mut reader = reader?;
            let mut data = BytesMut::with_capacity(CHUNK);
            while data.len() < CHUNK {
                match reader.read_buf(&mut data).await {
                    Ok(0) => {
                        let data = data.freeze();
                        let last = commit(&blob, offset);
                        return Some((WriteContentRequest { data, ..last }, (None, offset)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return None;
                    }
                }
            }
            let message = WriteContentRequest {
                action: WriteAction::Write.into(),
                labels: Labels::new(),
                ..commit(&blob, offset)
            };
            let after = offset + data.len() as u64;
            let data = data.freeze();
            Some((
                WriteContentRequest { data, ..message },
                (Some(reader), after),
            ))
        }
    })
}
