//! Where a test works: a directory with a home, a store, and images of any size.

use sifbuild::arch::Arch;
use sifbuild::sif::format::DataType;
use sifbuild::sif::writer::{ObjectOptions, Writer, WriterOptions};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Place {
    directory: TempDir,
}

/// What a command did.
pub struct Outcome {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Place {
    pub fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(place.file("home")).unwrap();
        place
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// An image for `arch` whose partition has `size` bytes that nothing compresses; the same `seed` gives the same.
    pub fn image(&self, name: &str, arch: Arch, size: usize, seed: u64) -> PathBuf {
        let path = self.file(name);
        let mut writer = Writer::new(File::create(&path).unwrap(), &WriterOptions::default()).unwrap();
        writer.add(&ObjectOptions::new(DataType::DEFFILE), b"Bootstrap: scratch\n").unwrap();
        writer.begin_partition(&ObjectOptions::primary_squashfs(arch)).unwrap();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut left = size;
        let mut block = Vec::with_capacity(1 << 20);
        while left > 0 {
            block.clear();
            while block.len() < left.min(1 << 20) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                block.extend_from_slice(&state.to_le_bytes());
            }
            block.truncate(left);
            writer.file().write_all(&block).unwrap();
            left -= block.len();
        }
        writer.end_partition(size as u64).unwrap();
        writer.finish().unwrap();
        path
    }

    /// An image that the program built, around a file of `size` bytes.
    pub fn build(&self, name: &str, size: usize) {
        self.write(
            "content",
            (0..size as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect::<Vec<_>>(),
        );
        self.write("built.def", "Bootstrap: scratch\n\n%files\n  content /content\n");
        self.succeed(&["build", "--force", "--compression", "gzip", name, "built.def"]);
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sifbuild"));
        command.args(arguments).stdin(Stdio::null()).current_dir(self.directory.path()).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.file("home")).env("SIFBUILD_CACHEDIR", self.file("store"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// Runs what must succeed; gives its standard output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.errors);
        outcome.output
    }

    /// Runs what must fail with `code`; gives what it said.
    pub fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {}", outcome.errors);
        outcome.errors
    }
}

pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code: output.status.code(), output: text(&output.stdout), errors: text(&output.stderr) }
}
