//! One connection to a containerd, over which every service is asked within a deadline.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::runtime::containerd::error::{ContainerdError, Failure};
use crate::runtime::containerd::lease::LeaseId;
use crate::runtime::socket;
use crate::runtime::wire::introspection::introspection_client::IntrospectionClient;
use crate::runtime::wire::introspection::{Plugin, PluginsRequest};
use crate::runtime::wire::version::VersionResponse;
use crate::runtime::wire::version::version_client::VersionClient;

/// The namespace in which CRI keeps everything.
pub const NAMESPACE: &str = "k8s.io";

/// The snapshotter that containerd uses when nobody says otherwise.
pub const SNAPSHOTTER: &str = "overlayfs";

/// Largest message in both directions: what containerd's own server takes and sends
/// (`defaults.DefaultMaxRecvMsgSize`).
pub(super) const MESSAGE_MAX: usize = 16 << 20;

/// Calls that touch metadata: each ends in one fsync of the database, seconds on a busy disk.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Calls that walk or write a whole layer, or wait for a garbage collection.
pub(super) const DEADLINE_LONG: Duration = Duration::from_mins(5);

/// Items of a listing at most: a node holds some hundred images, so some ten thousand blobs.
const LIST_MAX: usize = 1 << 20;

/// What type a snapshotter's plugin is.
const SNAPSHOTTER_TYPE: &str = "io.containerd.snapshotter.v1";

/// A connection, a namespace and a snapshotter. Cheap to clone: clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    socket: Arc<Path>,
    namespace: MetadataValue<Ascii>,
    snapshotter: Arc<str>,
}

// === impl Client ===

impl Client {
    /// Connects to the daemon on this socket, for `k8s.io` and `overlayfs`. A daemon that is restarted
    /// later is found again.
    ///
    /// # Errors
    /// [`ContainerdError::Socket`] when nobody listens there now.
    pub async fn connect(socket: &Path) -> Result<Self, ContainerdError> {
        Ok(Self {
            channel: socket::connect(socket).await?,
            socket: socket.into(),
            namespace: MetadataValue::from_static(NAMESPACE),
            snapshotter: SNAPSHOTTER.into(),
        })
    }

    /// The same connection, for another namespace.
    ///
    /// # Errors
    /// [`ContainerdError::Invalid`] for a text that cannot be sent.
    pub fn in_namespace(mut self, namespace: &str) -> Result<Self, ContainerdError> {
        self.namespace = header(namespace)?;
        Ok(self)
    }

    /// The same connection, for another snapshotter.
    pub fn with_snapshotter(mut self, snapshotter: &str) -> Self {
        self.snapshotter = snapshotter.into();
        self
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Which namespace is asked.
    pub fn namespace(&self) -> &str {
        // Made from a `str`.
        self.namespace.to_str().unwrap_or_default()
    }

    /// Which snapshotter is asked.
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// What runs.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn version(&self) -> Result<VersionResponse, ContainerdError> {
        let mut service = VersionClient::new(self.channel());
        let request = self.request((), None);
        answer("tell its version", DEADLINE, service.version(request)).await
    }

    /// Plugins of every type, those that did not start included.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn plugins(&self) -> Result<Vec<Plugin>, ContainerdError> {
        let service = IntrospectionClient::new(self.channel());
        let mut service = service.max_decoding_message_size(MESSAGE_MAX);
        let request = self.request(PluginsRequest::default(), None);
        let call = service.plugins(request);
        Ok(answer("list its plugins", DEADLINE, call).await?.plugins)
    }

    /// The folder of our snapshotter, as the daemon names it.
    ///
    /// # Errors
    /// [`ContainerdError::Unsupported`] when the snapshotter is not there, did not start or has no folder.
    pub async fn snapshotter_root(&self) -> Result<PathBuf, ContainerdError> {
        let unsupported = |why: &str| {
            let what = format!("use the snapshotter {}", self.snapshotter);
            ContainerdError::Unsupported(Failure::new(&what, why))
        };
        let plugins = self.plugins().await?;
        let ours = |p: &&Plugin| p.r#type == SNAPSHOTTER_TYPE && p.id == *self.snapshotter;
        let plugin = plugins.iter().find(ours);
        let plugin = plugin.ok_or_else(|| unsupported("there is none of this name"))?;
        if let Some(error) = &plugin.init_err {
            return Err(unsupported(&error.message));
        }
        let root = plugin.exports.get("root");
        root.map(PathBuf::from)
            .ok_or_else(|| unsupported("it does not say where its folder is"))
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request in our namespace; what it creates belongs to the lease.
    pub(super) fn request<T>(&self, message: T, lease: Option<&LeaseId>) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = lease {
            headers.insert("containerd-lease", lease.header());
        }
        request
    }
}

/// A text as a header's value.
pub(super) fn header(text: &str) -> Result<MetadataValue<Ascii>, ContainerdError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(100).collect();
        let what = format!("be asked with `{}` as a header", shown.escape_debug());
        ContainerdError::Invalid(Failure::new(&what, "only visible ASCII can be sent"))
    })
}

/// The answer to one call, or what went wrong with `what`.
pub(super) async fn answer<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ContainerdError> {
    within(what, limit, call).await.map(Response::into_inner)
}

/// Every item of a streamed listing.
pub(super) async fn all<T, I>(
    what: &str,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    items: impl Fn(T) -> Vec<I>,
) -> Result<Vec<I>, ContainerdError> {
    let mut stream = answer(what, DEADLINE, call).await?;
    let mut all = Vec::new();
    while let Some(part) = next(what, DEADLINE, &mut stream).await? {
        all.extend(items(part));
        if all.len() > LIST_MAX {
            let failure = Failure::new(what, "the list does not end");
            return Err(ContainerdError::Failed(failure));
        }
    }
    Ok(all)
}

/// The next message of a stream.
pub(super) async fn next<T>(
    what: &str,
    limit: Duration,
    stream: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Result<Option<T>, ContainerdError> {
    within(what, limit, stream.try_next()).await
}

async fn within<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, ContainerdError> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(status)) => Err(ContainerdError::of(what, &status)),
        Err(_) => Err(ContainerdError::Deadline {
            what: what.to_owned(),
            limit,
        }),
    }
}
