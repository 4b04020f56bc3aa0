//! Where a comparison takes place, and how the two programs are called.

use super::base;
use super::server::{Registry, copy_image};
use serde_json::json;
use sifbuild::digest::Digest;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const PROGRAMS: &[&str] =
    &["sh", "env", "echo", "cat", "ls", "chmod", "chown", "ln", "mkdir", "mkfifo", "rm", "test", "grep", "sort"];

pub struct Scratch {
    peer: String,
    directory: TempDir,
    pub registry: Registry,
}

pub fn scratch() -> Option<Scratch> {
    let Some(peer) = std::env::var_os("SIFBUILD_PEER") else {
        println!("SIFBUILD_PEER is not set: nothing is compared with the real Apptainer");
        return None;
    };
    let directory = tempfile::Builder::new().prefix("build-peer-").tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let registry = Registry::start(&directory.path().join("registry"), false);
    Some(Scratch { peer: peer.into_string().unwrap(), directory, registry })
}

/// Standard output and exit status.
pub type Outcome = (String, Option<i32>);

impl Scratch {
    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn apptainer(&self, arguments: &[&str]) -> (Outcome, String) {
        let mut command = Command::new(&self.peer);
        command.args(["--bind", &self.file(""), "--user", "apptainer", "--quiet"]);
        outcome(command.args(arguments).current_dir("/"))
    }

    pub fn sifbuild(&self, arguments: &[&str]) -> (Outcome, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sifbuild"));
        command.env("SIFBUILD_CACHEDIR", self.file("cache"));
        outcome(command.args(arguments).current_dir("/"))
    }

    /// What a shell says that runs `script` where `apptainer` is the real one.
    pub fn shell(&self, script: &str) -> (Outcome, String) {
        let mut command = Command::new(&self.peer);
        command.args(["--bind", &self.file(""), "--user", "sh", "-c", script]);
        outcome(command.current_dir("/"))
    }

    /// Builds `text` with both and gives the paths of our image and theirs.
    pub fn build(&self, name: &str, text: &str) -> (String, String) {
        let definition = self.file(&format!("{name}.def"));
        fs::write(&definition, text.replace("DIR/", &self.file("")).replace("HOST", &self.registry.host)).unwrap();
        let (ours, theirs) = (self.file(&format!("{name}-ours.sif")), self.file(&format!("{name}-theirs.sif")));
        let ((_, status), complaint) = self.apptainer(&["build", "--no-https", &theirs, &definition]);
        assert_eq!(status, Some(0), "apptainer, {name}: {complaint}");
        let ((_, status), complaint) = self.sifbuild(&["build", "--no-https", &ours, &definition]);
        assert_eq!(status, Some(0), "sifbuild, {name}: {complaint}");
        (ours, theirs)
    }

    /// Files that the definitions take from the host.
    pub fn make_host_files(&self) {
        let tree = self.directory.path().join("host/tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(self.file("host/data.txt"), "data\n").unwrap();
        fs::write(tree.join("inner/program"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("inner/program"), Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("shared"), "shared\n").unwrap();
        fs::set_permissions(tree.join("shared"), Permissions::from_mode(0o664)).unwrap();
        symlink("shared", tree.join("link")).unwrap();
        symlink("inner", tree.join("link-to-directory")).unwrap();
    }

    /// An OCI archive of one layer: busybox, accounts, a file that is not root's.
    pub fn make_base(&self) {
        let root = self.directory.path().join("root");
        for directory in ["bin", "etc", "srv", "tmp", "usr/bin"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("apt-get install -y busybox-static");
        for name in PROGRAMS {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(root.join("etc/hosts"), "127.0.0.1 of-the-image\n").unwrap();
        fs::write(root.join("srv/of-shadow"), "shadow\n").unwrap();
        fs::set_permissions(root.join("srv/of-shadow"), Permissions::from_mode(0o2640)).unwrap();
        let layer = self.file("layer.tar");
        let root = root.to_str().unwrap();
        let tar = ["--numeric-owner", "--sort=name", "--mtime=@1000000000", "--owner=0", "-C", root, "-f", &layer];
        make_archive(&[&tar[..], &["--group=0", "--exclude=./srv/of-shadow", "-c", "."]].concat());
        make_archive(&[&tar[..], &["--group=42", "-r", "./srv/of-shadow"]].concat());
        self.make_layout(&fs::read(&layer).unwrap());
    }

    /// The layered base of tests/build in the registry, as `org/app:1.0`.
    pub fn push_layers(&self) {
        let layout = self.file("layers");
        base::layout(Path::new(&layout), &base::layers());
        let image = format!("docker://{}/org/app:1.0", self.registry.host);
        copy_image(&["--format", "v2s2"], &format!("oci:{layout}:t"), &image);
    }

    fn make_layout(&self, layer: &[u8]) {
        let layout = self.directory.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8], kind: &str| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
        };
        let layer = put(layer, "layer.v1.tar");
        // Apptainer 1.4 escapes `\ " $ `` in variables twice, so that its file is no shell script any more.
        let config = json!({
            "created": "2001-09-09T01:46:40Z", "architecture": sifbuild::arch::Arch::host().oci(), "os": "linux",
            "config": {
                "Entrypoint": ["/bin/echo", "it's", "$HOME \"q\" `x` \\"],
                "Cmd": ["a default", "-n"],
                "Env": ["PATH=/usr/bin:/bin", "QUOTED=a 'b' (c)", "EMPTY=", "1BAD=x", "BARE"],
                "Labels": {"from-base": "of the image", "markup": "<&>"},
                "WorkingDir": "/srv",
                "StopSignal": "SIGINT",
                "Healthcheck": {"Test": ["NONE"]}, "Shell": ["/bin/sh"], "OnBuild": ["RUN x"],
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            "history": [{"created": "2001-09-09T01:46:40Z"}],
        });
        let config = put(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        });
        let manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        // Apptainer refuses an archive with the name `.` in it.
        let place = ["-C", layout.to_str().unwrap(), "-cf", &self.file("base.tar")];
        make_archive(&[&place[..], &["oci-layout", "index.json", "blobs"]].concat());
    }
}

fn make_archive(arguments: &[&str]) {
    assert!(Command::new("tar").args(arguments).status().is_ok_and(|status| status.success()), "tar {arguments:?}");
}

fn outcome(command: &mut Command) -> (Outcome, String) {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()), complaint)
}
