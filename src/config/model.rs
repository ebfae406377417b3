//! Model files: parameters of prediction and planning, in TOML.

use std::path::Path;

use config::{Config, ConfigError, File, FileFormat};

use crate::forecast::model::Model;

/// Reads a model file; what it does not set keeps its value, what it sets must be known.
///
/// # Errors
/// When the file cannot be read, is no TOML, or has a member that a model has not.
pub fn read(path: &Path) -> Result<Model, ConfigError> {
    let file = File::from(path).format(FileFormat::Toml);
    let read = Config::builder().add_source(file).build();
    read.and_then(Config::try_deserialize)
}
