//! Composing as a whole: the page's own example, and specs that are wrong.

use std::path::Path;

use crate::compose::read::parse;
use crate::compose::spec::{Kind, Portion};

const PAGE: &str = include_str!("../../docs/compose.md");

/// The example of the page, between its fences.
fn example() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_example_of_the_page_is_a_spec() {
    let spec = parse(Path::new("page.toml"), example()).unwrap();
    assert_eq!(spec.workloads.len(), 4);
    assert_eq!(spec.workloads[2].kind, Kind::CronJob);
    assert_eq!(spec.workloads[0].surge, Portion::Percent(25));
    assert_eq!(spec.pools["general"].cpu.0, 7910);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_path() {
    let text = example().replace("max = 20\n", "max = 20\ncolour = 1\n");
    let error = parse(Path::new("page.toml"), &text).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("pools.general"), "{text}");
    assert!(text.contains("colour"), "{text}");
    assert!(text.starts_with("page.toml:4"), "{text}");
}

#[test]
fn a_duration_without_a_unit_is_refused_with_its_key() {
    let text = example().replace("length = \"40m\"", "length = \"40\"");
    let error = parse(Path::new("page.toml"), &text)
        .unwrap_err()
        .to_string();
    assert!(error.contains("length"), "{error}");
    assert!(error.contains("is not a duration"), "{error}");
}
