//! Blocks on their way out, in order: where each landed, and which runs of blocks were there before.

use super::super::blocks::{Block, Label};
use super::super::format::FragmentEntry;
use super::WriteError;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};

/// The blocks of one file (all but its tail), in one piece of the image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub start: u64,
    /// Where its size words begin in [`Output::words`].
    words_at: usize,
    words: u32,
    pub holes: u32,
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
        })
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
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
        self.runs.push(Run { words_at, ..run });
        number
    }

    fn seek(&mut self, position: u64) -> Result<(), WriteError> {
        self.out.seek(SeekFrom::Start(self.base + position)).map_err(|cause| WriteError::Output { cause })?;
        self.actual = position;
        Ok(())
    }
}
