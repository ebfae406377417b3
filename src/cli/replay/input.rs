//! Scenario files as a replay takes them: each once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::exit::Usage;
use crate::cli::render::Progress;
use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::source::scenario::{ScenarioReader, Strictness};

/// A scenario in memory.
pub struct Loaded {
    path: PathBuf,
    pub header: Header,
    pub signals: Vec<Signal>,
    print: u64,
}

/// Reads one file; `-` is standard input.
pub fn load(path: &Path, lenient: bool, progress: &Progress) -> anyhow::Result<Loaded> {
    let strictness = if lenient {
        Strictness::Lenient
    } else {
        Strictness::Strict
    };
    let (header, mut reader) = if is_stdin(path) {
        ScenarioReader::new(Path::new("standard input"), io::stdin(), strictness)?
    } else {
        ScenarioReader::open(path, strictness)?
    };
    let signals = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    for (reason, count) in reader.skipped() {
        progress.line(&format!(
            "{}: {count} lines skipped: {reason}",
            path.display()
        ));
    }
    Ok(Loaded {
        path: path.to_owned(),
        print: print(&header, &signals),
        header,
        signals,
    })
}

/// Refuses a path that is given twice: standard input cannot be read again, and a file would count twice.
pub fn refuse_repeats(paths: &[PathBuf]) -> Result<(), Usage> {
    for (at, path) in paths.iter().enumerate() {
        if paths[..at].contains(path) {
            let name = path.display();
            return Err(Usage(format!("{name}: given twice, it would count twice")));
        }
    }
    Ok(())
}

/// Refuses copies of one scenario: they would count twice, and pass for two in the intervals.
pub fn refuse_copies(loaded: &[Loaded]) -> Result<(), Usage> {
    for (at, one) in loaded.iter().enumerate() {
        if let Some(other) = loaded[..at].iter().find(|other| other.print == one.print) {
            return Err(Usage(format!(
                "{} and {} hold the same signals: leave one out, it would count twice",
                other.path.display(),
                one.path.display()
            )));
        }
    }
    Ok(())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Tells scenarios apart: 64 bits of who said what when.
fn print(header: &Header, signals: &[Signal]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&header.name, header.start.as_micros()).hash(&mut hasher);
    for signal in signals {
        let when = signal.observedtime.as_micros();
        (&signal.source, &signal.id, when).hash(&mut hasher);
    }
    hasher.finish()
}
