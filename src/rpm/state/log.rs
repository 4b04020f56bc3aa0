//! SQLite's write-ahead log, laid over its database: programs that end without closing leave their work there.
//!
//! Spec: "Database File Format", section 4, of sqlite.org. As SQLite does, it is believed up to the last transaction that is whole.

use std::collections::BTreeMap;

/// Bytes before the first frame, and before the page of each frame.
const HEAD: usize = 32;
const FRAME: usize = 24;
/// The versions in a database's head that say whether it has a log.
const VERSIONS: std::ops::Range<usize> = 18..20;

/// The database with what the log holds, marked as one without a log. `None` where it would be longer than `most` bytes.
pub fn lay_over(mut database: Vec<u8>, log: &[u8], most: usize) -> Option<Vec<u8>> {
    let (mut pages, mut pending, mut end) = (BTreeMap::new(), Vec::new(), None);
    for frame in Log::open(log).into_iter().flatten() {
        let size = frame.page.len();
        pending.push((frame.number, frame.page));
        if frame.pages != 0 {
            pages.extend(pending.drain(..));
            end = Some(frame.pages.checked_mul(size));
        }
    }
    if let Some(length) = end {
        // Once: each of the log's transactions may give another length.
        database.resize(length.filter(|length| *length <= most)?, 0);
        for (number, page) in pages {
            // A page beyond the end was cut off later.
            let at = number.wrapping_sub(1).checked_mul(page.len());
            if let Some(place) = at.and_then(|at| database.get_mut(at..)?.get_mut(..page.len())) {
                place.copy_from_slice(page);
            }
        }
    }
    if let Some(versions) = database.get_mut(VERSIONS) {
        versions.fill(1);
    }
    Some(database)
}

/// The frames that are whole.
struct Log<'a> {
    rest: &'a [u8],
    page_size: usize,
    word: fn([u8; 4]) -> u32,
    salts: &'a [u8],
    sums: (u32, u32),
}

/// One page, and of a transaction's last one the number of pages that the database has then; otherwise 0.
struct Frame<'a> {
    number: usize,
    pages: usize,
    page: &'a [u8],
}

impl<'a> Log<'a> {
    fn open(bytes: &'a [u8]) -> Option<Log<'a>> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let word = match big(head, 0) {
            0x377f_0682 => u32::from_le_bytes as fn([u8; 4]) -> u32,
            0x377f_0683 => u32::from_be_bytes,
            _ => return None,
        };
        let page_size = big(head, 8) as usize;
        let mut log = Log { rest, page_size, word, salts: &head[16..24], sums: (0, 0) };
        log.add(&head[..24]);
        (page_size.is_power_of_two() && (512..=65_536).contains(&page_size) && log.fits(&head[24..])).then_some(log)
    }

    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let (first, second) = pair.split_at(4);
            let word = |bytes: &[u8]| (self.word)(bytes.try_into().expect("four bytes"));
            self.sums.0 = self.sums.0.wrapping_add(word(first)).wrapping_add(self.sums.1);
            self.sums.1 = self.sums.1.wrapping_add(word(second)).wrapping_add(self.sums.0);
        }
    }

    fn fits(&self, found: &[u8]) -> bool {
        self.sums == (big(found, 0), big(found, 4))
    }
}

impl<'a> Iterator for Log<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (head, rest) = self.rest.split_at_checked(FRAME)?;
        let (page, rest) = rest.split_at_checked(self.page_size)?;
        self.rest = rest;
        self.add(&head[..8]);
        self.add(page);
        let is_whole = &head[8..16] == self.salts && self.fits(&head[16..]);
        is_whole.then(|| Frame { number: big(head, 0) as usize, pages: big(head, 4) as usize, page })
    }
}

/// The four bytes at `at`, which are there.
fn big(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 512;

    /// A log of pages full of one byte; each frame that gives a length ends a transaction.
    fn log(frames: impl Iterator<Item = (u32, u32, u8)>) -> Vec<u8> {
        let word = u32::from_be_bytes as fn([u8; 4]) -> u32;
        let mut sums = Log { rest: &[], page_size: SIZE, word, salts: &[], sums: (0, 0) };
        let mut bytes = [0x377f_0683, 0, SIZE as u32, 0, 7, 7].map(u32::to_be_bytes).concat();
        sums.add(&bytes);
        bytes.extend([sums.sums.0, sums.sums.1].map(u32::to_be_bytes).concat());
        for (number, pages, byte) in frames {
            let (head, page) = ([number, pages].map(u32::to_be_bytes).concat(), [byte; SIZE]);
            sums.add(&head);
            sums.add(&page);
            bytes.extend(head);
            bytes.extend([7, 7, sums.sums.0, sums.sums.1].map(u32::to_be_bytes).concat());
            bytes.extend(page);
        }
        bytes
    }

    #[test]
    fn the_last_page_and_length_count_however_often_they_changed() {
        let frames = [(1, 1, 1), (3, 3, 3), (1, 0, 4), (2, 2, 5), (1, 0, 6)].into_iter();
        let found = lay_over(vec![9; SIZE], &log(frames), 1 << 20).unwrap();
        assert_eq!((found.len(), found[0], found[18], found[SIZE]), (2 * SIZE, 4, 1, 5));
        assert_eq!(lay_over(Vec::new(), &log([(1, 3, 1)].into_iter()), 2 * SIZE), None);
        // A gigabyte and one page in turn: hours, were each of them made.
        let most = 1 << 30;
        let in_turn = log((0..40_000).map(|at| (1, if at % 2 == 0 { (most / SIZE) as u32 } else { 1 }, 8)));
        assert_eq!(lay_over(Vec::new(), &in_turn, most).map(|found| found.len()), Some(SIZE));
    }
}
