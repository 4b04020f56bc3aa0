//! bind(2) of a socket with a name in the file system: the name belongs to the user that makes it.
//!
//! The supervisor takes a copy of the socket and binds it from where the caller stands, so that the address is the one that was given.

use super::calls::Call;
use super::credentials::may_access;
use super::notify::Reply;
use super::process::Process;
use super::supervisor::{Answer, Supervisor};
use rustix::fs::Mode;
use rustix::net::SocketAddrUnix;
use std::ffi::CString;
use std::io;

/// Spec: unix(7): the family, and at most 108 bytes of path.
const LONGEST_ADDRESS: usize = 110;

impl Supervisor {
    pub(super) fn bind(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let number = process.identity();
        if number == 0 {
            return Ok(Reply::Continue.into());
        }
        let [socket, address, length] = match call {
            // i386: three words at the address that is the second argument.
            Call::AnySocket => {
                let words = process.read_array::<12>(process.argument(1))?;
                [0, 4, 8].map(|at| u64::from(u32::from_le_bytes(words[at..at + 4].try_into().expect("four bytes"))))
            }
            _ => [0, 1, 2].map(|index| process.argument(index)),
        };
        let length = length as usize & 0xffff_ffff;
        if !(3..=LONGEST_ADDRESS).contains(&length) {
            return Ok(Reply::Continue.into());
        }
        let bytes = process.read(address, length)?;
        let Some(path) = path(&bytes) else { return Ok(Reply::Continue.into()) };
        let credentials = self.credentials_of(number);
        let mask = process.umask()?;
        let socket = process.copy_descriptor(socket as i32)?;
        process.within(|| {
            let Some((parent, _)) = process.parent(libc::AT_FDCWD, &path) else { return Ok(Reply::Continue.into()) };
            let group = self.group_below(process, libc::AT_FDCWD, &path, &credentials)?;
            if !may_access(&credentials, self.owner(&process.status(&parent, true)?), 3) {
                return Ok(Reply::Errno(libc::EACCES).into());
            }
            let address = SocketAddrUnix::new(path.as_c_str())?;
            if !process.is_valid() {
                return Ok(Reply::Continue.into());
            }
            let bound = process.in_its_directory(|| {
                rustix::process::umask(Mode::from_raw_mode(mask));
                let bound = rustix::net::bind(&socket, &address);
                rustix::process::umask(Mode::empty());
                bound
            })?;
            if let Err(error) = bound {
                return Ok(Reply::Errno(error.raw_os_error()).into());
            }
            let status = process.status(&process.place(libc::AT_FDCWD, &path), false)?;
            self.state().records.change(&status, |record| {
                record.user = credentials.user.files;
                record.group = group;
            });
            Ok(Reply::Value(0).into())
        })
    }
}

/// The name of a socket that has one: neither an abstract nor an empty one.
fn path(address: &[u8]) -> Option<CString> {
    let (family, path) = address.split_at_checked(2)?;
    let path = path.split(|byte| *byte == 0).next()?;
    let is_local = u16::from_ne_bytes([family[0], family[1]]) == libc::AF_UNIX as u16;
    (is_local && !path.is_empty()).then(|| CString::new(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_with_a_name_are_taken() {
        let address = |family: i32, rest: &[u8]| [&(family as u16).to_ne_bytes()[..], rest].concat();
        assert_eq!(path(&address(libc::AF_UNIX, b"/run/x\0junk")).unwrap().as_bytes(), b"/run/x");
        assert_eq!(path(&address(libc::AF_UNIX, b"x")).unwrap().as_bytes(), b"x");
        assert_eq!(path(&address(libc::AF_UNIX, b"\0abstract")), None);
        assert_eq!(path(&address(libc::AF_INET, b"/run/x")), None);
        assert_eq!(path(b"\x01"), None);
    }
}
