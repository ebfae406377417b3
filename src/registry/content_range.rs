//! What a partial answer says of itself.

/// `Content-Range: bytes 5-9/10`, or `bytes */10` of a 416.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// First byte that is sent.
    pub(super) start: Option<u64>,
    /// Bytes of the whole.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// Reads the header; `None` for one that contradicts itself.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let total = total.parse().ok();
        if range == "*" {
            return Some(Self { start: None, total });
        }
        let (start, end) = range.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        (start <= end && total.is_none_or(|total| end < total)).then_some(Self {
            start: Some(start),
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_says_where_it_starts_and_how_much_there_is() {
        let some = |start, total| Some(ContentRange { start, total });
        assert_eq!(ContentRange::parse("bytes 5-9/10"), some(Some(5), Some(10)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), some(Some(5), None));
        assert_eq!(ContentRange::parse("bytes */10"), some(None, Some(10)));
    }

    #[test]
    fn a_range_that_contradicts_itself_is_none() {
        for bad in ["5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes -5/10", ""] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused_without_a_panic(text in "(bytes )?[0-9*/ -]{0,40}") {
            let _ = ContentRange::parse(&text);
        }
    }
}
