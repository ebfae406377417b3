//! One image after the other, containerd's pull and our delivery in turn, on each link.

use std::path::Path;

use anyhow::ensure;
use serde::Serialize;

use crate::images::Image;
use crate::link::Net;
use crate::site::{Cost, Registry, Site};
use crate::{Form, Link, cores, floor, say};

/// One line of the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub image: String,
    pub link: Link,
    pub form: Form,
    /// Of the gzip image, whatever the form: that is what registries have.
    pub peer_s: f64,
    pub peer_cpu_s: f64,
    pub forelay_s: f64,
    pub forelay_cpu_s: f64,
    /// The same until the layers' blobs are in the content store, too (`agent.blobs`); of gzip, where no slow link
    /// hides it.
    pub forelay_blobs_s: Option<f64>,
    /// Without a link the CPU seconds of the steps alone, over the cores; otherwise those of one plain stream.
    /// Measured in turn with the deliveries, median as theirs.
    pub floor_s: f64,
    /// Peer over ours.
    pub ratio: f64,
    /// Most that an agent held, of all runs, MiB.
    #[serde(skip)]
    pub peak_mib: f64,
}

/// Rows of one image on one link.
pub async fn measure(
    (root, registry): (&Path, &Registry),
    image: &Image,
    link: Link,
    (forms, runs): (&[Form], usize),
) -> anyhow::Result<Vec<Row>> {
    ensure!(runs > 0, "no runs");
    let net = Net::new(link)?;
    for form in forms {
        image.warm(root, *form)?;
    }
    image.warm(root, Form::Gzip)?;
    let mut peer = Vec::new();
    let mut with_blobs = Vec::new();
    let mut ours: Vec<Vec<Cost>> = vec![Vec::new(); forms.len()];
    let mut floors: Vec<Vec<f64>> = vec![Vec::new(); forms.len()];
    for run in 1..=runs {
        let site = Site::fresh(registry, net.as_ref()).await?;
        let cost = site.pull(image, Form::Gzip).await?;
        say(&told(image, link, run, "containerd", &cost));
        peer.push(cost);
        drop(site);
        for ((form, costs), floors) in forms.iter().zip(&mut ours).zip(&mut floors) {
            let site = Site::fresh(registry, net.as_ref()).await?;
            let cost = site.deliver(image, *form).await?;
            say(&told(image, link, run, form.word(), &cost));
            costs.push(cost);
            drop(site);
            floors.push(match &net {
                Some(net) => net.floor_s(registry.port, image, *form)?,
                None => cpu_floor((root, registry), image, *form)? / cores(),
            });
        }
        if link != Link::Slow {
            let site = Site::fresh(registry, net.as_ref()).await?;
            let cost = site.deliver_with_blobs(image, Form::Gzip).await?;
            say(&told(image, link, run, "gzip and blobs", &cost));
            with_blobs.push(cost);
        }
    }
    let mut rows = Vec::new();
    for ((form, costs), floors) in forms.iter().zip(&ours).zip(&floors) {
        let floor_s = median(floors, |floor| *floor);
        let (peer_s, forelay_s) = (median(&peer, |c| c.wall_s), median(costs, |c| c.wall_s));
        rows.push(Row {
            image: image.name.clone(),
            link,
            form: *form,
            peer_s,
            peer_cpu_s: median(&peer, |c| c.cpu_s),
            forelay_s,
            forelay_cpu_s: median(costs, |c| c.cpu_s),
            forelay_blobs_s: (*form == Form::Gzip && !with_blobs.is_empty())
                .then(|| median(&with_blobs, |c| c.wall_s)),
            floor_s,
            ratio: peer_s / forelay_s,
            peak_mib: costs.iter().map(|c| c.peak_mib).fold(0.0, f64::max),
        });
    }
    Ok(rows)
}

// === impl Row ===

impl Row {
    /// For people.
    pub fn row(&self) -> String {
        let blobs = self.forelay_blobs_s;
        let blobs = blobs.map_or_else(String::new, |s| format!("  with blobs {s:>6.2} s"));
        format!(
            "{:<6}{:<8}{:<6} containerd {:>6.2} s ({:>5.2} CPU)  forelay {:>6.2} s ({:>5.2} CPU)  floor {:>6.2} s  \
             ratio {:>5.2}{blobs}",
            self.image,
            self.link.word(),
            self.form.word(),
            self.peer_s,
            self.peer_cpu_s,
            self.forelay_s,
            self.forelay_cpu_s,
            self.floor_s,
            self.ratio
        )
    }
}

fn cpu_floor(around: (&Path, &Registry), image: &Image, form: Form) -> anyhow::Result<f64> {
    let floor = floor::measure(around, image, form)?;
    say(&format!("{} {}: {floor:.2?}", image.name, form.word()));
    Ok(floor.cpu_s())
}

fn told(image: &Image, link: Link, run: usize, who: &str, cost: &Cost) -> String {
    let (image, link) = (&image.name, link.word());
    format!(
        "{image} {link} {run}: {who} {:.2} s, {:.2} CPU s, {:.0} MiB",
        cost.wall_s, cost.cpu_s, cost.peak_mib
    )
}

/// Of an even number the upper one.
pub fn median<T>(all: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = all.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
