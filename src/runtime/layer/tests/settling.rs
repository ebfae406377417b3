//! What implied directories get from the layers below.

use std::os::unix::fs::{PermissionsExt, chown, symlink as link};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::archive::{dir, file, item, symlink};
use super::*;

/// A lower layer with a directory of this mode and owner.
fn lower(yard: &Yard, name: &str, path: &str, mode: u32, owner: u32) -> PathBuf {
    let root = yard.path(name);
    let made = root.join(path);
    fs::create_dir_all(&made).unwrap();
    chown(&made, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&made, fs::Permissions::from_mode(mode)).unwrap();
    root
}

/// Unpacks, writes the rest down and reads it again, settles.
fn settled(yard: &Yard, archive: &Archive, lowers: &[PathBuf]) -> Result<Settled, LayerError> {
    let unpacked = yard.above(archive)?;
    let written = serde_json::to_string(&unpacked.rest).unwrap();
    let rest: Unsettled = serde_json::from_str(&written).unwrap();
    assert_eq!(rest, unpacked.rest);
    settle(&yard.path("tree"), lowers, &rest)
}

fn mode(stat: &fs::Metadata) -> (u32, u32) {
    (stat.mode() & 0o7_777, stat.uid())
}

#[test]
fn an_implied_directory_is_copied_from_the_topmost_layer_that_has_it() {
    let yard = Yard::new();
    let top = lower(&yard, "top", "a", 0o2_711, 11);
    let below = lower(&yard, "below", "a/b", 0o1_700, 12);
    fs::set_permissions(below.join("a"), fs::Permissions::from_mode(0o777)).unwrap();
    let name = "user.kept";
    setxattr(top.join("a"), name, b"v", XattrFlags::empty()).unwrap();
    setxattr(
        top.join("a"),
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .unwrap();
    let before = fs::metadata(below.join("a/b")).unwrap();
    let done = settled(&yard, &Archive::of([file("a/b/c/f", b"")]), &[top, below]).unwrap();
    assert_eq!(done.dirs, 2);
    assert_eq!(mode(&yard.at("a")), (0o2_711, 11));
    assert_eq!(mode(&yard.at("a/b")), (0o1_700, 12));
    assert_eq!(yard.at("a/b").mtime(), before.mtime());
    assert_eq!(yard.at("a/b").mtime_nsec(), before.mtime_nsec());
    assert_eq!(mode(&yard.at("a/b/c")), (0o755, 0));
    let mut value = [0; 10];
    let length = getxattr(yard.path("tree/a"), name, value.as_mut_slice());
    assert_eq!(length, Ok(1));
    assert!(
        getxattr(
            yard.path("tree/a"),
            "trusted.overlay.opaque",
            value.as_mut_slice()
        )
        .is_err()
    );
}

#[test]
fn a_listed_directory_takes_only_attributes_that_it_does_not_name() {
    let yard = Yard::new();
    let top = lower(&yard, "top", "a", 0o700, 11);
    setxattr(top.join("a"), "user.lower", b"v", XattrFlags::empty()).unwrap();
    setxattr(top.join("a"), "user.both", b"lower", XattrFlags::empty()).unwrap();
    let archive = Archive::of([
        file("a/f", b""),
        dir("a")
            .mode(0o750)
            .owner(2, 2)
            .mtime(9)
            .pax("SCHILY.xattr.user.both", b"own"),
        dir("first"),
        file("first/f", b""),
    ]);
    settled(&yard, &archive, &[top]).unwrap();
    let stat = yard.at("a");
    assert_eq!((mode(&stat), stat.mtime()), ((0o750, 2), 9));
    let mut value = [0; 10];
    assert_eq!(
        getxattr(yard.path("tree/a"), "user.lower", value.as_mut_slice()),
        Ok(1)
    );
    assert_eq!(
        getxattr(yard.path("tree/a"), "user.both", value.as_mut_slice()),
        Ok(3)
    );
    assert_eq!(&value[..3], b"own");
}

#[test]
fn a_link_below_becomes_a_directory_as_at_containerd() {
    let yard = Yard::new();
    let top = lower(&yard, "top", "usr/lib", 0o751, 13);
    link("usr/lib", top.join("lib")).unwrap();
    link("/etc", top.join("out")).unwrap();
    let archive = Archive::of([file("lib/f", b""), file("out/f", b"")]);
    settled(&yard, &archive, &[top]).unwrap();
    assert_eq!(mode(&yard.at("lib")), (0o751, 13));
    // The machine's own `/etc` is not asked.
    assert_eq!(mode(&yard.at("out")), (0o755, 0));
}

#[test]
fn a_file_or_whiteout_below_leaves_the_default() {
    let yard = Yard::new();
    let top = lower(&yard, "top", "x", 0o755, 0);
    fs::write(top.join("a"), b"").unwrap();
    let below = lower(&yard, "below", "a", 0o700, 14);
    let done = settled(&yard, &Archive::of([file("a/f", b"")]), &[top, below]).unwrap();
    assert_eq!((done.dirs, mode(&yard.at("a"))), (0, (0o755, 0)));
}

#[test]
fn what_containerd_cannot_copy_is_left_to_it() {
    let yard = Yard::new();
    let top = lower(&yard, "top", "x", 0o755, 0);
    fs::write(top.join("a"), b"").unwrap();
    let error = settled(&yard, &Archive::of([file("a/b/f", b"")]), &[top]).unwrap_err();
    assert!(matches!(error, LayerError::NotHere { .. }), "{error}");
    assert_eq!(error.advice(), Advice::AskContainerd);
}

#[test]
fn the_root_belongs_to_whom_the_parents_root_belongs() {
    let yard = Yard::new();
    let top = lower(&yard, "top", "", 0o755, 15);
    settled(&yard, &Archive::of([dir("a")]), &[top]).unwrap();
    assert_eq!(mode(&fs::metadata(yard.path("tree")).unwrap()), (0o755, 15));
}

#[test]
fn nothing_is_unsettled_where_the_layer_says_it_all() {
    let yard = Yard::new();
    let archive = Archive::of([
        dir("a"),
        dir("a/b"),
        file("a/b/f", b""),
        symlink("l", "a/b"),
        file("l/g", b""),
        item(b'0', "a/.wh.x"),
    ]);
    assert!(yard.above(&archive).unwrap().rest.is_empty());
}

#[test]
fn any_path_can_be_written_down() {
    let mut rest = Unsettled::default();
    rest.imply(b"a b%/\xff\n\"");
    let written = serde_json::to_string(&rest).unwrap();
    assert_eq!(written, r#"{"a%20b%25/%FF%0A\"":"implied"}"#);
    assert_eq!(serde_json::from_str::<Unsettled>(&written).unwrap(), rest);
    assert!(serde_json::from_str::<Unsettled>(r#"{"a%2":"implied"}"#).is_err());
}
