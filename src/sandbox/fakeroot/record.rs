//! What was asked for and the kernel could not do: owners, devices, privileged attributes, by inode.
//!
//! Invariant: a record outlives rename and hard links, since it is the inode's; it dies with the inode, since a new
//! inode of the same number has another birth time. Overlay keeps the number when it copies a file up, but not the birth
//! time: what is known from below is therefore remembered without one (a number below is never used again while the run
//! lasts; a lower file of several names is the exception, which overlay gives a new number: writing to one that is not root's makes it root's),
//! and all else is recorded after a change that made the kernel copy it up.

use super::status::Status;
use crate::tree::{Kind, Metadata, Xattrs};
use std::collections::HashMap;

/// Device and number.
pub type Key = (u64, u64);
/// Seconds and nanoseconds.
pub type Birth = (i64, u32);

/// A device: its type bits, major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub kind: u32,
    pub major: u32,
    pub minor: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub user: u32,
    pub group: u32,
    pub device: Option<Device>,
    /// Permissions that the kernel refused to set.
    pub permissions: Option<u32>,
    /// Attributes that the kernel refused to set.
    pub attributes: Xattrs,
}

impl Record {
    /// What has to be remembered of an inode whose owner on disk is container root.
    pub fn known(metadata: &Metadata, kind: &Kind) -> Record {
        let device = match *kind {
            Kind::CharacterDevice { major, minor } => Some(Device { kind: libc::S_IFCHR, major, minor }),
            Kind::BlockDevice { major, minor } => Some(Device { kind: libc::S_IFBLK, major, minor }),
            _ => None,
        };
        Record { user: metadata.uid, group: metadata.gid, device, permissions: None, attributes: Xattrs::new() }
    }

    /// Nothing that the kernel would not say by itself.
    fn is_default(&self, shown: (u32, u32)) -> bool {
        (self.user, self.group) == shown
            && self.device.is_none()
            && self.permissions.is_none()
            && self.attributes.is_empty()
    }
}

#[derive(Default)]
pub struct Records {
    of: HashMap<Key, (Record, Option<Birth>)>,
    /// Other numbers that overlay shows of an inode under some of its names; the birth time tells whether it still is that inode.
    others: HashMap<Key, (Key, Option<Birth>)>,
    with_attributes: usize,
    devices: usize,
}

impl Records {
    /// A record of an inode that was there before the run; no birth where its number will not be used again.
    pub fn remember(&mut self, key: Key, record: Record, birth: Option<Birth>) {
        self.put(key, record, birth);
    }

    pub fn get(&self, status: &Status) -> Option<&Record> {
        let (record, birth) = self.of.get(&self.key(status))?;
        match birth {
            Some(birth) if status.birth().is_some_and(|found| found != *birth) => None,
            _ => Some(record),
        }
    }

    /// Changes what is recorded of an inode; `status` is what the kernel says of it after its part was done.
    pub fn change(&mut self, status: &Status, change: impl FnOnce(&mut Record)) {
        let shown = status.shown_owner();
        let mut record =
            self.get(status).cloned().unwrap_or_else(|| Record { user: shown.0, group: shown.1, ..Record::default() });
        change(&mut record);
        let key = self.key(status);
        if record.is_default(shown) {
            self.forget(key);
        } else {
            self.put(key, record, status.birth());
        }
    }

    /// Another name was made of an inode, which the kernel now shows so under the old and the new one.
    pub fn join(&mut self, before: &Status, old: &Status, new: &Status) {
        self.follow(before, old);
        let key = self.key(old);
        if key != new.key() && old.birth() == new.birth() {
            self.forget(new.key());
            self.others.insert(new.key(), (key, new.birth()));
        }
    }

    fn key(&self, status: &Status) -> Key {
        match self.others.get(&status.key()) {
            Some((key, birth)) if *birth == status.birth() => *key,
            _ => status.key(),
        }
    }

    /// What was recorded of one inode goes over to the one that overlay made of it.
    pub fn follow(&mut self, before: &Status, after: &Status) {
        if self.key(before) != self.key(after)
            && let Some(record) = self.get(before).cloned()
        {
            self.put(self.key(after), record, after.birth());
        }
    }

    /// Whether any inode has attributes of ours: if none, the kernel's answers are right.
    pub fn have_attributes(&self) -> bool {
        self.with_attributes > 0
    }

    pub fn have_devices(&self) -> bool {
        self.devices > 0
    }

    /// A device of this number, by number alone: for lists of names, which say no more.
    pub fn device(&self, key: Key) -> Option<Device> {
        let key = self.others.get(&key).map_or(key, |(key, _)| *key);
        self.of.get(&key)?.0.device
    }

    fn put(&mut self, key: Key, record: Record, birth: Option<Birth>) {
        self.with_attributes += usize::from(!record.attributes.is_empty());
        self.devices += usize::from(record.device.is_some());
        if let Some((old, _)) = self.of.insert(key, (record, birth)) {
            self.leave(&old);
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some((old, _)) = self.of.remove(&key) {
            self.leave(&old);
        }
    }

    fn leave(&mut self, old: &Record) {
        self.with_attributes -= usize::from(!old.attributes.is_empty());
        self.devices -= usize::from(old.device.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would say of inode `inode`, born at `birth`, of container root.
    fn status(inode: u64, birth: i64) -> Status {
        let mut bytes = [0; 256];
        bytes[..4].copy_from_slice(&super::super::status::MASK.to_ne_bytes());
        bytes[28..30].copy_from_slice(&((libc::S_IFREG | 0o644) as u16).to_ne_bytes());
        bytes[32..40].copy_from_slice(&inode.to_ne_bytes());
        bytes[80..88].copy_from_slice(&birth.to_ne_bytes());
        Status::new(bytes, true)
    }

    #[test]
    fn a_record_dies_with_its_inode() {
        let mut records = Records::default();
        records.change(&status(7, 100), |record| record.user = 5);
        assert_eq!(records.get(&status(7, 100)).map(|record| record.user), Some(5));
        assert_eq!(records.get(&status(7, 101)), None, "the number was used again");
        assert_eq!(records.get(&status(8, 100)), None);
        // The new inode begins as the kernel has it.
        records.change(&status(7, 101), |record| record.group = 6);
        assert_eq!(records.get(&status(7, 101)).map(|record| (record.user, record.group)), Some((0, 6)));
    }

    #[test]
    fn what_lies_below_is_known_by_its_number_whatever_its_birth() {
        let mut records = Records::default();
        records.remember((0, 7), Record { group: 42, ..Record::default() }, None);
        assert_eq!(records.get(&status(7, 1)).map(|record| record.group), Some(42));
        records.follow(&status(7, 1), &status(9, 2));
        assert_eq!(records.get(&status(9, 2)).map(|record| record.group), Some(42));
        assert_eq!(records.get(&status(9, 3)), None);
    }

    #[test]
    fn an_inode_of_two_numbers_has_one_record() {
        let mut records = Records::default();
        records.remember((0, 7), Record { group: 42, ..Record::default() }, None);
        records.join(&status(7, 1), &status(7, 2), &status(9, 2));
        assert_eq!(records.get(&status(9, 2)).map(|record| record.group), Some(42));
        records.change(&status(9, 2), |record| record.user = 5);
        assert_eq!(records.get(&status(7, 2)).map(|record| (record.user, record.group)), Some((5, 42)));
        assert_eq!(records.get(&status(9, 3)), None, "the number was used again");
    }

    #[test]
    fn what_the_kernel_says_by_itself_is_not_kept() {
        let mut records = Records::default();
        records.change(&status(7, 1), |record| {
            record.user = 3;
            record.attributes.insert(b"trusted.x".to_vec(), vec![1]);
            record.device = Some(Device { kind: libc::S_IFCHR, major: 1, minor: 3 });
        });
        assert!(records.have_attributes() && records.have_devices());
        records.change(&status(7, 1), |record| *record = Record::default());
        assert!(records.of.is_empty() && !records.have_attributes() && !records.have_devices());
    }
}
