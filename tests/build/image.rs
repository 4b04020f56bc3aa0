//! Images read back.

use sifbuild::sif::reader::Sif;
use sifbuild::squashfs::{Image, Window};
use sifbuild::tree::{InodeId, Node, TreePath};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The root filesystem of a SIF.
pub struct RootFilesystem(Image<Window>);

pub fn open(path: &Path) -> RootFilesystem {
    let sif = Sif::read(File::open(path).unwrap()).unwrap();
    let (partition, _) = sif.primary_partition().unwrap();
    let (start, size) = (partition.offset as u64, partition.size as u64);
    RootFilesystem(Image::open(Window::new(File::open(path).unwrap(), start, size)).unwrap())
}

impl RootFilesystem {
    pub fn find(&self, path: &str) -> Option<InodeId> {
        self.0.tree.get(&TreePath::parse(path.as_bytes()).unwrap())
    }

    /// `0640 0:42`.
    pub fn owner(&self, path: &str) -> String {
        let id = self.find(path).unwrap_or_else(|| panic!("{path} is not in the image"));
        let metadata = &self.0.tree.inode(id).metadata;
        format!("{:04o} {}:{}", metadata.mode, metadata.uid, metadata.gid)
    }

    pub fn attribute(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        self.0.tree.inode(self.find(path)?).metadata.xattrs.get(name.as_bytes()).cloned()
    }

    /// Owner, mode, type and attributes of everything.
    pub fn metadata(&self) -> std::collections::BTreeSet<String> {
        let line = |(path, id): (TreePath, InodeId)| {
            let inode = self.0.tree.inode(id);
            let kind = match inode.node {
                Node::CharacterDevice { .. } | Node::BlockDevice { .. } => format!("{:?}", inode.node),
                _ => format!("{:?}", std::mem::discriminant(&inode.node)),
            };
            let metadata = &inode.metadata;
            format!("{path} {:04o} {}:{} {kind} {:?}", metadata.mode, metadata.uid, metadata.gid, metadata.xattrs)
        };
        self.0.tree.walk().into_iter().map(line).collect()
    }

    /// `c 1:3`.
    pub fn device(&self, path: &str) -> Option<String> {
        match self.0.tree.inode(self.find(path)?).node {
            Node::CharacterDevice { major, minor } => Some(format!("c {major}:{minor}")),
            Node::BlockDevice { major, minor } => Some(format!("b {major}:{minor}")),
            _ => None,
        }
    }

    pub fn target(&self, path: &str) -> Option<String> {
        match &self.0.tree.inode(self.find(path)?).node {
            Node::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
            _ => None,
        }
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let id = self.find(path).unwrap_or_else(|| panic!("{path} is not in the image"));
        let mut bytes = Vec::new();
        self.0.body(id).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap()
    }
}

/// Everything in which the base is hard to keep.
pub fn assert_base(root: &RootFilesystem) {
    assert_eq!(root.owner("bin/busybox"), "0755 0:0");
    assert_eq!(root.target("bin/sh").as_deref(), Some("busybox"));
    assert_eq!(root.owner("etc/shadow"), "0640 0:42");
    assert_eq!(root.text("etc/shadow"), "secret");
    assert_eq!(root.owner("usr/bin/raise"), "4755 0:0");
    assert_eq!(root.owner("var/games"), "2775 5:60");
    assert_eq!(root.owner("tmp"), "1777 0:0");
    assert_eq!(root.attribute("usr/bin/bind", "security.capability").as_deref(), Some(&super::base::CAPABILITY[..]));
    assert_eq!(root.attribute("usr/bin/noted", "user.x").as_deref(), Some(&b"note"[..]));
    assert!(root.find("usr/bin/one").is_some());
    assert_eq!(root.find("usr/bin/one"), root.find("usr/bin/two"), "hard links stay one file");
    assert_eq!(root.find("etc/gone"), None, "a whiteout removes");
    assert_eq!(root.find("opt/below"), None, "an opaque directory hides");
    assert_eq!(root.text("opt/above"), "above");
}
