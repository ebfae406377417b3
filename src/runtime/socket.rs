//! A gRPC channel over a Unix socket, and why it cannot be had.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// Connecting to a local socket is immediate, or the daemon's backlog is full.
const CONNECT: Duration = Duration::from_secs(5);

/// A socket on which nobody can be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// No such file.
    #[error("{0} does not exist: the runtime is not running, or its socket is not mounted here")]
    Missing(PathBuf),
    /// A file without a listener: the daemon has ended.
    #[error("nobody listens on {0}: the runtime is not running")]
    Refused(PathBuf),
    /// We may not.
    #[error("not permitted to open {0}: run as root, or as a member of the socket's group")]
    Forbidden(PathBuf),
    /// Anything else: no socket, a name that is too long, a full backlog.
    #[error("cannot connect to {path}: {reason}")]
    Other {
        /// socket
        path: PathBuf,
        /// the system's words
        reason: String,
    },
}

/// A channel to the daemon on `path`; it connects again by itself when the daemon was restarted.
///
/// # Errors
/// [`SocketError`] when nobody can be reached there now.
pub async fn connect(path: &Path) -> Result<Channel, SocketError> {
    // tonic's own connection only says "transport error": this one says why.
    match timeout(CONNECT, UnixStream::connect(path)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(SocketError::new(path, &error)),
        Err(late) => return Err(SocketError::other(path, &late)),
    }
    let Some(text) = path.to_str() else {
        return Err(SocketError::other(path, &"the path is not UTF-8"));
    };
    let endpoint = Endpoint::from_shared(format!("unix://{text}"));
    let endpoint = endpoint.map_err(|error| SocketError::other(path, &error))?;
    Ok(endpoint.connect_timeout(CONNECT).connect_lazy())
}

// === impl SocketError ===

impl SocketError {
    fn new(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            io::ErrorKind::ConnectionRefused => Self::Refused(path.to_owned()),
            io::ErrorKind::PermissionDenied => Self::Forbidden(path.to_owned()),
            _ => Self::other(path, error),
        }
    }

    fn other(path: &Path, reason: &dyn ToString) -> Self {
        let path = path.to_owned();
        let reason = reason.to_string();
        Self::Other { path, reason }
    }
}
