//! Signals out of a scenario file, one line in memory at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::lines::{Lines, Next};
use crate::source::scenario::line::{member_of, parse_line};
use crate::source::scenario::{MAX_LINE, ScenarioError, SkipReason, Spot};

/// What a reader does with a line that is no signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Stop with an error that names file, line and member.
    #[default]
    Strict,
    /// Count it by reason, go on.
    Lenient,
}

/// An iterator over the signals of one file; after an error it is at its end.
pub struct ScenarioReader {
    lines: Lines,
    spot: Spot,
    strictness: Strictness,
    before: Timestamp,
    /// The header's last instant.
    end: Timestamp,
    skipped: BTreeMap<SkipReason, u64>,
    ended: bool,
}

// === impl ScenarioReader ===

impl ScenarioReader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path, strictness: Strictness) -> Result<(Header, Self), ScenarioError> {
        let file = File::open(path).map_err(|source| ScenarioError::Open {
            file: path.to_owned(),
            source,
        })?;
        Self::new(path, file, strictness)
    }

    /// Reads from anything; `name` is what errors call it.
    pub fn new(
        name: &Path,
        input: impl Read + Send + 'static,
        strictness: Strictness,
    ) -> Result<(Header, Self), ScenarioError> {
        let spot = Spot {
            file: name.to_owned(),
            line: 0,
        };
        let lines = Lines::new(input, MAX_LINE).map_err(|source| ScenarioError::Read {
            spot: spot.clone(),
            source,
        })?;
        let mut reader = Self {
            lines,
            spot,
            strictness,
            before: Timestamp::from_micros(i64::MIN),
            end: Timestamp::MAX,
            skipped: BTreeMap::new(),
            ended: false,
        };
        let header = reader.header()?;
        Ok((header, reader))
    }

    /// Lines that a lenient reader has skipped so far, by reason.
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<SkipReason, u64> {
        &self.skipped
    }

    /// The line that was read last.
    #[must_use]
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    fn header(&mut self) -> Result<Header, ScenarioError> {
        let fault = |spot: &Spot, member: &str, reason: String| ScenarioError::Header {
            spot: spot.clone(),
            member: member.to_owned(),
            reason,
        };
        if !self.next_line()? {
            self.spot.line = 1;
            return Err(fault(&self.spot, "header", "the file is empty".into()));
        }
        let json = &mut serde_json::Deserializer::from_slice(self.lines.line());
        let header: Header = serde_path_to_error::deserialize(json)
            .map_err(|e| fault(&self.spot, &member_of(e.path()), e.inner().to_string()))?;
        if let Some((member, reason)) = header.fault() {
            return Err(fault(&self.spot, &member, reason));
        }
        self.end = header.end;
        Ok(header)
    }

    /// Reads the next line that is not blank; false at the end of the input.
    fn next_line(&mut self) -> Result<bool, ScenarioError> {
        let next = self.lines.advance();
        self.spot.line = self.lines.number();
        match next.map_err(|source| self.broken(source))? {
            Next::Line => Ok(true),
            Next::End => Ok(false),
            Next::TooLong => Err(ScenarioError::TooLong {
                spot: self.spot.clone(),
                limit: MAX_LINE,
            }),
        }
    }

    fn broken(&self, source: io::Error) -> ScenarioError {
        ScenarioError::Read {
            spot: self.spot.clone(),
            source,
        }
    }

    fn next_signal(&mut self) -> Result<Option<Signal>, ScenarioError> {
        if !self.next_line()? {
            return Ok(None);
        }
        let signal = parse_line(self.lines.line()).map_err(|(member, reason, kind)| {
            ScenarioError::Line {
                spot: self.spot.clone(),
                member,
                reason,
                kind,
            }
        })?;
        if signal.observedtime < self.before {
            return Err(ScenarioError::Order {
                spot: self.spot.clone(),
                observed: signal.observedtime,
                before: self.before,
            });
        }
        // One such line would make all that follow it look late.
        if signal.observedtime > self.end {
            return Err(ScenarioError::Beyond {
                spot: self.spot.clone(),
                observed: signal.observedtime,
                end: self.end,
            });
        }
        self.before = signal.observedtime;
        Ok(Some(signal))
    }
}

impl Iterator for ScenarioReader {
    type Item = Result<Signal, ScenarioError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.next_signal() {
                Ok(Some(signal)) => return Some(Ok(signal)),
                Ok(None) => self.ended = true,
                Err(error) => {
                    let skippable = error.skippable();
                    if let (Strictness::Lenient, Some(reason)) = (self.strictness, skippable) {
                        *self.skipped.entry(reason).or_default() += 1;
                    } else {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }
}
