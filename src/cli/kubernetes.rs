//! The way to the API server that the configuration names.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

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
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("kubernetes.kubeconfig: {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await?
        }
        None if kubernetes.context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await.context(
            "no API server: set kubernetes.kubeconfig, or KUBECONFIG, or run in a cluster",
        )?,
    };
    Ok(Client::try_from(config)?)
}
