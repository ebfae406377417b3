//! The cache's machine, driven by hand and by random inputs.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn blob(n: u8) -> Digest {
    Digest::from_sha256(&[n; 32])
}

fn cache(quota: u64) -> Blobs {
    Blobs::new(Limits {
        quota: ByteSize(quota),
        back_off: BackOff {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(1),
            attempts: 5,
            again: None,
        },
    })
}

fn want(n: u8, reader: Reader) -> Input {
    Input::Want {
        digest: blob(n),
        reader,
    }
}

#[test]
fn a_second_reader_joins_the_fetch_that_is_under_way() {
    let mut blobs = cache(100);
    let t = Timestamp::ZERO;
    let fetch = Effect::Fetch {
        digest: blob(1),
        reader: 1,
    };
    assert_eq!(blobs.input(want(1, 1), t), [fetch]);
    assert_eq!(blobs.input(want(1, 2), t), []);
    let started = Input::Started {
        digest: blob(1),
        size: ByteSize(10),
    };
    let served = blobs.input(started, t);
    assert_eq!(served.len(), 2);
    assert!(
        served
            .iter()
            .all(|e| matches!(e, Effect::Serve { whole: false, .. }))
    );
}

#[test]
fn readers_are_refused_after_a_failure_until_its_rest_is_over() {
    let mut blobs = cache(100);
    let t = Timestamp::ZERO;
    blobs.input(want(1, 1), t);
    let failed = Input::Failed {
        digest: blob(1),
        lasting: false,
    };
    let end = t + Duration::from_secs(1);
    let refusal = |reader| refuse(blob(1), reader, Some(end));
    assert_eq!(blobs.input(failed, t), [refusal(1)]);
    assert_eq!(blobs.input(want(1, 2), t), [refusal(2)]);
    let again = blobs.input(want(1, 3), end);
    assert!(matches!(again[..], [Effect::Fetch { .. }]), "{again:?}");
}

#[test]
fn the_least_recently_used_blob_without_readers_goes_first() {
    let mut blobs = cache(25);
    let t = Timestamp::ZERO;
    for n in 1..=2 {
        blobs.input(
            Input::Finished {
                digest: blob(n),
                size: ByteSize(10),
            },
            t,
        );
    }
    blobs.input(want(1, 7), t);
    let third = Input::Finished {
        digest: blob(3),
        size: ByteSize(10),
    };
    let effects = blobs.input(third, t);
    assert!(effects.contains(&Effect::Evict(blob(2))), "{effects:?}");
    assert_eq!(blobs.bytes(), ByteSize(20));
}

#[derive(Clone, Debug)]
enum Act {
    Want(u8),
    Leave(usize),
    Start(usize),
    Finish(usize),
    Fail(usize),
    Pass(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..6).prop_map(Act::Want),
        2 => any::<usize>().prop_map(Act::Leave),
        2 => any::<usize>().prop_map(Act::Start),
        3 => any::<usize>().prop_map(Act::Finish),
        1 => any::<usize>().prop_map(Act::Fail),
        1 => (0u8..9).prop_map(Act::Pass),
    ]
}

/// A driver that carries out effects and checks every promise as it goes.
struct Driver {
    blobs: Blobs,
    now: Timestamp,
    fetching: Vec<Digest>,
    stored: BTreeMap<Digest, ByteSize>,
    /// Every reader that has neither left nor been refused, and whether it was answered.
    readers: BTreeMap<Reader, (Digest, bool)>,
}

impl Driver {
    fn give(&mut self, input: Input) {
        for effect in self.blobs.input(input, self.now) {
            match effect {
                Effect::Fetch { digest, .. } => {
                    assert!(!self.fetching.contains(&digest), "fetched twice at once");
                    assert!(!self.stored.contains_key(&digest), "fetched though stored");
                    self.fetching.push(digest);
                }
                Effect::Serve { digest, reader, .. } => {
                    let entry = self.readers.get_mut(&reader).expect("a reader that asked");
                    assert_eq!(entry.0, digest);
                    assert!(!entry.1, "served twice");
                    entry.1 = true;
                }
                Effect::Refuse { reader, .. } => {
                    assert!(self.readers.remove(&reader).is_some(), "refused a stranger");
                }
                Effect::Evict(digest) => {
                    let read = self.readers.values().any(|(d, _)| *d == digest);
                    assert!(!read, "evicted under a reader");
                    assert!(self.stored.remove(&digest).is_some(), "evicted twice");
                }
                Effect::Advance { .. } => {}
            }
        }
    }

    fn finish(&mut self, at: usize) {
        let digest = self.fetching.remove(at);
        let size = ByteSize(10 + u64::from(digest.hex().as_bytes()[1] % 7));
        self.stored.insert(digest.clone(), size);
        self.give(Input::Finished { digest, size });
    }

    fn act(&mut self, act: Act, n: u64) {
        let pick = |i: usize, len: usize| (len > 0).then(|| i % len.max(1));
        match act {
            Act::Want(b) => {
                self.readers.insert(n, (blob(b), false));
                self.give(want(b, n));
            }
            Act::Leave(i) => {
                if let Some(i) = pick(i, self.readers.len()) {
                    let (reader, (digest, _)) = self
                        .readers
                        .iter()
                        .nth(i)
                        .map(|(r, d)| (*r, d.clone()))
                        .unwrap();
                    self.readers.remove(&reader);
                    self.give(Input::Left { digest, reader });
                }
            }
            Act::Start(i) => {
                if let Some(i) = pick(i, self.fetching.len()) {
                    let digest = self.fetching[i].clone();
                    let size = ByteSize(10);
                    self.give(Input::Started { digest, size });
                }
            }
            Act::Finish(i) => {
                if let Some(i) = pick(i, self.fetching.len()) {
                    self.finish(i);
                }
            }
            Act::Fail(i) => {
                if let Some(i) = pick(i, self.fetching.len()) {
                    let digest = self.fetching.remove(i);
                    let lasting = i % 2 == 0;
                    self.give(Input::Failed { digest, lasting });
                }
            }
            Act::Pass(s) => self.now = self.now + Duration::from_secs(u64::from(s)),
        }
    }
}

proptest! {
    #[test]
    fn every_reader_is_answered_and_the_quota_holds(
        acts in prop::collection::vec(act(), 0..120),
        quota in 0u64..60,
    ) {
        let mut driver = Driver {
            blobs: cache(quota),
            now: Timestamp::ZERO,
            fetching: Vec::new(),
            stored: BTreeMap::new(),
            readers: BTreeMap::new(),
        };
        for (n, act) in acts.into_iter().enumerate() {
            driver.act(act, n as u64);
            prop_assert_eq!(driver.blobs.fetches(), driver.fetching.len());
            let bytes: ByteSize = driver.stored.values().copied().sum();
            prop_assert_eq!(driver.blobs.bytes(), bytes);
            let unread: ByteSize = driver
                .stored
                .iter()
                .filter(|(d, _)| !driver.readers.values().any(|(r, _)| r == *d))
                .map(|(_, size)| *size)
                .sum();
            prop_assert!(bytes.0 <= quota || unread.0 == 0, "{} kept unread", unread);
        }
        while !driver.fetching.is_empty() {
            driver.finish(0);
        }
        prop_assert!(driver.readers.values().all(|(_, answered)| *answered));
    }
}
