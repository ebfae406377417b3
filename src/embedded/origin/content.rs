//! Bytes of a generated layer, made anew from any offset on.

use std::collections::{BTreeMap, HashMap};
use std::thread;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::domain::image::Digest;
use crate::domain::scenario::Header;

/// Bytes made at once: what one write of a socket takes.
const CHUNK: u64 = 64 << 10;

/// Smallest generated layer: with fewer bytes two different layers could turn out equal, and nodes
/// would share what the catalogue's do not.
const LAYER_MIN: u64 = 16;

/// A layer that is a seed.
#[derive(Clone, Debug)]
pub(super) struct Generated {
    seed: [u8; 32],
    /// Of the bytes.
    pub(super) digest: Digest,
    /// How many.
    pub(super) size: u64,
}

/// Chunks from one offset to another.
#[derive(Debug)]
pub(super) struct Chunks {
    rng: ChaCha8Rng,
    /// Bytes of the generator's current word that lie before the wanted offset.
    skip: usize,
    left: u64,
}

impl Generated {
    /// The stand-in of a catalogue's layer: same digest and size, same bytes.
    pub(super) fn new(of: &Digest, size: u64) -> Self {
        let mut seed = [0; 32];
        hex::decode_to_slice(of.hex(), &mut seed).expect("a digest is 64 hexadecimal digits");
        let mut hash = Context::new(&SHA256);
        for chunk in chunks(seed, 0, size) {
            hash.update(&chunk);
        }
        Self {
            seed,
            digest: Digest::from_sha256(hash.finish().as_ref()),
            size,
        }
    }

    /// The bytes from `start` to before `end`.
    pub(super) fn chunks(&self, start: u64, end: u64) -> Chunks {
        chunks(self.seed, start, end)
    }
}

fn chunks(seed: [u8; 32], start: u64, end: u64) -> Chunks {
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_word_pos(u128::from(start / 4));
    Chunks {
        rng,
        skip: (start % 4) as usize,
        left: end.saturating_sub(start),
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let skip = std::mem::take(&mut self.skip);
        // All chunks but the last are whole words, so that none is lost between two.
        let take = self.left.min(CHUNK - skip as u64);
        let mut chunk = vec![0; skip + take as usize];
        self.rng.fill_bytes(&mut chunk);
        self.left -= take;
        Some(Bytes::from(chunk).slice(skip..))
    }
}

/// Every distinct layer of the catalogue, by the catalogue's digest, hashed on all cores.
pub(super) fn generate(header: &Header, divisor: u64) -> HashMap<Digest, Generated> {
    let mut sizes: BTreeMap<&Digest, u64> = BTreeMap::new();
    for layer in header.images.values().flatten().flat_map(|m| &m.layers) {
        let scaled = (layer.size.0 / divisor).max(LAYER_MIN);
        sizes.entry(&layer.digest).or_insert(scaled);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let wanted: Vec<(&Digest, u64)> = sizes.into_iter().collect();
    // Dealt out like cards: neighbours of one image differ less in size than images do.
    thread::scope(|scope| {
        let hands: Vec<_> = (0..cores)
            .map(|hand| {
                let mine = wanted.iter().skip(hand).step_by(cores);
                scope.spawn(move || {
                    mine.map(|(of, size)| ((*of).clone(), Generated::new(of, *size)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let finished = hands.into_iter();
        finished
            .flat_map(|hand| hand.join().expect("generating bytes cannot fail"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn collect(content: &Generated, start: u64, end: u64) -> Vec<u8> {
        content.chunks(start, end).flatten().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn any_part_is_the_same_bytes_as_in_the_whole(
            size in 1u64..200_000,
            a in 0u64..200_000,
            b in 0u64..200_000,
        ) {
            let (start, end) = (a.min(b).min(size), a.max(b).min(size));
            let content = Generated::new(&Digest::from_sha256(&[9; 32]), size);
            let whole = collect(&content, 0, size);
            prop_assert_eq!(whole.len() as u64, size);
            let part = collect(&content, start, end);
            prop_assert_eq!(&part[..], &whole[start as usize..end as usize]);
        }
    }
}
