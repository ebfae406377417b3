//! Odd layers and images of them.

use super::archive::{Archive, Item, dir, file, hard_link, item, records, symlink};

/// What it shows, and its layers, bottom first.
pub(super) type Image = (&'static str, Vec<Vec<u8>>);

fn raw(items: impl IntoIterator<Item = Item>) -> Vec<u8> {
    Archive::of(items).ended()
}

/// A layer with most of what others build upon.
fn base() -> Vec<u8> {
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    raw([
        dir("./").mode(0o700).owner(9, 9),
        dir("usr").mtime(1),
        dir("usr/lib")
            .mode(0o2_751)
            .owner(3, 4)
            .mtime(2)
            .pax("SCHILY.xattr.user.dir", b"v"),
        dir("usr/share").mode(0o1_700).owner(5, 6).mtime(3),
        symlink("lib", "usr/lib").mtime(4),
        symlink("absolute", "/usr/share").owner(1, 1),
        file("usr/lib/a", b"a").mode(0o4_755).mtime(5),
        file("usr/lib/b", &vec![b'b'; 300_000])
            .owner(1_000, 1_000)
            .pax("mtime", b"1500000000.987654321"),
        hard_link("usr/lib/c", "usr/lib/b").owner(1_000, 1_000),
        file("ping", b"p")
            .mode(0o755)
            .pax("SCHILY.xattr.security.capability", capability),
        item(b'3', "null").device(1, 3).mode(0o666),
        item(b'4', "loop").device(7, 300).mode(0o660).owner(0, 6),
        item(b'6', "fifo").mode(0o622),
        file("etc/passwd", b"root"),
        dir("opq"),
        file("opq/x", b"x"),
    ])
}

/// Every image.
pub(super) fn corpus() -> Vec<Image> {
    [
        lower_layers(),
        replacements(),
        bottom_whiteouts(),
        paths(),
        formats(),
        attributes(),
    ]
    .concat()
}

fn above(items: impl IntoIterator<Item = Item>) -> Vec<Vec<u8>> {
    vec![base(), raw(items)]
}

fn bottom(items: impl IntoIterator<Item = Item>) -> Vec<Vec<u8>> {
    vec![raw(items)]
}

fn white(name: &str) -> Item {
    item(b'0', name).owner(2, 3)
}

/// Layers upon others.
fn lower_layers() -> Vec<Image> {
    vec![
        ("base", vec![base()]),
        (
            "whiteouts",
            above([
                white("usr/.wh.lib"),
                white(".wh.ping"),
                white("new/.wh.x"),
                white(".wh..wh.plnk"),
            ]),
        ),
        (
            "opaque",
            above([
                dir("opq"),
                white("opq/.wh..wh..opq"),
                file("opq/y", b"y"),
                white("etc/.wh..wh..opq"),
            ]),
        ),
        (
            "opaque-root",
            above([white(".wh..wh..opq"), file("only", b"x")]),
        ),
        (
            "implied",
            above([
                file("usr/lib/deep/er/f", b"1"),
                file("usr/share/f", b"2"),
                file("none/at/all", b"3"),
            ]),
        ),
        (
            "implied-listed",
            above([file("usr/lib/f", b"1"), dir("usr/lib").mode(0o711).mtime(9)]),
        ),
        (
            "through-link",
            above([file("lib/f", b"1"), file("absolute/f", b"2")]),
        ),
        ("over-file", above([file("ping/f", b"1")])),
        ("over-file-deep", above([file("ping/a/f", b"1")])),
        (
            "two-implied",
            vec![
                base(),
                raw([file("usr/lib/x/f", b"")]),
                raw([file("usr/lib/x/g", b""), white("usr/.wh.share")]),
                raw([file("usr/share/z", b"")]),
            ],
        ),
        ("link-to-lower", above([hard_link("h", "usr/lib/a")])),
    ]
}

/// Entries that meet earlier ones of their layer.
fn replacements() -> Vec<Image> {
    vec![
        (
            "replaced",
            above([
                file("a/b", b""),
                file("a", b"f"),
                file("c", b""),
                dir("c").mtime(7),
                file("d", b"1"),
                hard_link("e", "d"),
                file("d", b"2"),
                dir("g/h"),
                dir("g").mode(0o700),
            ]),
        ),
        (
            "dir-becomes-link",
            above([dir("a").mtime(5), symlink("a", "usr"), file("a/f", b"")]),
        ),
        (
            "dir-becomes-file",
            above([dir("a").mtime(5), file("a", b"f").mtime(9)]),
        ),
        (
            "link-header-counts",
            above([
                file("a", b"1").mode(0o4_755),
                hard_link("b", "a").mode(0o640).owner(7, 8).mtime(77),
                symlink("l", "a"),
                hard_link("m", "l").owner(4, 4),
            ]),
        ),
    ]
}

/// Whiteouts with nothing below, or with the wrong thing.
fn bottom_whiteouts() -> Vec<Image> {
    vec![
        (
            "bottom-whiteout",
            bottom([
                file("a", b"1"),
                file("t/x", b"1"),
                white(".wh.a"),
                white(".wh.t"),
                white("n/.wh.x"),
                white(".wh..wh.plnk"),
            ]),
        ),
        ("bottom-whiteout-listed", bottom([dir("a"), white(".wh.a")])),
        (
            "bottom-opaque",
            bottom([
                dir("d"),
                file("d/f", b""),
                file("d/i/f", b""),
                white("d/.wh..wh..opq"),
                file("d/j/f", b""),
            ]),
        ),
        (
            "bottom-opaque-root",
            bottom([file("d/f", b""), file("f", b""), white(".wh..wh..opq")]),
        ),
        (
            "whiteout-then-file",
            above([
                white(".wh.ping"),
                file("ping", b"new"),
                white(".wh.usr"),
                dir("usr"),
            ]),
        ),
        (
            "file-then-whiteout",
            above([file("ping", b"new"), white(".wh.ping")]),
        ),
        ("whiteout-of-nothing", above([white(".wh.")])),
        ("whiteout-of-dot", above([white("usr/.wh..")])),
    ]
}

/// Names and links that lead elsewhere.
fn paths() -> Vec<Image> {
    vec![
        (
            "dots",
            above([
                file("../../x", b"1"),
                file("/abs", b"2"),
                file("a/../../y", b"3"),
                file("..", b""),
                file("./usr/./z", b""),
            ]),
        ),
        (
            "links-out",
            bottom([
                symlink("o", "../../../../etc"),
                symlink("p", "/etc"),
                file("o/f", b"1"),
                file("p/g", b"2"),
                symlink("q", "missing/../o"),
                file("q/h", b"3"),
            ]),
        ),
        (
            "loop",
            bottom([symlink("a", "b"), symlink("b", "a"), file("a/x", b"")]),
        ),
        ("below-file", bottom([file("a", b""), file("a/b", b"")])),
        ("hard-link-missing", bottom([hard_link("a", "b")])),
        ("hard-link-dir", bottom([dir("d"), hard_link("a", "d")])),
        (
            "hard-link-out",
            bottom([hard_link("a", "../../../../../../etc/hostname")]),
        ),
        (
            "hard-link-itself",
            bottom([file("a", b""), hard_link("a", "a")]),
        ),
        (
            "hard-link-caps",
            bottom([
                file("a", b"").pax(
                    "SCHILY.xattr.security.capability",
                    b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                ),
                hard_link("b", "a"),
            ]),
        ),
    ]
}

/// What headers of all kinds say.
fn formats() -> Vec<Image> {
    let long = format!("{}/{}", "l".repeat(120), "o".repeat(180));
    let mut global = item(b'g', "tmp/GlobalHead.1");
    global.data = records(&[(b"mtime".to_vec(), b"5".to_vec())]);
    let mut map = b"2\n4096\n3\n50000\n2\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"abcde");
    let sparse = file("s", &map)
        .pax("GNU.sparse.major", b"1")
        .pax("GNU.sparse.minor", b"0")
        .pax("GNU.sparse.realsize", b"100000")
        .pax("GNU.sparse.name", b"sparse");
    vec![
        (
            "long",
            bottom([
                file(&long, b"1"),
                symlink("s", &long),
                hard_link("h", &long),
                file("x", b"").pax("path", "ünïcode name".as_bytes()),
            ]),
        ),
        ("too-long", bottom([file(&"n".repeat(256), b"")])),
        (
            "global",
            bottom([file("victim", b""), global, file("a", b"")]),
        ),
        ("sparse", bottom([sparse])),
        ("old-sparse", bottom([item(b'S', "s")])),
        ("contiguous", bottom([item(b'7', "s")])),
        (
            "times",
            bottom([
                file("a", b"").pax("mtime", b"-1.5"),
                file("b", b"").pax("mtime", b"99999999999"),
                file("c", b"").pax("atime", b"1800000000.25"),
                file("d", b"").pax("atime", b"5"),
                symlink("e", "x").pax("mtime", b"7.000000001"),
            ]),
        ),
        ("bad-time", bottom([file("a", b"").pax("mtime", b"x")])),
    ]
}

/// Attributes and owners.
fn attributes() -> Vec<Image> {
    vec![
        (
            "xattrs",
            bottom([
                file("a", b"")
                    .pax("SCHILY.xattr.user.x", b"1\0\n")
                    .pax("SCHILY.xattr.trusted.y", b"2")
                    .pax("SCHILY.xattr.user.e", b""),
                symlink("l", "a").pax("SCHILY.xattr.user.x", b"1"),
                item(b'6', "p").pax("SCHILY.xattr.user.x", b"1"),
            ]),
        ),
        (
            "acl",
            bottom([
                file("a", b"")
                    .mode(0o640)
                    .pax("SCHILY.xattr.system.posix_acl_access", ACL),
                dir("d")
                    .mode(0o750)
                    .pax("SCHILY.xattr.system.posix_acl_default", ACL),
                file("d/f", b"").mode(0o600),
                dir("d/e").mode(0o711),
            ]),
        ),
        (
            "implied-acl",
            vec![
                raw([dir("d")
                    .mode(0o750)
                    .pax("SCHILY.xattr.system.posix_acl_access", ACL)]),
                raw([file("d/f", b"").mode(0o600)]),
                raw([file("d/f", b"").mode(0o600), dir("d").mode(0o711)]),
            ],
        ),
        (
            "setgid",
            bottom([
                file("l/early", b""),
                dir("l").mode(0o2_775).owner(0, 50),
                file("l/f", b""),
                dir("l/d"),
                file("l/i/f", b""),
                symlink("l/s", "f"),
                item(b'6', "l/p"),
                white("l/.wh.f"),
            ]),
        ),
        (
            "implied-setgid",
            vec![base(), raw([file("usr/lib/x/y/f", b"")])],
        ),
        (
            "ids",
            bottom([
                file("a", b"").owner(3_000_000, 70_000),
                file("b", b"").pax("uid", b"4000000000"),
                file("c", b"").mode(0o7_777),
            ]),
        ),
        ("empty", bottom([])),
    ]
}

/// user::rw-, user:5:r--, group::r--, mask::r--, other::--- (linux/posix_acl_xattr.h).
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x05\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

/// Layers of entries picked at random from few names, so that they meet each other.
pub(super) fn random(seed: u64, count: usize) -> Vec<Vec<u8>> {
    const NAMES: [&str; 18] = [
        "a",
        "b",
        "a/b",
        "a/b/c",
        "b/c",
        "a/d",
        "l",
        "l/x",
        "l/y/z",
        "m/a",
        "m/n/o",
        "../b/./e",
        ".wh.c",
        "a/.wh.x",
        "b/.wh.c",
        "l/.wh.x",
        "a/.wh..wh..opq",
        "m/.wh..wh..opq",
    ];
    const TARGETS: [&str; 6] = ["a", "/b", "a/b", "../m", "missing", "b/../a"];
    let mut state = seed;
    let mut pick = move |of: usize| {
        // Knuth's constants for a linear congruential generator (MMIX).
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % of
    };
    let mut entry = || {
        let name = NAMES[pick(NAMES.len())];
        let modes = [0o644, 0o755, 0o2_755, 0o4_711, 0o1_777, 0];
        // Mostly what fits the name: where all is odd, containerd refuses all.
        let item = match (name, pick(20)) {
            ("l", 0..18) => symlink(name, TARGETS[pick(TARGETS.len())]),
            ("a" | "b" | "a/b", 0..17) => dir(name),
            (_, 0..4) => dir(name),
            (_, 4) => symlink(name, TARGETS[pick(TARGETS.len())]),
            (_, 5) => hard_link(name, "a/b/c"),
            (_, 6) => item(b'6', name),
            (_, 7) => file(name, b"data").pax("SCHILY.xattr.user.x", b"v"),
            _ => file(name, b"data"),
        };
        let item = item.mode(modes[pick(modes.len())]).mtime(pick(100) as u64);
        item.owner(pick(2) as u64, pick(3) as u64)
    };
    (0..count).map(|_| raw((0..5).map(|_| entry()))).collect()
}
