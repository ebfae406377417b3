//! Signals through the controller's engine: speed, what each kind costs, memory.
//!
//! The scenario is composed into a file first, and a process of its own feeds the engine from it: what
//! it holds then is the engine's, not the composer's.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use forelay::compose;
use forelay::domain::image::ImageRef;
use forelay::domain::scenario::Header;
use forelay::domain::signal::{Fact, ImageResolved, Signal};
use forelay::domain::time::Timestamp;
use forelay::engine::cluster::{Cluster, Effect};
use forelay::forecast::model::Model;
use forelay::source::scenario::{ScenarioError, ScenarioReader, Spot, Strictness};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{CHUNK, Words, folder, out};
use crate::floor::{FLOOR, Floor};
use crate::process::{resident_mib, thread_cpu};
use crate::say;

/// From the first news to a step: the controller's own (`GATHER` in `src/controller/driver.rs`).
const GATHER: Duration = Duration::from_millis(5);

/// A step comes so often without news: the controller's `step_interval`.
const IDLE: Duration = Duration::from_secs(1);

/// From a reference to its manifests, as in the replay.
const RESOLVE: Duration = Duration::from_millis(200);

/// CPU after which a feed is ended: an engine that misses its goal by so much is measured on the
/// part of the day that it came to, and the benchmark still ends.
const ENOUGH: Duration = Duration::from_mins(2);

/// What the engine cost on two clusters with the same rates per node.
#[derive(Debug, Serialize)]
pub struct Engine {
    /// 5,000 nodes, 150,000 pods: the day as it comes.
    pub large: Fed,
    /// 500 nodes, 15,000 pods.
    pub small: Fed,
    /// CPU per signal of the large over that of the small.
    pub cost_ratio: f64,
    /// The large day as a backlog.
    pub backlog: Fed,
    /// The large day, each object only looked up by name.
    pub floor: Floor,
    /// CPU per signal of the backlog over that of the floor.
    pub floor_ratio: f64,
}

/// When steps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// As in the controller on that day: 5 ms after the first news, at the engine's own wake-ups, and
    /// each second. On a day of 28 signals a second that is a step for nearly each of them.
    Day,
    /// As in the controller that comes back to a topic full of signals: it takes them as fast as it
    /// can, and makes a step each 5 ms of its own time.
    Backlog,
}

/// What one scenario cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fed {
    /// Name.
    scenario: String,
    /// Part of the day that was fed before the time was up.
    pub day: f64,
    /// Signals that the engine heard.
    pub signals: u64,
    /// Steps that it made.
    steps: u64,
    /// Plans that it published.
    plans: u64,
    /// Thread CPU in `apply` and `step`, seconds.
    pub cpu_s: f64,
    /// Signals a second of CPU.
    pub signals_per_s: f64,
    /// CPU per signal, microseconds.
    cpu_us: f64,
    /// The same of `apply` alone.
    apply_us: f64,
    /// Slowest step, milliseconds of wall clock.
    slowest_step_ms: f64,
    /// Nodes, pods at most, as the engine counts them.
    nodes_most: usize,
    /// Pods.
    pods_most: usize,
    /// Resident memory beyond the process without an engine, at most and at the end, MiB.
    pub resident_mib: f64,
    /// At the end.
    resident_end_mib: f64,
    /// By kind of signal, and of the steps: count, part of the time.
    families: BTreeMap<String, Family>,
}

/// One kind of work.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Family {
    count: u64,
    /// Part of the wall time in the engine.
    share: f64,
    /// Each, microseconds.
    mean_us: f64,
}

impl Pacing {
    fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Backlog => "backlog",
        }
    }

    /// From a word of the command line.
    pub fn of(word: &str) -> Option<Self> {
        let both = [Self::Day, Self::Backlog];
        both.into_iter().find(|pacing| pacing.word() == word)
    }
}

/// Composes both, feeds both.
pub fn measure(words: &Words) -> anyhow::Result<Engine> {
    let fed = |name: &str, day: f64, pacing: Pacing| -> anyhow::Result<Fed> {
        let file = composed(name, words)?;
        say(&format!("engine: feeding {name}, {}", pacing.word()));
        feed_apart(&file, &day.to_string(), pacing.word())
    };
    let large = fed("large", 1.0, Pacing::Day)?;
    // The same part of the day: its begin, a list of everything, is cheaper than its hours.
    let small = fed("small", large.day, Pacing::Day)?;
    let backlog = fed("large", 1.0, Pacing::Backlog)?;
    say("engine: the floor");
    let floor: Floor = feed_apart(&out()?.join("large.jsonl.zst"), "1", FLOOR)?;
    Ok(Engine {
        floor_ratio: floor.signals_per_s / backlog.signals_per_s,
        floor,
        cost_ratio: large.cpu_us / small.cpu_us,
        large,
        small,
        backlog,
    })
}

// === impl Engine ===

impl Engine {
    /// For people: what each kind of work took, and how near to the floor a backlog comes.
    pub fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for (fed, pacing) in [(&self.large, Pacing::Day), (&self.backlog, Pacing::Backlog)] {
            rows.push(format!("engine, {} as {}:", fed.scenario, pacing.word()));
            let mut families: Vec<_> = fed.families.iter().collect();
            families.sort_by(|(_, a), (_, b)| b.share.total_cmp(&a.share));
            rows.extend(families.iter().map(|(name, family)| {
                let share = family.share * 100.0;
                let (count, mean) = (family.count, family.mean_us);
                format!("  {name:<20}{count:>10}{mean:>9.2} us{share:>7.1} %")
            }));
        }
        rows.push(format!(
            "engine, floor: a look-up by name at {:.0} signals/s; a backlog costs {:.1} of them each",
            self.floor.signals_per_s, self.floor_ratio
        ));
        rows
    }
}

/// The scenario's file below `target/bench`; `reuse` takes one that is there.
fn composed(name: &str, words: &Words) -> anyhow::Result<PathBuf> {
    let file = out()?.join(format!("{name}.jsonl.zst"));
    if words.reuse && file.exists() {
        return Ok(file);
    }
    say(&format!("engine: composing {name}"));
    let path = folder("bench").join(format!("{name}.toml"));
    let spec = compose::read(&path)?;
    let cast = compose::cast(&spec, &path, None)?;
    let created = File::create(&file).with_context(|| file.display().to_string())?;
    // Level 1: this file is read once.
    let mut to = zstd::stream::write::Encoder::new(BufWriter::new(created), 1)?;
    let failed = |source| ScenarioError::Write {
        spot: Spot {
            file: file.clone(),
            line: 0,
        },
        source,
    };
    let mut line = |json: serde_json::Result<String>| {
        let json = json.map_err(std::io::Error::from);
        json.and_then(|json| std::io::Write::write_all(&mut to, (json + "\n").as_bytes()))
            .map_err(failed)
    };
    line(serde_json::to_string(&compose::header(&spec, &cast)))?;
    compose::play(
        &cast,
        &mut |signal| line(serde_json::to_string(signal)),
        |_| {},
    )?;
    to.finish()?.into_inner()?.sync_all()?;
    Ok(file)
}

/// In a process of its own.
fn feed_apart<T: DeserializeOwned>(file: &Path, day: &str, pacing: &str) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    let command = command.arg("feed").arg(file).arg(day).arg(pacing);
    let output = command.output()?;
    if !output.status.success() {
        bail!(
            "feeding {}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What that process does, for a part of the day; its answer is one JSON object.
pub fn feed(file: &Path, day: f64, pacing: Pacing) -> anyhow::Result<Value> {
    let (header, mut reader) = ScenarioReader::open(file, Strictness::Strict)?;
    let mut chunk: Vec<Signal> = Vec::with_capacity(CHUNK);
    let mut feeder: Option<Feeder<'_>> = None;
    loop {
        for signal in reader.by_ref().take(CHUNK) {
            chunk.push(signal?);
        }
        if chunk.is_empty() {
            break;
        }
        let feeder = match &mut feeder {
            Some(feeder) => feeder,
            none => none.insert(Feeder::new(&header, pacing)?),
        };
        feeder.take(&chunk)?;
        chunk.clear();
        if feeder.cpu > ENOUGH || feeder.day() >= day {
            break;
        }
    }
    let feeder = feeder.context("the scenario has no signal")?;
    Ok(serde_json::to_value(feeder.end()?)?)
}

/// The engine, and the clock of its driver.
struct Feeder<'a> {
    header: &'a Header,
    pacing: Pacing,
    engine: Cluster,
    /// First news that no step has seen.
    news: Option<Timestamp>,
    stepped: Timestamp,
    asked: VecDeque<(Timestamp, ImageRef)>,
    spent: BTreeMap<&'static str, (u64, Duration)>,
    lap: Instant,
    /// Own time since the last step of a backlog.
    paced: Duration,
    cpu: Duration,
    signals: u64,
    plans: u64,
    slowest: Duration,
    most: (usize, usize),
    resident: (f64, f64),
}

// === impl Feeder ===

impl<'a> Feeder<'a> {
    fn new(header: &'a Header, pacing: Pacing) -> anyhow::Result<Self> {
        let resident = resident_mib()?;
        Ok(Self {
            header,
            pacing,
            engine: Cluster::new(Model::default()),
            news: None,
            stepped: header.start,
            asked: VecDeque::new(),
            spent: BTreeMap::new(),
            lap: Instant::now(),
            paced: Duration::ZERO,
            cpu: Duration::ZERO,
            signals: 0,
            plans: 0,
            slowest: Duration::ZERO,
            most: (0, 0),
            resident: (resident, resident),
        })
    }

    /// Signals are given back: freeing them is their reader's, and took a third of the time.
    fn take(&mut self, chunk: &[Signal]) -> anyhow::Result<()> {
        let began = thread_cpu()?;
        self.lap = Instant::now();
        for signal in chunk {
            if signal.truth {
                continue;
            }
            let at = signal.observedtime;
            match self.pacing {
                Pacing::Day => {
                    while let Some(due) = self.due().filter(|due| *due < at) {
                        self.step(due);
                    }
                }
                Pacing::Backlog if self.paced >= GATHER => {
                    while self.asked.front().is_some_and(|(due, _)| *due <= at) {
                        self.step(at);
                    }
                    self.step(at);
                    self.paced = Duration::ZERO;
                }
                Pacing::Backlog => {}
            }
            self.apply(signal, at);
        }
        self.cpu += thread_cpu()?.saturating_sub(began);
        let sizes = self.engine.sizes();
        self.most = (self.most.0.max(sizes.nodes), self.most.1.max(sizes.pods));
        self.resident.1 = self.resident.1.max(resident_mib()?);
        Ok(())
    }

    fn apply(&mut self, signal: &Signal, at: Timestamp) {
        self.engine.apply(signal);
        self.signals += 1;
        self.news.get_or_insert(at);
        let kind = signal.fact.event_type();
        self.spend(kind);
    }

    /// Wall time since the last lap. Reading the clock is in it: some 30 ns.
    fn spend(&mut self, kind: &'static str) -> Duration {
        let now = Instant::now();
        let took = now - self.lap;
        self.lap = now;
        self.paced += took;
        let spent = self.spent.entry(kind).or_default();
        spent.0 += 1;
        spent.1 += took;
        took
    }

    /// Part of the scenario that was fed.
    fn day(&self) -> f64 {
        let length = self.header.end.secs_since(self.header.start);
        self.stepped.secs_since(self.header.start) / length
    }

    /// When the driver steps next, or an answer comes.
    fn due(&self) -> Option<Timestamp> {
        let step = match self.news {
            Some(news) => news + GATHER,
            None => self.stepped + IDLE,
        };
        let woken = self
            .engine
            .wake_at()
            .map(|at| at.max(self.stepped + GATHER));
        let answer = self.asked.front().map(|(due, _)| *due);
        [Some(step), woken, answer].into_iter().flatten().min()
    }

    fn step(&mut self, now: Timestamp) {
        if self.asked.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, image)) = self.asked.pop_front()
        {
            if let Some(manifests) = self.header.images.get(&image) {
                let id = image.to_string();
                let manifests = manifests.clone();
                let fact = Fact::ImageResolved(ImageResolved { image, manifests });
                self.apply(&Signal::new("/bench", id, now, fact), now);
            }
            return;
        }
        for effect in self.engine.step(now) {
            match effect {
                Effect::Publish(_) => self.plans += 1,
                Effect::Retract(_) => {}
                Effect::Resolve(image) => self.asked.push_back((now + RESOLVE, image)),
            }
        }
        self.news = None;
        self.stepped = now;
        let took = self.spend("step");
        self.slowest = self.slowest.max(took);
    }

    fn end(self) -> anyhow::Result<Fed> {
        let all: Duration = self.spent.values().map(|(_, took)| *took).sum();
        let applied = self.spent.iter().filter(|(kind, _)| **kind != "step");
        let applied: Duration = applied.map(|(_, (_, took))| *took).sum();
        let family = |(kind, (count, took)): (&&str, &(u64, Duration))| {
            let name = kind.trim_start_matches("dev.forelay.");
            let name = name.trim_end_matches(".v1").to_owned();
            let family = Family {
                count: *count,
                share: took.as_secs_f64() / all.as_secs_f64(),
                mean_us: took.as_secs_f64() / *count as f64 * 1e6,
            };
            (name, family)
        };
        let cpu_s = self.cpu.as_secs_f64();
        let signals = self.signals as f64;
        let (before, most) = self.resident;
        Ok(Fed {
            scenario: self.header.name.clone(),
            day: self.day(),
            signals: self.signals,
            steps: self.spent.get("step").map_or(0, |(count, _)| *count),
            plans: self.plans,
            cpu_s,
            signals_per_s: signals / cpu_s,
            cpu_us: cpu_s / signals * 1e6,
            apply_us: applied.as_secs_f64() / signals * 1e6,
            slowest_step_ms: self.slowest.as_secs_f64() * 1e3,
            nodes_most: self.most.0,
            pods_most: self.most.1,
            resident_mib: most - before,
            resident_end_mib: resident_mib()? - before,
            families: self.spent.iter().map(family).collect(),
        })
    }
}
