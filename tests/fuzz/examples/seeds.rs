//! Writes the binary seeds anew with the project's own writers: `cargo run --example seeds` in this directory.
//!
//! Texts beside them are written by hand.

use sifbuild::arch::Arch;
use sifbuild::archive::tar::{Header, Kind, Writer as TarWriter};
use sifbuild::digest::Digest;
use sifbuild::luks::Kdf;
use sifbuild::luks::writer::Container;
use sifbuild::rpm::pin::RpmPin;
use sifbuild::rpm::state::first;
use sifbuild::sif::format::{DataType, FileSystem, PartitionType};
use sifbuild::sif::writer::{ObjectOptions, Writer as SifWriter, WriterOptions};
use sifbuild::squashfs::{Compression, Options, Writer as SquashfsWriter};
use sifbuild::tree::{Inode, InodeId, Metadata, Node, Source, Tree, Xattrs};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

fn main() {
    let tar = sample_tar();
    write("tar", "every-kind.tar", &tar);
    write("tar", "sparse.tar", &sparse_tar());
    write("squashfs", "plain.sqsh", &squashfs(Compression::None));
    write("squashfs", "zstd.sqsh", &squashfs(Compression::Zstd { level: 3 }));
    write("squashfs", "xz.sqsh", &squashfs(Compression::Xz));
    write("squashfs", "lz4.sqsh", &squashfs(Compression::Lz4));
    write("squashfs", "gzip.sqsh", &squashfs(Compression::Gzip { level: 6 }));
    write("sif", "three-objects.sif", &sif());
    write("ar", "names.ar", &ar(&[("debian-binary", b"2.0\n"), ("#1/8", b"longnamebody"), ("a/", b"x")]));
    let package = ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tar[..2048]), ("data.tar", &tar)]);
    write("deb_package", "small.deb", &package);
    write(
        "cpio",
        "two.cpio",
        &[cpio("070701", "a", b"body"), cpio("070702", "b", b""), cpio("070701", "TRAILER!!!", b"")].concat(),
    );
    write("luks", "headers", &luks());
    write("rpm_history", "base", &[&[0; 4][..], &history()].concat());
    let (layout, saved) = images();
    write("oci_archive", "layout", &[b"\0", &layout[..]].concat());
    write("oci_archive", "layout-latest", &[b"\x02", &layout[..]].concat());
    write("oci_archive", "docker-save", &[b"\x01", &saved[..]].concat());
}

/// Of a base of one package.
fn history() -> Vec<u8> {
    let checksum = format!("sha256:{}", Digest::of(b"").hex());
    let lines = [
        "agent dnf",
        "os-version 9",
        "architecture x86_64",
        "date 1700000000",
        "signatures checked",
        "keys ",
        &format!("repository base {} - http://a.test/", Digest::of(b"")),
        &format!("package bash 1:2-3 x86_64 user - base {checksum} 1 1 bash.rpm"),
    ];
    first(&RpmPin::parse(&lines.map(str::to_owned)).expect("a pin"), "c0")
}

/// The two headers; the target puts zeros behind them.
fn luks() -> Vec<u8> {
    let kdf = Kdf::Argon2id { time: 4, memory: 64, cpus: 1 };
    let zeros = |bytes: &mut [u8]| -> std::io::Result<()> {
        bytes.fill(0);
        Ok(())
    };
    let container = Container::new(b"secret", kdf, &zeros).expect("memory");
    container.header[..0x8000].to_vec()
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    std::fs::create_dir_all(&directory).expect("the seeds' directory");
    std::fs::write(directory.join(name), bytes).expect("a seed");
}

fn header(path: &str, kind: Kind, size: u64) -> Header {
    Header { path: path.into(), kind, mode: 0o644, uid: 1, gid: 2, mtime: 3, xattrs: Xattrs::new(), size }
}

fn pack(members: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (header, mut body) in members.iter().cloned() {
        writer.append(&header, &mut body).expect("memory");
    }
    writer.finish().expect("memory")
}

fn sample_tar() -> Vec<u8> {
    let mut odd = header(&format!("{}/name", "long/".repeat(30)), Kind::File, 4);
    odd.mtime = -5;
    odd.uid = 3_000_000;
    odd.xattrs.insert(b"user.x".to_vec(), b"value".to_vec());
    pack(&[
        (header("d", Kind::Directory, 0), b""),
        (header("d/file", Kind::File, 5), b"hello"),
        (odd, b"body"),
        (header("d/link", Kind::Symlink(b"../d/file".to_vec()), 0), b""),
        (header("d/hard", Kind::HardLink(b"d/file".to_vec()), 0), b""),
        (header("dev", Kind::CharacterDevice { major: 1, minor: 3 }, 0), b""),
        (header("disk", Kind::BlockDevice { major: 8, minor: 0 }, 0), b""),
        (header("pipe", Kind::Fifo, 0), b""),
        (header("d/.wh.gone", Kind::File, 0), b""),
        (header("d/.wh..wh..opq", Kind::File, 0), b""),
    ])
}

/// The three forms of sparse members that records make, and GNU's old one, each of `abcd` behind a hole.
fn sparse_tar() -> Vec<u8> {
    let mut archive = Vec::new();
    let records = |pairs: &[(&str, &str)]| -> Vec<u8> {
        pairs
            .iter()
            .flat_map(|(key, value)| {
                let bare = key.len() + value.len() + 3;
                let length = if bare + 2 > 99 { bare + 3 } else { bare + 2 };
                format!("{length} {key}={value}\n").into_bytes()
            })
            .collect()
    };
    let mut add = |pairs: &[(&str, &str)], body: &[u8]| {
        let records = records(pairs);
        let mut member = pack(&[(header("pax", Kind::File, records.len() as u64), &records)]);
        member[156] = b'x';
        archive.extend_from_slice(&member[..member.len() - 1024]);
        let member = pack(&[(header("sparse", Kind::File, body.len() as u64), body)]);
        archive.extend_from_slice(&member[..member.len() - 1024]);
    };
    add(&[("GNU.sparse.size", "9000"), ("GNU.sparse.offset", "100"), ("GNU.sparse.numbytes", "4")], b"abcd");
    add(&[("GNU.sparse.size", "9000"), ("GNU.sparse.name", "real"), ("GNU.sparse.map", "100,4")], b"abcd");
    let mut map = b"1\n100\n4\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"abcd");
    add(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9000")], &map);
    let mut old = pack(&[(header("old", Kind::File, 4), b"abcd")]);
    old[156] = b'S';
    old[257..265].copy_from_slice(b"ustar  \0");
    old[345..500].fill(0);
    old[386..398].copy_from_slice(b"00000000144\0");
    old[398..410].copy_from_slice(b"00000000004\0");
    old[483..495].copy_from_slice(b"00000021450\0");
    archive.extend_from_slice(&old);
    sifbuild_fuzz::with_tar_checksums(&archive)
}

fn squashfs(compression: Compression) -> Vec<u8> {
    let mut tree = Tree::new();
    let mut metadata = Metadata::new(0o644, 7);
    let mut add = |tree: &mut Tree, directory: InodeId, name: &str, node: Node| {
        let id = tree.add(Inode { metadata: metadata.clone(), node });
        metadata.uid += 1;
        tree.set_child(directory, name.into(), id);
        id
    };
    let directory = add(&mut tree, Tree::ROOT, "directory", Node::Directory(BTreeMap::new()));
    let bytes: Arc<[u8]> = b"small file".as_slice().into();
    let size = bytes.len() as u64;
    let file = add(&mut tree, directory, "file", Node::File { size, source: Source::Inline(bytes) });
    tree.set_child(Tree::ROOT, b"second name".to_vec(), file);
    tree.inode_mut(file).metadata.xattrs.insert(b"user.name".to_vec(), b"value".to_vec());
    let mut large = vec![0; 4096];
    large.extend((0..4196u32).map(|number| (number % 7) as u8));
    let size = large.len() as u64;
    add(&mut tree, directory, "large", Node::File { size, source: Source::Inline(large.into()) });
    add(&mut tree, directory, "link", Node::Symlink { target: b"file".to_vec() });
    add(&mut tree, Tree::ROOT, "null", Node::CharacterDevice { major: 1, minor: 3 });
    add(&mut tree, Tree::ROOT, "disk", Node::BlockDevice { major: 8, minor: 1 });
    add(&mut tree, Tree::ROOT, "pipe", Node::Fifo);
    add(&mut tree, Tree::ROOT, "socket", Node::Socket);
    let options = Options { compression, block_size: 4096, ..Options::default() };
    let writer = SquashfsWriter::new(Cursor::new(Vec::new()), options).expect("memory");
    writer.finish(&tree, &|_| None).expect("memory").0.into_inner()
}

fn sif() -> Vec<u8> {
    let options = WriterOptions { descriptor_capacity: 5, ..WriterOptions::default() };
    let mut writer = SifWriter::new(Cursor::new(Vec::new()), &options).expect("memory");
    writer.add(&ObjectOptions::named(DataType::DEFFILE, "x.def"), b"bootstrap: scratch\n").expect("memory");
    writer.begin_partition(&ObjectOptions::primary_squashfs(Arch::Amd64)).expect("memory");
    writer.file().get_mut().extend_from_slice(b"hsqs");
    writer.end_partition(4).expect("memory");
    let data = ObjectOptions::partition(FileSystem::EXT3, PartitionType::SYSTEM, Arch::Arm64);
    writer.add(&data, b"data").expect("memory");
    writer.finish().expect("memory").into_inner()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, body) in members {
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len()).bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

fn cpio(magic: &str, name: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = magic.as_bytes().to_vec();
    for field in [1, 0o100_644, 1, 2, 1, 99, body.len(), 8, 1, 0, 0, name.len() + 1, 0] {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An OCI layout and a `docker save` of one image with one small layer.
fn images() -> (Vec<u8>, Vec<u8>) {
    let layer = pack(&[(header("f", Kind::File, 1), b"x")]);
    let layer_digest = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=1"]}},"rootfs":{{"type":"layers","diff_ids":["{layer_digest}"]}}}}"#
    );
    let config_digest = Digest::of(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
        config.len(),
        layer.len()
    );
    let manifest_digest = Digest::of(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest_digest}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#,
        manifest.len()
    );
    let file = |name: &str, bytes: &[u8]| header(name, Kind::File, bytes.len() as u64);
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let layout = pack(&[
        (file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), br#"{"imageLayoutVersion":"1.0.0"}"#),
        (file("index.json", index.as_bytes()), index.as_bytes()),
        (file(&blob(&manifest_digest), manifest.as_bytes()), manifest.as_bytes()),
        (file(&blob(&config_digest), config.as_bytes()), config.as_bytes()),
        (file(&blob(&layer_digest), &layer), &layer),
    ]);
    let list = r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l/layer.tar"]}]"#;
    let saved = pack(&[
        (file("c.json", config.as_bytes()), config.as_bytes()),
        (file("l/layer.tar", &layer), &layer),
        (file("manifest.json", list.as_bytes()), list.as_bytes()),
    ]);
    (layout, saved)
}
