//! The cache's machine: one upstream fetch per digest, however many readers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::engine::trouble::{BackOff, Troubles, Verdict};

/// One request of one client, as the driver numbers them.
pub type Reader = u64;

/// Failures that are remembered at most; beyond it the memory starts anew.
const TROUBLES_MAX: usize = 10_000;

/// Limits of one cache.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of whole blobs that are kept; those with readers are kept above it.
    pub quota: ByteSize,
    /// Rest of a digest after upstream failed to give it.
    pub back_off: BackOff,
}

/// Something that happened to the cache.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A client wants a blob; it counts as a reader until it left or was refused.
    Want {
        /// blob
        digest: Digest,
        /// who
        reader: Reader,
    },
    /// The client has all it wanted, or went away. Its going never stops the upstream fetch.
    Left {
        /// blob
        digest: Digest,
        /// who
        reader: Reader,
    },
    /// Upstream answered: the size is known.
    Started {
        /// blob
        digest: Digest,
        /// bytes of the whole blob
        size: ByteSize,
    },
    /// So many bytes from the blob's beginning can be read.
    Progress {
        /// blob
        digest: Digest,
        /// bytes from the beginning
        have: ByteSize,
    },
    /// The blob is whole and verified (or was found so on disk at the start).
    Finished {
        /// blob
        digest: Digest,
        /// bytes
        size: ByteSize,
    },
    /// Upstream did not give it; `lasting` when asking again is no use.
    Failed {
        /// blob
        digest: Digest,
        /// back off only, or give up
        lasting: bool,
    },
    /// The stored blob is no more (quarantined, removed by hand).
    Lost(Digest),
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fetch it from upstream, in this reader's name.
    Fetch {
        /// blob
        digest: Digest,
        /// whose request tells repository and credentials
        reader: Reader,
    },
    /// Answer this reader: from disk when `whole`, else from the partial blob as it grows.
    Serve {
        /// blob
        digest: Digest,
        /// who
        reader: Reader,
        /// nothing is missing any more
        whole: bool,
    },
    /// Readers of this blob may go on to here.
    Advance {
        /// blob
        digest: Digest,
        /// bytes from the beginning
        have: ByteSize,
    },
    /// This reader gets no more from here; it is no reader any longer.
    Refuse {
        /// blob
        digest: Digest,
        /// who
        reader: Reader,
        /// when asking again may help; never, where missing
        retry_at: Option<Timestamp>,
    },
    /// Delete the stored blob.
    Evict(Digest),
}

/// What is stored, what is arriving, who reads it.
#[derive(Debug)]
pub struct Blobs {
    limits: Limits,
    stored: BTreeMap<Digest, Stored>,
    arriving: BTreeMap<Digest, Arriving>,
    readers: BTreeMap<Digest, BTreeSet<Reader>>,
    troubles: Troubles,
    bytes: ByteSize,
    uses: u64,
    /// Stored digests by their use, oldest first; entries whose number is outdated are skipped.
    by_use: VecDeque<(u64, Digest)>,
}

#[derive(Debug)]
struct Stored {
    size: ByteSize,
    last_use: u64,
}

#[derive(Debug, Default)]
struct Arriving {
    size: Option<ByteSize>,
    waiting: Vec<Reader>,
}

// === impl Blobs ===

impl Blobs {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let troubles = Troubles::new(limits.back_off);
        Self {
            limits,
            stored: BTreeMap::new(),
            arriving: BTreeMap::new(),
            readers: BTreeMap::new(),
            troubles,
            bytes: ByteSize(0),
            uses: 0,
            by_use: VecDeque::new(),
        }
    }

    /// Takes in what happened and says what follows from it.
    pub fn input(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        match input {
            Input::Want { digest, reader } => self.want(digest, reader, now),
            Input::Left { digest, reader } => {
                self.leave(&digest, reader);
                self.evictions()
            }
            Input::Started { digest, size } => self.started(digest, size),
            Input::Progress { digest, have } => {
                if self.arriving.contains_key(&digest) {
                    vec![Effect::Advance { digest, have }]
                } else {
                    Vec::new()
                }
            }
            Input::Finished { digest, size } => self.finished(digest, size),
            Input::Failed { digest, lasting } => self.failed(digest, lasting, now),
            Input::Lost(digest) => {
                if let Some(gone) = self.stored.remove(&digest) {
                    self.bytes = self.bytes - gone.size;
                }
                Vec::new()
            }
        }
    }

    /// Bytes of whole blobs.
    #[must_use]
    pub fn bytes(&self) -> ByteSize {
        self.bytes
    }

    /// Whether the whole blob is stored.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.stored.contains_key(digest)
    }

    /// Size of a blob that is stored, or arriving and known.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<ByteSize> {
        let stored = self.stored.get(digest).map(|blob| blob.size);
        stored.or_else(|| self.arriving.get(digest)?.size)
    }

    /// Upstream fetches under way.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.arriving.len()
    }

    fn want(&mut self, digest: Digest, reader: Reader, now: Timestamp) -> Vec<Effect> {
        if self.stored.contains_key(&digest) {
            self.join(&digest, reader);
            self.touch(&digest);
            return vec![Effect::Serve {
                digest,
                reader,
                whole: true,
            }];
        }
        if let Some(arriving) = self.arriving.get_mut(&digest) {
            let known = arriving.size.is_some();
            if !known {
                arriving.waiting.push(reader);
            }
            self.join(&digest, reader);
            return if known {
                vec![Effect::Serve {
                    digest,
                    reader,
                    whole: false,
                }]
            } else {
                Vec::new()
            };
        }
        match self.troubles.verdict(&digest, now) {
            Verdict::Free => {
                let arriving = Arriving {
                    size: None,
                    waiting: vec![reader],
                };
                self.arriving.insert(digest.clone(), arriving);
                self.join(&digest, reader);
                vec![Effect::Fetch { digest, reader }]
            }
            Verdict::RestUntil(at) => vec![refuse(digest, reader, Some(at))],
            Verdict::GivenUp => vec![refuse(digest, reader, None)],
        }
    }

    fn started(&mut self, digest: Digest, size: ByteSize) -> Vec<Effect> {
        let Some(arriving) = self.arriving.get_mut(&digest) else {
            return Vec::new();
        };
        arriving.size = Some(size);
        let waiting = std::mem::take(&mut arriving.waiting);
        self.serve(&digest, waiting, false)
    }

    fn finished(&mut self, digest: Digest, size: ByteSize) -> Vec<Effect> {
        let waiting = self
            .arriving
            .remove(&digest)
            .map_or_else(Vec::new, |arriving| arriving.waiting);
        self.troubles.forgive(&digest);
        let stored = Stored { size, last_use: 0 };
        if let Some(old) = self.stored.insert(digest.clone(), stored) {
            self.bytes = self.bytes - old.size;
        }
        self.bytes += size;
        self.touch(&digest);
        let mut effects = vec![Effect::Advance {
            digest: digest.clone(),
            have: size,
        }];
        effects.extend(self.serve(&digest, waiting, true));
        effects.extend(self.evictions());
        effects
    }

    fn failed(&mut self, digest: Digest, lasting: bool, now: Timestamp) -> Vec<Effect> {
        if self.arriving.remove(&digest).is_none() {
            return Vec::new();
        }
        if self.troubles.len() >= TROUBLES_MAX {
            self.troubles.retain(|_| false);
        }
        self.troubles.failed(&digest, lasting, now);
        let retry_at = match self.troubles.verdict(&digest, now) {
            Verdict::RestUntil(at) => Some(at),
            Verdict::Free => Some(now),
            Verdict::GivenUp => None,
        };
        let readers = self.readers.remove(&digest).unwrap_or_default();
        readers
            .into_iter()
            .map(|reader| refuse(digest.clone(), reader, retry_at))
            .collect()
    }

    fn serve(&self, digest: &Digest, waiting: Vec<Reader>, whole: bool) -> Vec<Effect> {
        let here = self.readers.get(digest);
        waiting
            .into_iter()
            .filter(|reader| here.is_some_and(|readers| readers.contains(reader)))
            .map(|reader| Effect::Serve {
                digest: digest.clone(),
                reader,
                whole,
            })
            .collect()
    }

    fn join(&mut self, digest: &Digest, reader: Reader) {
        self.readers
            .entry(digest.clone())
            .or_default()
            .insert(reader);
    }

    fn leave(&mut self, digest: &Digest, reader: Reader) {
        if let Some(readers) = self.readers.get_mut(digest) {
            readers.remove(&reader);
            if readers.is_empty() {
                self.readers.remove(digest);
            }
        }
    }

    fn touch(&mut self, digest: &Digest) {
        if let Some(stored) = self.stored.get_mut(digest) {
            self.uses += 1;
            stored.last_use = self.uses;
            self.by_use.push_back((self.uses, digest.clone()));
        }
        // Outdated entries are dropped once they are the larger part, so that a hot blob costs
        // amortised constant work and the queue stays within twice the number of blobs.
        if self.by_use.len() > 2 * self.stored.len() + 16 {
            let stored = &self.stored;
            self.by_use
                .retain(|(at, digest)| stored.get(digest).is_some_and(|b| b.last_use == *at));
        }
    }

    /// Least recently used first, never one with readers, until the quota holds.
    fn evictions(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut pinned = VecDeque::new();
        while self.bytes > self.limits.quota {
            let Some((at, digest)) = self.by_use.pop_front() else {
                break;
            };
            match self.stored.get(&digest) {
                Some(blob) if blob.last_use == at => {}
                _ => continue,
            }
            if self.readers.contains_key(&digest) {
                pinned.push_back((at, digest));
                continue;
            }
            let size = self.stored.remove(&digest).map_or(ByteSize(0), |b| b.size);
            self.bytes = self.bytes - size;
            effects.push(Effect::Evict(digest));
        }
        pinned.append(&mut self.by_use);
        self.by_use = pinned;
        effects
    }
}

fn refuse(digest: Digest, reader: Reader, retry_at: Option<Timestamp>) -> Effect {
    Effect::Refuse {
        digest,
        reader,
        retry_at,
    }
}

#[cfg(test)]
mod tests;
