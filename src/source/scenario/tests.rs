//! What a scenario file promises, on files in a temporary folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::scenario::{Header, HeaderType, PoolWorld, SharedWorld};
use crate::domain::signal::{Fact, NodeNamed, Signal};
use crate::domain::time::Timestamp;
use crate::source::scenario::{
    MAX_LINE, ScenarioError, ScenarioReader, ScenarioWriter, SkipReason, Strictness, parse_line,
};

fn header() -> Header {
    Header {
        kind: HeaderType::V1,
        name: "small".into(),
        story: "one node".into(),
        provenance: "made up".into(),
        licence: "Apache-2.0".into(),
        start: Timestamp::ZERO,
        end: Timestamp::from_micros(90_000_000),
        pools: BTreeMap::new(),
        shared: SharedWorld {
            cache_uplink: Bandwidth(1.0),
            origin: Bandwidth(1.0),
        },
        images: BTreeMap::new(),
    }
}

fn ready(second: i64) -> Signal {
    let fact = Fact::NodeReady(NodeNamed {
        node: format!("node-{second}"),
    });
    let at = Timestamp::from_micros(second * 1_000_000);
    Signal::new("/test", second.to_string(), at, fact)
}

fn write(path: &Path, signals: &[Signal]) {
    let mut writer = ScenarioWriter::create(path, &header()).unwrap();
    for signal in signals {
        writer.write(signal).unwrap();
    }
    writer.finish().unwrap();
}

fn read(path: &Path) -> Vec<Signal> {
    let (found, reader) = ScenarioReader::open(path, Strictness::Strict).unwrap();
    assert_eq!(found, header());
    reader.map(Result::unwrap).collect()
}

fn text(lines: &[&str]) -> Cursor<Vec<u8>> {
    let mut all = serde_json::to_string(&header()).unwrap();
    for line in lines {
        all.push('\n');
        all.push_str(line);
    }
    Cursor::new(all.into_bytes())
}

fn first_error(lines: &[&str]) -> ScenarioError {
    let (_, mut reader) =
        ScenarioReader::new(Path::new("s.jsonl"), text(lines), Strictness::Strict).unwrap();
    let error = reader.find_map(Result::err).unwrap();
    assert!(reader.next().is_none(), "a strict reader stops at an error");
    error
}

#[test]
fn signals_survive_every_encoding_with_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let signals: Vec<_> = (0..50).map(ready).collect();
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        let path = folder.path().join(name);
        write(&path, &signals);
        let first = fs::read(&path).unwrap();
        assert_eq!(read(&path), signals, "{name}");
        write(&path, &signals);
        assert_eq!(fs::read(&path).unwrap(), first, "{name}");
    }
}

#[test]
fn gzip_of_several_members_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b");
    let mut bytes = Vec::new();
    let lines = [
        serde_json::to_string(&header()).unwrap(),
        serde_json::to_string(&ready(1)).unwrap(),
        serde_json::to_string(&ready(2)).unwrap(),
    ];
    for line in lines {
        let mut member = GzEncoder::new(Vec::new(), Compression::fast());
        writeln!(member, "{line}").unwrap();
        bytes.extend(member.finish().unwrap());
    }
    fs::write(&path, bytes).unwrap();
    assert_eq!(read(&path), [ready(1), ready(2)]);
}

#[test]
fn an_unfinished_file_never_takes_the_place_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.jsonl");
    write(&path, &[ready(1)]);
    let mut second = ScenarioWriter::create(&path, &header()).unwrap();
    second.write(&ready(2)).unwrap();
    drop(second);
    assert_eq!(read(&path), [ready(1)]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_wrong_member_is_named_with_file_and_line() {
    let good = serde_json::to_string(&ready(1)).unwrap();
    for (from, to, member) in [
        (r#""node":"node-1""#, r#""node":7"#, "data.node"),
        (r#""id":"1""#, r#""id":1"#, "id"),
        ("1970-01-01T00:00:01.000000Z", "noon", "time"),
        ("node.ready.v1", "node.blue.v1", "type"),
    ] {
        let bad = good.replacen(from, to, 1);
        let message = first_error(&[&good, &bad]).to_string();
        assert!(message.starts_with("s.jsonl:3: "), "{message}");
        assert!(message.contains(&format!(" {member}: ")), "{message}");
        assert!(message.contains("--lenient"), "{message}");
    }
}

#[test]
fn a_signal_before_its_predecessor_is_an_error_that_names_both_times() {
    let lines = [ready(2), ready(1)].map(|s| serde_json::to_string(&s).unwrap());
    let message = first_error(&[&lines[0], &lines[1]]).to_string();
    assert!(message.contains("s.jsonl:3"), "{message}");
    assert!(message.contains("00:00:01.0") && message.contains("00:00:02.0"));
    let folder = tempfile::tempdir().unwrap();
    let mut writer = ScenarioWriter::create(&folder.path().join("d"), &header()).unwrap();
    writer.write(&ready(2)).unwrap();
    assert!(matches!(
        writer.write(&ready(1)),
        Err(ScenarioError::Order { .. })
    ));
}

#[test]
fn a_line_from_after_the_end_is_skipped_without_those_that_follow() {
    let far = [ready(1), ready(91), ready(2)].map(|s| serde_json::to_string(&s).unwrap());
    let lines: Vec<&str> = far.iter().map(String::as_str).collect();
    let error = first_error(&lines).to_string();
    assert!(error.contains(":3: observedtime"), "{error}");
    let lenient = ScenarioReader::new(Path::new("x"), text(&lines), Strictness::Lenient);
    let (_, mut lenient) = lenient.unwrap();
    let read: Vec<Signal> = lenient.by_ref().map(Result::unwrap).collect();
    assert_eq!(read, [ready(1), ready(2)]);
    assert_eq!(lenient.skipped()[&SkipReason::OutOfOrder], 1);
}

#[test]
fn a_world_that_cannot_be_names_the_member() {
    let world = PoolWorld {
        link: Bandwidth(1e7),
        unpack: Bandwidth(1e7),
        disk: ByteSize(1),
        sandbox_s: 0.7,
        pull_overhead_s: 0.4,
        agent_start_s: 5.0,
        agent_start_sigma: 0.0,
    };
    let told = |change: fn(&mut PoolWorld)| {
        let mut header = header();
        let mut world = world.clone();
        change(&mut world);
        header.pools.insert("p".into(), world);
        let line = Cursor::new(serde_json::to_vec(&header).unwrap());
        match ScenarioReader::new(Path::new("x"), line, Strictness::Lenient) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(told(|_| {}), "");
    let zero = told(|w| w.link.0 = 0.0);
    assert!(zero.contains("x:1: pools.p.link: 0"), "{zero}");
    assert!(told(|w| w.unpack.0 = -1.0).contains("pools.p.unpack"));
    assert!(told(|w| w.sandbox_s = 1e300).contains("pools.p.sandbox_s"));
    assert!(told(|w| w.agent_start_s = -1.0).contains("pools.p.agent_start_s"));
}

#[test]
fn a_lenient_reader_counts_by_reason_and_goes_on() {
    let good = [1, 2, 3].map(|s| serde_json::to_string(&ready(s)).unwrap());
    let lines = [
        "{",
        &good[1],
        &good[0],
        "",
        "[]",
        &good[1].replace("ready", "unheard"),
        &good[1].replace("node-2", "node-2\",\"colour\":\"red"),
        &good[2],
    ];
    let (_, mut reader) =
        ScenarioReader::new(Path::new("l"), text(&lines), Strictness::Lenient).unwrap();
    let kept: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!(kept, [ready(2), ready(3)]);
    let expected = [
        (SkipReason::Malformed, 2),
        (SkipReason::UnknownType, 1),
        (SkipReason::BadMember, 1),
        (SkipReason::OutOfOrder, 1),
    ];
    assert_eq!(*reader.skipped(), expected.into());
}

#[test]
fn a_line_without_end_is_refused_at_the_limit_and_skipped_in_lenient() {
    let start = text(&[]).into_inner();
    let tail = format!("\n{}\n", serde_json::to_string(&ready(5)).unwrap());
    let input = |start: Vec<u8>, tail: String| {
        Cursor::new(start)
            .chain(Cursor::new(b"\n".to_vec()))
            .chain(std::io::repeat(b'x').take(MAX_LINE as u64 * 2))
            .chain(Cursor::new(tail.into_bytes()))
    };
    let name = PathBuf::from("long");
    let whole = input(start.clone(), tail.clone());
    let (_, mut strict) = ScenarioReader::new(&name, whole, Strictness::Strict).unwrap();
    assert!(matches!(
        strict.next(),
        Some(Err(ScenarioError::TooLong { .. }))
    ));
    let (_, mut lenient) =
        ScenarioReader::new(&name, input(start, tail), Strictness::Lenient).unwrap();
    assert_eq!(lenient.next().unwrap().unwrap(), ready(5));
    assert_eq!(lenient.skipped()[&SkipReason::TooLong], 1);
}

#[test]
fn a_damaged_archive_stops_even_a_lenient_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.jsonl.zst");
    write(&path, &(0..2000).map(ready).collect::<Vec<_>>());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let (_, reader) = ScenarioReader::open(&path, Strictness::Lenient).unwrap();
    let last = reader.last().unwrap().unwrap_err();
    assert!(last.to_string().contains("damaged"), "{last}");
}

#[test]
fn a_file_that_is_no_scenario_says_what_line_one_must_be() {
    for first in ["", "{}", r#"{"type":"dev.forelay.node.ready.v1"}"#] {
        let input = Cursor::new(first.as_bytes().to_vec());
        let result = ScenarioReader::new(Path::new("f"), input, Strictness::Lenient);
        let message = result.err().unwrap().to_string();
        assert!(message.contains("f:1: "), "{message}");
        assert!(message.contains("must be a dev.forelay.scenario.v1"));
    }
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_line(&bytes);
    }

    #[test]
    fn a_broken_copy_of_a_good_line_is_read_or_named(at in 0usize..200, with in any::<u8>()) {
        let mut line = serde_json::to_vec(&ready(1)).unwrap();
        let at = at % line.len();
        line[at] = with;
        if let Err((member, reason, _)) = parse_line(&line) {
            prop_assert!(!member.is_empty() && !reason.is_empty());
        }
    }
}
