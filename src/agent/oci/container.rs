//! Named byte ranges: the files of a directory, or the members of an archive.

use super::Error;
use crate::archive::compress::{self, Compression};
use crate::archive::tar;
use crate::digest::Digest;
use crate::oci::MAXIMUM_DOCUMENT;
use crate::store::LayerBlob;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Members of an archive that holds images.
const MAXIMUM_MEMBERS: usize = 1 << 20;
/// Longest name of a member or of what it links to, in bytes; those of blobs and documents have a few hundred.
const MAXIMUM_NAME: usize = 1024;
/// Links from member to member that are followed.
const MAXIMUM_HOPS: usize = 8;

pub(in crate::agent) struct Container {
    /// Directory or archive, as the user named it.
    pub path: PathBuf,
    kind: Kind,
}

enum Kind {
    Directory,
    Archive {
        /// The archive itself or its uncompressed copy.
        file: PathBuf,
        members: HashMap<String, Member>,
    },
}

enum Member {
    Range {
        offset: u64,
        length: u64,
    },
    /// Another member's name.
    Link(String),
}

/// Where a blob's bytes are.
pub(in crate::agent) struct Range {
    pub file: PathBuf,
    pub offset: u64,
    pub length: u64,
}

impl Container {
    pub fn directory(path: &Path) -> Result<Container, Error> {
        let metadata = std::fs::metadata(path).map_err(|cause| Error::Io { path: path.to_path_buf(), cause })?;
        if !metadata.is_dir() {
            let cause = "it is a file; is it an archive (oci-archive:)?".to_owned();
            return Err(Error::NotAnImage { path: path.to_path_buf(), what: "an OCI layout directory", cause });
        }
        Ok(Container { path: path.to_path_buf(), kind: Kind::Directory })
    }

    /// Indexes an archive; a compressed one is first written uncompressed into `work`.
    pub fn archive(path: &Path, work: &Path) -> Result<Container, Error> {
        let fault = |cause| Error::Io { path: path.to_path_buf(), cause };
        let mut file = File::open(path).map_err(fault)?;
        if file.metadata().map_err(fault)?.is_dir() {
            let cause = "it is a directory; is it an OCI layout (oci:)?".to_owned();
            return Err(Error::NotAnImage { path: path.to_path_buf(), what: "an archive", cause });
        }
        let mut start = Vec::new();
        file.by_ref().take(compress::MAGIC_LENGTH as u64).read_to_end(&mut start).map_err(fault)?;
        file.seek(SeekFrom::Start(0)).map_err(fault)?;
        let compression = Compression::detect(&start);
        let (mut file, place) = match compression {
            Compression::None => (file, path.to_path_buf()),
            _ => {
                let mut copy = tempfile::Builder::new()
                    .prefix("archive-")
                    .suffix(".tar")
                    .tempfile_in(work)
                    .map_err(|cause| Error::Io { path: work.to_path_buf(), cause })?;
                let mut decoder = compress::decoder(file, compression).map_err(fault)?;
                io::copy(&mut decoder, copy.as_file_mut()).map_err(fault)?;
                copy.keep().map_err(|error| fault(error.error))?
            }
        };
        file.seek(SeekFrom::Start(0)).map_err(fault)?;
        let members = index(file).map_err(|cause| Error::Archive { path: path.to_path_buf(), cause })?;
        Ok(Container { path: path.to_path_buf(), kind: Kind::Archive { file: place, members } })
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// `name` is one of ours or, in an archive, anything: it is looked up, never opened.
    pub fn find(&self, name: &str) -> Option<Range> {
        match &self.kind {
            Kind::Directory => {
                let file = self.path.join(name);
                let metadata = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file)?;
                Some(Range { file, offset: 0, length: metadata.len() })
            }
            Kind::Archive { file, members } => {
                let mut name = normalise("", name)?;
                for _ in 0..MAXIMUM_HOPS {
                    match members.get(&name)? {
                        Member::Range { offset, length } => {
                            return Some(Range { file: file.clone(), offset: *offset, length: *length });
                        }
                        Member::Link(target) => name = target.clone(),
                    }
                }
                None
            }
        }
    }

    /// Reads a whole document; `what` names it in errors.
    pub fn read(&self, name: &str, what: &'static str) -> Result<Vec<u8>, Error> {
        let path = self.path.clone();
        let range = self.find(name).ok_or_else(|| Error::Missing { path, what, name: shorten(name) })?;
        if range.length > MAXIMUM_DOCUMENT as u64 {
            let (path, name) = (self.path.clone(), shorten(name));
            return Err(Error::TooLarge { path, what, name, size: range.length });
        }
        self.read_range(&range, range.length)
    }

    /// A layer for a range, its compression told by its first bytes.
    pub fn layer(&self, range: Range, digest: Option<Digest>, diff_id: Option<Digest>) -> Result<LayerBlob, Error> {
        let start = self.read_range(&range, range.length.min(compress::MAGIC_LENGTH as u64))?;
        let compression = Compression::detect(&start);
        // Without a promise for the bytes, that for the uncompressed tar serves as well when they are the same.
        let digest = digest.or_else(|| diff_id.clone().filter(|_| compression == Compression::None));
        Ok(LayerBlob { digest, diff_id, file: range.file, offset: range.offset, length: range.length, compression })
    }

    fn read_range(&self, range: &Range, length: u64) -> Result<Vec<u8>, Error> {
        let read = || {
            let mut file = File::open(&range.file)?;
            file.seek(SeekFrom::Start(range.offset))?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|cause| Error::Io { path: range.file.clone(), cause })
    }
}

fn index(file: impl Read + Seek) -> Result<HashMap<String, Member>, tar::Error> {
    let mut reader = tar::Reader::seeking(file);
    let mut members = HashMap::new();
    while let Some(entry) = reader.next_entry()? {
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).ok().filter(|name| name.len() <= MAXIMUM_NAME);
        let Some(name) = text(&entry.header.path).and_then(|name| normalise("", &name)) else {
            continue;
        };
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        let member = match (&entry.header.kind, entry.offset) {
            (tar::Kind::File, Some(offset)) => Some(Member::Range { offset, length: entry.header.size }),
            // Compat: `docker save` before 25 wrote a shared layer once and symlinks to it.
            (tar::Kind::Symlink(target), _) => {
                text(target).and_then(|target| normalise(directory, &target)).map(Member::Link)
            }
            (tar::Kind::HardLink(target), _) => {
                text(target).and_then(|target| normalise("", &target)).map(Member::Link)
            }
            _ => None,
        };
        if let Some(member) = member
            && members.len() < MAXIMUM_MEMBERS
        {
            members.insert(name, member);
        }
    }
    Ok(members)
}

/// Resolves `.` and `..` of a member's name as text; `None`: it leaves the archive.
fn normalise(directory: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

pub(super) fn shorten(name: &str) -> String {
    name.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Xattrs;

    #[test]
    fn members_whose_names_are_too_long_for_an_image_are_passed_over() {
        let mut writer = tar::Writer::new(Vec::new());
        let long = "n".repeat(MAXIMUM_NAME + 1);
        for (path, kind) in [
            (long.as_str(), tar::Kind::File),
            ("link", tar::Kind::Symlink(long.clone().into_bytes())),
            (&long[1..], tar::Kind::File),
        ] {
            let (path, xattrs) = (path.into(), Xattrs::new());
            let header = tar::Header { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs, size: 0 };
            writer.append(&header, &mut io::empty()).unwrap();
        }
        let members = index(io::Cursor::new(writer.finish().unwrap())).unwrap();
        assert_eq!(members.into_keys().collect::<Vec<_>>(), [&long[1..]]);
    }
}
