//! Tails on their way into a fragment: a group, which closes by the sizes of files alone.

use super::super::blocks::Label;
use super::segment::{Copied, Open};
use super::{Place, WriteError, Writer};
use sha2::{Digest, Sha256};
use std::io::{Read, Seek, Write};

/// Tails that wait to become the next fragment.
#[derive(Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    members: Vec<Member>,
    /// Bytes of all tails that came by, those too that are elsewhere in the image or not shown.
    accounted: usize,
}

struct Member {
    sum: [u8; 32],
    offset: usize,
    length: usize,
    /// The body of the segment whose tail must be read if the group is compressed, with its size.
    unread: Option<(usize, u64)>,
}

/// A tail's bytes, or where they are.
pub(super) enum Bytes<'a> {
    Here(&'a [u8]),
    Unread { body: usize, size: u64, length: usize },
}

impl<W: Write + Seek> Writer<W> {
    /// Counts a body's tail; closes the group that it does not fit into.
    pub(super) fn account(&mut self, size: u64, open: Option<Open<'_>>) -> Result<(), WriteError> {
        let tail = (size % u64::from(self.options.block_size)) as usize;
        if self.group.accounted + tail > self.options.block_size as usize {
            self.close_group(open)?;
        }
        self.group.accounted += tail;
        Ok(())
    }

    /// Adds a tail, or finds its like.
    pub(super) fn place_tail(&mut self, sum: [u8; 32], tail: Bytes<'_>) -> Place {
        if let Some(place) = self.tails.get(&sum) {
            self.shared_tails += 1;
            return *place;
        }
        let offset = self.group.bytes.len();
        let place = Place { fragment: self.fragment_number, offset: offset as u32 };
        let (length, unread) = match tail {
            Bytes::Here(bytes) => {
                self.group.bytes.extend_from_slice(bytes);
                (bytes.len(), None)
            }
            Bytes::Unread { body, size, length } => {
                self.group.bytes.resize(offset + length, 0);
                (length, Some((body, size)))
            }
        };
        self.group.members.push(Member { sum, offset, length, unread });
        self.tails.insert(sum, place);
        place
    }

    /// Makes the group a fragment: a kept one if there is one of the same tails.
    pub(super) fn close_group(&mut self, open: Option<Open<'_>>) -> Result<(), WriteError> {
        self.group.accounted = 0;
        if self.group.members.is_empty() {
            return Ok(());
        }
        let mut hash = Sha256::new();
        self.group.members.iter().for_each(|member| hash.update(member.sum));
        let sum = hash.finalize().into();
        self.log_group(sum, self.fragment_number);
        self.fragment_number += 1;
        let kept = self.kept.as_ref().and_then(|kept| Some((kept.clone(), kept.group(&sum)?)));
        if let Some((kept, entry)) = kept {
            self.group.bytes.clear();
            self.group.members.clear();
            self.copied.push_back(Copied::Fragment { kept, entry });
            self.pool.mark(Label::Copied);
            return self.settle(false);
        }
        self.read_members(open)?;
        self.group.members.clear();
        let mut next = self.pool.buffer();
        next.clear();
        next.reserve(self.options.block_size as usize);
        self.pool.submit(Label::Fragment, std::mem::replace(&mut self.group.bytes, next));
        self.settle(false)
    }

    fn read_members(&mut self, open: Option<Open<'_>>) -> Result<(), WriteError> {
        let Group { bytes, members, .. } = &mut self.group;
        for member in members.iter() {
            let Some((body, size)) = member.unread else { continue };
            let open = open.as_ref().expect("tails are left unread in segments only, which bring their opener");
            let before = size - member.length as u64;
            let fault = |cause| WriteError::Read { read: before, size, cause };
            let mut reader = open(body, before).map_err(fault)?;
            let tail = &mut bytes[member.offset..member.offset + member.length];
            reader.read_exact(tail).map_err(fault)?;
            if Sha256::digest(&*tail)[..] != member.sum {
                return Err(WriteError::Changed { size });
            }
        }
        Ok(())
    }
}
