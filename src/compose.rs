//! A closed-loop model of a cluster: from a spec to the signals that its watchers would have seen.

mod amount;
mod cast;
mod check;
mod error;
mod header;
mod hpa;
mod images;
mod random;
mod read;
mod series;
pub mod spec;
mod tables;
mod tape;
mod world;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::source::scenario::{ScenarioError, ScenarioWriter};

pub use cast::Cast;
pub use error::{ComposeError, Fault, Faults};
pub use read::{parse, read};
pub use world::Summary;

use spec::Spec;
use world::World;

/// Checks a spec with everything that it refers to; `seed` goes before its own.
pub fn cast(spec: &Spec, file: &Path, seed: Option<u64>) -> Result<Cast, ComposeError> {
    if let Some(recorded) = &spec.recorded {
        return Err(ComposeError::Recorded {
            file: file.to_owned(),
            name: spec.name.clone(),
            by: recorded.by.clone(),
        });
    }
    Cast::build(spec, file, seed.unwrap_or(spec.seed))
}

/// The first line of the scenario.
#[must_use]
pub fn header(spec: &Spec, cast: &Cast) -> Header {
    header::header(spec, cast)
}

/// Plays a cast; signals go to `sink` in the order of `observedtime`, `tick` is told the seconds that
/// were played.
pub fn play(
    cast: &Cast,
    sink: &mut dyn FnMut(&Signal) -> Result<(), ScenarioError>,
    tick: impl FnMut(f64),
) -> Result<Summary, ComposeError> {
    Ok(World::new(cast, sink).play(tick)?)
}

/// Plays a cast into a file.
pub fn write(
    spec: &Spec,
    cast: &Cast,
    out: &Path,
    tick: impl FnMut(f64),
) -> Result<Summary, ComposeError> {
    let mut writer = ScenarioWriter::create(out, &header(spec, cast))?;
    let summary = play(cast, &mut |signal| writer.write(signal), tick)?;
    writer.finish()?;
    Ok(summary)
}
