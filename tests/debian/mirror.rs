//! A small signed archive in a temporary directory, and the keys that sign it.

use sifbuild::digest::Digest;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A GnuPG home with one key.
pub struct Key {
    home: tempfile::TempDir,
    pub fingerprint: String,
    /// Arguments for every use: the time at which this key lives.
    time: Vec<&'static str>,
}

impl Key {
    pub fn new() -> Key {
        Key::make("sign", "never", &[])
    }

    /// Good for one day of 2020.
    pub fn expired() -> Key {
        Key::make("sign", "1d", &["--faked-system-time", "20200101T120000!"])
    }

    pub fn with_subkey() -> Key {
        let key = Key::make("cert", "never", &[]);
        let fingerprint = key.fingerprint.clone();
        key.gpg(&["--quick-add-key", &fingerprint, "ed25519", "sign", "never"], b"");
        key.export();
        key
    }

    fn make(usage: &str, life: &str, time: &[&'static str]) -> Key {
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        let mut key = Key { home, fingerprint: String::new(), time: time.to_vec() };
        key.gpg(&["--quick-generate-key", "Test <test@archive.test>", "ed25519", usage, life], b"");
        let listing = String::from_utf8(key.gpg(&["--with-colons", "--list-keys"], b"")).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        key.fingerprint = line.split(':').nth(9).unwrap().to_owned();
        key.export();
        key
    }

    pub fn public(&self) -> PathBuf {
        self.home.path().join("public.gpg")
    }

    pub fn armored(&self) -> Vec<u8> {
        self.gpg(&["--armor", "--export"], b"")
    }

    pub fn revoke(&self) {
        let path = self.home.path().join(format!("openpgp-revocs.d/{}.rev", self.fingerprint));
        let text = std::fs::read_to_string(path).unwrap().replace("\n:-----BEGIN", "\n-----BEGIN");
        self.gpg(&["--import"], text.as_bytes());
        self.export();
    }

    fn export(&self) {
        std::fs::write(self.public(), self.gpg(&["--export"], b"")).unwrap();
    }

    pub fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut child = Command::new("gpg")
            .env("GNUPGHOME", self.home.path())
            .args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(&self.time)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg is needed: apt-get install -y gnupg");
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "all"]).status();
    }
}

/// A package of the archive; `fields` are further lines of its stanza.
#[derive(Clone)]
pub struct Package {
    name: &'static str,
    version: &'static str,
    fields: String,
}

impl Package {
    pub fn new(name: &'static str, version: &'static str, fields: &str) -> Package {
        Package { name, version, fields: fields.to_owned() }
    }

    pub fn usual() -> Vec<Package> {
        vec![
            Package::new("dpkg", "1.22", "Priority: required\nEssential: yes\nPre-Depends: libc6 (>= 2.36)"),
            Package::new("libc6", "2.41-1", "Priority: optional"),
            Package::new("apt", "3.0", "Priority: important\nDepends: libc6"),
            Package::new("tool", "1.5", "Depends: tool-data | tool-data-alternative"),
            Package::new("tool-data", "1.5", ""),
        ]
    }

    /// What the control file and the index say alike.
    fn stanza(&self) -> String {
        let fields = if self.fields.is_empty() { String::new() } else { format!("{}\n", self.fields) };
        format!("Package: {}\nVersion: {}\nArchitecture: amd64\n{fields}", self.name, self.version)
    }

    /// Its file: `/bin/NAME` and nothing else.
    fn write(&self) -> Vec<u8> {
        let tar = |path: &str, content: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            builder.into_inner().unwrap()
        };
        let control = tar("./control", &self.stanza());
        let data = liblzma::encode_all(&tar(&format!("./bin/{}", self.name), self.version)[..], 1).unwrap();
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", b"2.0\n".to_vec()), ("control.tar", control), ("data.tar.xz", data)] {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
            bytes.extend(&content);
            bytes.extend(std::iter::repeat_n(b'\n', content.len() % 2));
        }
        bytes
    }
}

/// The archive, served from `file:`; its index is found by hash only.
pub struct Mirror {
    root: tempfile::TempDir,
    release: String,
}

impl Mirror {
    pub fn new(key: &Key) -> Mirror {
        Mirror::with(key, &Package::usual(), "")
    }

    /// `fields` are further lines of the release.
    pub fn with(key: &Key, packages: &[Package], fields: &str) -> Mirror {
        let root = tempfile::tempdir().unwrap();
        let mut index = String::new();
        std::fs::create_dir_all(root.path().join("pool")).unwrap();
        for package in packages {
            let bytes = package.write();
            let filename = format!("pool/{}_{}_amd64.deb", package.name, package.version);
            std::fs::write(root.path().join(&filename), &bytes).unwrap();
            index.push_str(&format!(
                "{}Filename: {filename}\nSize: {}\nSHA256: {}\n\n",
                package.stanza(),
                bytes.len(),
                Digest::of(&bytes).hex(),
            ));
        }
        let index = liblzma::encode_all(index.as_bytes(), 1).unwrap();
        let digest = Digest::of(&index);
        let folder = root.path().join("dists/testing/main/binary-amd64/by-hash/SHA256");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(digest.hex()), &index).unwrap();
        let release = format!(
            "Origin: Test\nLabel: test\nSuite: testing\nCodename: trixie\nDate: Wed, 01 Jan 2020 10:00:00 UTC\n{fields}\
             Acquire-By-Hash: yes\nArchitectures: all amd64\nComponents: main\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
            digest.hex(),
            index.len(),
        );
        let mirror = Mirror { root, release };
        mirror.sign(key, &[]);
        mirror
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.root.path().display())
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn sign(&self, key: &Key, arguments: &[&str]) {
        let signed = key.gpg(&[arguments, &["--clearsign"]].concat(), self.release.as_bytes());
        std::fs::write(self.path("dists/testing/InRelease"), signed).unwrap();
    }

    /// One block with the signatures of both.
    pub fn sign_twice(&self, first: &Key, second: &Key) {
        let sign = |key: &Key| key.gpg(&["--detach-sign", "--textmode"], self.release.as_bytes());
        let both = [sign(first), sign(second)].concat();
        std::fs::remove_file(self.path("dists/testing/InRelease")).unwrap();
        std::fs::write(self.path("dists/testing/Release"), &self.release).unwrap();
        std::fs::write(self.path("dists/testing/Release.gpg"), both).unwrap();
    }

    pub fn use_detached_signature(&self, key: &Key) {
        std::fs::remove_file(self.path("dists/testing/InRelease")).unwrap();
        std::fs::write(self.path("dists/testing/Release"), &self.release).unwrap();
        let signature = key.gpg(&["--armor", "--detach-sign"], self.release.as_bytes());
        std::fs::write(self.path("dists/testing/Release.gpg"), signature).unwrap();
    }

    pub fn edit(&self, path: &str, change: impl Fn(String) -> String) {
        let path = self.path(path);
        let before = std::fs::read_to_string(&path).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after);
        std::fs::write(path, after).unwrap();
    }

    /// Path of the only index.
    pub fn by_hash_index(&self) -> String {
        let folder = "dists/testing/main/binary-amd64/by-hash/SHA256";
        let entry = std::fs::read_dir(self.path(folder)).unwrap().next().unwrap().unwrap();
        format!("{folder}/{}", entry.file_name().to_string_lossy())
    }

    /// Changes one byte in the middle.
    pub fn damage(&self, path: &str) {
        let path: &Path = &self.path(path);
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}
