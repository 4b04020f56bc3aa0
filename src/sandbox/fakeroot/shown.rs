//! What the container sees of files: the stat family, access.

use super::calls::Call;
use super::credentials::{Ids, may_access};
use super::notify::Reply;
use super::process::Process;
use super::supervisor::{Answer, Supervisor};
use std::io;

const EMPTY_OR_LINK: i32 = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;

impl Supervisor {
    /// Nothing recorded: the kernel answers. Else its answer, with what is recorded put in place.
    pub(super) fn stat(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let (place, follow, buffer) = match call {
            Call::FileStat => (process.descriptor(process.int(0)), true, process.argument(1)),
            Call::StatAt => {
                let flags = process.int(3);
                let Some(place) = self.place_at(process, process.int(0), process.argument(1), flags)? else {
                    return Ok(Reply::Continue.into());
                };
                (place, flags & libc::AT_SYMLINK_NOFOLLOW == 0, process.argument(2))
            }
            Call::LinkStat => (self.place_of(process, 0)?, false, process.argument(1)),
            _ => (self.place_of(process, 0)?, true, process.argument(1)),
        };
        let status = process.within(|| process.status(&place, follow))?;
        let shown = status.with(self.state().records.get(&status));
        match shown.and_then(|shown| shown.as_stat(process.call.arch)) {
            Some(bytes) => {
                process.write(buffer, &bytes)?;
                Ok(Reply::Value(0).into())
            }
            None => Ok(Reply::Continue.into()),
        }
    }

    pub(super) fn statx(&self, process: &Process<'_>) -> io::Result<Answer> {
        let (flags, mask) = (process.int(2), process.word(3));
        let Some(place) = self.place_at(process, process.int(0), process.argument(1), flags)? else {
            return Ok(Reply::Continue.into());
        };
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        let status = process.within(|| process.status_with(&place, follow, flags & !EMPTY_OR_LINK, mask))?;
        let shown = status.with(self.state().records.get(&status));
        match shown {
            Some(shown) => {
                process.write(process.argument(4), shown.as_statx())?;
                Ok(Reply::Value(0).into())
            }
            None => Ok(Reply::Continue.into()),
        }
    }

    /// The kernel knows what container root may; of the others it knows nothing.
    pub(super) fn access(&self, process: &Process<'_>, call: Call) -> io::Result<Answer> {
        let number = process.identity();
        if number == 0 {
            return Ok(Reply::Continue.into());
        }
        let (directory, first, flags) = match call {
            Call::Access => (libc::AT_FDCWD, 0, 0),
            Call::AccessAt => (process.int(0), 1, 0),
            _ => (process.int(0), 1, process.int(3)),
        };
        let wanted = process.word(first + 1);
        let Some(place) = self.place_at(process, directory, process.argument(first), flags)? else {
            return Ok(Reply::Continue.into());
        };
        let mut credentials = self.credentials_of(number);
        if flags & libc::AT_EACCESS == 0 {
            // Spec: access(2): by the real ids, with the capabilities that they would have.
            credentials.user = Ids::all(credentials.user.real);
            credentials.group = Ids::all(credentials.group.real);
            credentials.effective = if credentials.user.real == 0 { credentials.permitted } else { 0 };
        }
        let status = process.within(|| process.status(&place, flags & libc::AT_SYMLINK_NOFOLLOW == 0))?;
        match wanted == 0 || may_access(&credentials, self.owner(&status), wanted) {
            // The kernel still knows of read-only mounts.
            true => Ok(Reply::Continue.into()),
            false => Ok(Reply::Errno(libc::EACCES).into()),
        }
    }
}
