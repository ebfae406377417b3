//! Readers of headers, records and paths against what they must hold for any bytes.

use std::os::fd::AsFd;
use std::sync::mpsc::channel;

use proptest::collection::vec;
use proptest::prelude::*;

use super::archive::{Item, file, item, octal, records, sum};
use super::*;
use crate::runtime::layer::dirs::{Dirs, Times};
use crate::runtime::layer::entry::Entries;
use crate::runtime::layer::header::{Header, Moment};
use crate::runtime::layer::path::{clean, resolve};
use crate::runtime::layer::pax::Pax;
use crate::runtime::layer::raw::{Piece, Pool, Reader};
use crate::runtime::layer::tree::open_folder;

/// Names and contents.
type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// The entries of a stream that comes in pieces of this size.
fn entries(raw: &[u8], piece: usize) -> Result<Contents, LayerError> {
    let (into, queue) = channel();
    let mut pool = Pool::new();
    for part in raw.chunks(piece) {
        let chunk = pool.chunk(|buffer| {
            buffer[..part.len()].copy_from_slice(part);
            Ok::<_, ()>(part.len())
        });
        into.send(Piece::Data(chunk.unwrap())).unwrap();
    }
    into.send(Piece::End).unwrap();
    let mut entries = Entries::new(Reader::new(queue), &Limits::default());
    let mut all = Vec::new();
    while let Some(entry) = entries.next()? {
        let mut data = Vec::new();
        loop {
            let some = entries.data(u64::MAX)?;
            if some.is_empty() {
                break;
            }
            data.extend_from_slice(some);
        }
        all.push((entry.header.name, data));
    }
    Ok(all)
}

fn any_item() -> impl Strategy<Value = Item> {
    let kinds = prop::sample::select(b"0123456gxLKSV7".to_vec());
    let key = prop::sample::select(vec![
        "path",
        "size",
        "mtime",
        "uid",
        "GNU.sparse.major",
        "GNU.sparse.minor",
        "GNU.sparse.map",
        "GNU.sparse.numblocks",
        "GNU.sparse.offset",
        "GNU.sparse.numbytes",
        "GNU.sparse.realsize",
        "SCHILY.xattr.user.a",
    ]);
    let record = (key, "[0-9,./-]{0,6}");
    let data = "[0-9\n]{0,600}";
    (kinds, "[a-c./]{0,9}", data, vec(record, 0..4), 0_u64..700).prop_map(
        |(kind, name, data, pax, size)| {
            let mut item = item(kind, &name).data(data.as_bytes());
            if size < 200 {
                item.size = Some(size);
            }
            for (key, value) in pax {
                item = item.pax(key, value.as_bytes());
            }
            item
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_entries_or_an_error_and_pieces_do_not_matter(
        bytes in vec(any::<u8>(), 0..2_000),
        piece in 1_usize..600,
    ) {
        let whole = entries(&bytes, 100_000);
        prop_assert_eq!(entries(&bytes, piece), whole);
    }

    #[test]
    fn archives_of_any_oddity_read_the_same_in_pieces(
        items in vec(any_item(), 0..5),
        piece in 1_usize..600,
    ) {
        let raw = Archive::of(items).ended();
        prop_assert_eq!(entries(&raw, piece), entries(&raw, 100_000));
    }

    #[test]
    fn any_odd_archive_stays_in_its_tree(items in vec(any_item(), 0..8), is_bottom: bool) {
        let yard = Yard::new();
        let raw = Archive::of(items).ended();
        let result = yard.unpack("tree", &raw, wanted(&raw, is_bottom));
        prop_assert!(!matches!(result, Err(LayerError::Io(_))), "{:?}", result);
        prop_assert_eq!(fs::read_dir(yard.0.path()).unwrap().count(), 1);
        remove_tree(&yard.path("tree")).unwrap();
    }

    #[test]
    fn numbers_are_read_as_they_are_written(value in any::<u64>()) {
        let mut block = file("a", b"").header();
        let value = value >> 1;
        octal(&mut block[124..136], value);
        sum(&mut block);
        prop_assert_eq!(Header::parse(&block).unwrap().size, value as i64);
    }

    #[test]
    fn records_are_read_as_they_are_written(all in vec(("[a-z]{1,5}", vec(any::<u8>(), 0..300)), 0..5)) {
        let all: Vec<_> = all
            .into_iter()
            .map(|(name, value)| (format!("SCHILY.xattr.user.{name}").into_bytes(), value))
            .collect();
        let pax = Pax::parse(&records(&all)).unwrap();
        for (key, value) in all.iter().rev().take(1) {
            prop_assert_eq!(&pax.xattrs[&key[13..]], value);
        }
        prop_assert!(pax.xattrs.len() <= all.len());
    }

    #[test]
    fn any_records_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Pax::parse(&bytes);
    }

    #[test]
    fn a_clean_path_has_nothing_to_clean(name in "[ab./]{0,20}") {
        let path = clean(name.as_bytes());
        prop_assert_eq!(clean(&path), path.clone());
        let is_odd = |part: &[u8]| matches!(part, b"" | b"." | b"..");
        prop_assert!(path.is_empty() || !path.split(|c| *c == b'/').any(is_odd));
    }

    #[test]
    fn kept_directories_come_back_in_order(all in vec(("[ab/]{0,12}", any::<i64>(), 0_u32..1_000_000_000), 0..20)) {
        let mut dirs = Dirs::default();
        let all: Vec<_> = all
            .into_iter()
            .map(|(path, secs, nanos)| {
                let accessed = Moment { secs, nanos };
                (path.into_bytes(), Times { accessed, modified: accessed })
            })
            .collect();
        for (path, times) in &all {
            dirs.push(path, *times).unwrap();
        }
        let mut back = Vec::new();
        dirs.each(|path, times| {
            back.push((path.to_vec(), times));
            Ok(())
        })
        .unwrap();
        prop_assert_eq!(back, all);
    }
}

#[test]
fn links_are_followed_within_the_root() {
    let yard = Yard::new();
    let root = yard.path("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    let link = std::os::unix::fs::symlink::<&str, PathBuf>;
    link("/a", root.join("abs")).unwrap();
    link("../../../a/b", root.join("a/up")).unwrap();
    link("missing/../b", root.join("a/tidied")).unwrap();
    link("a/tidied", root.join("twice")).unwrap();
    let root = open_folder(&root).unwrap();
    let cases = [
        ("abs/x", "a/x"),
        ("a/up/x", "a/b/x"),
        ("twice/x", "a/b/x"),
        ("abs", "a"),
        ("new/../abs/b", "a/b"),
        ("../../abs", "a"),
        ("none/none/none", "none/none/none"),
    ];
    for (path, expected) in cases {
        let (found, _) = resolve(root.as_fd(), path.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{path}");
    }
}

#[test]
fn negative_and_oversized_numbers_are_read_or_refused() {
    let mut block = file("a", b"").header();
    block[136..148].fill(0xff);
    sum(&mut block);
    assert_eq!(Header::parse(&block).unwrap().modified.secs, -1);
    block[136] = 0x80;
    sum(&mut block);
    assert_eq!(Header::parse(&block), None, "more than 64 bits");
    let mut block = file("a", b"").header();
    block[100..108].copy_from_slice(b"0000648\0");
    sum(&mut block);
    assert_eq!(Header::parse(&block), None, "8 is no octal digit");
    block[100..108].copy_from_slice(b"  644 \0\0");
    sum(&mut block);
    assert_eq!(Header::parse(&block).unwrap().mode, 0o644);
}
