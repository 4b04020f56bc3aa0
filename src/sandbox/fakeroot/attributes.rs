//! Extended attributes that need privileges or ids which a user namespace does not have: `trusted.*`, ACLs that name others, and file
//! capabilities where the file system refuses them.
//!
//! Sources: xattr(7), acl(5), `include/uapi/linux/posix_acl_xattr.h`.

use super::calls::Reach;
use super::credentials::{self, Credentials, Owner};
use super::notify::Reply;
use super::process::{Place, Process};
use super::supervisor::{Answer, Supervisor};
use rustix::fs::{Mode, XattrFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

/// Linux bounds names to 255 bytes, values and lists to 64 KiB.
const LONGEST_VALUE: usize = 65536;
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

impl Supervisor {
    fn attribute_place(&self, process: &Process<'_>, reach: Reach) -> io::Result<(Place, bool)> {
        Ok(match reach {
            Reach::Path => (self.place_of(process, 0)?, true),
            Reach::Link => (self.place_of(process, 0)?, false),
            Reach::File => (process.descriptor(process.int(0)), true),
        })
    }

    pub(super) fn set_attribute(&self, process: &Process<'_>, reach: Reach) -> io::Result<Answer> {
        let name = process.read_string(process.argument(1))?;
        if !is_privileged(name.to_bytes()) {
            return Ok(Reply::Continue.into());
        }
        let length = usize::try_from(process.argument(3)).unwrap_or(usize::MAX);
        if length > LONGEST_VALUE {
            return Ok(Reply::Errno(libc::E2BIG).into());
        }
        let value = if length == 0 { Vec::new() } else { process.read(process.argument(2), length)? };
        let flags = process.word(4);
        let (place, follow) = self.attribute_place(process, reach)?;
        let credentials = self.credentials(process)?;
        process.within(|| {
            let file = process.hold(&place, follow)?;
            let before = process.status_of(file.as_fd())?;
            let owner = self.owner(&before);
            if !may_change(&credentials, owner, name.to_bytes()) {
                return Ok(Reply::Errno(libc::EPERM).into());
            }
            if value.len() != length || !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            let held = process.held(file.as_fd());
            let set =
                rustix::fs::setxattr(held.as_c_str(), name.as_c_str(), &value, XattrFlags::from_bits_retain(flags));
            let errno = set.err().map_or(0, |error| error.raw_os_error());
            if errno != 0 && !matches!(errno, libc::EPERM | libc::EINVAL | libc::EOPNOTSUPP) {
                return Ok(Reply::Errno(errno).into());
            }
            // Has the kernel copy the file up, and refuse where it would have.
            if errno != 0 && self.touch(&held, &before).is_err() {
                return Ok(Reply::Errno(errno).into());
            }
            let after = process.status_of(file.as_fd())?;
            let mut state = self.state();
            let there =
                state.records.get(&before).is_some_and(|record| record.attributes.contains_key(name.to_bytes()));
            if errno != 0 {
                if flags & libc::XATTR_CREATE as u32 != 0 && there {
                    return Ok(Reply::Errno(libc::EEXIST).into());
                }
                if flags & libc::XATTR_REPLACE as u32 != 0 && !there {
                    return Ok(Reply::Errno(libc::ENODATA).into());
                }
                let kept = state
                    .records
                    .get(&before)
                    .map_or(0, |record| record.attributes.iter().map(|(name, value)| name.len() + value.len()).sum());
                if kept + name.as_bytes().len() + length > LONGEST_VALUE {
                    return Ok(Reply::Errno(libc::ENOSPC).into());
                }
                if name.to_bytes() == ACCESS_LIST {
                    match permissions(&value) {
                        Some(mode) => {
                            let mode = Mode::from_raw_mode(owner.mode & 0o7000 | mode);
                            let _ = rustix::fs::chmod(held.as_c_str(), mode);
                        }
                        _ => return Ok(Reply::Errno(libc::EINVAL).into()),
                    }
                }
            }
            if errno != 0 || there {
                state.records.follow(&before, &after);
                state.records.change(&after, |record| {
                    record.attributes.remove(name.to_bytes());
                    if errno != 0 {
                        record.attributes.insert(name.to_bytes().to_vec(), value);
                    }
                });
            }
            Ok(Reply::Value(0).into())
        })
    }

    /// Changes nothing but the change time.
    fn touch(&self, held: &CString, status: &super::status::Status) -> io::Result<()> {
        let mode = Mode::from_raw_mode(status.mode() & 0o7777);
        match status.kind() {
            libc::S_IFLNK => Ok(()),
            _ if status.is_unmapped() => Ok(()),
            _ => Ok(rustix::fs::chmod(held.as_c_str(), mode)?),
        }
    }

    pub(super) fn get_attribute(&self, process: &Process<'_>, reach: Reach) -> io::Result<Answer> {
        if !self.state().records.have_attributes() {
            return Ok(Reply::Continue.into());
        }
        let name = process.read_string(process.argument(1))?;
        if !is_privileged(name.to_bytes()) {
            return Ok(Reply::Continue.into());
        }
        let (place, follow) = self.attribute_place(process, reach)?;
        let status = process.within(|| process.status(&place, follow))?;
        let value = {
            let state = self.state();
            state.records.get(&status).and_then(|record| record.attributes.get(name.to_bytes()).cloned())
        };
        match value {
            Some(value) => self.give(process, &value),
            None => Ok(Reply::Continue.into()),
        }
    }

    pub(super) fn list_attributes(&self, process: &Process<'_>, reach: Reach) -> io::Result<Answer> {
        if !self.state().records.have_attributes() {
            return Ok(Reply::Continue.into());
        }
        let (place, follow) = self.attribute_place(process, reach)?;
        let list = process.within(|| {
            let file = process.hold(&place, follow)?;
            let status = process.status_of(file.as_fd())?;
            let names: Vec<Vec<u8>> = match self.state().records.get(&status) {
                Some(record) if !record.attributes.is_empty() => record.attributes.keys().cloned().collect(),
                _ => return Ok(None),
            };
            let mut buffer = vec![0; LONGEST_VALUE];
            let held = process.held(file.as_fd());
            let length = rustix::fs::listxattr(held.as_c_str(), &mut buffer[..]).unwrap_or(0);
            let mut list = buffer[..length].to_vec();
            for name in names {
                if !list.split(|byte| *byte == 0).any(|found| found == name) {
                    list.extend(name);
                    list.push(0);
                }
            }
            Ok(Some(list))
        })?;
        match list {
            // Its arguments are one fewer than those of reading a value.
            Some(list) => self.give_at(process, &list, 1),
            None => Ok(Reply::Continue.into()),
        }
    }

    pub(super) fn remove_attribute(&self, process: &Process<'_>, reach: Reach) -> io::Result<Answer> {
        let name = process.read_string(process.argument(1))?;
        if !is_privileged(name.to_bytes()) {
            return Ok(Reply::Continue.into());
        }
        let (place, follow) = self.attribute_place(process, reach)?;
        let credentials = self.credentials(process)?;
        let status = process.within(|| process.status(&place, follow))?;
        if !may_change(&credentials, self.owner(&status), name.to_bytes()) {
            return Ok(Reply::Errno(libc::EPERM).into());
        }
        if !process.is_valid() {
            return Ok(Reply::Continue.into());
        }
        let mut state = self.state();
        if state.records.get(&status).is_some_and(|record| record.attributes.contains_key(name.to_bytes())) {
            state.records.change(&status, |record| {
                record.attributes.remove(name.to_bytes());
            });
            return Ok(Reply::Value(0).into());
        }
        Ok(Reply::Continue.into())
    }

    fn give(&self, process: &Process<'_>, value: &[u8]) -> io::Result<Answer> {
        self.give_at(process, value, 2)
    }

    /// Spec: getxattr(2): with no room only the length is asked for.
    fn give_at(&self, process: &Process<'_>, value: &[u8], first: usize) -> io::Result<Answer> {
        let room = process.argument(first + 1);
        if room != 0 {
            if (value.len() as u64) > room {
                return Ok(Reply::Errno(libc::ERANGE).into());
            }
            process.write(process.argument(first), value)?;
        }
        Ok(Reply::Value(value.len() as i64).into())
    }
}

/// Spec: xattr(7), capabilities(7).
fn may_change(credentials: &Credentials, owner: Owner, name: &[u8]) -> bool {
    match name {
        ACCESS_LIST | DEFAULT_LIST => credentials.user.files == owner.user || credentials.may(credentials::FOWNER),
        b"security.capability" => credentials.may(credentials::SETFCAP),
        _ => credentials.may(credentials::SYS_ADMIN),
    }
}

fn is_privileged(name: &[u8]) -> bool {
    name.starts_with(b"trusted.") || [b"security.capability", ACCESS_LIST, DEFAULT_LIST].contains(&name)
}

/// The mode that an access list means; `None` if it is none. Spec: acl(5): the group's class is the mask where there is one.
fn permissions(list: &[u8]) -> Option<u32> {
    let word = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (version, entries) = list.split_at_checked(4)?;
    if version != 2u32.to_le_bytes() || entries.len() % 8 != 0 {
        return None;
    }
    let of = |tag: u32| entries.chunks(8).find(|entry| word(entry) == tag).map(|entry| word(&entry[2..]) & 7);
    let (user, group, mask, other) = (of(1)?, of(4)?, of(0x10), of(0x20)?);
    Some(user << 6 | mask.unwrap_or(group) << 3 | other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_list_means_a_mode() {
        let list = |entries: &[(u16, u16, u32)]| {
            let entries = entries
                .iter()
                .flat_map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat());
            [2u32.to_le_bytes().to_vec(), entries.collect()].concat()
        };
        let none = u32::MAX;
        assert_eq!(permissions(&list(&[(1, 6, none), (4, 4, none), (0x20, 0, none)])), Some(0o640));
        let named = [(1, 7, none), (2, 6, 1000), (4, 4, none), (0x10, 6, none), (0x20, 1, none)];
        assert_eq!(permissions(&list(&named)), Some(0o761));
        for bad in [&b""[..], b"\x02\0\0", b"\x03\0\0\0", &list(&[(1, 7, none)]), &list(&named)[..11]] {
            assert_eq!(permissions(bad), None);
        }
    }
}
