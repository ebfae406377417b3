//! What of a layer only the layers below it can tell.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Directories that a layer implies by what it has in them. Containerd gives them the attributes that
/// the topmost parent layer has for the same path; the settling does it when those layers are known.
///
/// Written down as a map from path to `"implied"`, `"dated"` or `"listed"`. Paths are bytes: `%`, controls, spaces
/// and everything beyond ASCII is written as `%` and two upper-case hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unsettled {
    dirs: BTreeMap<Name, Due>,
}

/// How much is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Due {
    /// Mode, owner, times and extended attributes.
    Implied,
    /// The same but for the times: a listed directory became a link to it.
    Dated,
    /// The layer listed it later on: extended attributes that it did not name itself.
    Listed,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Vec<u8>);

impl Unsettled {
    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Directories to settle.
    pub fn len(&self) -> usize {
        self.dirs.len()
    }

    /// A directory was made because something lies in it.
    pub(super) fn imply(&mut self, path: &[u8]) {
        self.dirs.insert(Name(path.to_vec()), Due::Implied);
    }

    /// An entry for a directory that was there.
    pub(super) fn list(&mut self, path: &[u8]) {
        if self.is_empty() {
            return;
        }
        if let Some(due) = self.dirs.get_mut(&Name(path.to_vec())) {
            *due = Due::Listed;
        }
    }

    /// A path that is about to get the times of an entry.
    pub(super) fn date(&mut self, path: &[u8]) {
        if let Some(due) = self.dirs.get_mut(&Name(path.to_vec()))
            && *due == Due::Implied
        {
            *due = Due::Dated;
        }
    }

    /// The path and everything below it is gone.
    pub(super) fn forget(&mut self, path: &[u8]) {
        if self.is_empty() {
            return;
        }
        self.dirs.remove(&Name(path.to_vec()));
        for below in self.below(path) {
            self.dirs.remove(&Name(below));
        }
    }

    /// Implied and never listed directories below `path`, parents first.
    pub(super) fn implied_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut below = self.below(path);
        below.retain(|path| self.dirs.get(&Name(path.clone())) == Some(&Due::Implied));
        below
    }

    /// Every directory, parents before what lies in them.
    pub(super) fn dirs(&self) -> impl Iterator<Item = (&[u8], Due)> {
        self.dirs
            .iter()
            .map(|(name, due)| (name.0.as_slice(), *due))
    }

    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        if path.is_empty() {
            return self.dirs.keys().map(|name| name.0.clone()).collect();
        }
        let bound = |end: u8| Name([path, &[end]].concat());
        // '0' follows '/'.
        let range = self.dirs.range(bound(b'/')..bound(b'0'));
        range.map(|(name, _)| name.0.clone()).collect()
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len());
        for byte in &self.0 {
            if byte.is_ascii_graphic() && *byte != b'%' {
                text.push(char::from(*byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`{text}` is no percent-encoded path"));
        let mut path = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if *first != b'%' {
                path.push(*first);
                continue;
            }
            let digits = after.split_at_checked(2).ok_or_else(wrong)?;
            path.extend(hex::decode(digits.0).map_err(|_| wrong())?);
            rest = digits.1;
        }
        Ok(Self(path))
    }
}
