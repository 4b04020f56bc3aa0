//! Blocks on their way out, in order: where each landed, and which runs of blocks were there before.

use super::super::blocks::{Block, Label};
use super::super::format::{DATA_UNCOMPRESSED, FragmentEntry};
use super::super::kept::{Kept, KeptRun, copy_range, stored};
use super::WriteError;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;

/// The blocks of one file (all but its tail), in one piece of the image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub start: u64,
    /// Where its size words begin in [`Output::words`].
    words_at: usize,
    words: u32,
    pub holes: u32,
    pub sum: [u8; 32],
}

/// The image under construction. Offsets are relative to its first byte.
pub(super) struct Output<W> {
    out: W,
    base: u64,
    position: u64,
    /// Where `out` really is; they differ after a run was taken back.
    actual: u64,
    /// The farthest byte ever written.
    pub reach: u64,
    run: Run,
    run_digest: Sha256,
    runs: Vec<Run>,
    known: HashMap<[u8; 32], u32>,
    /// Size words of all runs, one after another.
    words: Vec<u32>,
    pub fragments: Vec<FragmentEntry>,
    pub shared_runs: u64,
    /// A copy that may still grow: `position` is at its end.
    copying: Option<(Arc<Kept>, Range<u64>)>,
}

impl<W: Write + Seek> Output<W> {
    pub(super) fn new(mut out: W) -> Result<Output<W>, WriteError> {
        let base = out.stream_position().map_err(|cause| WriteError::Output { cause })?;
        Ok(Output {
            out,
            base,
            position: 0,
            actual: 0,
            reach: 0,
            run: Run::default(),
            run_digest: Sha256::new(),
            runs: Vec::new(),
            known: HashMap::new(),
            words: Vec::new(),
            fragments: Vec::new(),
            shared_runs: 0,
            copying: None,
        })
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.flush_copy()?;
        self.write_now(bytes)
    }

    fn write_now(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.actual != self.position {
            self.seek(self.position)?;
        }
        self.out.write_all(bytes).map_err(|cause| WriteError::Output { cause })?;
        self.position += bytes.len() as u64;
        self.actual = self.position;
        self.reach = self.reach.max(self.position);
        Ok(())
    }

    /// Puts the superblock in its place, flushes, and leaves `out` behind the image.
    pub(super) fn finish(mut self, superblock: &[u8]) -> Result<W, WriteError> {
        let end = self.position;
        self.seek(0)?;
        self.out.write_all(superblock).map_err(|cause| WriteError::Output { cause })?;
        self.seek(end)?;
        self.out.flush().map_err(|cause| WriteError::Output { cause })?;
        Ok(self.out)
    }

    /// Leaves `out` behind the last block, and tells where that is.
    pub(super) fn into_blocks(mut self) -> Result<(W, u64), WriteError> {
        let end = self.position;
        self.seek(end)?;
        Ok((self.out, end))
    }

    pub(super) fn run(&self, run: u32) -> (Run, &[u32]) {
        let run = self.runs[run as usize];
        (run, &self.words[run.words_at..run.words_at + run.words as usize])
    }

    /// Takes the queue's next item. Gives body and run when a run is complete.
    pub(super) fn emit(&mut self, label: Label, block: Option<&Block>) -> Result<Option<(u32, u32)>, WriteError> {
        match (label, block) {
            (Label::Data, Some(block)) => {
                if self.run.words == self.run.holes {
                    self.run.start = self.position;
                }
                self.add_word(block.size_word(), &block.digest);
                self.write(block.stored())?;
            }
            (Label::Fragment, Some(block)) => {
                self.fragments.push(FragmentEntry { start_block: self.position, size: block.size_word() });
                self.write(block.stored())?;
            }
            (Label::Hole, None) => {
                self.run.holes += 1;
                self.add_word(0, &[]);
            }
            (Label::EndOfRun(body), None) => return Ok(Some((body, self.end_run()))),
            (label, _) => unreachable!("{label:?} in the queue without what belongs to it"),
        }
        Ok(None)
    }

    fn add_word(&mut self, word: u32, digest: &[u8]) {
        self.run_digest.update(word.to_le_bytes());
        self.run_digest.update(digest);
        self.run.words += 1;
        self.words.push(word);
    }

    /// A run that was there before is taken back: the next block goes where it began.
    fn end_run(&mut self) -> u32 {
        let digest: [u8; 32] = self.run_digest.finalize_reset().into();
        let run = std::mem::take(&mut self.run);
        let words_at = self.words.len() - run.words as usize;
        if let Some(known) = self.known.get(&digest) {
            if run.words > run.holes {
                self.position = run.start;
                self.shared_runs += 1;
            }
            self.words.truncate(words_at);
            return *known;
        }
        let number = self.runs.len() as u32;
        self.known.insert(digest, number);
        self.runs.push(Run { words_at, sum: digest, ..run });
        number
    }

    /// Takes over a run that an earlier image had, unless its like is here.
    pub(super) fn copy_run(&mut self, kept: &Arc<Kept>, run: &KeptRun) -> Result<u32, WriteError> {
        let words = kept.words(run);
        if let Some(known) = self.known.get(&run.sum) {
            self.shared_runs += u64::from(words.len() > run.holes as usize);
            return Ok(*known);
        }
        let (number, words_at) = (self.runs.len() as u32, self.words.len());
        let start = if words.len() > run.holes as usize { self.position } else { 0 };
        self.words.extend_from_slice(words);
        self.known.insert(run.sum, number);
        self.runs.push(Run { start, words_at, words: words.len() as u32, holes: run.holes, sum: run.sum });
        self.copy(kept, run.start, stored(words))?;
        Ok(number)
    }

    pub(super) fn copy_fragment(&mut self, kept: &Arc<Kept>, entry: FragmentEntry) -> Result<(), WriteError> {
        self.fragments.push(FragmentEntry { start_block: self.position, size: entry.size });
        self.copy(kept, entry.start_block, u64::from(entry.size & !DATA_UNCOMPRESSED))
    }

    fn copy(&mut self, kept: &Arc<Kept>, start: u64, length: u64) -> Result<(), WriteError> {
        let joins = |(copying, range): &(Arc<Kept>, Range<u64>)| Arc::ptr_eq(copying, kept) && range.end == start;
        if !self.copying.as_ref().is_some_and(joins) {
            self.flush_copy()?;
            self.copying = Some((Arc::clone(kept), start..start));
        }
        if let Some((_, range)) = &mut self.copying {
            range.end += length;
        }
        self.position += length;
        Ok(())
    }

    /// Carries out the copy that was put off so that it could grow.
    pub(super) fn flush_copy(&mut self) -> Result<(), WriteError> {
        let Some((kept, range)) = self.copying.take() else { return Ok(()) };
        self.position -= range.end - range.start;
        let mut failed = None;
        let copied = copy_range(kept.data(), range, &mut |bytes| {
            self.write_now(bytes).map_err(|error| {
                failed = Some(error);
                std::io::Error::other("not written")
            })
        });
        match failed {
            Some(error) => Err(error),
            None => copied.map_err(|cause| WriteError::Kept { cause }),
        }
    }

    fn seek(&mut self, position: u64) -> Result<(), WriteError> {
        self.out.seek(SeekFrom::Start(self.base + position)).map_err(|cause| WriteError::Output { cause })?;
        self.actual = position;
        Ok(())
    }
}
