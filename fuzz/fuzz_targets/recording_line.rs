//! A line of any recorded collection is observations or a named fault, and a translator takes them.

#![no_main]

use forelay::source::kubernetes::objects::Kind;
use forelay::source::kubernetes::{Settings, Translator};
use forelay::source::recording::{What, read_line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let mut translator = Translator::new(Settings::default());
    for kind in Kind::ALL {
        let Ok((entries, _)) = read_line(*kind, line) else {
            continue;
        };
        for entry in entries {
            match entry.what {
                What::Object(change, object) => {
                    translator.observe(change, &object, entry.received);
                }
                What::Relisted(kind, kept) => {
                    translator.relisted(kind, &kept, entry.received);
                }
            }
        }
    }
});
