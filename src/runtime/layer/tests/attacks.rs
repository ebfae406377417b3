//! Layers that want out, or want everything.

use std::ffi::CString;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::archive::{dir, file, hard_link, item, octal, sum, symlink};
use super::*;

/// A folder beside the tree that nothing may touch.
fn outside(yard: &Yard) -> PathBuf {
    let outside = yard.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"untouched").unwrap();
    outside
}

fn assert_untouched(outside: &Path) {
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    let stat = fs::metadata(outside.join("secret")).unwrap();
    assert_eq!((stat.nlink(), stat.mode() & 0o7777), (1, 0o644));
}

#[test]
fn dots_and_slashes_end_at_the_root() {
    let yard = Yard::new();
    let outside = outside(&yard);
    let names = [
        "../outside/a",
        "/../../outside/b",
        "x/../../../outside/c",
        "//outside//d",
        "./outside/./e",
        "../../../../../../../../outside/f",
    ];
    yard.above(&Archive::of(names.map(|name| file(name, b"in"))))
        .unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(yard.read(&format!("outside/{name}")), b"in");
    }
    assert!(!yard.has("x"));
    assert_untouched(&outside);
}

#[test]
fn links_lead_nowhere_outside() {
    for to in [
        "../outside",
        "/outside",
        "../../../../outside",
        "up/outside",
    ] {
        let yard = Yard::new();
        let outside = outside(&yard);
        let archive = Archive::of([
            symlink("up", ".."),
            symlink("out", to),
            file("out/secret", b"evil"),
            dir("out/deep"),
            file("out/deep/new", b"evil"),
            item(b'0', "out/.wh.secret2"),
            item(b'0', "out/.wh..wh..opq"),
        ]);
        yard.above(&archive).unwrap();
        assert_eq!(yard.read("outside/secret"), b"evil", "{to}");
        assert_eq!(yard.read("outside/deep/new"), b"evil", "{to}");
        assert_untouched(&outside);
    }
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere_outside() {
    let yard = Yard::new();
    let outside = outside(&yard);
    let absolute = outside.to_str().unwrap();
    let archive = Archive::of([
        dir("a"),
        file("a/x", b"1"),
        symlink("a", absolute),
        file("a/secret", b"evil"),
        // Its times are set at the very end, when `a` is a link.
        dir("b/c"),
        symlink("b", "../outside"),
    ]);
    // Nothing stands where `b/c` leads in the end: containerd cannot set its times either.
    let (name, reason) = refusal(yard.above(&archive));
    assert_eq!(name, "b/c");
    assert!(reason.contains("times"), "{reason}");
    assert_untouched(&outside);
    assert_eq!(yard.read(&format!("{absolute}/secret")[1..]), b"evil");
}

#[test]
fn a_file_over_a_link_replaces_the_link() {
    let yard = Yard::new();
    let outside = outside(&yard);
    let target = outside.join("secret");
    let target = target.to_str().unwrap();
    let archive = Archive::of([
        symlink("a", target),
        file("a", b"mine"),
        symlink("b", target),
        dir("b"),
        symlink("c", target),
        item(b'3', "c").device(1, 3),
        symlink("d", target),
        hard_link("e", "d"),
    ]);
    yard.above(&archive).unwrap();
    assert_eq!(yard.read("a"), b"mine");
    assert!(yard.at("b").is_dir());
    assert!(yard.at("e").is_symlink());
    assert_eq!(yard.at("d").nlink(), 2);
    assert_untouched(&outside);
}

#[test]
fn hard_links_reach_only_the_layer_itself() {
    for to in [
        "../outside/secret",
        "/outside/secret",
        "out/secret",
        "missing",
        "",
        "a/",
        "..",
        "d",
    ] {
        let yard = Yard::new();
        let outside = outside(&yard);
        let archive = Archive::of([
            dir("d"),
            file("a", b"x"),
            symlink("out", outside.to_str().unwrap()),
            hard_link("stolen", to),
        ]);
        let (name, reason) = refusal(yard.above(&archive));
        assert_eq!(name, "stolen");
        assert!(reason.contains("of the same layer"), "{to}: {reason}");
        assert_untouched(&outside);
    }
}

#[test]
fn a_loop_of_links_is_refused() {
    let yard = Yard::new();
    let archive = Archive::of([symlink("a", "b"), symlink("b", "a"), file("a/x", b"")]);
    let (name, reason) = refusal(yard.above(&archive));
    assert_eq!(name, "a/x");
    assert!(reason.contains("Too many levels"), "{reason}");
}

#[test]
fn a_file_where_a_directory_should_be_is_refused() {
    for below in ["a/b", "a/b/c"] {
        let yard = Yard::new();
        let (name, reason) = refusal(yard.above(&Archive::of([file("a", b""), file(below, b"")])));
        assert_eq!(name, below);
        assert!(reason.contains("Not a directory"), "{reason}");
    }
}

#[test]
fn names_that_no_path_holds_are_refused() {
    let yard = Yard::new();
    let long = "n".repeat(256);
    let (_, reason) = refusal(yard.above(&Archive::of([file(&long, b"")])));
    assert!(reason.contains("too long"), "{reason}");
    let yard = Yard::new();
    let deep = "d/".repeat(300_000);
    let (_, reason) = refusal(yard.above(&Archive::of([dir(&deep)])));
    assert!(reason.contains("too long"), "{reason}");
    // As deep as a path can be: made, and removed again.
    let yard = Yard::new();
    yard.above(&Archive::of([dir(&"d/".repeat(1_990))]))
        .unwrap();
    remove_tree(&yard.path("tree")).unwrap();
    assert!(!yard.path("tree").exists());
}

#[test]
fn claims_are_checked_before_they_are_believed() {
    let limits = Limits {
        raw: ByteSize(1 << 20),
        entries: 3,
        ..Limits::default()
    };
    let mut huge = file("a", b"x");
    huge.size = Some(1 << 40);
    let mut sparse = file("a", b"0\n")
        .pax("GNU.sparse.major", b"1")
        .pax("GNU.sparse.minor", b"0")
        .pax("GNU.sparse.realsize", b"8000000000000000000");
    sparse.data.resize(512, 0);
    let zeros = file("a", &vec![0; 2 << 20]);
    let many: Vec<_> = (0..4).map(|at| file(&format!("f{at}"), b"")).collect();
    let cases = [
        (Archive::of([huge]), "unpacked bytes"),
        (Archive::of([sparse]), "unpacked bytes"),
        (Archive::of([zeros]), "unpacked bytes"),
        (Archive::of(many), "entries"),
    ];
    for (archive, expected) in cases {
        let yard = Yard::new();
        let blob = archive.gzip();
        let mut little = wanted(&blob, false);
        little.limits = limits;
        match yard.unpack("tree", &blob, little) {
            Err(LayerError::TooMuch { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn thousands_of_extended_headers_are_refused() {
    let yard = Yard::new();
    let mut archive = Archive::default();
    for _ in 0..10_000 {
        archive = archive.with(item(b'x', "PaxHeaders/x"));
    }
    let blob = archive.with(file("a", b"")).gzip();
    let mut little = wanted(&blob, false);
    little.limits.pax = ByteSize(1 << 20);
    let error = yard.unpack("tree", &blob, little).unwrap_err();
    assert!(matches!(error, LayerError::TooMuch { .. }), "{error}");
}

#[test]
fn few_entries_cannot_imply_any_number_of_directories() {
    // 1 991 directories, whose names have 4 MB together.
    let deep = (0..4).map(|at| file(&format!("{at}/{}f", "d/".repeat(1_990)), b""));
    let yard = Yard::new();
    let error = yard.above(&Archive::of(deep)).unwrap_err();
    assert!(matches!(error, LayerError::TooMuch { .. }), "{error}");
    remove_tree(&yard.path("tree")).unwrap();
}

#[test]
fn a_bomb_is_refused_by_its_ratio() {
    let yard = Yard::new();
    let raw = Archive::of([file("zeros", &vec![0; 80 << 20])]).ended();
    let blob = zstd::encode_all(raw.as_slice(), 1).unwrap();
    let error = yard
        .unpack("tree", &blob, wanted(&blob, false))
        .unwrap_err();
    assert!(matches!(error, LayerError::TooMuch { .. }), "{error}");
    assert_eq!(error.advice(), Advice::Refuse);
    // Gzip cannot be that dense: images with large empty files exist.
    let blob = gzip(&raw);
    yard.unpack("gzip", &blob, wanted(&blob, false)).unwrap();
}

#[test]
fn a_negative_size_and_a_wrong_checksum_are_refused() {
    let yard = Yard::new();
    let mut raw = file("a", b"").header();
    raw[124..136].fill(0xff);
    sum(&mut raw);
    let (name, reason) = refusal(yard.unpack("tree", &raw, wanted(&raw, false)));
    assert_eq!(
        (name.as_str(), reason.as_str()),
        ("a", "its size is negative")
    );
    let mut raw = file("a", b"").header();
    octal(&mut raw[148..155], 1);
    let error = yard.unpack("other", &raw, wanted(&raw, false)).unwrap_err();
    assert!(matches!(error, LayerError::Broken(_)), "{error}");
}

#[test]
fn a_full_disk_is_told_as_such() {
    let yard = Yard::new();
    let disk = Disk::new(&yard.path("disk"), 1 << 20);
    let blob = Archive::of([file("big", &vec![1; 3 << 20])]).ended();
    let tree = disk.0.join("tree");
    let error = unpack(&tree, &blob, wanted(&blob, false), 40_000).unwrap_err();
    assert_eq!(error, LayerError::NoSpace("big".to_owned()));
    assert_eq!(error.advice(), Advice::MakeRoom);
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

/// A small file system in memory, unmounted whatever happens.
struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path, bytes: u64) -> Self {
        fs::create_dir(at).unwrap();
        let size = CString::new(format!("size={bytes}")).unwrap();
        mount(
            "tmpfs",
            at,
            "tmpfs",
            MountFlags::empty(),
            Some(size.as_c_str()),
        )
        .expect("this test mounts a tmpfs: run it as root");
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
