//! Forms of layers, and links between registry and node.

use serde::{Deserialize, Serialize};

/// How layers travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    Gzip,
    Zstd,
    Plain,
}

/// What is between registry and node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Link {
    /// Loopback.
    #[serde(rename = "none")]
    None,
    #[serde(rename = "1gbit")]
    Gigabit,
    #[serde(rename = "100mbit")]
    Slow,
}

// === impl Form ===

impl Form {
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Zstd, Self::Plain];

    /// In tags and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Plain => "plain",
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

// === impl Link ===

impl Link {
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gigabit => "1gbit",
            Self::Slow => "100mbit",
        }
    }

    /// In the words of `tc`.
    pub fn rate(self) -> Option<&'static str> {
        (self != Self::None).then(|| self.word())
    }
}
