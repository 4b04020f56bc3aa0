//! What the kernel asks of an image, answered.

use super::Owners;
use super::protocol::{self as wire, Answer, Attributes, Request, u32_at, u64_at};
use crate::squashfs::{BodyReader, Image, ReadAt};
use crate::tree::{Inode, InodeId, Node, Tree};
use std::collections::VecDeque;
use std::io::Read;

/// Files whose reading goes on where it stopped.
const READERS: usize = 64;
/// Longest answer to a read, in bytes; the kernel asks for no more than was agreed.
const LONGEST_READ: u32 = 1 << 20;

/// Type bits of a mode (inode(7)), and those of a directory's entry, which are the same shifted.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const BLOCK_DEVICE: u32 = 0o060_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const FIFO: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;

pub struct Server<'a, S: ReadAt> {
    image: &'a Image<S>,
    owners: Owners,
    /// By [`InodeId`]: names of each.
    links: Vec<u32>,
    has_attributes: bool,
    readers: VecDeque<Reader<'a, S>>,
}

struct Reader<'a, S: ReadAt> {
    id: InodeId,
    position: u64,
    body: BodyReader<'a, S>,
}

type Outcome = Result<Option<Answer>, i32>;

impl<'a, S: ReadAt> Server<'a, S> {
    pub fn new(image: &'a Image<S>, owners: Owners) -> Server<'a, S> {
        let (links, has_attributes) = count(&image.tree);
        Server { image, owners, links, has_attributes, readers: VecDeque::new() }
    }

    /// The answer's bytes; `None` where none is awaited.
    pub fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let request = Request::parse(bytes)?;
        match self.perform(&request) {
            Ok(answer) => answer.map(Answer::finish),
            Err(errno) => Some(Answer::error(request.unique, errno)),
        }
    }

    fn perform(&mut self, request: &Request<'_>) -> Outcome {
        let mut answer = Answer::new(request.unique);
        match request.opcode {
            wire::FORGET | wire::BATCH_FORGET | wire::INTERRUPT => return Ok(None),
            wire::INIT => {
                let (read_ahead, flags) = (number(request, 8)?, number(request, 12)?);
                answer.init(read_ahead, flags);
            }
            wire::LOOKUP => self.look_up(request, &mut answer)?,
            wire::GETATTR => {
                answer.attribute_answer(&self.attributes(self.id(request)?));
            }
            wire::READLINK => match &self.inode(request)?.node {
                Node::Symlink { target } => {
                    answer.bytes(target);
                }
                _ => return Err(libc::EINVAL),
            },
            wire::READ => self.read(request, &mut answer)?,
            wire::READDIR => self.list(request, &mut answer)?,
            wire::STATFS => statistics(&self.image.tree, self.image.superblock().bytes_used, &mut answer),
            wire::GETXATTR | wire::LISTXATTR => self.extended(request, &mut answer)?,
            wire::RELEASE | wire::RELEASEDIR | wire::DESTROY => {}
            opcode if wire::CHANGES.contains(&opcode) => return Err(libc::EROFS),
            // The kernel opens by itself then, and does not ask again.
            wire::OPEN | wire::OPENDIR => return Err(libc::ENOSYS),
            _ => return Err(libc::ENOSYS),
        }
        Ok(Some(answer))
    }

    /// Node 1 is the root.
    fn id(&self, request: &Request<'_>) -> Result<InodeId, i32> {
        let number = request.node.checked_sub(1).and_then(|number| u32::try_from(number).ok());
        number.filter(|number| (*number as usize) < self.links.len()).map(InodeId).ok_or(libc::ENOENT)
    }

    fn inode(&self, request: &Request<'_>) -> Result<&'a Inode, i32> {
        Ok(self.image.tree.inode(self.id(request)?))
    }

    fn look_up(&self, request: &Request<'_>, answer: &mut Answer) -> Result<(), i32> {
        let name = request.name(0).ok_or(libc::EINVAL)?;
        let directory = self.id(request)?;
        if !matches!(self.image.tree.inode(directory).node, Node::Directory(_)) {
            return Err(libc::ENOTDIR);
        }
        match self.image.tree.child(directory, name) {
            Some(id) => answer.entry(node(id), &self.attributes(id)),
            None => answer.entry(0, &Attributes::default()),
        };
        Ok(())
    }

    fn attributes(&self, id: InodeId) -> Attributes {
        let Inode { metadata, node: found } = self.image.tree.inode(id);
        let (size, device) = match found {
            Node::File { size, .. } => (*size, 0),
            Node::Symlink { target } => (target.len() as u64, 0),
            Node::Directory(children) => (children.len() as u64, 0),
            Node::BlockDevice { major, minor } | Node::CharacterDevice { major, minor } => (0, pack(*major, *minor)),
            Node::Fifo | Node::Socket => (0, 0),
        };
        let (uid, gid) = match self.owners {
            Owners::OfTheImage => (metadata.uid, metadata.gid),
            Owners::Root => (0, 0),
        };
        Attributes {
            node: node(id),
            size,
            mtime: u64::try_from(metadata.mtime).unwrap_or(0),
            mode: kind(found) | u32::from(metadata.mode) & 0o7777,
            links: self.links[id.0 as usize],
            uid,
            gid,
            device,
        }
    }

    fn read(&mut self, request: &Request<'_>, answer: &mut Answer) -> Result<(), i32> {
        let offset = u64_at(request.arguments, 8).ok_or(libc::EINVAL)?;
        let size = number(request, 16)?.min(LONGEST_READ);
        let id = self.id(request)?;
        let Node::File { size: length, .. } = self.image.tree.inode(id).node else { return Err(libc::EISDIR) };
        let wanted = u64::from(size).min(length.saturating_sub(offset)) as usize;
        if wanted == 0 {
            return Ok(());
        }
        let mut reader = self.reader(id, offset)?;
        let mut bytes = vec![0; wanted];
        reader.body.read_exact(&mut bytes).map_err(|_| libc::EIO)?;
        reader.position += wanted as u64;
        answer.bytes(&bytes);
        self.readers.push_front(reader);
        self.readers.truncate(READERS);
        Ok(())
    }

    /// A reader that stands at the offset: one that goes on, or a new one.
    fn reader(&mut self, id: InodeId, offset: u64) -> Result<Reader<'a, S>, i32> {
        let found = self.readers.iter().position(|reader| reader.id == id && reader.position <= offset);
        let known = found.and_then(|place| self.readers.remove(place));
        let mut reader = match known {
            Some(reader) => reader,
            None => Reader { id, position: 0, body: self.image.body(id).map_err(|_| libc::EIO)? },
        };
        reader.body.skip(offset - reader.position).map_err(|_| libc::EIO)?;
        reader.position = offset;
        Ok(reader)
    }

    /// Offset 0 is `.`, 1 is `..`, 2 the first name.
    fn list(&self, request: &Request<'_>, answer: &mut Answer) -> Result<(), i32> {
        let offset = u64_at(request.arguments, 8).ok_or(libc::EINVAL)?;
        let limit = number(request, 16)?.min(LONGEST_READ) as usize;
        let Node::Directory(children) = &self.inode(request)?.node else { return Err(libc::ENOTDIR) };
        for (place, name) in [b".".as_slice(), b".."].into_iter().enumerate().skip(offset.min(2) as usize) {
            if !answer.directory_entry(limit, request.node, place as u64 + 1, DIRECTORY >> 12, name) {
                return Ok(());
            }
        }
        let first = usize::try_from(offset.saturating_sub(2)).map_err(|_| libc::EINVAL)?;
        for (place, (name, id)) in children.iter().enumerate().skip(first) {
            let kind = kind(&self.image.tree.inode(*id).node) >> 12;
            if !answer.directory_entry(limit, node(*id), place as u64 + 3, kind, name) {
                break;
            }
        }
        Ok(())
    }

    fn extended(&self, request: &Request<'_>, answer: &mut Answer) -> Result<(), i32> {
        if !self.has_attributes {
            // Nobody is asked again.
            return Err(libc::ENOSYS);
        }
        let limit = number(request, 0)?;
        let xattrs = &self.inode(request)?.metadata.xattrs;
        let value = match request.opcode {
            wire::GETXATTR => xattrs.get(request.name(8).ok_or(libc::EINVAL)?).cloned().ok_or(libc::ENODATA)?,
            _ => xattrs.keys().flat_map(|name| name.iter().copied().chain([0])).collect(),
        };
        match limit {
            0 => answer.u32(value.len() as u32).u32(0),
            limit if value.len() > limit as usize => return Err(libc::ERANGE),
            _ => answer.bytes(&value),
        };
        Ok(())
    }
}

fn number(request: &Request<'_>, at: usize) -> Result<u32, i32> {
    u32_at(request.arguments, at).ok_or(libc::EINVAL)
}

fn node(id: InodeId) -> u64 {
    u64::from(id.0) + 1
}

fn kind(node: &Node) -> u32 {
    match node {
        Node::Directory(_) => DIRECTORY,
        Node::File { .. } => FILE,
        Node::Symlink { .. } => SYMLINK,
        Node::BlockDevice { .. } => BLOCK_DEVICE,
        Node::CharacterDevice { .. } => CHARACTER_DEVICE,
        Node::Fifo => FIFO,
        Node::Socket => SOCKET,
    }
}

/// Spec: the kernel's `new_encode_dev`.
fn pack(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Names of every inode, and whether any has attributes.
fn count(tree: &Tree) -> (Vec<u32>, bool) {
    let mut links = vec![0; tree.capacity()];
    let mut has_attributes = false;
    let mut pending = vec![Tree::ROOT];
    links[Tree::ROOT.0 as usize] = 2;
    while let Some(directory) = pending.pop() {
        has_attributes |= !tree.inode(directory).metadata.xattrs.is_empty();
        let Node::Directory(children) = &tree.inode(directory).node else { continue };
        for id in children.values() {
            if matches!(tree.inode(*id).node, Node::Directory(_)) {
                links[id.0 as usize] += 2;
                links[directory.0 as usize] += 1;
                pending.push(*id);
            } else {
                links[id.0 as usize] += 1;
                has_attributes |= !tree.inode(*id).metadata.xattrs.is_empty();
            }
        }
    }
    (links, has_attributes)
}

/// `struct fuse_kstatfs`.
fn statistics(tree: &Tree, bytes: u64, answer: &mut Answer) {
    const BLOCK: u32 = 4096;
    answer.u64(bytes.div_ceil(u64::from(BLOCK))).u64(0).u64(0).u64(tree.capacity() as u64).u64(0);
    answer.u32(BLOCK).u32(255).u32(BLOCK).bytes(&[0; 28]);
}

#[cfg(test)]
mod tests;
