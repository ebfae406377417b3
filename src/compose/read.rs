//! From a file to a spec: the first error of form with its line, column and key.

use std::path::Path;

use crate::compose::error::ComposeError;
use crate::compose::spec::Spec;

/// Longest spec: a thousand workloads are a third of it.
const LENGTH_MAX: u64 = 4 << 20;

/// Reads a spec file. Nothing is checked beyond its form.
pub fn read(file: &Path) -> Result<Spec, ComposeError> {
    let io = |source| ComposeError::Io {
        file: file.to_owned(),
        source,
    };
    let length = std::fs::metadata(file).map_err(io)?.len();
    if length > LENGTH_MAX {
        let reason = format!("{length} bytes long, a spec has at most {LENGTH_MAX}");
        return Err(io(std::io::Error::other(reason)));
    }
    parse(file, &std::fs::read_to_string(file).map_err(io)?)
}

/// Reads the text of a spec file.
pub fn parse(file: &Path, text: &str) -> Result<Spec, ComposeError> {
    let refused = |key: String, error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = &text.as_bytes()[..at];
        let begin = before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |n| n + 1);
        ComposeError::Form {
            file: file.to_owned(),
            line: before.split(|b| *b == b'\n').count(),
            column: at - begin + 1,
            key,
            reason: error.message().to_owned(),
        }
    };
    let parsed = toml::Deserializer::parse(text);
    let parsed = parsed.map_err(|error| refused("TOML".to_owned(), &error))?;
    serde_path_to_error::deserialize(parsed).map_err(|error| {
        let key = match error.path().to_string() {
            root if root == "." => "the spec".to_owned(),
            path => path,
        };
        refused(key, error.inner())
    })
}
