//! A layer's bodies as one segment, from files that can be opened at will and from blocks that were kept.

use super::super::blocks::Label;
use super::super::format::FragmentEntry;
use super::super::kept::{Index, Kept, KeptBody, KeptRun, KeptTail, Segment};
use super::fragment::Bytes;
use super::{BodyId, Tail, WriteError, Writer};
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

/// One stored body of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentBody {
    pub size: u64,
    /// Whether the image shows it.
    pub visible: bool,
}

/// Opens the body with this number in the segment, at an offset.
pub type Open<'a> = &'a dyn Fn(usize, u64) -> io::Result<Box<dyn Read + 'a>>;

/// A segment that was not written, and at which of its bodies.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SegmentError {
    pub body: usize,
    pub error: WriteError,
}

/// What the queue's next mark stands for.
pub(super) enum Copied {
    Run { body: u32, kept: Arc<Kept>, run: KeptRun },
    Fragment { kept: Arc<Kept>, entry: FragmentEntry },
}

/// What is remembered of a segment until the places of its blocks are known.
pub(super) struct Log {
    number: usize,
    bodies: Vec<Option<(BodyId, Option<[u8; 32]>)>>,
    groups: Vec<([u8; 32], u32)>,
    open: bool,
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the visible ones of `bodies`, which are all that a layer has. Blocks are taken from `kept` where it has them. With `record`, the
    /// summary will tell where they are, so that they can be kept. `each` hears the size of every body that is done.
    pub fn segment(
        &mut self,
        bodies: &[SegmentBody],
        open: Open<'_>,
        kept: Option<Arc<Kept>>,
        record: bool,
        each: &mut dyn FnMut(u64),
    ) -> Result<Vec<Option<BodyId>>, SegmentError> {
        let fault = |body: usize| move |error| SegmentError { body, error };
        self.part().map_err(fault(0))?;
        self.kept = kept;
        if record {
            self.logs.push(Log { number: self.segments, bodies: Vec::new(), groups: Vec::new(), open: true });
        }
        self.segments += 1;
        let mut ids = Vec::with_capacity(bodies.len());
        for (number, body) in bodies.iter().enumerate() {
            self.account(body.size, Some(open)).map_err(fault(number))?;
            let done = match body.visible {
                true => Some(self.segment_body(number, body.size, open).map_err(fault(number))?),
                false => None,
            };
            ids.push(done.map(|(id, _)| id));
            if record && let Some(log) = self.logs.last_mut() {
                log.bodies.push(done);
            }
            each(body.size);
        }
        self.close_group(Some(open)).map_err(fault(bodies.len().saturating_sub(1)))?;
        self.kept = None;
        if let Some(log) = self.logs.last_mut() {
            log.open = false;
        }
        Ok(ids)
    }

    fn segment_body(
        &mut self,
        number: usize,
        size: u64,
        open: Open<'_>,
    ) -> Result<(BodyId, Option<[u8; 32]>), WriteError> {
        let kept = self.kept.clone();
        let known = kept.as_ref().and_then(|kept| kept.body(number, size, self.options.block_size));
        match (&kept, known) {
            (Some(kept), Some(body)) => self.copy_body(number, size, kept, body),
            _ => {
                let mut reader = open(number, 0).map_err(|cause| WriteError::Read { read: 0, size, cause })?;
                self.read_body(&mut reader, size)
            }
        }
    }

    fn copy_body(
        &mut self,
        number: usize,
        size: u64,
        kept: &Arc<Kept>,
        body: &KeptBody,
    ) -> Result<(BodyId, Option<[u8; 32]>), WriteError> {
        let id = self.new_body(size)?;
        let mut sum = None;
        self.bodies[id as usize].tail = match body.tail {
            KeptTail::None => Tail::None,
            KeptTail::Hole => Tail::Hole,
            KeptTail::Fragment(tail) => {
                sum = Some(tail);
                let length = (size % u64::from(self.options.block_size)) as usize;
                Tail::Fragment(self.place_tail(tail, Bytes::Unread { body: number, size, length }))
            }
        };
        if let Some(run) = &body.run {
            self.copied.push_back(Copied::Run { body: id, kept: Arc::clone(kept), run: run.clone() });
            self.pool.mark(Label::Copied);
            self.settle(false)?;
        }
        Ok((BodyId(id), sum))
    }

    /// Puts out what the mark at the queue's head stands for.
    pub(super) fn emit_copied(&mut self) -> Result<Option<(u32, u32)>, WriteError> {
        match self.copied.pop_front().expect("a mark for each copy") {
            Copied::Run { body, kept, run } => Ok(Some((body, self.output.copy_run(&kept, &run)?))),
            Copied::Fragment { kept, entry } => self.output.copy_fragment(&kept, entry).map(|()| None),
        }
    }

    pub(super) fn log_group(&mut self, sum: [u8; 32], fragment: u32) {
        if let Some(log) = self.logs.last_mut().filter(|log| log.open) {
            log.groups.push((sum, fragment));
        }
    }

    /// The places of all that was recorded; complete when everything was put out.
    pub(super) fn take_segments(&mut self) -> Vec<Segment> {
        let logs = std::mem::take(&mut self.logs);
        logs.into_iter()
            .map(|log| {
                let mut index = Index::default();
                for body in &log.bodies {
                    let kept = body.map(|(id, sum)| self.locate(id, sum, &mut index.words));
                    index.bodies.push(kept);
                }
                let entry = |fragment: u32| self.output.fragments[fragment as usize];
                index.groups = log.groups.iter().map(|(sum, fragment)| (*sum, entry(*fragment))).collect();
                Segment { number: log.number, index }
            })
            .collect()
    }

    fn locate(&self, id: BodyId, sum: Option<[u8; 32]>, words: &mut Vec<u32>) -> KeptBody {
        let body = self.bodies[id.0 as usize];
        let run = body.run.map(|number| {
            let (run, own) = self.output.run(number);
            let from = words.len();
            words.extend_from_slice(own);
            KeptRun { start: run.start, words: from..words.len(), holes: run.holes, sum: run.sum }
        });
        let tail = match (body.tail, sum) {
            (Tail::Fragment(_), Some(sum)) => KeptTail::Fragment(sum),
            (Tail::Hole, _) => KeptTail::Hole,
            _ => KeptTail::None,
        };
        KeptBody { run, tail }
    }
}
