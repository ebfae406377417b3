//! Log lines on standard error: text for people, JSON for collectors.

use std::fmt;
use std::io::{self, IsTerminal};

use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// What decides the form of log lines when nobody says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// `KUBERNETES_SERVICE_HOST` is set: every pod has it.
    pub in_cluster: bool,
    /// Standard error is a terminal.
    pub terminal: bool,
    /// Colour is not unwanted (`NO_COLOR`).
    pub colour: bool,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level does not parse.
    #[error("`{0}` is no log level: {1}")]
    Level(String, ParseError),
    /// Something else logs in this process already.
    #[error("logging has begun already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins logging to standard error for the rest of the process.
pub fn init(format: LogFormat, level: &str, surroundings: Surroundings) -> Result<(), LogError> {
    subscriber(format, level, surroundings, io::stderr)?.try_init()?;
    Ok(())
}

/// A value as JSON for one log line; nothing is written unless somebody reads the line.
pub fn json<T: Serialize>(value: &T) -> impl fmt::Display + '_ {
    struct Json<'a, T>(&'a T);
    impl<T: Serialize> fmt::Display for Json<'_, T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
        }
    }
    Json(value)
}

/// Form and level of log lines, into any writer.
pub fn subscriber<W>(
    format: LogFormat,
    level: &str,
    surroundings: Surroundings,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let levels = levels(level).map_err(|e| LogError::Level(level.to_owned(), e))?;
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(writer);
    Ok(match surroundings.form(format) {
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish().with(levels)),
        _ => Box::new(
            lines
                .with_ansi(surroundings.terminal && surroundings.colour)
                .finish()
                .with(levels),
        ),
    })
}

/// A level, or levels by module; modules that nothing is said of log errors.
///
/// `EnvFilter` could filter by spans and values, too: with regular expressions that an idle agent of 10 MiB would
/// hold 0.3 MiB for.
pub fn levels(text: &str) -> Result<Targets, ParseError> {
    let levels: Targets = text.parse()?;
    Ok(if levels.default_level().is_none() {
        levels.with_default(LevelFilter::ERROR)
    } else {
        levels
    })
}

impl Surroundings {
    /// Of this process.
    pub fn here() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            in_cluster: set("KUBERNETES_SERVICE_HOST"),
            terminal: io::stderr().is_terminal(),
            colour: !set("NO_COLOR"),
        }
    }

    /// `Text` or `Json`: what `auto` means here.
    pub fn form(self, format: LogFormat) -> LogFormat {
        match format {
            LogFormat::Auto if self.in_cluster || !self.terminal => LogFormat::Json,
            LogFormat::Auto => LogFormat::Text,
            said => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, surroundings: Surroundings) -> String {
        let page = Page::default();
        let writer = page.clone();
        let lines = subscriber(
            format,
            "info,forelay::telemetry=debug",
            surroundings,
            move || writer.clone(),
        );
        tracing::subscriber::with_default(lines.unwrap(), || {
            tracing::debug!(node = "n1", "joined");
            tracing::trace!("never shown");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const TERMINAL: Surroundings = Surroundings {
        in_cluster: false,
        terminal: true,
        colour: false,
    };

    #[test]
    fn a_line_is_json_in_a_cluster_even_on_a_terminal() {
        let line = logged(
            LogFormat::Auto,
            Surroundings {
                in_cluster: true,
                ..TERMINAL
            },
        );
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["message"], &line["node"]),
            (&"joined".into(), &"n1".into())
        );
    }

    #[test]
    fn a_line_is_json_into_a_pipe_unless_text_is_asked_for() {
        let pipe = Surroundings {
            terminal: false,
            ..TERMINAL
        };
        assert_eq!(pipe.form(LogFormat::Auto), LogFormat::Json);
        assert_eq!(pipe.form(LogFormat::Text), LogFormat::Text);
    }

    #[test]
    fn a_line_is_text_on_a_terminal_without_colour_where_unwanted() {
        let line = logged(LogFormat::Auto, TERMINAL);
        assert!(line.contains("joined") && line.contains("node="), "{line}");
        assert!(
            !line.contains('\u{1b}') && line.lines().count() == 1,
            "{line}"
        );
        let coloured = logged(
            LogFormat::Auto,
            Surroundings {
                colour: true,
                ..TERMINAL
            },
        );
        assert!(coloured.contains('\u{1b}'), "{coloured}");
    }
}
