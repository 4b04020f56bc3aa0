//! Other readers see what we wrote; we see what other writers wrote. Owners, devices and mounts need root; the rest runs for everybody.

use crate::sample::{
    CODECS, Description, assert_same, command, describe_directory, describe_image, everything, is_root, run, words,
};
use backhand::{FilesystemReader, InnerNode};
use sifbuild::digest::Digest;
use sifbuild::squashfs::{Compression, Image, Options, Window};
use sifbuild::tree::{Change, Node, Source};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A mounted directory, unmounted at the end.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        command("mount", "umount %", &[self.0]);
    }
}

fn image_file(compression: Compression, directory: &Path) -> std::path::PathBuf {
    let file = directory.join("image");
    std::fs::write(&file, everything().pack(Options { compression, threads: 2, ..Options::default() }).0).unwrap();
    file
}

#[test]
fn unsquashfs_extracts_what_was_packed() {
    if !is_root() {
        return;
    }
    for compression in CODECS {
        let directory = tempfile::tempdir().unwrap();
        let (file, root) = (image_file(compression, directory.path()), directory.path().join("root"));
        command("squashfs-tools", "unsquashfs -no-progress -d % %", &[&root, &file]);
        assert_same(&describe_directory(&root), &everything().describe());
        let holes = std::fs::metadata(root.join("zero")).unwrap();
        assert!(holes.blocks() * 512 < holes.len(), "the holes were written out");
        let listing = command("squashfs-tools", "unsquashfs -lls %", &[&file]);
        assert_eq!(
            listing.lines().filter(|line| line.contains("squashfs-root")).count(),
            everything().describe().len()
        );
    }
}

#[test]
fn the_kernel_mounts_what_was_packed() {
    if !is_root() {
        return;
    }
    for compression in CODECS {
        let directory = tempfile::tempdir().unwrap();
        let (file, root) = (image_file(compression, directory.path()), directory.path().join("root"));
        std::fs::create_dir(&root).unwrap();
        command("mount", "mount -t squashfs -o loop,ro % %", &[&file, &root]);
        let _mount = Mount(&root);
        assert_same(&describe_directory(&root), &everything().describe());
        let holes = std::fs::metadata(root.join("zero")).unwrap();
        assert!(holes.blocks() * 512 < holes.len(), "the holes count as blocks");
    }
}

#[test]
fn squashfuse_mounts_what_was_packed() {
    if !is_root() {
        return;
    }
    let mut sample = everything();
    for entry in &mut sample.layer.entries {
        // Compat: squashfuse says that an attribute without a value is not there.
        if let Change::Put(metadata, _) = &mut entry.change {
            metadata.xattrs.remove(b"user.empty".as_slice());
        }
    }
    let mut expected: Vec<_> = sample.describe().into_iter().map(|line| as_squashfuse_shows(&line)).collect();
    expected.sort();
    for compression in CODECS {
        let directory = tempfile::tempdir().unwrap();
        let (file, root) = (directory.path().join("image"), directory.path().join("root"));
        std::fs::write(&file, sample.pack(Options { compression, ..Options::default() }).0).unwrap();
        std::fs::create_dir(&root).unwrap();
        command("squashfuse", "squashfuse -o ro % %", &[&file, &root]);
        let _mount = Mount(&root);
        assert_same(&describe_directory(&root), &expected);
    }
}

/// Compat: squashfuse gives each name an inode number of its own, and has the prefixes `trusted.` and `security.` the wrong way
/// round (the kernel and mksquashfs agree with us).
fn as_squashfuse_shows(line: &str) -> String {
    let words = line.split(' ').filter(|word| !word.starts_with("same="));
    let swapped = words.map(|word| match (word.strip_prefix("trusted."), word.strip_prefix("security.")) {
        (Some(rest), _) => format!("security.{rest}"),
        (_, Some(rest)) => format!("trusted.{rest}"),
        _ => word.to_owned(),
    });
    swapped.collect::<Vec<_>>().join(" ")
}

#[test]
fn backhand_reads_what_was_packed() {
    for compression in CODECS.into_iter().filter(|compression| *compression != Compression::Lz4) {
        let mut sample = everything();
        // Compat: backhand 0.25 takes no symbolic link of 256 bytes or more.
        sample.layer.entries.retain(|entry| entry.path.as_bytes() != b"link-long");
        let image = sample.pack(Options { compression, ..Options::default() }).0;
        let reader = FilesystemReader::from_reader(std::io::Cursor::new(image)).unwrap();
        let mut files = Description::new();
        for node in reader.files() {
            if let InnerNode::File(file) = &node.inner {
                let mut bytes = Vec::new();
                reader.file(file).reader().read_to_end(&mut bytes).unwrap();
                let header = node.header;
                let owner = (header.uid, header.gid, header.mtime);
                files.push(format!(
                    "{} {:04o} {owner:?} {}",
                    node.fullpath.display(),
                    header.permissions,
                    Digest::of(&bytes)
                ));
            }
        }
        let mut expected = Description::new();
        let tree = sample.tree();
        for (path, id) in tree.walk() {
            if let Node::File { source: Source::Layer { path: at, .. }, .. } = &tree.inode(id).node {
                let metadata = &tree.inode(id).metadata;
                let owner = (metadata.uid, metadata.gid, metadata.mtime);
                let digest = Digest::of(&sample.contents[at.as_bytes()]);
                expected.push(format!("{path} {:04o} {owner:?} {digest}", metadata.mode));
            }
        }
        files.sort();
        expected.sort();
        assert_same(&files, &expected);
    }
}

#[test]
fn images_of_mksquashfs_are_read() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, root) = (directory.path().join("image"), directory.path().join("root"));
    let mut sample = everything();
    // Compat: mksquashfs makes hard links of a symbolic link separate inodes.
    sample.layer.entries.retain(|entry| entry.path.as_bytes() != b"zz-link");
    std::fs::write(&file, sample.pack(Options::default()).0).unwrap();
    command("squashfs-tools", "unsquashfs -no-progress -d % %", &[&root, &file]);
    let expected = sample.describe();
    for flags in [
        "-comp gzip",
        "-comp gzip -Xcompression-level 1 -b 4096",
        "-comp xz",
        "-comp xz -Xbcj x86 -Xdict-size 50% -b 1M",
        "-comp lz4",
        "-comp lz4 -Xhc",
        "-comp zstd",
        "-comp zstd -no-fragments -no-exports -no-duplicates",
        "-comp gzip -always-use-fragments -noI -noX",
        "-comp gzip -noD -noF",
    ] {
        let image = directory.path().join("theirs");
        let mut all: Vec<OsString> = words("mksquashfs % % -noappend -no-progress -quiet", &[&root, &image]);
        all.extend(words(flags, &[]));
        run("squashfs-tools", &all.iter().map(OsString::as_os_str).collect::<Vec<_>>());
        let read = Image::open(Window::whole(File::open(&image).unwrap()).unwrap());
        let read = read.unwrap_or_else(|error| panic!("{flags}: {error}"));
        assert_same(&describe_image(&read), &expected);
    }
}

#[test]
fn lzo_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a"), "a").unwrap();
    let image = directory.path().join("image");
    command("squashfs-tools", "mksquashfs % % -comp lzo -no-progress -quiet", &[&directory.path().join("a"), &image]);
    let error = Image::open(Window::whole(File::open(&image).unwrap()).unwrap()).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "squashfs compression lzo is not supported");
}

#[test]
fn an_image_is_read_inside_of_a_larger_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = image_file(Compression::default(), directory.path());
    let image = std::fs::read(&file).unwrap();
    std::fs::write(&file, [vec![1; 777], image.clone(), vec![2; 99]].concat()).unwrap();
    let window = Window::new(File::open(&file).unwrap(), 777, image.len() as u64);
    assert_same(&describe_image(&Image::open(window).unwrap()), &everything().describe());
}
