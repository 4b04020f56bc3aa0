//! Images that umoci and skopeo make, opened from every kind of place on this host; and what damaged ones are told.

use sifbuild::agent::ImageBase;
use sifbuild::agent::oci::{Context, Error, Source, Transport, open};
use sifbuild::arch::Arch;
use sifbuild::archive::layer::{Dialect, read_layer};
use sifbuild::archive::tar::{Header, Kind, Writer};
use sifbuild::oci::manifest::Target;
use sifbuild::store::BlobError;
use sifbuild::tree::{Node, Tree, TreePath};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install skopeo umoci gzip"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn layer(members: &[(&str, Kind, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, body) in members {
        let mode = if *kind == Kind::Directory { 0o755 } else { 0o644 };
        let size = body.len() as u64;
        let header = Header {
            path: (*path).into(),
            kind: kind.clone(),
            mode,
            uid: 0,
            gid: 0,
            mtime: 1,
            xattrs: BTreeMap::new(),
            size,
        };
        writer.append(&header, &mut &**body).unwrap();
    }
    writer.finish().unwrap()
}

/// A layout `image` with the tag `t`: three layers with whiteouts, an opaque directory, links and a symlinked parent.
fn make_image(directory: &Path) {
    let big: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let layers = [
        layer(&[
            ("usr/", Kind::Directory, b""),
            ("usr/lib/", Kind::Directory, b""),
            ("usr/lib/old", Kind::File, b"old"),
            ("lib", Kind::Symlink(b"usr/lib".to_vec()), b""),
            ("etc/", Kind::Directory, b""),
            ("etc/gone", Kind::File, b"gone"),
            ("etc/kept", Kind::File, b"kept"),
            ("opt/", Kind::Directory, b""),
            ("opt/below", Kind::File, b"below"),
            ("big", Kind::File, &big),
        ]),
        layer(&[
            ("etc/.wh.gone", Kind::File, b""),
            ("opt/", Kind::Directory, b""),
            ("opt/.wh..wh..opq", Kind::File, b""),
            ("opt/above", Kind::File, b"above"),
            ("hard", Kind::HardLink(b"opt/above".to_vec()), b""),
        ]),
        layer(&[("usr/lib/new", Kind::File, b"new"), ("etc/kept", Kind::File, b"changed")]),
    ];
    run("umoci", &["init", "--layout", "image"], directory);
    run("umoci", &["new", "--image", "image:t"], directory);
    for (number, bytes) in layers.iter().enumerate() {
        let name = format!("layer{number}.tar");
        fs::write(directory.join(&name), bytes).unwrap();
        run("umoci", &["raw", "add-layer", "--image", "image:t", &name], directory);
    }
    let config = [
        "config",
        "--image",
        "image:t",
        "--config.env",
        "A=<b>",
        "--config.cmd",
        "sh",
        "--config.label",
        "k=v",
        "--architecture",
        "amd64",
        "--os",
        "linux",
    ];
    run("umoci", &config, directory);
}

fn target() -> Target {
    Target::new(Arch::Amd64, None)
}

fn open_at(transport: Transport, from: &str, work: &Path) -> Result<ImageBase, Error> {
    open(&Source::parse(transport, from), Context { target: &target(), work, docker_host: None })
}

/// Path → what is there, of all layers merged.
fn merged(base: &ImageBase) -> BTreeMap<String, String> {
    let mut tree = Tree::new();
    let mut bodies: BTreeMap<(u32, TreePath), Vec<u8>> = BTreeMap::new();
    for (number, blob) in (0u32..).zip(&base.layers) {
        let layer = read_layer(blob.open_tar().unwrap(), Dialect::Oci, &mut |entry, body| {
            if let Some(body) = body {
                let mut bytes = Vec::new();
                body.read_to_end(&mut bytes)?;
                bodies.insert((number, entry.path.clone()), bytes);
            }
            Ok(())
        });
        tree.apply(&layer.unwrap(), number).unwrap();
    }
    let mut found = BTreeMap::new();
    for (path, id) in tree.walk() {
        let what = match &tree.inode(id).node {
            Node::Directory(_) => "directory".to_owned(),
            Node::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            Node::File { source: sifbuild::tree::Source::Layer { layer, path }, .. } => {
                describe(&bodies[&(*layer, path.clone())])
            }
            other => format!("{other:?}"),
        };
        found.insert(path.to_string(), what);
    }
    found
}

fn describe(bytes: &[u8]) -> String {
    sifbuild::digest::Digest::of(bytes).to_string()
}

fn on_disk(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else {
            describe(&fs::read(&path).unwrap())
        };
        found.insert(format!("/{}", path.strip_prefix(root).unwrap().display()), what);
    }
    found
}

#[test]
fn layers_merge_to_what_umoci_unpacks() {
    let directory = tempfile::tempdir().unwrap();
    make_image(directory.path());
    let base = open_at(Transport::Oci, &format!("{}/image:t", directory.path().display()), directory.path()).unwrap();
    run("umoci", &["raw", "unpack", "--rootless", "--image", "image:t", "root"], directory.path());
    let root = directory.path().join("root");
    assert_eq!(merged(&base), on_disk(&root));
    assert_eq!(fs::metadata(root.join("hard")).unwrap().nlink(), 2);
    assert_eq!(base.config.env, ["A=<b>"]);
    assert_eq!(base.config.cmd, ["sh"]);
    assert_eq!(base.config.labels["k"], "v");
}

#[test]
fn every_kind_of_archive_holds_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    make_image(at);
    let place = |name: &str| format!("{}/{name}", at.display());
    let expected = open_at(Transport::Oci, &place("image"), at).unwrap();
    for destination in ["oci-archive:oci.tar:t", "docker-archive:docker.tar:example.org/app:t"] {
        run("skopeo", &["--insecure-policy", "copy", "-q", "oci:image:t", destination], at);
    }
    for archive in ["oci.tar", "docker.tar"] {
        run("gzip", &["-k", archive], at);
    }
    for (transport, from) in [
        (Transport::OciArchive, "oci.tar"),
        (Transport::OciArchive, "oci.tar:t"),
        (Transport::OciArchive, "oci.tar.gz:t"),
        (Transport::DockerArchive, "docker.tar"),
        (Transport::DockerArchive, "docker.tar:example.org/app:t"),
        (Transport::DockerArchive, "docker.tar.gz:t"),
        // An archive of the newer kind under the older name.
        (Transport::DockerArchive, "oci.tar:t"),
    ] {
        let base = open_at(transport, &place(from), at).unwrap();
        assert_eq!(merged(&base), merged(&expected), "{from}");
        assert_eq!(base.config.env, expected.config.env, "{from}");
        assert_eq!(base.name, format!("{}:{}", transport.name(), place(from)));
        if transport == Transport::OciArchive {
            assert_eq!(base.manifest_digest, expected.manifest_digest, "{from}");
        }
    }
    let by_digest = format!("{}@{}", place("image"), expected.manifest_digest);
    assert_eq!(open_at(Transport::Oci, &by_digest, at).unwrap().layers, expected.layers);
}

#[test]
fn a_layout_with_several_images_wants_a_tag_and_lists_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    make_image(at);
    run("umoci", &["tag", "--image", "image:t", "other"], at);
    run("umoci", &["config", "--image", "image:other", "--config.cmd", "ls"], at);
    let image = format!("{}/image", at.display());
    assert_eq!(
        open_at(Transport::Oci, &image, at).unwrap_err().to_string(),
        format!("{image} holds several images, so a tag or a digest must be given: t, other")
    );
    assert_eq!(
        open_at(Transport::Oci, &format!("{image}:missing"), at).unwrap_err().to_string(),
        format!("{image} holds no image \"missing\"; it holds t, other")
    );
    assert_eq!(open_at(Transport::Oci, &format!("{image}:other"), at).unwrap().config.cmd, ["ls"]);
}

fn blob_path(base: &ImageBase, number: usize) -> PathBuf {
    base.layers[number].file.clone()
}

#[test]
fn damaged_layers_are_told_by_digest() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    make_image(at);
    let image = format!("{}/image", at.display());
    let base = open_at(Transport::Oci, &image, at).unwrap();
    let file = blob_path(&base, 0);
    let good = fs::read(&file).unwrap();

    // A byte that gzip does not check: the operating system in its header.
    let mut changed = good.clone();
    changed[9] ^= 1;
    fs::write(&file, &changed).unwrap();
    let error = read_layer(base.layers[0].open_tar().unwrap(), Dialect::Oci, &mut |_, _| Ok(())).unwrap_err();
    let expected = base.layers[0].digest.clone().unwrap();
    let message = format!("the archive cannot be read: the layer {expected} is corrupt: its bytes have the digest");
    assert!(error.to_string().starts_with(&message), "{error}");

    let mut broken = good.clone();
    let middle = broken.len() / 2;
    broken[middle..middle + 64].fill(0xaa);
    fs::write(&file, &broken).unwrap();
    let error = io::copy(&mut base.layers[0].open_tar().unwrap(), &mut io::sink()).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<BlobError>());
    assert!(matches!(inner, Some(BlobError::Unreadable { .. } | BlobError::WrongDigest { .. })), "{error}");

    fs::write(&file, &good[..good.len() - 10]).unwrap();
    let message = open_at(Transport::Oci, &image, at).unwrap_err().to_string();
    let promised = format!("has {} bytes, but {} are promised", good.len() - 10, good.len());
    assert_eq!(message, format!("{image}: the layer {expected} {promised}"));

    fs::remove_file(&file).unwrap();
    assert_eq!(
        open_at(Transport::Oci, &image, at).unwrap_err().to_string(),
        format!("{image}: the layer {expected} is missing")
    );
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    make_image(at);
    let image = format!("{}/image", at.display());
    let digest = open_at(Transport::Oci, &image, at).unwrap().manifest_digest;
    let path = at.join("image/blobs/sha256").join(digest.hex());
    let changed = fs::read_to_string(&path).unwrap().replacen("sha256:", "sha512:", 1);
    fs::write(&path, changed).unwrap();
    let message = open_at(Transport::Oci, &image, at).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{image}: the manifest is corrupt: it has the digest sha256:")), "{message}");
    assert!(message.ends_with(&format!("not {digest}")), "{message}");
}

#[test]
fn places_that_hold_no_image_say_what_they_lack() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let place = |name: &str| format!("{}/{name}", at.display());
    fs::write(at.join("text"), "no archive at all, just a text that is longer than a block".repeat(20)).unwrap();
    fs::write(at.join("empty.tar"), [0; 1024]).unwrap();
    fs::create_dir(at.join("directory")).unwrap();
    let message = |transport, name: &str| open_at(transport, &place(name), at).unwrap_err().to_string();
    assert_eq!(
        message(Transport::OciArchive, "text"),
        format!(
            "{} is not a readable archive: byte 0 of the archive should start a tar header, but its checksum does not fit",
            place("text")
        )
    );
    assert_eq!(
        message(Transport::OciArchive, "empty.tar"),
        format!("{} is not an OCI layout: it has no index.json", place("empty.tar"))
    );
    assert_eq!(
        message(Transport::DockerArchive, "empty.tar"),
        format!("{} is not a Docker archive: it has no manifest.json", place("empty.tar"))
    );
    assert_eq!(
        message(Transport::Oci, "directory"),
        format!("{} is not an OCI layout: it has no index.json", place("directory"))
    );
    assert!(message(Transport::OciArchive, "directory").ends_with("it is a directory; is it an OCI layout (oci:)?"));
    assert!(message(Transport::Oci, "text").ends_with("it is a file; is it an archive (oci-archive:)?"));
    assert_eq!(
        message(Transport::Oci, "missing"),
        format!("{}: No such file or directory (os error 2)", place("missing"))
    );
}

/// Answers one request as a Docker daemon does: in chunks.
fn serve(listener: UnixListener, status: &'static str, body: Vec<u8>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        reader.read_line(&mut request).unwrap();
        write!(stream, "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in body.chunks(60_000) {
            write!(stream, "{:x}\r\n", chunk.len()).unwrap();
            stream.write_all(chunk).unwrap();
            write!(stream, "\r\n").unwrap();
        }
        write!(stream, "0\r\n\r\n").unwrap();
        request
    })
}

#[test]
fn takes_an_image_from_a_docker_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    make_image(at);
    run(
        "skopeo",
        &["--insecure-policy", "copy", "-q", "oci:image:t", "docker-archive:docker.tar:docker.io/library/app:t"],
        at,
    );
    let expected = open_at(Transport::Oci, &format!("{}/image", at.display()), at).unwrap();
    let ask = |status, body, name: &str| {
        let socket = at.join(name);
        let server = serve(UnixListener::bind(&socket).unwrap(), status, body);
        let host = format!("unix://{}", socket.display());
        let source = Source::parse(Transport::DockerDaemon, "app:t");
        let answer = open(&source, Context { target: &target(), work: at, docker_host: Some(&host) });
        (answer, server.join().unwrap())
    };
    let (base, request) = ask("200 OK", fs::read(at.join("docker.tar")).unwrap(), "a.sock");
    assert_eq!(request, "GET /images/docker.io/library/app:t/get HTTP/1.1\r\n");
    assert_eq!(merged(&base.unwrap()), merged(&expected));
    let (refused, _) = ask("404 Not Found", b"{\"message\":\"reference does not exist\"}".to_vec(), "b.sock");
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!(
            "the Docker daemon at {}/b.sock does not give the image docker.io/library/app:t: reference does not exist",
            at.display()
        )
    );
}
