//! The loop: tells the engine what happened, starts what it asks for, says how far it is.

mod inventory;
mod largest;
mod outcome;
mod pin;
mod recheck;
mod report;
mod room;
mod undone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::inventory::Shelf;
use crate::agent::measure::Measures;
use crate::agent::mirror::Book;
use crate::agent::nice::Niceness;
use crate::agent::pace::Pace;
use crate::agent::pull::{Moved, Order, PullError, Puller};
use crate::agent::report::Reporter;
use crate::agent::show::Shower;
use crate::agent::status::Journal;
use crate::agent::whole;
use crate::agent::work::largest::largest_first;
use crate::agent::work::recheck::{Rechecks, next_moved};
use crate::agent::work::room::Look;
use crate::agent::work::undone::Undone;
use crate::agent::{AgentError, Options, Seen};
use crate::api::{Inventory, NodePrefetchStatus};
use crate::domain::image::{Digest, ImageManifest, ImageRef, Platform};
use crate::domain::inventory::StoredImage;
use crate::domain::plan::{Plan, Priority};
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::engine::node::{Effect, EntryProgress, Input, NodeEngine, Phase};
use crate::port::{Clock, ContainerRuntime, RuntimeChange, RuntimeError, Show};
use crate::telemetry::admin::Gate;

/// Results that may wait for the loop: transfers and records at once are far fewer.
const DONE: usize = 256;

/// One agent at work.
pub(super) struct Work {
    node: String,
    clock: Arc<dyn Clock>,
    runtime: Arc<dyn ContainerRuntime>,
    puller: Puller,
    shower: Shower,
    rechecks: Rechecks,
    engine: NodeEngine,
    measures: Measures,
    signals: Option<mpsc::Sender<Signal>>,
    gate: Option<Gate>,
    book: Option<Book>,
    /// The node's own plan has been seen, if only as missing.
    plan_seen: bool,
    plans: (Option<Plan>, Option<Plan>),
    generation: Option<i64>,
    transfers: BTreeMap<Digest, Transfer>,
    transfers_started: u64,
    /// Bytes that travelled and when the first was asked for, over all attempts.
    accounts: BTreeMap<Digest, Account>,
    /// When an entry was first seen, for `prefetch.finished`.
    entries: BTreeMap<Digest, Timestamp>,
    manifests: BTreeMap<Digest, ImageManifest>,
    /// Why an image is not there, by manifest.
    messages: BTreeMap<Digest, String>,
    /// Manifests whose turn is over, released once nothing that may share with them is under way.
    releases: BTreeSet<Digest>,
    /// Until when what was pinned, by manifest.
    pinned: BTreeMap<Digest, Timestamp>,
    /// A look at what is on the node is under way: the next one waits for it, or would be older.
    taking_stock: bool,
    stock_due: bool,
    /// Blobs that came while stock is taken: what is listed may be older.
    came_meanwhile: Vec<Digest>,
    /// What the runtime could not take back, and when to ask it again.
    undone: BTreeMap<Undone, Timestamp>,
    /// When the machine is looked at next; not while a look is under way.
    look_at: Timestamp,
    looking: bool,
    pressed: fn() -> bool,
    nice: Niceness,
    journal: Journal,
    reporter: Arc<dyn Reporter>,
    reporting: bool,
    /// What the node has, as far as that was told.
    shelf: Shelf,
    done: mpsc::Sender<Done>,
    results: mpsc::Receiver<Done>,
    tasks: TaskTracker,
    /// Ends all tasks; transfers keep what they have.
    stop: CancellationToken,
}

struct Transfer {
    number: u64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Account {
    since: Timestamp,
    bytes: u64,
}

/// What a task brought.
enum Done {
    Manifest(
        ImageRef,
        Digest,
        Result<(ImageManifest, Vec<Digest>), PullError>,
    ),
    Blob(Digest, u64, Moved, Result<(), PullError>),
    Record(ImageRef, Digest, Result<Show, PullError>),
    /// Whether the record was wrong by now, and is taken back.
    Rechecked(ImageRef, Digest, bool),
    Withdrawn(Digest, Option<ImageRef>, Result<(), RuntimeError>),
    Pinned(Digest, Result<(), RuntimeError>),
    Look(Look),
    /// Layers of a manifest that have to come again.
    Lacking(Digest, Result<Vec<Digest>, RuntimeError>),
    /// What is there, and what could not be given up.
    Inventory(Result<Vec<Digest>, RuntimeError>, Vec<Digest>),
    Report(Box<NodePrefetchStatus>, Result<(), String>),
    /// Every image of the runtime; none where it cannot tell.
    Images(Result<Option<Vec<StoredImage>>, RuntimeError>),
    /// What was to be there of them, and what is.
    Shelved(Box<Inventory>, Result<Option<Inventory>, String>),
}

impl Work {
    pub(super) fn new(options: Options, measures: Measures, reporter: Arc<dyn Reporter>) -> Self {
        let (done, results) = mpsc::channel(DONE);
        let clock = options.clock;
        let pace = options.bandwidth.filter(|rate| rate.0 > 0.0);
        let pace = pace.map(|rate| Arc::new(Pace::new(rate, clock.clone())));
        Self {
            node: options.node,
            shower: Shower {
                tags: options.tags,
                source: options.source.clone(),
                unrecorded: options.unrecorded.into(),
                book: options.book.clone(),
            },
            rechecks: Rechecks::new(options.recheck),
            puller: Puller {
                runtime: options.runtime.clone(),
                source: options.source,
                pace,
                measures: measures.clone(),
            },
            clock,
            runtime: options.runtime,
            engine: NodeEngine::new(options.limits),
            measures,
            signals: options.signals,
            gate: options.gate,
            book: options.book,
            plan_seen: false,
            plans: (None, None),
            generation: None,
            transfers: BTreeMap::new(),
            transfers_started: 0,
            accounts: BTreeMap::new(),
            entries: BTreeMap::new(),
            manifests: BTreeMap::new(),
            messages: BTreeMap::new(),
            releases: BTreeSet::new(),
            pinned: BTreeMap::new(),
            taking_stock: false,
            stock_due: false,
            came_meanwhile: Vec::new(),
            undone: BTreeMap::new(),
            look_at: Timestamp::ZERO,
            looking: false,
            pressed: options.pressed,
            nice: options.nice,
            journal: Journal::new(options.report_pause),
            reporter,
            reporting: false,
            shelf: Shelf::new(options.report_pause),
            done,
            results,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut seen: mpsc::Receiver<Seen>,
        shutdown: CancellationToken,
    ) -> Result<(), AgentError> {
        let present = self.runtime.inventory().await?;
        self.tell(Input::Inventory(present));
        for digest in self.runtime.recorded().await? {
            match self.puller.kept(&digest).await {
                Ok(manifest) => self.tell(Input::Kept(manifest)),
                Err(error) => tracing::warn!(%digest, %error, "an earlier image cannot be read"),
            }
        }
        let mut changes = self.runtime.changes();
        let book = self.book.clone();
        let mut watching = true;
        loop {
            let wake = self.step();
            tokio::select! {
                () = shutdown.cancelled() => break,
                plan = seen.recv(), if watching => match plan {
                    Some(plan) => self.see(plan),
                    None => watching = false,
                },
                Some(done) = self.results.recv() => self.take(done),
                Some(change) = changes.next() => self.change(change),
                (image, digest) = next_moved(book.as_ref()) => self.moved(image, digest),
                () = self.clock.sleep_until(wake) => {}
            }
        }
        self.stop.cancel();
        self.tasks.close();
        // Tasks may wait for room among their results.
        self.results.close();
        self.tasks.wait().await;
        self.runtime.settle().await;
        Ok(())
    }

    fn tell(&mut self, input: Input) {
        let now = self.clock.now();
        self.engine.input(input, now);
    }

    /// Does what the engine asks for; answers when to look again even if nothing happens.
    fn step(&mut self) -> Timestamp {
        let now = self.clock.now();
        let mut effects = self.engine.step(now);
        largest_first(&mut effects);
        for effect in effects {
            self.carry_out(effect, now);
        }
        let progress = self.engine.progress();
        self.yield_cores(&progress);
        let undone_at = self.ask_again(&progress, now);
        self.measure(&progress);
        self.release(&progress);
        self.pin(&progress, now);
        let report_at = self.report(&progress, now);
        let list_at = self.list_images(now);
        let recheck_at = self.recheck(now);
        let look_at = self.look(&progress, now);
        let wakes = [
            self.engine.wake_at(),
            report_at,
            list_at,
            recheck_at,
            look_at,
            undone_at,
        ];
        wakes.into_iter().flatten().min().unwrap_or(Timestamp::MAX)
    }

    /// Others have the cores first while only guesses travel. With nothing under way nobody has to: the mirror
    /// answers pods' own pulls.
    fn yield_cores(&mut self, progress: &[EntryProgress]) {
        let priorities = self.priorities();
        let waits = |entry: &EntryProgress| {
            let pending = priorities.get(&entry.digest) == Some(&Priority::Pending);
            let open = [Phase::Queued, Phase::Fetching, Phase::Recording];
            pending && open.contains(&entry.phase)
        };
        let awaited = progress.iter().any(waits);
        self.nice.yields(!self.transfers.is_empty() && !awaited);
    }

    fn see(&mut self, seen: Seen) {
        let now = self.clock.now();
        match seen {
            Seen::Born(at) => {
                self.engine.input(Input::Born(at), now);
                return;
            }
            Seen::Pool(plan) => {
                self.plans.1.clone_from(&plan);
                self.engine.input(Input::PoolPlan(plan), now);
            }
            Seen::Node(found) => {
                self.plan_seen = true;
                if found.is_none() {
                    self.journal.forget();
                    self.shelf.forget();
                }
                let (plan, generation) = found.map_or((None, None), |(p, g)| (Some(p), g));
                self.generation = generation;
                self.plans.0.clone_from(&plan);
                self.engine.input(Input::NodePlan(plan), now);
            }
        }
        let planned = [&self.plans.0, &self.plans.1].into_iter().flatten();
        let live: BTreeSet<Digest> = planned
            .flat_map(|plan| plan.entries.iter().map(|entry| entry.digest.clone()))
            .collect();
        self.entries.retain(|digest, _| live.contains(digest));
        self.manifests.retain(|digest, _| live.contains(digest));
        self.messages.retain(|digest, _| live.contains(digest));
        self.pinned.retain(|digest, _| live.contains(digest));
        self.rechecks.retain(|digest| live.contains(digest));
        for digest in live {
            self.entries.entry(digest).or_insert(now);
        }
        // A node without a pool never sees a pool's plan: its own is enough to be ready.
        if let Some(gate) = self.gate.as_ref().filter(|_| self.plan_seen) {
            gate.open();
        }
    }

    fn change(&mut self, change: RuntimeChange) {
        match change {
            // Our own commit, of which the result is on its way.
            RuntimeChange::Present(digest) if self.transfers.contains_key(&digest) => {}
            RuntimeChange::Present(digest) => self.tell(Input::BlobPresent(digest)),
            RuntimeChange::Gone { image, digest } => {
                // The kubelet makes room, or an operator: what they took is not brought again unasked.
                let why = "somebody removed it";
                tracing::info!(node = self.node, %image, %digest, "{why}");
                self.messages.insert(digest.clone(), why.to_owned());
                self.pinned.remove(&digest);
                self.tell(Input::Unrecorded { image, digest });
                self.is_gone();
            }
            RuntimeChange::Images => self.shelf.note(self.clock.now()),
            RuntimeChange::Unseen => {
                self.shelf.note(self.clock.now());
                self.take_stock(BTreeSet::new());
            }
            RuntimeChange::Foreground { digest, active } => {
                self.tell(Input::Foreground { digest, active });
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Timestamp) {
        match effect {
            Effect::FetchManifest { image, digest } => {
                let puller = self.puller.clone();
                self.spawn(async move {
                    let found = puller.manifest(&image, &digest).await;
                    Done::Manifest(image, digest, found)
                });
            }
            Effect::FetchBlob {
                image,
                digest,
                size,
                priority,
            } => {
                tracing::debug!(node = self.node, %image, %digest, %size, ?priority, "fetching");
                let order = Order {
                    platform: self.platform(&digest),
                    image,
                    digest,
                    size,
                    priority,
                };
                self.fetch(order, now);
            }
            Effect::Cancel(digest) => {
                tracing::debug!(node = self.node, %digest, "no longer wanted");
                // The entry stays until the task has suspended its blob.
                if let Some(transfer) = self.transfers.get_mut(&digest) {
                    transfer.stop.cancel();
                    transfer.number = 0;
                }
                self.messages.remove(&digest);
            }
            Effect::Record { image, digest } => {
                let (runtime, shower) = (self.runtime.clone(), self.shower.clone());
                let platform = self.platform(&digest);
                self.spawn(async move {
                    let platform = platform.as_ref();
                    let what = (&image, &digest);
                    let shown = if runtime.brings_images() {
                        whole::show(&*runtime, &shower, what, platform).await
                    } else {
                        record(&*runtime, &shower, what, platform).await
                    };
                    Done::Record(image, digest, shown)
                });
            }
            Effect::Withdraw(digest) => self.withdraw(digest, None),
            Effect::WithdrawName { image, digest } => self.withdraw(digest, Some(image)),
            Effect::Release(digest) => {
                self.releases.insert(digest);
            }
        }
    }

    /// For which a manifest was chosen: the node's own.
    fn platform(&self, manifest: &Digest) -> Option<Platform> {
        let plans = [&self.plans.0, &self.plans.1].into_iter().flatten();
        let mut entries = plans.flat_map(|plan| &plan.entries);
        let entry = entries.find(|entry| entry.digest == *manifest)?;
        Some(entry.platform.clone())
    }

    fn fetch(&mut self, order: Order, now: Timestamp) {
        self.transfers_started += 1;
        let number = self.transfers_started;
        let stop = self.stop.child_token();
        let digest = order.digest.clone();
        let account = Account {
            since: now,
            bytes: 0,
        };
        self.accounts.entry(digest.clone()).or_insert(account);
        if self.runtime.brings_images() {
            let what = whole::UNDER_WAY.to_owned();
            self.messages.insert(digest.clone(), what);
        }
        // A transfer of the same blob that was cancelled may still be writing its last bytes.
        let before = self.transfers.remove(&digest).map(|old| old.task);
        let (puller, shower) = (self.puller.clone(), self.shower.clone());
        let (done, stopped) = (self.done.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            if let Some(before) = before {
                // Its own failure has been reported by itself.
                let _ = before.await;
            }
            let (moved, result) = puller.fetch(&order, &shower, &stopped).await;
            let told = Done::Blob(order.digest, number, moved, result);
            // The loop has ended: nobody wants to know.
            let _ = done.send(told).await;
        });
        let transfer = Transfer { number, stop, task };
        self.transfers.insert(digest, transfer);
    }

    /// Takes the record of one name back, or those of all.
    fn withdraw(&self, digest: Digest, name: Option<ImageRef>) {
        let runtime = self.runtime.clone();
        self.spawn(async move {
            let withdrawn = runtime.withdraw(&digest, name.as_ref()).await;
            Done::Withdrawn(digest, name, withdrawn)
        });
    }

    fn spawn(&self, work: impl Future<Output = Done> + Send + 'static) {
        let (done, stop) = (self.done.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                told = work => {
                    // As above.
                    let _ = done.send(told).await;
                }
                () = stop.cancelled() => {}
            }
        });
    }

    /// A record was taken away: where images come whole their bytes have gone with it.
    fn is_gone(&mut self) {
        if self.runtime.brings_images() {
            self.take_stock(BTreeSet::new());
        }
    }

    /// Lists what is on the node, after giving these up.
    fn take_stock(&mut self, releases: BTreeSet<Digest>) {
        if std::mem::replace(&mut self.taking_stock, true) {
            self.stock_due = true;
            self.releases.extend(releases);
            return;
        }
        let (runtime, book) = (self.runtime.clone(), self.book.clone());
        self.spawn(async move {
            let mut kept = Vec::new();
            for digest in releases {
                if let Some(book) = &book {
                    book.forget(&digest);
                }
                if let Err(error) = runtime.release(&digest).await {
                    tracing::warn!(%digest, %error, "cannot release an image");
                    kept.push(digest);
                }
            }
            Done::Inventory(runtime.inventory().await, kept)
        });
    }

    /// Releases wait until every live image is recorded or given up: a new version of an image
    /// shares most layers with the old one, and the runtime knows of sharing only by records.
    fn release(&mut self, progress: &[EntryProgress]) {
        // Named again meanwhile.
        self.releases
            .retain(|digest| !progress.iter().any(|entry| entry.digest == *digest));
        let busy = |entry: &EntryProgress| {
            matches!(
                entry.phase,
                Phase::Queued | Phase::Fetching | Phase::Recording
            )
        };
        if !self.releases.is_empty() && !self.taking_stock && !progress.iter().any(busy) {
            let releases = std::mem::take(&mut self.releases);
            self.take_stock(releases);
        }
    }
}

/// Shows a whole image to pods. Its registry is asked last of all: what makes it ready takes seconds, or
/// minutes where containerd unpacks a layer, in which a tag may move.
async fn record(
    runtime: &dyn ContainerRuntime,
    shower: &Shower,
    (image, digest): (&ImageRef, &Digest),
    platform: Option<&Platform>,
) -> Result<Show, PullError> {
    runtime.prepare(image, digest).await?;
    let (whole, doubt) = shower.whole(image, digest, platform).await;
    runtime.record(&whole).await?;
    doubt?;
    Ok(whole.show)
}
