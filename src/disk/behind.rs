//! Writes that reach the medium while the work goes on, so that the last sync has little left to do.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Bytes after which the medium is asked to take what is there.
const PORTION: u64 = 32 << 20;

/// A file that a thread syncs behind the writer.
#[derive(Debug)]
pub struct WriteBehind {
    file: File,
    waiting: u64,
    wake: Option<SyncSender<()>>,
}

impl WriteBehind {
    /// `path` is the file's own. Where no thread can be had, writes are as they were.
    ///
    /// # Why
    /// The thread syncs through a description of its own: the kernel tells each of them of a failed write once, and the one that commits the file
    /// must hear of it.
    pub fn new(file: File, path: &Path) -> WriteBehind {
        let (wake, woken) = sync_channel::<()>(1);
        let started = File::open(path).and_then(|own| {
            let thread = std::thread::Builder::new().name("sync".to_owned());
            thread.spawn(move || woken.iter().for_each(|()| drop(own.sync_data())))
        });
        WriteBehind { file, waiting: 0, wake: started.is_ok().then_some(wake) }
    }
}

impl Read for WriteBehind {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.waiting += count as u64;
        if self.waiting >= PORTION {
            self.waiting = 0;
            // A thread that is still busy with the portion before takes this one along.
            self.wake.as_ref().map(|wake| wake.try_send(()));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for WriteBehind {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
