//! A runtime behind its CRI socket alone: where its folder cannot be seen, or it is no containerd.
//!
//! Here is the client; [`CriRuntime`] is what an agent drives. Through CRI a runtime pulls whole images, shows
//! every one to all pods, tells neither how far a pull is nor who else pulls, and removes an image only with
//! all its names. Who else pulls containerd's own services tell, where it is one.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::runtime::socket::{self, SocketError};
use crate::runtime::wire::cri::image_service_client::ImageServiceClient;
use crate::runtime::wire::cri::runtime_service_client::RuntimeServiceClient;
use crate::runtime::wire::cri::{
    AuthConfig, Container, FilesystemUsage, Image, ImageFilter, ImageFsInfoRequest, ImageSpec,
    ImageStatusRequest, ListContainersRequest, ListImagesRequest, PullImageRequest,
    RemoveImageRequest, StatusRequest, StatusResponse, VersionRequest, VersionResponse,
};

mod foreground;
mod inventory;
mod ledger;
pub mod look;
mod names;
mod pull;
mod remove;
mod runtime;
mod watch;

pub use runtime::{CriRuntime, Options};

/// Calls that look things up: a kubelet gives them two minutes, and answers come within milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A listing of some thousand images, or a verbose status.
const MESSAGE_MAX: usize = 16 << 20;

/// A connection to a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cri {
    channel: Channel,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CriError {
    /// Nobody can be asked.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The registry has no such image.
    #[error("the runtime cannot {what}: {message}")]
    NotFound {
        /// what was asked
        what: String,
        /// the runtime's words
        message: String,
    },
    /// The registry wants another credential, or none is enough.
    #[error("the runtime cannot {what}: {message}")]
    Denied {
        /// what was asked
        what: String,
        /// the runtime's words
        message: String,
    },
    /// The runtime's disk is full.
    #[error("the runtime cannot {what}: {message}")]
    NoSpace {
        /// what was asked
        what: String,
        /// the runtime's words
        message: String,
    },
    /// The runtime went away, or does not serve CRI: trying again may help.
    #[error("the runtime cannot {what}: {message}")]
    Unavailable {
        /// what was asked
        what: String,
        /// the runtime's words
        message: String,
    },
    /// No answer in time.
    #[error("{what}: the runtime did not answer within {limit:?}")]
    Deadline {
        /// what was asked
        what: String,
        /// how long was waited
        limit: Duration,
    },
    /// Anything else.
    #[error("the runtime cannot {what}: {message}")]
    Failed {
        /// what was asked
        what: String,
        /// the runtime's words
        message: String,
    },
}

// === impl Cri ===

impl Cri {
    /// Connects to the runtime on this socket.
    ///
    /// # Errors
    /// [`CriError::Socket`] when nobody listens there now.
    pub async fn connect(socket: &Path) -> Result<Self, CriError> {
        let channel = socket::connect(socket).await?;
        Ok(Self { channel })
    }

    /// What runs.
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn version(&self) -> Result<VersionResponse, CriError> {
        let call = async { self.runtime().version(VersionRequest::default()).await };
        answer("tell its version", DEADLINE, call).await
    }

    /// Its conditions and, from containerd, its configuration (`info["config"]`, JSON).
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn status(&self) -> Result<StatusResponse, CriError> {
        let request = StatusRequest { verbose: true };
        let call = async { self.runtime().status(request).await };
        answer("tell its status", DEADLINE, call).await
    }

    /// Every image, with all its names.
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn images(&self) -> Result<Vec<Image>, CriError> {
        let filter: Option<ImageFilter> = None;
        let call = async {
            self.service()
                .list_images(ListImagesRequest { filter })
                .await
        };
        Ok(answer("list images", DEADLINE, call).await?.images)
    }

    /// Every container, whether it runs or not.
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn containers(&self) -> Result<Vec<Container>, CriError> {
        let request = ListContainersRequest::default();
        let call = async { self.runtime().list_containers(request).await };
        Ok(answer("list containers", DEADLINE, call).await?.containers)
    }

    /// The image of this name, digest or ID; `None` when it is not there.
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, CriError> {
        let request = ImageStatusRequest {
            image: Some(spec(name)),
            verbose: false,
        };
        let what = format!("tell about {name}");
        let call = async { self.service().image_status(request).await };
        Ok(answer(&what, DEADLINE, call).await?.image)
    }

    /// Lets the runtime pull an image; its ID. Dropping the future stops the pull, unless another one of the
    /// same layers goes on.
    ///
    /// # Errors
    /// [`CriError::Denied`] and [`CriError::NotFound`] by the registry; [`CriError::Deadline`] after `limit`, which
    /// stops the pull too.
    pub async fn pull(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
        limit: Duration,
    ) -> Result<String, CriError> {
        let message = PullImageRequest {
            image: Some(spec(image)),
            auth,
            sandbox_config: None,
        };
        let mut request = Request::new(message);
        request.set_timeout(limit);
        let what = format!("pull {image}");
        let call = async { self.service().pull_image(request).await };
        Ok(answer(&what, limit, call).await?.image_ref)
    }

    /// Removes an image with ALL its names, whoever made them; no error when there is none.
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn remove(&self, image: &str) -> Result<(), CriError> {
        let image = Some(spec(image));
        let what = "remove an image";
        let call = async {
            let request = RemoveImageRequest { image };
            self.service().remove_image(request).await
        };
        answer(what, DEADLINE, call).await.map(drop)
    }

    /// Where images are kept, and what they take; containerd counts every ten seconds.
    ///
    /// # Errors
    /// [`CriError`] when the runtime cannot be asked.
    pub async fn file_systems(&self) -> Result<Vec<FilesystemUsage>, CriError> {
        let call = async { self.service().image_fs_info(ImageFsInfoRequest {}).await };
        let answer = answer("tell its disk use", DEADLINE, call).await?;
        Ok(answer.image_filesystems)
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    fn service(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }
}

// === impl CriError ===

impl CriError {
    fn of(what: &str, status: &Status) -> Self {
        let what = what.to_owned();
        // A daemon's words are bounded: they may quote what a registry sent.
        let message: String = status.message().chars().take(1_000).collect();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        // Few errors of a pull have a code of their own: containerd gives a registry's answer as text
        // (`remotes/docker`: "unexpected status code .. 401 Unauthorized", "pull access denied").
        match status.code() {
            _ if says(&["no space left on device"]) => Self::NoSpace { what, message },
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied { what, message },
            _ if says(&["401 Unauthorized", "403 Forbidden"]) => Self::Denied { what, message },
            _ if says(&["authorization failed", "pull access denied"]) => {
                Self::Denied { what, message }
            }
            Code::NotFound => Self::NotFound { what, message },
            Code::Unavailable | Code::Cancelled | Code::Unimplemented => {
                Self::Unavailable { what, message }
            }
            // Only errors that tonic made itself have a source: there was no answer at all.
            _ if std::error::Error::source(status).is_some() => Self::Unavailable { what, message },
            _ => Self::Failed { what, message },
        }
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
        ..ImageSpec::default()
    }
}

async fn answer<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CriError::of(what, &status)),
        Err(_) => Err(CriError::Deadline {
            what: what.to_owned(),
            limit,
        }),
    }
}
