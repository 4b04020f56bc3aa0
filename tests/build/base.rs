//! A base image: Debian's static busybox in two layers that hold what is hard to keep.

use serde_json::{Value, json};
use sifbuild::archive::compress::Compression;
use sifbuild::archive::tar::{Header, Kind, Writer};
use sifbuild::digest::Digest;
use sifbuild::tree::Xattrs;
use std::fs;
use std::io::Write;
use std::path::Path;

pub const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 20] = [
    "cat", "chmod", "chown", "cp", "date", "echo", "env", "false", "grep", "head", "id", "ln", "ls", "mkdir", "rm",
    "sh", "sleep", "stat", "touch", "true",
];
/// `cap_net_bind_service=ep`, version 2.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// One member of a layer.
pub struct Member {
    header: Header,
    body: Vec<u8>,
}

pub fn file(path: &str, mode: u16, body: &[u8]) -> Member {
    member(path, Kind::File, mode, body)
}

pub fn directory(path: &str, mode: u16) -> Member {
    member(path, Kind::Directory, mode, b"")
}

fn link(path: &str, kind: Kind) -> Member {
    member(path, kind, 0o777, b"")
}

fn member(path: &str, kind: Kind, mode: u16, body: &[u8]) -> Member {
    let (uid, gid, size) = (0, 0, body.len() as u64);
    let header = Header { path: path.into(), kind, mode, uid, gid, mtime: 1_000_000_000, xattrs: Xattrs::new(), size };
    Member { header, body: body.to_vec() }
}

impl Member {
    pub fn owned(mut self, uid: u32, gid: u32) -> Member {
        (self.header.uid, self.header.gid) = (uid, gid);
        self
    }

    fn with(mut self, name: &str, value: &[u8]) -> Member {
        self.header.xattrs.insert(name.into(), value.to_vec());
        self
    }
}

pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for member in members {
        writer.append(&member.header, &mut member.body.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// The two layers.
pub fn layers() -> Vec<Vec<u8>> {
    let busybox = fs::read(BUSYBOX)
        .unwrap_or_else(|error| panic!("{BUSYBOX}: {error}; install it: apt-get install -y busybox-static"));
    let mut lower: Vec<Member> = ["bin", "dev", "etc", "opt", "proc", "root", "sys", "usr", "usr/bin", "var"]
        .iter()
        .map(|path| directory(path, 0o755))
        .collect();
    lower.push(directory("tmp", 0o1777));
    lower.push(file("bin/busybox", 0o755, &busybox));
    lower.extend(APPLETS.map(|applet| link(&format!("bin/{applet}"), Kind::Symlink(b"busybox".to_vec()))));
    lower.push(file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n"));
    lower.push(file("etc/group", 0o644, b"root:x:0:\nshadow:x:42:\n"));
    lower.push(file("etc/gone", 0o644, b"gone"));
    lower.push(file("etc/shadow", 0o640, b"secret").owned(0, 42));
    lower.push(file("opt/below", 0o644, b"below"));
    lower.push(file("usr/bin/raise", 0o4755, b"raise"));
    lower.push(file("usr/bin/bind", 0o755, b"bind").with("security.capability", &CAPABILITY));
    lower.push(file("usr/bin/noted", 0o644, b"noted").with("user.x", b"note"));
    lower.push(file("usr/bin/one", 0o644, b"one"));
    lower.push(link("usr/bin/two", Kind::HardLink(b"usr/bin/one".to_vec())));
    lower.push(directory("var/games", 0o2775).owned(5, 60));
    let upper = [
        file("etc/.wh.gone", 0o644, b""),
        directory("opt", 0o755),
        file("opt/.wh..wh..opq", 0o644, b""),
        file("opt/above", 0o644, b"above"),
    ];
    vec![archive(&lower), archive(&upper)]
}

/// An OCI layout at `directory`, its image tagged `t`; layers are compressed.
pub fn layout(directory: &Path, layers: &[Vec<u8>]) {
    layout_with(directory, layers, Compression::Gzip);
}

pub fn layout_with(directory: &Path, layers: &[Vec<u8>], compression: Compression) {
    let mut manifest = image(directory, layers, sifbuild::arch::Arch::host().oci(), compression);
    manifest.as_object_mut().unwrap().remove("platform");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "t"});
    index(directory, &[manifest]);
}

/// Blobs of an image in a layout; gives its descriptor with the platform.
pub fn image(directory: &Path, layers: &[Vec<u8>], architecture: &str, compression: Compression) -> Value {
    let compress = |layer: &Vec<u8>| match compression {
        Compression::Gzip => blob(directory, &oci("layer.v1.tar+gzip"), &gzip(layer)),
        Compression::Zstd => {
            blob(directory, &oci("layer.v1.tar+zstd"), &zstd::encode_all(layer.as_slice(), 3).unwrap())
        }
        _ => blob(directory, &oci("layer.v1.tar"), layer),
    };
    let compressed: Vec<Value> = layers.iter().map(compress).collect();
    let identities: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2020-02-02T02:02:02Z",
        "config": {"Env": ["PATH=/bin:/usr/bin", "FROM_BASE=yes"], "Cmd": ["/bin/sh"], "Labels": {"org.example.base": "small"}},
        "rootfs": {"type": "layers", "diff_ids": identities},
    });
    let config = blob(directory, &oci("config.v1+json"), config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": oci("manifest.v1+json"), "config": config, "layers": compressed});
    let mut descriptor = blob(directory, &oci("manifest.v1+json"), manifest.to_string().as_bytes());
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

/// An index of `manifests` as a blob; gives its descriptor.
pub fn inner_index(directory: &Path, manifests: &[Value]) -> Value {
    let text = json!({"schemaVersion": 2, "mediaType": oci("index.v1+json"), "manifests": manifests});
    blob(directory, &oci("index.v1+json"), text.to_string().as_bytes())
}

/// Makes the directory a layout that lists `manifests`.
pub fn index(directory: &Path, manifests: &[Value]) {
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn oci(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

fn blob(directory: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let digest = Digest::of(bytes);
    fs::write(blobs.join(digest.hex()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// The same as one tar archive.
pub fn layout_archive(path: &Path, layout: &Path) {
    let mut members = vec![directory("blobs", 0o755), directory("blobs/sha256", 0o755)];
    for name in ["oci-layout", "index.json"] {
        members.push(file(name, 0o644, &fs::read(layout.join(name)).unwrap()));
    }
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
        let name = format!("blobs/sha256/{}", entry.file_name().to_str().unwrap());
        members.push(file(&name, 0o644, &fs::read(entry.path()).unwrap()));
    }
    fs::write(path, archive(&members)).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
