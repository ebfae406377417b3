//! An expander request is answered, or refused with a reason; what is decoded of it is bounded, never a panic.

#![no_main]

use bytes::Bytes;
use forelay::domain::time::Timestamp;
use forelay::source::expander::ask;
use forelay::source::kubernetes::{Settings, Translator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| {
    let request = Bytes::copy_from_slice(request);
    if let Ok(ids) = ask::ids(&request) {
        assert!(!ids.is_empty());
        let (offer, _) = ask::offer(&request, Timestamp::ZERO);
        assert_eq!(offer.choices.len(), ids.len());
        let signals = Translator::new(Settings::default()).offered(&offer, true);
        assert!(signals.len() >= ids.len());
    }
});
