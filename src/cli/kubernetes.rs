//! The way to the API server that the configuration names.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::exit::Usage;
use crate::config::Kubernetes;

/// A client: the named kubeconfig and context, or in a cluster its service account, or the usual
/// kubeconfig.
pub async fn client(kubernetes: &Kubernetes) -> anyhow::Result<Client> {
    let options = KubeConfigOptions {
        context: kubernetes.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &kubernetes.kubeconfig {
        Some(path) => {
            let wrong = |error| {
                let path = path.display();
                Usage(format!(
                    "kubernetes.kubeconfig, kubernetes.context: {path}: {error}"
                ))
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(wrong)?
        }
        None if kubernetes.context.is_some() => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| Usage(format!("kubernetes.context: {error}")))?,
        None => Config::infer().await.context(
            "no API server: set kubernetes.kubeconfig, or KUBECONFIG, or run in a cluster",
        )?,
    };
    Ok(Client::try_from(config)?)
}
