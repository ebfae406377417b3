//! From the last image record that an agent makes to the moment when CRI shows the image.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use forelay::runtime::containerd::Client;
use forelay::runtime::containerd::event::Event;
use forelay::runtime::cri::Cri;
use futures::StreamExt as _;
use serde_json::json;

use crate::Form;
use crate::images::Image;
use crate::rows::median;
use crate::site::{HOST, Registry, Site, ended, name};

/// CRI is asked so often.
const LOOK: Duration = Duration::from_millis(1);

/// Median milliseconds, from the event of the last record that bears the image's name, to the first answer
/// of CRI that has it by tag and by digest.
pub async fn measure(registry: &Registry, image: &Image, runs: usize) -> anyhow::Result<f64> {
    let mut lags = Vec::new();
    for _ in 0..runs {
        let site = Site::fresh(registry, None).await?;
        let client = Client::connect(&site.daemon.socket()).await?;
        let mut events = client.events().await?;
        let recorded = tokio::spawn(async move {
            let mut last = None;
            while let Some(Ok(event)) = events.next().await {
                match event {
                    Event::ImageCreated(name) if name.starts_with(HOST) => {
                        last = Some(Instant::now());
                    }
                    // CRI's own record, of the config's digest, is what it makes of ours.
                    _ => {}
                }
                if last.is_some_and(|last: Instant| last.elapsed() > Duration::from_secs(1)) {
                    break;
                }
            }
            last
        });
        let form = Form::Gzip;
        let by_digest = format!("{HOST}/{}@{}", image.name, image.manifests[&form]);
        let names = [name(image, form), by_digest];
        let seen = tokio::spawn(shown(site.cri().await?, names));
        let child = site.agent(&json!({"images": [name(image, form)]}), &[])?;
        let spent = ended(child, Instant::now()).await?;
        anyhow::ensure!(spent.status.success(), "forelay: {}", site.said());
        let seen = tokio::time::timeout(Duration::from_secs(10), seen).await???;
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(site);
        // The stream of events ends with the daemon.
        let recorded = recorded.await?.context("no record was heard of")?;
        lags.push(seen.saturating_duration_since(recorded).as_secs_f64() * 1e3);
    }
    Ok(median(&lags, |lag| *lag))
}

async fn shown(cri: Cri, names: [String; 2]) -> anyhow::Result<Instant> {
    for name in &names {
        while cri.image(name).await?.is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(Instant::now())
}
