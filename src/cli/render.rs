//! What commands show: text, JSON and tables on standard output, progress on standard error.

use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::telemetry::log::Surroundings;

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and sentences
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// `--output`, for the commands that have it.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// How the result is written to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

/// Standard output was closed by its reader: no failure, but the end.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct Closed;

/// Writes text to standard output, as it is.
pub fn out(text: &str) -> anyhow::Result<()> {
    write_all(&mut io::stdout().lock(), text)
}

/// Writes one JSON value and a line end to standard output.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    out(&(serde_json::to_string(value)? + "\n"))
}

fn write_all(to: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        other => Ok(other?),
    }
}

/// A table without lines: the first column to the left, the numbers after it to the right.
pub fn table<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers);
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding(if index == 0 { (0, 1) } else { (1, 1) });
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Spaces at the end of a line are nothing that anybody compares.
    let lines = table.to_string();
    lines
        .lines()
        .map(str::trim_end)
        .fold(String::new(), |page, line| page + line + "\n")
}

/// Live progress on a terminal, plain lines elsewhere; always on standard error.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
    live: bool,
}

impl Progress {
    /// Draws only where standard error is a terminal.
    pub fn new(surroundings: Surroundings) -> Self {
        let target = if surroundings.terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            live: surroundings.terminal,
        }
    }

    /// Whether bars are drawn; where not, a caller says now and then how far it is with `line`.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A counting bar: `name [=====>   ] position/length message`.
    pub fn bar(&self, name: &str, length: u64) -> ProgressBar {
        self.styled(name, length, "{prefix:<16} [{bar:30}] {pos}/{len} {msg}")
    }

    /// A short bar whose message matters more: 55 characters of it fit into a terminal of 80.
    pub fn story(&self, name: &str, length: u64) -> ProgressBar {
        self.styled(name, length, "{prefix:<9} [{bar:12}] {msg}")
    }

    /// A bar that counts bytes and shows their rate.
    pub fn bytes(&self, name: &str, length: u64) -> ProgressBar {
        let template = "{prefix:<16} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg}";
        self.styled(name, length, template)
    }

    /// A line with a message and no known end.
    pub fn spinner(&self, name: &str) -> ProgressBar {
        let spinner = self.styled(name, 0, "{prefix:<16} {spinner} {msg}");
        if self.live {
            spinner.enable_steady_tick(Duration::from_millis(120));
        }
        spinner
    }

    /// A line above the bars, or a plain line.
    pub fn line(&self, text: &str) {
        // A closed standard error has nobody to tell about it.
        if self.live {
            let _ = self.bars.println(text);
        } else {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Takes all bars away.
    pub fn clear(&self) {
        let _ = self.bars.clear();
    }

    fn styled(&self, name: &str, length: u64, template: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template)
            .expect("the templates in this file are well formed")
            .progress_chars("=> ");
        let bar = self.bars.add(ProgressBar::new(length).with_style(style));
        bar.set_prefix(name.to_owned());
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoReader;

    impl Write for NoReader {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_told_apart_from_a_failure() {
        assert!(write_all(&mut NoReader, "text").unwrap_err().is::<Closed>());
        let mut page = Vec::new();
        write_all(&mut page, "text").unwrap();
        assert_eq!(page, b"text");
    }

    #[test]
    fn numbers_stand_under_each_other() {
        let rows = [
            ["reactive".to_owned(), "120.5".to_owned()],
            ["f".to_owned(), "9.1".to_owned()],
        ];
        assert_eq!(
            table(["policy", "wait s"], rows),
            "policy    wait s\nreactive   120.5\nf            9.1\n"
        );
    }
}
