//! A line of a scenario is a signal or a named fault, never a panic.

#![no_main]

use forelay::source::scenario::parse_line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if let Ok(signal) = parse_line(line) {
        let written = serde_json::to_vec(&signal).expect("what was read can be written");
        assert!(parse_line(&written).is_ok());
    }
});
