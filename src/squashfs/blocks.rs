//! The worker pool that compresses blocks, and the queue that gives them back in the order of submission.
//!
//! The order of output is that of submission, whatever the number of threads. At most [`Pool::limit`] blocks are in flight, which
//! bounds memory; their buffers are reused.

use super::compress::{CodecError, Compression, Compressor};
use super::format::DATA_UNCOMPRESSED;
use crossbeam_channel::{Receiver, Sender, bounded};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::JoinHandle;

/// What an item of the queue is to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// A whole block of a file.
    Data,
    /// A block of a file that is all zero.
    Hole,
    Fragment,
    /// The blocks of the body with this number are complete.
    EndOfRun(u32),
    /// Blocks that an earlier image had; the writer knows which.
    Copied,
}

/// One block on its way, with both its forms.
#[derive(Default)]
pub(super) struct Block {
    raw: Vec<u8>,
    compressed: Vec<u8>,
    smaller: bool,
    /// SHA-256 of the stored form. Equal stored forms have equal raw bytes, and there is less of them to hash.
    pub digest: [u8; 32],
}

impl Block {
    /// The bytes to store.
    pub(super) fn stored(&self) -> &[u8] {
        if self.smaller { &self.compressed } else { &self.raw }
    }

    /// The size word for an inode or the fragment table.
    pub(super) fn size_word(&self) -> u32 {
        self.stored().len() as u32 | if self.smaller { 0 } else { DATA_UNCOMPRESSED }
    }
}

struct Job {
    sequence: u64,
    block: Block,
    hashed: bool,
}

struct Done {
    sequence: u64,
    outcome: std::thread::Result<Result<Block, CodecError>>,
}

enum Place {
    Pending,
    Ready(Option<Block>),
}

/// Blocks in flight for each worker: one in work, one ready for it, one done.
const BLOCKS: usize = 3;

/// Bytes that one more worker takes at most: its blocks, as they are and compressed, and its codec.
pub fn memory_of_thread(options: &super::Options) -> u64 {
    let block = u64::from(options.block_size);
    BLOCKS as u64 * 2 * (block + block / 16) + super::compress::memory(options.compression, options.block_size)
}

pub(super) struct Pool {
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    queue: VecDeque<(Label, Place)>,
    /// Sequence number of the queue's head.
    head: u64,
    limit: usize,
    spare: Vec<Block>,
}

impl Pool {
    /// Starts `threads` workers (at least one).
    pub(super) fn new(threads: usize, compression: Compression, block_size: u32) -> Result<Pool, std::io::Error> {
        let threads = threads.max(1);
        let limit = threads * BLOCKS + 2;
        let (jobs, work) = bounded::<Job>(limit);
        let (results, done) = bounded::<Done>(limit);
        let threads = (0..threads)
            .map(|_| {
                let (work, results) = (work.clone(), results.clone());
                std::thread::Builder::new()
                    .name("squashfs".to_owned())
                    .spawn(move || compress_until_closed(&work, &results, compression, block_size))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Pool { jobs: Some(jobs), done, threads, queue: VecDeque::new(), head: 0, limit, spare: Vec::new() })
    }

    /// An empty buffer for [`Pool::submit`], with room where one was used before.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.last_mut().map(|block| std::mem::take(&mut block.raw)).unwrap_or_default()
    }

    /// Gives back a buffer that was not submitted after all.
    pub(super) fn return_buffer(&mut self, raw: Vec<u8>) {
        match self.spare.last_mut() {
            Some(block) => block.raw = raw,
            None => self.spare.push(Block { raw, ..Block::default() }),
        }
    }

    /// Whether the caller must take from the queue before it submits more.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.limit
    }

    pub(super) fn submit(&mut self, label: Label, raw: Vec<u8>) {
        let compressed = self.spare.pop().unwrap_or_default().compressed;
        let block = Block { raw, compressed, ..Block::default() };
        let sequence = self.head + self.queue.len() as u64;
        self.queue.push_back((label, Place::Pending));
        let jobs = self.jobs.as_ref().expect("the pool is open until it is dropped");
        jobs.send(Job { sequence, block, hashed: label == Label::Data })
            .expect("workers run until the pool is dropped");
    }

    /// Queues what needs no work.
    pub(super) fn mark(&mut self, label: Label) {
        self.queue.push_back((label, Place::Ready(None)));
    }

    /// The oldest item if it is finished; with `wait`, waits for it. `None`: not finished, or the queue is empty.
    pub(super) fn next(&mut self, wait: bool) -> Result<Option<(Label, Option<Block>)>, CodecError> {
        while let Ok(done) = self.done.try_recv() {
            self.place(done)?;
        }
        loop {
            match self.queue.front() {
                None => return Ok(None),
                Some((_, Place::Ready(_))) => break,
                Some((_, Place::Pending)) if !wait => return Ok(None),
                Some((_, Place::Pending)) => {
                    let done = self.done.recv().expect("workers run until the pool is dropped");
                    self.place(done)?;
                }
            }
        }
        self.head += 1;
        Ok(self.queue.pop_front().map(|(label, place)| match place {
            Place::Ready(block) => (label, block),
            Place::Pending => unreachable!("the head was ready"),
        }))
    }

    pub(super) fn recycle(&mut self, block: Block) {
        self.spare.push(block);
    }

    fn place(&mut self, done: Done) -> Result<(), CodecError> {
        let block = match done.outcome {
            Ok(outcome) => outcome?,
            Err(panic) => resume_unwind(panic),
        };
        self.queue[(done.sequence - self.head) as usize].1 = Place::Ready(Some(block));
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A worker's panic was already handed on with its block.
            let _ = thread.join();
        }
    }
}

fn compress_until_closed(work: &Receiver<Job>, results: &Sender<Done>, compression: Compression, block_size: u32) {
    let mut compressor = Compressor::new(compression, block_size);
    for Job { sequence, mut block, hashed } in work {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let compressor = compressor.as_mut().map_err(|error| error.clone())?;
            block.smaller = compressor.compress(&block.raw, &mut block.compressed)?;
            if hashed {
                block.digest = Sha256::digest(block.stored()).into();
            }
            Ok(block)
        }));
        if results.send(Done { sequence, outcome }).is_err() {
            return;
        }
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(16);
    chunks.all(|chunk| chunk == [0; 16]) && bytes[bytes.len() & !15..].iter().all(|byte| *byte == 0)
}
