//! `forelay agent --once`: one plan by hand, with a progress bar.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use crate::agent::Agent;
use crate::api::{ImagePhase, ImageStatus, NodePrefetchStatus};
use crate::cli::agent::plan_file::Written;
use crate::cli::render::{self, Progress};
use crate::cli::{Context, Exit};
use crate::domain::image::{Digest, ImageRef, Platform};
use crate::domain::quantity::ByteSize;
use crate::port::{Clock, ImageResolver};
use crate::telemetry::shutdown;

/// What became of one image.
#[derive(Debug, Serialize)]
struct Outcome {
    image: ImageRef,
    digest: Digest,
    /// As in the status of a NodePrefetch.
    phase: ImagePhase,
    bytes: ByteSize,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// What became of the plan.
#[derive(Debug, Serialize)]
struct Report {
    node: String,
    seconds: f64,
    /// Bytes that travelled.
    moved: ByteSize,
    images: Vec<Outcome>,
}

/// Carries out a plan: exit code 0 when every image is there.
pub(super) async fn run(
    plan: Written,
    node: &str,
    agent: Agent,
    (clock, resolver): (Arc<dyn Clock>, &dyn ImageResolver),
    (json, context): (bool, &Context),
) -> anyhow::Result<Exit> {
    let began = clock.now();
    let plan = plan.plan(node, &here(), began, resolver).await?;
    let progress = Progress::new(context.surroundings);
    let total: ByteSize = plan.entries.iter().map(|entry| entry.bytes).sum();
    let pulls = agent.brings_images();
    let bar = progress.bytes(if pulls { "whole images" } else { "layers" }, total.0);
    let moved = agent.moved();
    let follow = tokio::spawn(follow(bar.clone(), agent.moved()));
    let last: Arc<Mutex<Option<NodePrefetchStatus>>> = Arc::default();
    let seen = last.clone();
    let tell = move |status: &NodePrefetchStatus| {
        bar.set_length(status.bytes_total.0.max(total.0));
        let mut last = seen.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(status.clone());
    };
    let asked = shutdown::on_signals()?;
    let done = agent.once(plan, tell, asked.clone()).await;
    follow.abort();
    progress.clear();
    done?;
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let images = last.map_or_else(Vec::new, |status| status.images);
    let images: Vec<Outcome> = images.into_iter().map(outcome).collect();
    let whole = images.iter().all(|one| one.phase == ImagePhase::Present);
    let report = Report {
        node: node.to_owned(),
        seconds: clock.now().secs_since(began),
        moved: ByteSize(moved()),
        images,
    };
    show(&report, pulls, json)?;
    Ok(match (asked.is_cancelled(), whole) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Failure,
    })
}

fn outcome(status: ImageStatus) -> Outcome {
    Outcome {
        image: status.image,
        digest: status.digest,
        phase: status.phase,
        bytes: status.bytes_total,
        message: status.message.unwrap_or_default(),
    }
}

/// The platform of the machine that this runs on, in the words of images.
fn here() -> Platform {
    Platform::linux(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    })
}

async fn follow(bar: ProgressBar, moved: impl Fn() -> u64) {
    loop {
        bar.set_position(moved());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a run by hand leaves to others.
const AFTERWARDS: &str = "A recorded tag was asked just before: nobody asks again after this command. One that \
    moves leads pods here to the old image until an agent that runs on takes it back, or its image is removed.";

fn show(report: &Report, pulls: bool, json: bool) -> anyhow::Result<()> {
    if json {
        return render::json(report);
    }
    let rows = report.images.iter().map(|one| {
        [
            one.image.to_string(),
            format!("{:?}", one.phase),
            one.bytes.to_string(),
            one.message.clone(),
        ]
    });
    render::out(&render::table(["image", "state", "bytes", ""], rows))?;
    let by = if pulls {
        " by the runtime itself, at most: layers that it had are counted, too"
    } else {
        ""
    };
    let (moved, seconds) = (report.moved, report.seconds);
    render::out(&format!("{moved} moved in {seconds:.1} s{by}\n"))?;
    let present = |one: &Outcome| one.phase == ImagePhase::Present && one.image.digest().is_none();
    if report.images.iter().any(present) {
        render::out(&format!("{AFTERWARDS}\n"))?;
    }
    Ok(())
}
