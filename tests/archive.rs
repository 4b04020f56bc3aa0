//! GNU tar and binutils make archives, we read them; we write archives, GNU tar reads them.

use sifbuild::archive::{ar, tar};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install tar binutils attr"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Small files, long names, links, and sparse files with data at awkward places.
fn fill(root: &Path, long_names: bool) {
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("d/plain"), "content").unwrap();
    fs::write(root.join("d/block"), vec![7; 512]).unwrap();
    fs::write(root.join("d/empty"), "").unwrap();
    fs::hard_link(root.join("d/plain"), root.join("hard")).unwrap();
    symlink("d/../d/plain", root.join("soft")).unwrap();
    run("mkfifo", &["pipe"], root);
    if long_names {
        let directory = format!("{}/{}", "p".repeat(120), "q".repeat(120));
        fs::create_dir_all(root.join(&directory)).unwrap();
        fs::write(root.join(&directory).join("n".repeat(150)), "long").unwrap();
        symlink("t".repeat(300), root.join("far")).unwrap();
    }
}

fn fill_sparse(root: &Path) {
    for (name, places, size) in [
        ("holes", vec![0u64, 300_000, 1_000_000], 2_000_000),
        ("end", vec![5_000_000], 5_000_005),
        ("hole-only", vec![], 1_000_000),
        ("many", (0..200).map(|number| number * 40_960 + 4096).collect(), 9_000_001),
    ] {
        let mut file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for place in places {
            file.seek(SeekFrom::Start(place)).unwrap();
            file.write_all(b"data!").unwrap();
        }
    }
}

/// What a member or a file is, in comparable form.
#[derive(Debug, PartialEq)]
enum Found {
    File(u64, u64),
    Directory,
    Symlink(Vec<u8>),
    Fifo,
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(14_695_981_039_346_656_037, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211))
}

fn on_disk(root: &Path) -> BTreeMap<String, Found> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let what = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Found::Directory
        } else if metadata.is_symlink() {
            Found::Symlink(fs::read_link(&path).unwrap().to_str().unwrap().into())
        } else if metadata.is_file() {
            Found::File(metadata.len(), checksum(&fs::read(&path).unwrap()))
        } else {
            Found::Fifo
        };
        found.insert(name, what);
    }
    found
}

fn in_archive(bytes: &[u8]) -> BTreeMap<String, Found> {
    let mut reader = tar::Reader::new(bytes);
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let clean = |path: &[u8]| {
            String::from_utf8(path.to_vec()).unwrap().trim_start_matches("./").trim_end_matches('/').to_owned()
        };
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        assert_eq!(entry.header.size, body.len() as u64);
        let name = clean(&entry.header.path);
        let what = match &entry.header.kind {
            tar::Kind::File => Found::File(entry.header.size, checksum(&body)),
            tar::Kind::Directory => Found::Directory,
            tar::Kind::Symlink(target) => Found::Symlink(target.clone()),
            tar::Kind::Fifo => Found::Fifo,
            tar::Kind::HardLink(target) => match &found[&clean(target)] {
                Found::File(size, sum) => Found::File(*size, *sum),
                other => panic!("a hard link to {other:?}"),
            },
            other => panic!("{other:?}"),
        };
        found.insert(name, what);
    }
    found
}

#[test]
fn reads_every_format_that_gnu_tar_writes() {
    for format in ["v7", "ustar", "oldgnu", "gnu", "posix"] {
        let root = tempfile::tempdir().unwrap();
        fill(root.path(), !matches!(format, "v7" | "ustar"));
        let mut arguments = vec!["-c", "--format", format];
        if format == "v7" {
            // It has no way to say "fifo".
            fs::remove_file(root.path().join("pipe")).unwrap();
        }
        let archive = tempfile::NamedTempFile::new().unwrap();
        arguments.extend(["-f", archive.path().to_str().unwrap(), "."]);
        run("tar", &arguments, root.path());
        assert_eq!(in_archive(&fs::read(archive.path()).unwrap()), on_disk(root.path()), "{format}");
    }
}

#[test]
fn reads_every_form_of_sparse_files_as_files_with_zeros() {
    for form in [
        vec!["--format=oldgnu"],
        vec!["--format=gnu"],
        vec!["--format=posix", "--sparse-version=0.0"],
        vec!["--format=posix", "--sparse-version=0.1"],
        vec!["--format=posix", "--sparse-version=1.0"],
    ] {
        let root = tempfile::tempdir().unwrap();
        fill_sparse(root.path());
        let archive = tempfile::NamedTempFile::new().unwrap();
        let mut arguments = vec!["-c", "--sparse"];
        arguments.extend(&form);
        arguments.extend(["-f", archive.path().to_str().unwrap(), "."]);
        run("tar", &arguments, root.path());
        let bytes = fs::read(archive.path()).unwrap();
        assert!(bytes.len() < 3_000_000, "{form:?}: the archive is not sparse");
        assert_eq!(in_archive(&bytes), on_disk(root.path()), "{form:?}");
    }
}

#[test]
fn jumping_over_bodies_finds_the_same_members() {
    let root = tempfile::tempdir().unwrap();
    fill(root.path(), true);
    fill_sparse(root.path());
    let archive = tempfile::NamedTempFile::new().unwrap();
    run("tar", &["-c", "--sparse", "--format=posix", "-f", archive.path().to_str().unwrap(), "."], root.path());
    let bytes = fs::read(archive.path()).unwrap();
    let names = |mut reader: tar::Reader<Cursor<&[u8]>>| {
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push((entry.header.path.clone(), entry.offset));
        }
        names
    };
    let jumped = names(tar::Reader::seeking(Cursor::new(&bytes)));
    assert_eq!(jumped, names(tar::Reader::new(Cursor::new(&bytes))));
    let (_, offset) = jumped.iter().find(|(path, _)| path.ends_with(b"/block")).unwrap();
    let offset = offset.unwrap() as usize;
    assert_eq!(bytes[offset..offset + 512], [7; 512]);
}

#[test]
fn reads_extended_attributes_that_gnu_tar_writes() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(root.path().join("f"), "x").unwrap();
    run("setfattr", &["-n", "user.colour", "-v", "0x00ff3d0a", "f"], root.path());
    let archive = tempfile::NamedTempFile::new().unwrap();
    run("tar", &["-c", "--xattrs", "--format=posix", "-f", archive.path().to_str().unwrap(), "f"], root.path());
    let bytes = fs::read(archive.path()).unwrap();
    let mut reader = tar::Reader::new(&bytes[..]);
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.header.xattrs[b"user.colour".as_slice()], b"\x00\xff=\n");
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let mut writer = tar::Writer::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(130), "f".repeat(140));
    let mut append = |path: &str, kind: tar::Kind, mtime: i64, body: &[u8]| {
        let header = tar::Header {
            path: path.into(),
            kind,
            mode: 0o640,
            uid: 1000,
            gid: 3_000_000_000,
            mtime,
            xattrs: BTreeMap::from([(b"user.a".to_vec(), b"b\n=".to_vec())]),
            size: body.len() as u64,
        };
        writer.append(&header, &mut &*body).unwrap();
    };
    append(&long, tar::Kind::File, 1_700_000_000, b"body");
    append("hard", tar::Kind::HardLink(long.clone().into()), 0, b"");
    append("soft", tar::Kind::Symlink(vec![b's'; 200]), 0, b"");
    append("null", tar::Kind::CharacterDevice { major: 1, minor: 3 }, 0, b"");
    let bytes = writer.finish().unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(directory.path().join("a.tar"), bytes).unwrap();
    let listing = run("tar", &["--numeric-owner", "--utc", "-tvf", "a.tar"], directory.path());
    // Columns are padded.
    let lines: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], format!("-rw-r----- 1000/3000000000 4 2023-11-14 22:13 {long}"));
    assert!(lines[1].ends_with(&format!("hard link to {long}")), "{}", lines[1]);
    assert!(lines[2].ends_with(&format!("soft -> {}", "s".repeat(200))), "{}", lines[2]);
    assert!(lines[3].starts_with("crw-r----- 1000/3000000000 1,3 "), "{}", lines[3]);
    run("tar", &["--no-same-owner", "--xattrs", "-xf", "a.tar", &long, "hard"], directory.path());
    assert_eq!(fs::read(directory.path().join(&long)).unwrap(), b"body");
    assert_eq!(fs::metadata(directory.path().join("hard")).unwrap().nlink(), 2);
    let value = run("getfattr", &["--only-values", "-n", "user.a", "hard"], directory.path());
    assert_eq!(value, "b\n=");
}

#[test]
fn reads_archives_of_binutils() {
    let directory = tempfile::tempdir().unwrap();
    for (name, body) in [("debian-binary", "2.0\n"), ("a-name-that-is-longer-than-16", "odd"), ("z", "last")] {
        fs::write(directory.path().join(name), body).unwrap();
    }
    run("ar", &["rcD", "x.a", "debian-binary", "a-name-that-is-longer-than-16", "z"], directory.path());
    let mut reader = ar::Reader::new(fs::File::open(directory.path().join("x.a")).unwrap()).unwrap();
    let mut members = Vec::new();
    while let Some(mut member) = reader.next_member().unwrap() {
        let mut body = String::new();
        member.read_to_string(&mut body).unwrap();
        members.push(format!("{}={body}", String::from_utf8_lossy(&member.name)));
    }
    assert_eq!(members, ["debian-binary=2.0\n", "a-name-that-is-longer-than-16=odd", "z=last"]);
}
