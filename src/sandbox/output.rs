//! A program's output: lines to the observer, all bytes to the log, the last lines kept.

use super::Error;
use crate::event::{Event, Observer};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Longer lines are told in pieces.
const LONGEST_LINE: usize = 16 * 1024;
const KEPT_LINES: usize = 20;

pub struct Output<'a> {
    observer: &'a dyn Observer,
    step: &'a str,
    log: File,
    path: PathBuf,
    partial: Vec<u8>,
    last_lines: VecDeque<String>,
    last_command: Option<String>,
}

impl<'a> Output<'a> {
    pub fn new(observer: &'a dyn Observer, step: &'a str, path: &Path) -> Result<Output<'a>, Error> {
        let log = OpenOptions::new().create(true).append(true).open(path);
        let log = log.map_err(|cause| Error::Log { path: path.to_path_buf(), cause })?;
        Ok(Output {
            observer,
            step,
            log,
            path: path.to_path_buf(),
            partial: Vec::new(),
            last_lines: VecDeque::new(),
            last_command: None,
        })
    }

    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.log.write_all(bytes).map_err(|cause| Error::Log { path: self.path.clone(), cause })?;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") {
                self.end_line();
            }
            while self.partial.len() >= LONGEST_LINE {
                let rest = self.partial.split_off(LONGEST_LINE);
                self.end_line();
                self.partial = rest;
            }
        }
        Ok(())
    }

    /// Tells what came without a line end; gives the last lines and the last traced command.
    pub fn finish(mut self) -> (Vec<String>, Option<String>) {
        if !self.partial.is_empty() {
            self.end_line();
        }
        (self.last_lines.into(), self.last_command)
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.partial);
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        // A progress bar redraws its line: only the last state is news.
        let visible = bytes.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(visible).into_owned();
        if let Some(command) = traced(&line) {
            self.last_command = Some(command.to_string());
        }
        if self.last_lines.len() == KEPT_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.clone());
        self.observer.observe(Event::Output { step: self.step.to_string(), line });
    }
}

/// What `sh -x` and `bash -x` print before a command: one `+` a level, and a space.
fn traced(line: &str) -> Option<&str> {
    line.starts_with('+').then(|| line.trim_start_matches('+')).and_then(|rest| rest.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Recorder;
    use proptest::prelude::*;

    fn lines(recorder: &Recorder) -> Vec<String> {
        let told = |event: &Event| match event {
            Event::Output { line, .. } => line.clone(),
            other => panic!("{other:?}"),
        };
        recorder.events.lock().unwrap().iter().map(told).collect()
    }

    fn collect(pieces: &[&[u8]]) -> (Vec<String>, Option<String>, Vec<u8>) {
        let place = tempfile::tempdir().unwrap();
        let recorder = Recorder::default();
        let mut output = Output::new(&recorder, "post", &place.path().join("log")).unwrap();
        for piece in pieces {
            output.add(piece).unwrap();
        }
        let (_, command) = output.finish();
        (lines(&recorder), command, std::fs::read(place.path().join("log")).unwrap())
    }

    #[test]
    fn joins_pieces_into_lines_and_keeps_the_last_command() {
        let (lines, command, log) = collect(&[b"+ ec", b"ho a\na\r\n++ inner\n 10%\r 90%\r100%\nend"]);
        assert_eq!(lines, ["+ echo a", "a", "++ inner", "100%", "end"]);
        assert_eq!(command.as_deref(), Some("inner"));
        assert_eq!(log, b"+ echo a\na\r\n++ inner\n 10%\r 90%\r100%\nend");
        assert_eq!(traced("+1 more"), None);
    }

    #[test]
    fn tells_an_endless_line_in_pieces() {
        let (lines, _, _) = collect(&[&vec![b'x'; LONGEST_LINE * 2 + 5]]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST_LINE, LONGEST_LINE, 5]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (_, _, log) = collect(&[&bytes]);
            prop_assert_eq!(log, bytes);
        }
    }
}
