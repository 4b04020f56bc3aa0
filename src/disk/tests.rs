use super::*;
use crate::tree::{TreePath, text};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn lines(path: &Path) -> Vec<String> {
    text::write(&scan(path, &ScanOptions::default()).unwrap()).lines().map(str::to_string).collect()
}

#[test]
fn scans_in_order_with_links_and_kinds() {
    let place = directory();
    let root = place.path();
    fs::create_dir(root.join("b")).unwrap();
    fs::write(root.join("b/file"), "12345").unwrap();
    fs::hard_link(root.join("b/file"), root.join("c")).unwrap();
    symlink("b/file", root.join("a")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("s")).unwrap();
    let layer = scan(root, &ScanOptions::default()).unwrap();
    let paths: Vec<_> = layer.entries.iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(paths, ["/", "/a", "/b", "/b/file", "/c", "/s"]);
    let lines = lines(root);
    assert!(lines[1].starts_with("l 0777") && lines[1].contains("\"b/file"), "{lines:?}");
    assert!(lines[3].starts_with("f ") && lines[3].contains(" 5 /b/file"), "{lines:?}");
    assert_eq!(lines[4], "h /b/file /c");
    assert!(lines[5].starts_with("s "), "{lines:?}");
}

#[test]
fn bodies_open_only_within_the_directory_and_only_if_regular() {
    let place = directory();
    let root = place.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(place.path().join("secret"), "x").unwrap();
    fs::write(root.join("sub/file"), "body").unwrap();
    symlink(place.path(), root.join("out")).unwrap();
    symlink("sub/file", root.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let opened = fs::File::open(&root).unwrap();
    let open = |text: &str| open_body(opened.as_fd(), &TreePath::parse(text).unwrap());
    assert!(open("sub/file").is_ok());
    for refused in ["out/secret", "link", "fifo", "sub", "missing"] {
        assert!(open(refused).is_err(), "{refused}");
    }
}

#[test]
fn removes_trees_deeper_than_paths_are_long() {
    let place = directory();
    let top = place.path().join("top");
    fs::create_dir(&top).unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    let name = "d".repeat(100);
    let mut here = rustix::fs::open(&top, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..100 {
        rustix::fs::mkdirat(&here, &name, rustix::fs::Mode::RWXU).unwrap();
        rustix::fs::symlinkat(&outside, &here, "link").unwrap();
        here = rustix::fs::openat(&here, &name, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    fs::create_dir_all(top.join("closed/inner")).unwrap();
    fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    remove_tree(&top).unwrap();
    assert!(!top.exists());
    assert!(outside.join("kept").exists());
    remove_tree(&top).unwrap();
}

#[test]
fn a_file_appears_only_when_committed() {
    let place = directory();
    let target = place.path().join("image.sif");
    let mut file = AtomicFile::create(&target, 0o644).unwrap();
    file.file_mut().write_all(b"half").unwrap();
    drop(file);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    let mut file = AtomicFile::create(&target, 0o644).unwrap();
    file.file_mut().write_all(b"whole").unwrap();
    assert!(!target.exists());
    file.commit(false).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"whole");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let file = AtomicFile::create(&target, 0o644).unwrap();
    assert!(matches!(file.commit(false), Err(Error::Exists(_))));
    assert_eq!(fs::read(&target).unwrap(), b"whole");
    AtomicFile::create(&target, 0o644).unwrap().commit(true).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"");
}

#[test]
fn a_copied_tree_scans_like_its_source() {
    let place = directory();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::write(from.join("a/file"), "12345").unwrap();
    fs::set_permissions(from.join("a/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(from.join("a/file"), from.join("a/b/again")).unwrap();
    symlink("nowhere", from.join("link")).unwrap();
    fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o1555)).unwrap();
    let to = place.path().join("to");
    copy_tree(&from, &to).unwrap();
    assert_eq!(lines(&from), lines(&to));
    assert_eq!(fs::read(to.join("a/file")).unwrap(), b"12345");
    // A user cannot remove what lies in a directory that is not writable.
    for place in [from, to] {
        fs::set_permissions(place.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn interrupt_removes_what_is_registered_and_nothing_else() {
    let place = directory();
    let (kept, gone) = (place.path().join("kept"), place.path().join("gone"));
    fs::create_dir(&kept).unwrap();
    fs::create_dir(&gone).unwrap();
    drop(register(&kept));
    let registered = register(&gone);
    let listed = temporary::registered();
    assert!(listed.contains(&gone) && !listed.contains(&kept));
    temporary::remove_these(std::slice::from_ref(&gone));
    drop(registered);
    assert!(kept.exists() && !gone.exists());
}

#[test]
fn a_made_up_path_is_left_out_of_a_cause() {
    let absent = Path::new("/absent/directory");
    let error = tempfile::Builder::new().tempfile_in(absent).map(drop).unwrap_err();
    assert_eq!(super::without_path(error).to_string(), "No such file or directory (os error 2)");
    let error = AtomicFile::create(&absent.join("x"), 0o644).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot create a file beside /absent/directory/x: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_is_made_with_its_directories_and_nothing_is_followed_or_replaced() {
    let place = directory();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let write = |path: &str| {
        let root = fs::File::open(place.path()).unwrap();
        super::write_beneath(root.as_fd(), &TreePath::parse(path).unwrap(), b"x", time)
    };
    let before = fs::metadata(place.path()).unwrap().modified().unwrap();
    assert_eq!(write("a/b/c").unwrap(), ["a", "a/b"].map(|path| TreePath::parse(path).unwrap()));
    assert_eq!(write("a/b/d").unwrap(), []);
    for (path, mode) in [("a", 0o40755), ("a/b", 0o40755), ("a/b/c", 0o100644)] {
        let metadata = fs::metadata(place.path().join(path)).unwrap();
        assert_eq!((metadata.permissions().mode(), metadata.modified().unwrap()), (mode, time), "{path}");
    }
    assert_eq!(fs::metadata(place.path()).unwrap().modified().unwrap(), before);
    std::os::unix::fs::symlink("/tmp", place.path().join("away")).unwrap();
    for path in ["away/x", "a/b/c", "a/b/c/d", ""] {
        assert!(write(path).is_err(), "{path}");
    }
}

#[test]
fn a_directory_is_replaced_as_a_whole_or_stays() {
    let place = directory();
    let at = |name: &str| place.path().join(name);
    let replace = |new: &str, target: &str| replace_directory(&at(new), &at(target), &at("aside"));
    for name in ["old", "new"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("file"), name).unwrap();
    }
    assert!(replace("nothing", "old").is_err());
    assert_eq!(fs::read(at("old/file")).unwrap(), b"old");
    replace("new", "old").unwrap();
    assert_eq!(fs::read(at("old/file")).unwrap(), b"new");
    replace("old", "elsewhere").unwrap();
    assert_eq!(fs::read(at("elsewhere/file")).unwrap(), b"new");
}
