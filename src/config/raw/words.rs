//! Keys that take one of a few words.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema of a word is a string; of a URL table, an object of strings.
macro_rules! schema {
    ($name:ident, $schema:tt) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON in a cluster or into a pipe.
    #[default]
    Auto,
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// What an agent puts images into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum RuntimeKind {
    /// containerd where its socket is, CRI where that is not open to us, otherwise the layout.
    #[default]
    Auto,
    /// containerd, unpacked.
    Containerd,
    /// Whatever serves CRI, which pulls images itself.
    Cri,
    /// A directory.
    Layout,
}

/// How brokers are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum KafkaSecurity {
    /// No TLS, no authentication.
    #[default]
    Plain,
}

// === impl words ===
impl TryFrom<String> for LogFormat {
    type Error = NotOneOf;

    fn try_from(word: String) -> Result<Self, NotOneOf> {
        match word.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(NotOneOf {
                word,
                words: "`auto`, `text`, `json`",
            }),
        }
    }
}

impl TryFrom<String> for RuntimeKind {
    type Error = NotOneOf;

    fn try_from(word: String) -> Result<Self, NotOneOf> {
        match word.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "containerd" => Ok(Self::Containerd),
            "cri" => Ok(Self::Cri),
            "layout" => Ok(Self::Layout),
            _ => Err(NotOneOf {
                word,
                words: "`auto`, `containerd`, `cri`, `layout`",
            }),
        }
    }
}

impl TryFrom<String> for KafkaSecurity {
    type Error = NotOneOf;

    fn try_from(word: String) -> Result<Self, NotOneOf> {
        match word.to_ascii_lowercase().as_str() {
            "plain" => Ok(Self::Plain),
            _ => Err(NotOneOf {
                word,
                words: "`plain`",
            }),
        }
    }
}

/// A word that is none of those a key takes.
#[derive(Debug, thiserror::Error)]
pub struct NotOneOf {
    word: String,
    words: &'static str,
}

impl fmt::Display for NotOneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not one of {}", self.word, self.words)
    }
}

schema!(LogFormat, {"type": "string", "format": "word"});
schema!(RuntimeKind, {"type": "string", "format": "word"});
schema!(KafkaSecurity, {"type": "string", "format": "word"});
