//! Maps of sparse files: which ranges of the file the archive holds.

use super::{Error, MAXIMUM_SEGMENTS, MAXIMUM_SPARSE_SIZE, header, shown};

/// One range that has data, in bytes of the expanded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Checks a map: in order, not overlapping, inside the file, and exactly as long as the data in the archive.
pub(super) fn check(segments: &[Segment], size: u64, packed: u64, path: &[u8]) -> Result<(), Error> {
    let fault = |cause| Error::Sparse { path: shown(path), cause };
    if size > MAXIMUM_SPARSE_SIZE {
        return Err(fault("the file would be larger than 16 TiB"));
    }
    let (mut end, mut total) = (0u64, 0u64);
    for segment in segments {
        if segment.offset < end {
            return Err(fault("its ranges overlap or are out of order"));
        }
        end = segment.offset.checked_add(segment.length).ok_or_else(|| fault("a range is too large"))?;
        total += segment.length;
    }
    if end > size {
        return Err(fault("a range lies behind the end of the file"));
    }
    if total != packed {
        return Err(fault("its ranges do not add up to the data in the archive"));
    }
    Ok(())
}

/// Pairs of offset and length, of pax forms 0.0 and 0.1.
pub(super) fn from_pairs(numbers: &[u64], path: &[u8]) -> Result<Vec<Segment>, Error> {
    let fault = |cause| Error::Sparse { path: shown(path), cause };
    if !numbers.len().is_multiple_of(2) {
        return Err(fault("an offset has no length"));
    }
    if numbers.len() > 2 * MAXIMUM_SEGMENTS {
        return Err(fault("it has too many ranges"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

/// Spec: old GNU: slots of 12 + 12 bytes; a slot that starts with NUL ends the list.
pub(super) fn push_slots(bytes: &[u8], segments: &mut Vec<Segment>, path: &[u8]) -> Result<(), Error> {
    let fault = |cause| Error::Sparse { path: shown(path), cause };
    for slot in bytes.chunks_exact(24) {
        if slot[0] == 0 || slot[12] == 0 {
            break;
        }
        let value = |field| {
            header::number(field)
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| fault("a number does not fit"))
        };
        if segments.len() >= MAXIMUM_SEGMENTS {
            return Err(fault("it has too many ranges"));
        }
        segments.push(Segment { offset: value(&slot[..12])?, length: value(&slot[12..])? });
    }
    Ok(())
}
