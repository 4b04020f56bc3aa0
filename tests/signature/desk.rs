//! Where a test works: a directory with keyrings of its own, ours and gpg's.

use sifbuild::arch::Arch;
use sifbuild::sif::format::{DataType, random_id};
use sifbuild::sif::writer::{ObjectOptions, Writer, WriterOptions};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub const PASSPHRASE: &str = "correct horse";

pub struct Desk {
    directory: TempDir,
}

pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--homedir", &self.file("gnupg"), "--kill", "all"]).status();
    }
}

impl Desk {
    pub fn new() -> Desk {
        let desk = Desk { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("gnupg")).unwrap();
        fs::set_permissions(desk.path("gnupg"), Permissions::from_mode(0o700)).unwrap();
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.file(name)
    }

    /// Our program, with a passphrase in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sifbuild"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.path("home"));
        command
            .env("SIFBUILD_KEYSDIR", self.path("keys"))
            .env("SIFBUILD_GLOBAL_KEYRING", self.path("global-pgp-public"));
        command.env("SIFBUILD_CACHEDIR", self.path("cache")).env("SIFBUILD_KEY_PASSPHRASE", PASSPHRASE);
        command
    }

    pub fn outcome(mut command: Command) -> Outcome {
        let output = command.output().unwrap();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Desk::outcome(self.command(arguments))
    }

    /// Runs what must succeed; gives standard output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let Outcome { code, stdout, stderr } = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}\n{stdout}{stderr}");
        stdout
    }

    /// Runs what must fail with this code; gives standard error.
    pub fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(code), "{arguments:?}\n{}{}", outcome.stdout, outcome.stderr);
        outcome.stderr
    }

    /// gpg with a home of its own; what must succeed.
    pub fn gpg(&self, arguments: &[&str]) -> String {
        self.program("gpg", "gnupg", &[&["--homedir", &self.file("gnupg"), "--batch", "--no-tty"], arguments].concat())
    }

    pub fn openssl(&self, arguments: &[&str]) -> String {
        self.program("openssl", "openssl", arguments)
    }

    fn program(&self, program: &str, package: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).current_dir(self.directory.path()).output();
        let output = output.unwrap_or_else(|_| panic!("{program} is missing: apt-get install -y {package}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {all}");
        all
    }

    /// A new Ed25519 key in our keyrings; gives its fingerprint.
    pub fn newpair(&self, name: &str) -> String {
        let mail = format!("{}@example.org", name.to_lowercase());
        self.succeed(&["key", "newpair", "-N", name, "-E", &mail, "--type", "ed25519"]);
        let list = self.succeed(&["key", "list"]);
        let entry = list.split("\n\n").find(|entry| entry.contains(&mail)).unwrap();
        entry.split("Fingerprint:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// An image without signatures: objects 1 to 3 in group 1, object 4 in group 2.
    pub fn image(&self, name: &str) -> String {
        let options =
            WriterOptions { id: Some(random_id([7; 16])), time: Some(1_700_000_000), ..WriterOptions::default() };
        self.image_with(name, &options)
    }

    pub fn image_with(&self, name: &str, options: &WriterOptions) -> String {
        write_image(File::create(self.path(name)).unwrap(), options);
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
        self.file(name)
    }
}

pub fn write_image(file: File, options: &WriterOptions) {
    let mut writer = Writer::new(file, options).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), b"Bootstrap: scratch\n").unwrap();
    writer.add(&ObjectOptions::named(DataType::GENERIC_JSON, "inspect-metadata.json"), b"{}").unwrap();
    writer.begin_partition(&ObjectOptions::primary_squashfs(Arch::Amd64)).unwrap();
    writer.file().write_all(&[7; 5000]).unwrap();
    writer.end_partition(5000).unwrap();
    let notes = ObjectOptions { group: Some(2), ..ObjectOptions::named(DataType::GENERIC, "notes") };
    writer.add(&notes, b"some notes").unwrap();
    writer.finish().unwrap();
}
