//! What real layers have besides files, as containerd unpacks it.

use std::os::unix::fs::FileTypeExt;

use rustix::fs::{getxattr, lgetxattr};

use super::archive::{dir, file, hard_link, item, records, symlink};
use super::*;

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1_000];
    let length = lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_whiteout(stat: &fs::Metadata) -> bool {
    stat.file_type().is_char_device() && stat.rdev() == 0
}

#[test]
fn owners_modes_and_times_are_the_entrys() {
    let yard = Yard::new();
    let archive = Archive::of([
        dir("d").mode(0o2_751).owner(3, 4).mtime(11),
        file("d/suid", b"x")
            .mode(0o6_755)
            .owner(1_000, 1_001)
            .mtime(12),
        file("d/root", b"x").mode(0o4_711),
        file("d/none", b"x").mode(0).owner(5_000_000, 3_000_000),
        symlink("d/l", "nowhere").owner(7, 8).mtime(13),
        item(b'6', "d/fifo").mode(0o666).owner(9, 9).mtime(14),
        item(b'3', "d/null").device(1, 3).mode(0o666),
        item(b'4', "d/loop").device(7, 300).mode(0o660).owner(0, 6),
        dir("sticky").mode(0o1_777),
    ]);
    yard.above(&archive).unwrap();
    let all = [
        ("d", 0o2_751, 3, 4, 11),
        ("d/suid", 0o6_755, 1_000, 1_001, 12),
        ("d/root", 0o4_711, 0, 0, 1_600_000_000),
        ("d/none", 0, 5_000_000, 3_000_000, 1_600_000_000),
        ("d/l", 0o777, 7, 8, 13),
        ("d/fifo", 0o666, 9, 9, 14),
        ("d/null", 0o666, 0, 0, 1_600_000_000),
        ("d/loop", 0o660, 0, 6, 1_600_000_000),
        ("sticky", 0o1_777, 0, 0, 1_600_000_000),
    ];
    for (path, mode, uid, gid, mtime) in all {
        let stat = yard.at(path);
        let found = (stat.mode() & 0o7_777, stat.uid(), stat.gid(), stat.mtime());
        assert_eq!(found, (mode, uid, gid, mtime), "{path}");
        assert_eq!(stat.atime(), mtime, "{path}");
    }
    assert_eq!(yard.at("d/null").rdev(), 0x103);
    assert_eq!(yard.at("d/loop").rdev(), rustix::fs::makedev(7, 300));
    assert!(yard.at("d/fifo").file_type().is_fifo());
}

#[test]
fn a_whiteout_is_a_device_above_and_a_removal_at_the_bottom() {
    let archive = Archive::of([
        dir("d"),
        file("d/gone", b"x"),
        dir("d/tree/deep"),
        item(b'0', "d/.wh.other").owner(5, 6),
        item(b'0', "implied/.wh.x"),
    ]);
    let yard = Yard::new();
    yard.above(&archive).unwrap();
    let stat = yard.at("d/other");
    assert!(is_whiteout(&stat));
    assert_eq!((stat.mode() & 0o7_777, stat.uid(), stat.gid()), (0, 5, 6));
    assert!(is_whiteout(&yard.at("implied/x")));
    assert!(!yard.has("d/.wh.other"));

    let yard = Yard::new();
    let archive = archive
        .with(item(b'0', "d/.wh.gone"))
        .with(item(b'0', "d/tree/.wh.deep"));
    let done = yard.bottom(&archive);
    // The times of a listed directory that is gone: containerd fails there as well.
    assert_eq!(refusal(done).0, "d/tree/deep");
    assert!(!yard.has("d/gone") && !yard.has("d/tree/deep") && !yard.has("d/other"));
    assert!(yard.at("implied").is_dir());
}

#[test]
fn a_whiteout_and_its_file_in_one_layer_depend_on_their_order() {
    let file_last = Archive::of([item(b'0', ".wh.a"), file("a", b"new")]);
    let file_first = Archive::of([file("a", b"new"), item(b'0', ".wh.a")]);
    for is_bottom in [true, false] {
        let yard = Yard::new();
        let unpack = if is_bottom { Yard::bottom } else { Yard::above };
        unpack(&yard, &file_last).unwrap();
        assert_eq!(yard.read("a"), b"new");
    }
    let yard = Yard::new();
    yard.bottom(&file_first).unwrap();
    assert!(!yard.has("a"));
    let yard = Yard::new();
    assert_eq!(refusal(yard.above(&file_first)).0, ".wh.a");
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", "d/.wh..", ".wh..."] {
        let yard = Yard::new();
        let (entry, _) = refusal(yard.above(&Archive::of([item(b'0', name)])));
        assert_eq!(entry, name);
    }
}

#[test]
fn other_names_of_aufs_are_whiteouts_as_at_containerd() {
    let yard = Yard::new();
    yard.above(&Archive::of([item(b'0', ".wh..wh.plnk")]))
        .unwrap();
    assert!(is_whiteout(&yard.at(".wh.plnk")));
}

#[test]
fn an_opaque_directory_is_marked_above_and_cleared_at_the_bottom() {
    let archive = Archive::of([
        dir("d"),
        file("d/listed", b"x"),
        file("d/implied/f", b"x"),
        item(b'0', "d/.wh..wh..opq"),
        file("d/after/f", b"x"),
    ]);
    let yard = Yard::new();
    yard.above(&archive).unwrap();
    let mark = "trusted.overlay.opaque";
    assert_eq!(xattr(&yard.path("tree/d"), mark), Some(b"y".to_vec()));
    assert!(yard.has("d/implied/f") && !yard.has("d/.wh..wh..opq"));

    let yard = Yard::new();
    yard.bottom(&archive).unwrap();
    assert_eq!(xattr(&yard.path("tree/d"), mark), None);
    assert!(yard.has("d/listed") && !yard.has("d/implied") && yard.has("d/after/f"));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let yard = Yard::new();
    let archive = Archive::of([
        file("file-over-dir/x/y", b""),
        file("file-over-dir", b"f"),
        file("dir-over-file", b"f"),
        dir("dir-over-file").mode(0o700),
        file("dir-over-file/in", b"f"),
        dir("dir-over-dir").mode(0o700),
        file("dir-over-dir/kept", b"f"),
        dir("dir-over-dir").mode(0o711).owner(2, 2).mtime(99),
        file("file-over-file", b"longer than the other"),
        hard_link("other-name", "file-over-file"),
        file("file-over-file", b"short"),
        symlink("link-over-file", "a"),
        symlink("link-over-file", "b"),
    ]);
    let unpacked = yard.above(&archive).unwrap();
    assert_eq!(yard.read("file-over-dir"), b"f");
    assert_eq!(yard.read("dir-over-file/in"), b"f");
    assert_eq!(yard.read("dir-over-dir/kept"), b"f");
    let stat = yard.at("dir-over-dir");
    assert_eq!(
        (stat.mode() & 0o7_777, stat.uid(), stat.mtime()),
        (0o711, 2, 99)
    );
    assert_eq!(yard.read("file-over-file"), b"short");
    assert_eq!(yard.read("other-name"), b"longer than the other");
    let link = fs::read_link(yard.path("tree/link-over-file")).unwrap();
    assert_eq!(link, Path::new("b"));
    assert!(unpacked.rest.is_empty(), "the implied directories are gone");
}

#[test]
fn hard_links_share_one_file_and_their_headers_count() {
    let yard = Yard::new();
    let archive = Archive::of([
        file("d/a", b"data")
            .mode(0o4_755)
            .owner(1, 1)
            .pax("SCHILY.xattr.user.x", b"1"),
        hard_link("b", "d/a").mode(0o640).owner(2, 3).mtime(77),
        hard_link("/c", "./d/../d/a")
            .mode(0o640)
            .owner(2, 3)
            .mtime(77),
        symlink("l", "d"),
        hard_link("e", "l/a").mode(0o640).owner(2, 3).mtime(77),
    ]);
    yard.above(&archive).unwrap();
    let stat = yard.at("d/a");
    assert_eq!(stat.nlink(), 4);
    for name in ["b", "c", "e"] {
        assert_eq!(yard.at(name).ino(), stat.ino());
    }
    assert_eq!(
        (stat.mode() & 0o7_777, stat.uid(), stat.gid()),
        (0o640, 2, 3)
    );
    assert_eq!(stat.mtime(), 77);
    assert_eq!(xattr(&yard.path("tree/b"), "user.x"), Some(b"1".to_vec()));
}

#[test]
fn capabilities_survive_their_own_entry_and_a_link_takes_them_away_as_at_containerd() {
    // cap_net_raw+ep, version 2 (linux/capability.h).
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let yard = Yard::new();
    let ping = file("ping", b"x")
        .owner(5, 5)
        .mode(0o755)
        .pax("SCHILY.xattr.security.capability", capability);
    let archive = Archive::of([ping.clone(), hard_link("link", "missing")]);
    let _ = yard.above(&archive);
    let read = |yard: &Yard| xattr(&yard.path("tree/ping"), "security.capability");
    assert_eq!(read(&yard), Some(capability.to_vec()));
    let yard = Yard::new();
    let archive = Archive::of([ping, hard_link("link", "ping").owner(5, 5).mode(0o755)]);
    yard.above(&archive).unwrap();
    assert_eq!(read(&yard), None);
}

#[test]
fn extended_attributes_are_set_and_trusted_ones_are_not() {
    let yard = Yard::new();
    let with = |item: archive::Item| {
        item.pax("SCHILY.xattr.user.a", b"v\0\n=")
            .pax("SCHILY.xattr.user.empty", b"")
            .pax("SCHILY.xattr.trusted.overlay.opaque", b"y")
    };
    let archive = Archive::of([
        with(file("f", b"")),
        with(dir("d")),
        with(symlink("l", "f")),
        with(item(b'6', "p")),
    ]);
    yard.above(&archive).unwrap();
    for name in ["f", "d"] {
        let path = yard.path("tree").join(name);
        assert_eq!(xattr(&path, "user.a"), Some(b"v\0\n=".to_vec()));
        assert_eq!(xattr(&path, "user.empty"), Some(Vec::new()));
        assert_eq!(xattr(&path, "trusted.overlay.opaque"), None);
    }
    assert_eq!(xattr(&yard.path("tree/l"), "user.a"), None);
    assert_eq!(xattr(&yard.path("tree/l"), "trusted.overlay.opaque"), None);
    let mut buffer = [0; 10];
    assert!(getxattr(yard.path("tree/p"), "user.a", buffer.as_mut_slice()).is_err());
}

#[test]
fn pax_records_replace_what_a_header_cannot_hold() {
    let yard = Yard::new();
    let name = format!("{}/ünïcode name", "long".repeat(60));
    let archive = Archive::of([
        file("short", b"x")
            .pax("path", name.as_bytes())
            .pax("uid", b"4000000000")
            .pax("gid", b"70000")
            .pax("mtime", b"1700000000.123456789999")
            .pax("atime", b"1800000000.5"),
        symlink("l", "short")
            .pax("linkpath", name.as_bytes())
            .pax("mtime", b"-1.5"),
        file("huge-time", b"").pax("mtime", b"99999999999"),
        file("atime-before", b"").pax("atime", b"5"),
        file("empty-record", b"x").pax("path", b"").pax("uid", b""),
    ]);
    yard.above(&archive).unwrap();
    let stat = yard.at(&name);
    assert_eq!((stat.uid(), stat.gid()), (4_000_000_000, 70_000));
    assert_eq!(
        (stat.mtime(), stat.mtime_nsec()),
        (1_700_000_000, 123_456_789)
    );
    assert_eq!(
        (stat.atime(), stat.atime_nsec()),
        (1_800_000_000, 500_000_000)
    );
    assert_eq!(
        fs::read_link(yard.path("tree/l")).unwrap(),
        Path::new(&name)
    );
    assert_eq!(yard.at("l").mtime(), 0, "before 1970 is 1970");
    assert_eq!(
        yard.at("huge-time").mtime(),
        0,
        "and so is what 64 bits of nanoseconds do not hold"
    );
    assert_eq!(yard.at("atime-before").atime(), 1_600_000_000);
    assert_eq!(yard.read("empty-record"), b"x");
}

#[test]
fn long_names_of_gnu_and_prefixes_of_ustar_are_read() {
    let yard = Yard::new();
    let long = format!("{}/{}", "a".repeat(150), "b".repeat(200));
    let mut prefixed = file("name", b"p").header();
    prefixed[345..348].copy_from_slice(b"pre");
    archive::sum(&mut prefixed);
    let mut archive = Archive::of([
        file(&long, b"long"),
        hard_link("h", &long),
        symlink("s", &long),
    ]);
    archive.raw.extend_from_slice(&prefixed);
    archive
        .raw
        .extend_from_slice(&[b"p".as_slice(), &[0; 511]].concat());
    yard.above(&archive).unwrap();
    assert_eq!(yard.read(&long), b"long");
    assert_eq!(yard.at("h").nlink(), 2);
    assert_eq!(
        fs::read_link(yard.path("tree/s")).unwrap(),
        Path::new(&long)
    );
    assert_eq!(yard.read("pre/name"), b"p");
}

#[test]
fn a_global_header_changes_nothing_but_what_has_its_name() {
    let yard = Yard::new();
    let mut global = item(b'g', "tmp/GlobalHead.1");
    global.data = records(&[(b"mtime".to_vec(), b"5".to_vec())]);
    let mut named = item(b'g', "x");
    named.data = records(&[(b"path".to_vec(), b"victim".to_vec())]);
    yard.above(&Archive::of([
        global,
        file("a", b"x"),
        file("victim", b""),
        named,
    ]))
    .unwrap();
    assert_eq!(yard.at("a").mtime(), 1_600_000_000);
    assert!(yard.at("tmp").is_dir() && !yard.has("tmp/GlobalHead.1"));
    assert!(!yard.has("victim"));
}

#[test]
fn sparse_files_of_pax_have_their_bytes_where_they_belong() {
    let mut expected = vec![0; 100_000];
    expected[4_096..4_099].copy_from_slice(b"abc");
    expected[50_000..50_002].copy_from_slice(b"de");
    let name = |item: archive::Item| item.pax("GNU.sparse.name", b"real");
    let zero_zero = file("s", b"abcde")
        .pax("GNU.sparse.size", b"100000")
        .pax("GNU.sparse.numblocks", b"2")
        .pax("GNU.sparse.offset", b"4096")
        .pax("GNU.sparse.numbytes", b"3")
        .pax("GNU.sparse.offset", b"50000")
        .pax("GNU.sparse.numbytes", b"2");
    let zero_one = file("s", b"abcde")
        .pax("GNU.sparse.size", b"100000")
        .pax("GNU.sparse.numblocks", b"2")
        .pax("GNU.sparse.map", b"4096,3,50000,2");
    let mut data = b"3\n4096\n3\n50000\n2\n100000\n0\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"abcde");
    let one_zero = file("s", &data)
        .pax("GNU.sparse.major", b"1")
        .pax("GNU.sparse.minor", b"0")
        .pax("GNU.sparse.realsize", b"100000");
    for sparse in [zero_zero, zero_one, one_zero] {
        let yard = Yard::new();
        yard.above(&Archive::of([name(sparse), file("next", b"x")]))
            .unwrap();
        assert!(yard.read("real") == expected);
        assert!(
            yard.at("real").blocks() * 512 < 50_000,
            "the holes take no room"
        );
        assert_eq!(yard.read("next"), b"x");
    }
}

#[test]
fn what_containerd_cannot_unpack_is_refused_by_name() {
    let kinds = [b'S', b'7', b'V', b'M', b'D', b'z'];
    for kind in kinds {
        let yard = Yard::new();
        let (name, reason) = refusal(yard.above(&Archive::of([item(kind, "odd")])));
        assert_eq!(name, "odd");
        assert!(reason.contains("takes no entry of type"), "{reason}");
    }
}

#[test]
fn old_archives_name_directories_with_a_slash() {
    let yard = Yard::new();
    let old = |name: &str| {
        let mut item = item(0, name);
        item.magic = [0; 8];
        item
    };
    yard.above(&Archive::of([
        old("d/").mode(0o750),
        old("f"),
        file("slash/", b"x"),
    ]))
    .unwrap();
    assert!(yard.at("d").is_dir() && yard.at("f").is_file());
    assert!(yard.at("slash").is_file(), "only the old type does");
}

#[test]
fn the_root_entry_is_the_snapshotters() {
    let yard = Yard::new();
    let archive = Archive::of([dir("./").mode(0o700).owner(5, 5).mtime(3), dir("/").mode(0)]);
    yard.above(&archive).unwrap();
    let stat = fs::metadata(yard.path("tree")).unwrap();
    assert_eq!((stat.mode() & 0o7_777, stat.uid()), (0o755, 0));
    assert_ne!(stat.mtime(), 3);
}

#[test]
fn directory_times_survive_what_is_put_in_later() {
    let yard = Yard::new();
    let archive = Archive::of([
        dir("a").mtime(1),
        dir("a/b").mtime(2),
        dir("c").mtime(3),
        file("a/b/f", b""),
        file("a/f", b""),
        symlink("l", "c"),
        dir("l/d").mtime(4),
        dir("c").mtime(5),
    ]);
    yard.above(&archive).unwrap();
    for (path, mtime) in [("a", 1), ("a/b", 2), ("c", 5), ("c/d", 4)] {
        assert_eq!(yard.at(path).mtime(), mtime, "{path}");
    }
}

#[test]
fn new_files_take_no_group_from_their_directory() {
    let yard = Yard::new();
    let archive = Archive::of([
        file("local/early", b""),
        dir("local").mode(0o2_775).owner(0, 50),
        file("local/f", b""),
        dir("local/d"),
        file("local/d/f", b""),
        symlink("local/l", "f"),
        dir("local").mode(0o755).owner(0, 50),
        file("local/late", b""),
    ]);
    yard.above(&archive).unwrap();
    for path in ["local/f", "local/d", "local/d/f", "local/l", "local/late"] {
        assert_eq!(yard.at(path).gid(), 0, "{path}");
    }
    assert_eq!(yard.at("local/d").mode() & 0o7_777, 0o755);
}
