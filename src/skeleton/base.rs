//! The base environment: what lies in every image before the definition's own sections (facts §4.1).

use super::changes::Changes;
use super::oci::{OciRuntime, put_runtime};
use crate::digest::Digest;
use crate::tree::{Kind, Layer, Metadata, Node, Tree, TreePath, text};

/// What kind of base the environment is laid over; decides what of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An OCI image: its own files give way; its configuration becomes the runscript and the environment.
    Oci,
    /// A Singularity image: all that it has is kept.
    Local,
    /// A distribution or nothing at all: an empty runscript.
    Shell,
    /// A single busybox binary: as `Shell`, with the accounts that it needs.
    Busybox,
}

impl Origin {
    pub fn name(self) -> &'static str {
        match self {
            Origin::Oci => "oci",
            Origin::Local => "local",
            Origin::Shell => "shell",
            Origin::Busybox => "busybox",
        }
    }

    /// Whether the environment replaces files that the base has.
    pub fn overwrites(self) -> bool {
        self != Origin::Local
    }
}

const DIRECTORIES: [&str; 11] = [
    ".singularity.d/libs",
    ".singularity.d/actions",
    ".singularity.d/env",
    "dev",
    "proc",
    "root",
    "var/tmp",
    "tmp",
    "etc",
    "sys",
    "home",
];

const SYMLINKS: [(&str, &str); 6] = [
    ("singularity", ".singularity.d/runscript"),
    (".run", ".singularity.d/actions/run"),
    (".exec", ".singularity.d/actions/exec"),
    (".test", ".singularity.d/actions/test"),
    (".shell", ".singularity.d/actions/shell"),
    ("environment", ".singularity.d/env/90-environment.sh"),
];

const FILES: [(&str, u16, &str); 14] = [
    ("etc/hosts", 0o644, ""),
    ("etc/resolv.conf", 0o644, ""),
    (".singularity.d/actions/exec", 0o755, include_str!("scripts/exec.sh")),
    (".singularity.d/actions/run", 0o755, include_str!("scripts/run.sh")),
    (".singularity.d/actions/shell", 0o755, include_str!("scripts/shell.sh")),
    (".singularity.d/actions/start", 0o755, include_str!("scripts/start.sh")),
    (".singularity.d/actions/test", 0o755, include_str!("scripts/test.sh")),
    (".singularity.d/env/01-base.sh", 0o755, include_str!("scripts/01-base.sh")),
    (".singularity.d/env/90-environment.sh", 0o755, include_str!("scripts/90-environment.sh")),
    (".singularity.d/env/95-apps.sh", 0o755, include_str!("scripts/95-apps.sh")),
    (".singularity.d/env/99-base.sh", 0o755, include_str!("scripts/99-base.sh")),
    (".singularity.d/env/99-runtimevars.sh", 0o755, include_str!("scripts/99-runtimevars.sh")),
    (".singularity.d/runscript", 0o755, include_str!("scripts/runscript.sh")),
    (".singularity.d/startscript", 0o755, include_str!("scripts/startscript.sh")),
];

/// Directories, links and files of the base environment that `tree` lacks; with `overwrite` the files replace those
/// that it has. `mtime` is in seconds since the epoch.
///
/// Compat: with `overwrite`, an image's own `etc/hosts` and `etc/resolv.conf` become empty, as Apptainer leaves them.
pub fn base_environment(tree: &Tree, overwrite: bool, mtime: i64) -> Layer {
    let mut changes = Changes::new(tree, mtime);
    put_environment(&mut changes, tree, overwrite);
    changes.layer
}

/// All that follows the base of a stage before anything of its definition: the base environment, the runscript of
/// its origin, an empty `94-appsbase.sh`. `runtime` is the configuration of an OCI base.
pub fn after_base(tree: &Tree, origin: Origin, runtime: Option<&OciRuntime>, mtime: i64) -> Layer {
    let mut changes = Changes::new(tree, mtime);
    put_environment(&mut changes, tree, origin.overwrites());
    if let Some(runtime) = runtime {
        put_runtime(&mut changes, runtime);
    }
    if matches!(origin, Origin::Shell | Origin::Busybox) {
        changes.file(".singularity.d/runscript", 0o755, b"#!/bin/sh\n".to_vec());
    }
    if origin == Origin::Busybox {
        changes.file("etc/passwd", 0o664, b"root:!:0:0:root:/root:/bin/sh".to_vec());
        // Compat: Apptainer writes a leading space here, which makes a group of another name; it is left out.
        changes.file("etc/group", 0o664, b"root:x:0:".to_vec());
        changes.file("etc/hosts", 0o664, b"127.0.0.1   localhost\n".to_vec());
    }
    // Compat: rewritten in every build, so the exports of a base image's apps are not inherited.
    changes.file(".singularity.d/env/94-appsbase.sh", 0o755, Vec::new());
    changes.layer
}

/// Identifies what [`after_base`] writes, for keys: another sifbuild with other scripts makes another result.
pub fn version() -> Digest {
    let mut texts = String::new();
    for origin in [Origin::Oci, Origin::Local, Origin::Shell, Origin::Busybox] {
        let runtime = OciRuntime { env: vec!["A=b".to_owned()], ..OciRuntime::default() };
        let runtime = (origin == Origin::Oci).then_some(&runtime);
        texts.push_str(&text::write(&after_base(&Tree::new(), origin, runtime, 0)));
    }
    Digest::of(texts.as_bytes())
}

fn put_environment(changes: &mut Changes<'_>, tree: &Tree, overwrite: bool) {
    let root = &tree.inode(Tree::ROOT).metadata;
    if root.mode & 0o200 == 0 {
        let metadata = Metadata { mode: root.mode | 0o200, ..root.clone() };
        changes.layer.put(TreePath::root(), metadata, Kind::Directory);
    }
    for path in DIRECTORIES {
        changes.directory(path);
    }
    for (path, target) in SYMLINKS {
        match tree.child(Tree::ROOT, path.as_bytes()).map(|id| &tree.inode(id).node) {
            Some(Node::Symlink { target: existing }) if existing == target.as_bytes() => {}
            None | Some(Node::Symlink { .. }) => changes.symlink(path, target),
            Some(_) => {}
        }
    }
    for (path, mode, content) in FILES {
        if overwrite || changes.find(path).is_none() {
            changes.file(path, mode, content.as_bytes().to_vec());
        }
    }
}
