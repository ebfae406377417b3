//! Model files on disk: read whole, bounded, told apart by their content.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

use crate::forecast::model::{Model, ModelError, ModelFile, SHIPPED};

/// Longest model file that is read; the shipped one has 5 KiB, and a card a line per scenario.
const BYTES_MAX: u64 = 1 << 20;

/// A model file as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// What is written in it.
    pub text: String,
    /// First digits of its SHA-256: enough to tell files apart by eye.
    pub digest: String,
}

/// A model file that is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no model file, whatever it is.
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLong,
    /// It says what no model can.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Reads a model: what the file does not set keeps the shipped value, what it sets must be known and
/// possible.
pub fn read(path: &Path) -> Result<Model, ReadError> {
    Ok(ModelFile::parse(&text(path)?.text)?.model)
}

/// Reads a file without judging it.
pub fn text(path: &Path) -> Result<Text, ReadError> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(BYTES_MAX + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(ReadError::TooLong);
    }
    let digest = short_digest(&text);
    Ok(Text { text, digest })
}

/// The digest of the model that is built in.
#[must_use]
pub fn built_in() -> String {
    short_digest(SHIPPED)
}

fn short_digest(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    hex::encode(&digest.as_ref()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_bounded_read_and_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.toml");
        assert!(matches!(read(&path), Err(ReadError::Io(_))));
        std::fs::write(&path, SHIPPED).unwrap();
        assert_eq!(text(&path).unwrap().digest, built_in());
        assert_eq!(read(&path).unwrap(), Model::default());
        std::fs::write(&path, "[price]\nkeep = 0.5\n").unwrap();
        assert_eq!(read(&path).unwrap().price.keep, 0.5);
        assert_ne!(text(&path).unwrap().digest, built_in());
        std::fs::write(&path, "#".repeat(BYTES_MAX as usize + 1)).unwrap();
        assert!(matches!(read(&path), Err(ReadError::TooLong)));
        std::fs::write(&path, "[price]\nkeep = 2\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("price.keep is 2"), "{error}");
    }
}
