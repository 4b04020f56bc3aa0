//! Inodes: fourteen layouts for seven kinds, each basic (short) or extended.

use super::{NO_XATTR, u16_at, u32_at, u64_at};

pub const DIRECTORY: u16 = 1;
pub const FILE: u16 = 2;
pub const SYMLINK: u16 = 3;
pub const BLOCK_DEVICE: u16 = 4;
pub const CHARACTER_DEVICE: u16 = 5;
pub const FIFO: u16 = 6;
pub const SOCKET: u16 = 7;
/// What an extended type exceeds its basic one by.
pub const EXTENDED: u16 = 7;

pub const HEADER_SIZE: usize = 16;
/// A listing's size is stored with this added, for the `.` and `..` that it does not hold.
pub const LISTING_SIZE_BIAS: u32 = 3;
/// Longest symlink target that Linux can make or read (a page with its terminating NUL).
pub const MAXIMUM_SYMLINK: usize = 4095;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// The type as stored, 1 to 14; [`Inode::encode`] chooses it anew.
    pub inode_type: u16,
    /// The low 12 bits of `st_mode`.
    pub mode: u16,
    pub uid_index: u16,
    pub gid_index: u16,
    pub mtime: u32,
    pub inode_number: u32,
    pub nlink: u32,
    /// Index in the attribute id table, or [`NO_XATTR`].
    pub xattr: u32,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The listing lies at `offset` in the directory table's metadata block `start_block`.
    Directory {
        start_block: u32,
        offset: u16,
        /// Bytes of the listing, without [`LISTING_SIZE_BIAS`].
        listing_size: u32,
        parent_inode: u32,
        index: Vec<DirectoryIndex>,
    },
    /// Size words of the blocks follow the inode.
    File {
        start_block: u64,
        file_size: u64,
        sparse: u64,
        fragment: u32,
        offset: u32,
    },
    Symlink {
        target: Vec<u8>,
    },
    BlockDevice {
        rdev: u32,
    },
    CharacterDevice {
        rdev: u32,
    },
    Fifo,
    Socket,
}

/// Lets a look-up begin at the header that has `name` as its first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryIndex {
    /// Bytes of the listing before that header.
    pub index: u32,
    pub start_block: u32,
    pub name: Vec<u8>,
}

impl Inode {
    /// Appends the inode, in its short layout where that can say all.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let extended = self.needs_extended();
        let basic_type = self.body.basic_type();
        let inode_type = if extended { basic_type + EXTENDED } else { basic_type };
        for half in [inode_type, self.mode, self.uid_index, self.gid_index] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        put_words(bytes, &[self.mtime, self.inode_number]);
        match &self.body {
            Body::Directory { .. } => self.encode_directory(extended, bytes),
            Body::File { .. } => self.encode_file(extended, bytes),
            Body::Symlink { target } => {
                put_words(bytes, &[self.nlink, target.len() as u32]);
                bytes.extend_from_slice(target);
            }
            Body::BlockDevice { rdev } | Body::CharacterDevice { rdev } => put_words(bytes, &[self.nlink, *rdev]),
            Body::Fifo | Body::Socket => put_words(bytes, &[self.nlink]),
        }
        if extended && !matches!(self.body, Body::Directory { .. } | Body::File { .. }) {
            put_words(bytes, &[self.xattr]);
        }
    }

    fn needs_extended(&self) -> bool {
        if self.xattr != NO_XATTR {
            return true;
        }
        match &self.body {
            Body::Directory { listing_size, index, .. } => {
                listing_size + LISTING_SIZE_BIAS > u32::from(u16::MAX) || !index.is_empty()
            }
            Body::File { start_block, file_size, sparse, .. } => {
                self.nlink > 1 || *start_block > u64::from(u32::MAX) || *file_size > u64::from(u32::MAX) || *sparse > 0
            }
            _ => false,
        }
    }

    fn encode_directory(&self, extended: bool, bytes: &mut Vec<u8>) {
        let Body::Directory { start_block, offset, listing_size, parent_inode, index } = &self.body else { return };
        let file_size = listing_size + LISTING_SIZE_BIAS;
        if !extended {
            put_words(bytes, &[*start_block, self.nlink]);
            bytes.extend_from_slice(&(file_size as u16).to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
            put_words(bytes, &[*parent_inode]);
            return;
        }
        put_words(bytes, &[self.nlink, file_size, *start_block, *parent_inode]);
        bytes.extend_from_slice(&(index.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        put_words(bytes, &[self.xattr]);
        for entry in index {
            put_words(bytes, &[entry.index, entry.start_block, entry.name.len() as u32 - 1]);
            bytes.extend_from_slice(&entry.name);
        }
    }

    fn encode_file(&self, extended: bool, bytes: &mut Vec<u8>) {
        let Body::File { start_block, file_size, sparse, fragment, offset } = &self.body else { return };
        if !extended {
            put_words(bytes, &[*start_block as u32, *fragment, *offset, *file_size as u32]);
            return;
        }
        for long in [start_block, file_size, sparse] {
            bytes.extend_from_slice(&long.to_le_bytes());
        }
        put_words(bytes, &[self.nlink, *fragment, *offset, self.xattr]);
    }

    /// Reads one inode; `take` fills its buffer with the next bytes of the table. The block size words of a file are left unread.
    ///
    /// `unknown` makes the error for what is no inode.
    pub fn parse<E>(
        take: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
        unknown: impl Fn(&'static str) -> E,
    ) -> Result<Inode, E> {
        let mut header = [0; HEADER_SIZE];
        take(&mut header)?;
        let inode_type = u16_at(&header, 0);
        let basic_type = if inode_type > EXTENDED { inode_type - EXTENDED } else { inode_type };
        let mut inode = Inode {
            inode_type,
            mode: u16_at(&header, 2) & 0o7777,
            uid_index: u16_at(&header, 4),
            gid_index: u16_at(&header, 6),
            mtime: u32_at(&header, 8),
            inode_number: u32_at(&header, 12),
            nlink: 1,
            xattr: NO_XATTR,
            body: Body::Fifo,
        };
        let extended = inode_type > EXTENDED;
        match basic_type {
            DIRECTORY => inode.parse_directory(extended, take, unknown)?,
            FILE => inode.parse_file(extended, take)?,
            SYMLINK => inode.parse_symlink(extended, take, unknown)?,
            BLOCK_DEVICE | CHARACTER_DEVICE => {
                let mut rest = [0; 12];
                let size = if extended { 12 } else { 8 };
                take(&mut rest[..size])?;
                inode.nlink = u32_at(&rest, 0);
                inode.xattr = if extended { u32_at(&rest, 8) } else { NO_XATTR };
                let rdev = u32_at(&rest, 4);
                inode.body = if basic_type == BLOCK_DEVICE {
                    Body::BlockDevice { rdev }
                } else {
                    Body::CharacterDevice { rdev }
                };
            }
            FIFO | SOCKET => {
                let mut rest = [0; 8];
                let size = if extended { 8 } else { 4 };
                take(&mut rest[..size])?;
                inode.nlink = u32_at(&rest, 0);
                inode.xattr = if extended { u32_at(&rest, 4) } else { NO_XATTR };
                inode.body = if basic_type == FIFO { Body::Fifo } else { Body::Socket };
            }
            _ => return Err(unknown("has an unknown type")),
        }
        Ok(inode)
    }

    fn parse_directory<E>(
        &mut self,
        extended: bool,
        take: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
        unknown: impl Fn(&'static str) -> E,
    ) -> Result<(), E> {
        let (file_size, start_block, offset, parent_inode);
        let mut index = Vec::new();
        if extended {
            let mut rest = [0; 24];
            take(&mut rest)?;
            self.nlink = u32_at(&rest, 0);
            (file_size, start_block) = (u32_at(&rest, 4), u32_at(&rest, 8));
            (parent_inode, offset) = (u32_at(&rest, 12), u16_at(&rest, 18));
            self.xattr = u32_at(&rest, 20);
            for _ in 0..u16_at(&rest, 16) {
                index.push(parse_index(take, &unknown)?);
            }
        } else {
            let mut rest = [0; 16];
            take(&mut rest)?;
            (start_block, self.nlink) = (u32_at(&rest, 0), u32_at(&rest, 4));
            (file_size, offset) = (u32::from(u16_at(&rest, 8)), u16_at(&rest, 10));
            parent_inode = u32_at(&rest, 12);
        }
        // Compat: some writers store 0 for an empty directory.
        let listing_size = file_size.saturating_sub(LISTING_SIZE_BIAS);
        self.body = Body::Directory { start_block, offset, listing_size, parent_inode, index };
        Ok(())
    }

    fn parse_file<E>(&mut self, extended: bool, take: &mut dyn FnMut(&mut [u8]) -> Result<(), E>) -> Result<(), E> {
        if extended {
            let mut rest = [0; 40];
            take(&mut rest)?;
            self.nlink = u32_at(&rest, 24);
            self.xattr = u32_at(&rest, 36);
            self.body = Body::File {
                start_block: u64_at(&rest, 0),
                file_size: u64_at(&rest, 8),
                sparse: u64_at(&rest, 16),
                fragment: u32_at(&rest, 28),
                offset: u32_at(&rest, 32),
            };
        } else {
            let mut rest = [0; 16];
            take(&mut rest)?;
            self.body = Body::File {
                start_block: u64::from(u32_at(&rest, 0)),
                file_size: u64::from(u32_at(&rest, 12)),
                sparse: 0,
                fragment: u32_at(&rest, 4),
                offset: u32_at(&rest, 8),
            };
        }
        Ok(())
    }

    fn parse_symlink<E>(
        &mut self,
        extended: bool,
        take: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
        unknown: impl Fn(&'static str) -> E,
    ) -> Result<(), E> {
        let mut rest = [0; 8];
        take(&mut rest)?;
        self.nlink = u32_at(&rest, 0);
        let size = u32_at(&rest, 4) as usize;
        if size > MAXIMUM_SYMLINK {
            return Err(unknown("is a symbolic link longer than 4095 bytes"));
        }
        let mut target = vec![0; size];
        take(&mut target)?;
        if extended {
            let mut xattr = [0; 4];
            take(&mut xattr)?;
            self.xattr = u32::from_le_bytes(xattr);
        }
        self.body = Body::Symlink { target };
        Ok(())
    }
}

fn parse_index<E>(
    take: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    unknown: &impl Fn(&'static str) -> E,
) -> Result<DirectoryIndex, E> {
    let mut rest = [0; 12];
    take(&mut rest)?;
    let size = u32_at(&rest, 8);
    if size >= 256 {
        return Err(unknown("has a directory index with a name longer than 256 bytes"));
    }
    let mut name = vec![0; size as usize + 1];
    take(&mut name)?;
    Ok(DirectoryIndex { index: u32_at(&rest, 0), start_block: u32_at(&rest, 4), name })
}

impl Body {
    /// The type number of the short layout, as directory entries carry it.
    pub fn basic_type(&self) -> u16 {
        match self {
            Body::Directory { .. } => DIRECTORY,
            Body::File { .. } => FILE,
            Body::Symlink { .. } => SYMLINK,
            Body::BlockDevice { .. } => BLOCK_DEVICE,
            Body::CharacterDevice { .. } => CHARACTER_DEVICE,
            Body::Fifo => FIFO,
            Body::Socket => SOCKET,
        }
    }
}

fn put_words(bytes: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}
