//! Quantities as the API documents them, and texts that are none.

use proptest::prelude::*;

use crate::source::kubernetes::quantity::*;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[test]
fn the_forms_of_the_api_documentation_are_read_exactly() {
    for (text, milli) in [
        ("1500m", 1500),
        ("2", 2000),
        ("0.5", 500),
        (".5", 500),
        ("5.", 5000),
        ("29715m", 29_715),
        ("1e3", 1_000_000),
        ("12E-1", 1200),
        ("1E", 1_000_000_000_000_000_000_000),
        ("1k", 1_000_000),
        ("100n", 1),
        ("-3", 0),
    ] {
        assert_eq!(quantity(text).milli, milli, "{text}");
    }
    assert_eq!(quantity("3Gi").units(), 3 << 30);
    assert_eq!(quantity("31363160Ki").units(), 31_363_160 << 10);
    assert_eq!(quantity("1Ei").units(), 1 << 60);
    assert_eq!(quantity("1500m").units(), 2, "half a device is a device");
}

#[test]
fn what_is_no_quantity_is_refused_with_the_form() {
    for text in [
        "", "m", "1.2.3", "1 Gi", "1GiB", "Gi", "--1", "e3", "0x10", "१",
    ] {
        let error = text.parse::<Quantity>().unwrap_err().to_string();
        assert!(error.contains("number with an optional suffix"), "{text}");
    }
}

#[test]
fn a_json_number_is_a_quantity_too() {
    let read = |text| serde_json::from_str::<Quantity>(text).unwrap();
    assert_eq!(read("4").units(), 4);
    assert_eq!(read("0.25").milli(), 250);
    assert_eq!(read(r#""250m""#), read("0.25"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn whole_numbers_survive_with_every_binary_suffix(n in 0u64..1 << 20, power in 0usize..4) {
        let suffix = ["", "Ki", "Mi", "Gi"][power];
        prop_assert_eq!(quantity(&format!("{n}{suffix}")).units(), n << (10 * power));
    }
}
