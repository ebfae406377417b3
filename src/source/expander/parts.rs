//! The parts of a protobuf message where they lie, without a copy.
//!
//! Nothing is made for what is not asked for. A message of 128 MiB may hold 64 million empty pods: as values of
//! generated types they would take 2 GiB. Here it takes its own bytes and no more.

use bytes::{Buf, Bytes};

/// A message that is not well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message: {0}")]
pub struct Malformed(&'static str);

/// The content of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Numbers and flags.
    Number(u64),
    /// Texts, bytes and messages.
    Bytes(Bytes),
    /// Of another form, which no message that is read here has.
    Other,
}

/// The fields of a message in their order, by number; after the first error there are none.
pub struct Parts {
    rest: Bytes,
}

impl Parts {
    /// Of a whole message.
    #[must_use]
    pub fn of(message: Bytes) -> Self {
        Self { rest: message }
    }

    fn part(&mut self) -> Result<(u64, Part), Malformed> {
        let key = self.varint()?;
        let part = match key & 7 {
            0 => Part::Number(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > self.rest.len() {
                    return Err(Malformed("a field is longer than the message"));
                }
                Part::Bytes(self.rest.split_to(length))
            }
            5 => self.skip(4)?,
            _ => return Err(Malformed("a field of an unknown form")),
        };
        Ok((key >> 3, part))
    }

    fn skip(&mut self, length: usize) -> Result<Part, Malformed> {
        if length > self.rest.len() {
            return Err(Malformed("it ends within a number"));
        }
        self.rest.advance(length);
        Ok(Part::Other)
    }

    /// Seven bits a byte, the lowest first; ten bytes at most (protobuf.dev, "Encoding").
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.rest.first().copied() else {
                return Err(Malformed("it ends within a number"));
            };
            self.rest.advance(1);
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }
}

impl Iterator for Parts {
    type Item = Result<(u64, Part), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.rest.clear();
        }
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::source::expander::wire::expander::Option as Choice;

    proptest! {
        #[test]
        fn a_message_is_taken_apart_as_it_was_put_together(
            group in "\\PC{0,12}",
            nodes in 0i32..,
            pods in proptest::collection::vec(proptest::collection::vec(0u8.., 0..300), 0..5),
        ) {
            let choice = Choice {
                node_group_id: group.clone(),
                node_count: nodes,
                debug: String::new(),
                pod_bytes: pods.iter().cloned().map(Bytes::from).collect(),
            };
            let parts: Result<Vec<_>, _> = Parts::of(choice.encode_to_vec().into()).collect();
            let mut expected = Vec::new();
            if !group.is_empty() {
                expected.push((1, Part::Bytes(group.into())));
            }
            if nodes != 0 {
                expected.push((2, Part::Number(nodes as u64)));
            }
            expected.extend(pods.into_iter().map(|pod| (5, Part::Bytes(pod.into()))));
            prop_assert_eq!(parts, Ok(expected));
        }

        #[test]
        fn whatever_prost_reads_is_well_formed(bytes in proptest::collection::vec(0u8.., 0..64)) {
            let bytes = Bytes::from(bytes);
            let whole = Parts::of(bytes.clone()).all(|part| part.is_ok());
            // Groups, which Kubernetes never had, prost skips.
            let grouped = bytes.iter().any(|byte| matches!(byte & 7, 3 | 4));
            if Choice::decode(bytes).is_ok() && !grouped {
                prop_assert!(whole);
            }
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_and_the_last_word() {
        let mut parts = Parts::of(Bytes::from_static(&[0x0a, 0xff, 0x01, 0x00]));
        assert!(parts.next().unwrap().is_err());
        assert!(parts.next().is_none());
        assert!(
            Parts::of(Bytes::from_static(&[0xff; 16]))
                .next()
                .unwrap()
                .is_err()
        );
    }
}
