//! Pods as a kubelet starts them, over CRI, in the host's network.

use std::time::Duration;

use forelay::runtime::wire::cri::image_service_client::ImageServiceClient;
use forelay::runtime::wire::cri::runtime_service_client::RuntimeServiceClient;
use forelay::runtime::wire::cri::{
    AuthConfig, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus,
    ContainerStatusRequest, CreateContainerRequest, Image, ImageSpec, ImageStatusRequest,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use tonic::Status;
use tonic::transport::Channel;

/// A runtime seen through CRI.
#[derive(Clone)]
pub struct Cri {
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

/// A sandbox that runs.
pub struct Pod {
    pub id: String,
    config: PodSandboxConfig,
}

impl Cri {
    pub fn new(channel: Channel) -> Self {
        let runtime = RuntimeServiceClient::new(channel.clone());
        Self {
            runtime,
            images: ImageServiceClient::new(channel),
        }
    }

    /// What CRI knows under this name or digest.
    pub async fn image(&mut self, name: &str) -> Option<Image> {
        let request = ImageStatusRequest {
            image: Some(spec(name)),
            verbose: false,
        };
        self.images
            .image_status(request)
            .await
            .unwrap()
            .into_inner()
            .image
    }

    /// As [`Cri::image`], once CRI has heard of the record: milliseconds.
    pub async fn wait_for(&mut self, name: &str) -> Image {
        for _ in 0..5_000 {
            if let Some(image) = self.image(name).await {
                return image;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("CRI does not see {name}");
    }

    /// As a kubelet does when it has to pull; the image's ID.
    pub async fn pull(&mut self, name: &str) -> Result<String, Status> {
        self.pull_as(name, None).await
    }

    /// As [`Cri::pull`], with a pull secret's user and password.
    pub async fn pull_as(
        &mut self,
        name: &str,
        user: Option<(&str, &str)>,
    ) -> Result<String, Status> {
        let auth = user.map(|(username, password)| AuthConfig {
            username: username.to_owned(),
            password: password.to_owned(),
            ..AuthConfig::default()
        });
        let request = PullImageRequest {
            image: Some(spec(name)),
            auth,
            ..PullImageRequest::default()
        };
        Ok(self
            .images
            .pull_image(request)
            .await?
            .into_inner()
            .image_ref)
    }

    /// A sandbox in the host's network: it needs no plugin for one.
    pub async fn sandbox(&mut self, name: &str) -> Pod {
        let namespace_options = Some(NamespaceOption {
            network: NamespaceMode::Node.into(),
            ..NamespaceOption::default()
        });
        let security_context = Some(LinuxSandboxSecurityContext { namespace_options });
        // No host name: runc refuses one without a namespace for it.
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            linux: Some(LinuxPodSandboxConfig {
                security_context,
                ..Default::default()
            }),
            ..PodSandboxConfig::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let id = self
            .runtime
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id;
        Pod { id, config }
    }

    /// Creates a container; its ID.
    pub async fn create(
        &mut self,
        pod: &Pod,
        image: &str,
        command: &[&str],
    ) -> Result<String, Status> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "main".to_owned(),
                attempt: 0,
            }),
            image: Some(spec(image)),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ..ContainerConfig::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let created = self.runtime.create_container(request).await?;
        Ok(created.into_inner().container_id)
    }

    /// Creates and starts a container; its ID.
    pub async fn start(
        &mut self,
        pod: &Pod,
        image: &str,
        command: &[&str],
    ) -> Result<String, Status> {
        let id = self.create(pod, image, command).await?;
        let request = StartContainerRequest {
            container_id: id.clone(),
        };
        self.runtime.start_container(request).await?;
        Ok(id)
    }

    pub async fn container(&mut self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        self.runtime
            .container_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    /// Waits until the container has ended; its exit code.
    pub async fn ended(&mut self, id: &str) -> i32 {
        for _ in 0..600 {
            let status = self.container(id).await;
            if status.state() == ContainerState::ContainerExited {
                return status.exit_code;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("container {id} runs for half a minute");
    }

    pub async fn remove(&mut self, pod: Pod) {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        self.runtime.stop_pod_sandbox(request).await.unwrap();
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: pod.id,
        };
        self.runtime.remove_pod_sandbox(request).await.unwrap();
    }
}

pub fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
        ..ImageSpec::default()
    }
}
