//! What several fuzz targets share: repairs that let mutated bytes past a checksum, and bounds for what is read back.

use sifbuild::diagnostic::Diagnostic;
use sifbuild::source::SourceFile;
use std::io::Read;
use std::sync::Arc;

/// The most that a target reads of one body, in bytes: readers may stream more, no target waits for it.
pub const BODY: u64 = 1 << 20;

/// Gives every 512-byte block that looks like a tar header the checksum that fits it: without that, no mutated archive would be
/// read beyond its first block.
pub fn with_tar_checksums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for block in bytes.as_chunks_mut::<512>().0 {
        if &block[257..262] != b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    bytes
}

/// Reads at most [`BODY`] bytes; `None` when the reader fails.
pub fn read_some(reader: impl Read) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(BODY).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Prints some diagnostics in every form, which takes far longer than finding them, and checks that each points into its file.
pub fn print(source: &Arc<SourceFile>, diagnostics: &[Diagnostic]) {
    use sifbuild::definition::render;
    for diagnostic in diagnostics {
        let range = diagnostic.span.range();
        assert!(source.text.get(range).is_some(), "{diagnostic:?} points outside of its text");
    }
    let diagnostics = &diagnostics[..diagnostics.len().min(12)];
    render::text(diagnostics, true);
    let json: Result<serde_json::Value, _> = serde_json::from_str(&render::json(diagnostics));
    let sarif: Result<serde_json::Value, _> = serde_json::from_str(&render::sarif(diagnostics));
    assert!(json.is_ok() && sarif.is_ok(), "a report is not JSON");
    render::github(diagnostics);
}

/// A path that stays below the directory that it is put in.
pub fn is_inside(path: &[u8]) -> bool {
    !path.starts_with(b"/") && path.split(|byte| *byte == b'/').all(|part| part != b"..") && !path.contains(&0)
}
