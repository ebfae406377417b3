//! The bytes of one answer, read from a file that may still be growing.

use std::io;
use std::io::SeekFrom;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use crate::cache::desk::{Answer, Reading};
use crate::store::Store;

/// Bytes of one read: one trip to the file thread; 2048 readers hold 128 MiB at most.
const READ: u64 = 64 << 10;

struct Open {
    file: File,
    at: u64,
    end: u64,
    have: Option<watch::Receiver<u64>>,
    /// Keeps the blob from being evicted while it is read.
    _reading: Reading,
}

/// Opens the blob at `start`; the partial file's handle stays good when it becomes the blob.
pub(super) async fn open(
    store: &Store,
    answer: Answer,
    reading: Reading,
    (start, end): (u64, u64),
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let whole = store.blob_path(reading.digest());
    let (mut file, have) = match answer {
        Answer::Whole(_) => (File::open(whole).await?, None),
        Answer::Growing(_, have) => {
            let partial = store.partial_path(reading.digest());
            (either(&partial, &whole).await?, Some(have))
        }
    };
    file.seek(SeekFrom::Start(start)).await?;
    let open = Open {
        file,
        at: start,
        end,
        have,
        _reading: reading,
    };
    Ok(stream::try_unfold(open, next))
}

/// Between the answer and the opening the blob may have become whole.
async fn either(partial: &Path, whole: &Path) -> io::Result<File> {
    match File::open(partial).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => File::open(whole).await,
        result => result,
    }
}

async fn next(mut open: Open) -> io::Result<Option<(Bytes, Open)>> {
    if open.at >= open.end {
        return Ok(None);
    }
    let limit = match &mut open.have {
        None => open.end,
        Some(have) => {
            let at = open.at;
            let seen = have.wait_for(|have| *have > at).await;
            let seen = seen.map_err(|_| io::Error::other("the upstream fetch failed"))?;
            (*seen).min(open.end)
        }
    };
    let want = (limit - open.at).min(READ);
    let mut chunk = BytesMut::with_capacity(want as usize);
    let read = (&mut open.file).take(want).read_buf(&mut chunk).await?;
    if read == 0 {
        return Err(io::Error::other("the stored blob is shorter than its size"));
    }
    open.at += read as u64;
    Ok(Some((chunk.freeze(), open)))
}
