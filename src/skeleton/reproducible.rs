//! What scripts leave behind that is another on every run, and what becomes of it in an image that is to be the same on every run.
//!
//! A list, each line with its reason; README, "Equal bytes", has it for people. Times of files are not here: the packer knows them.
//! Sources: reproducible-builds.org; the files of a Debian image that differed between builds; Python's PEP 552.

use super::Read;
use crate::rpm::state::{AUTO_INSTALLED, HISTORY, settle, settle_auto_installed};
use crate::tree::{Change, Entry, InodeId, Layer, Metadata, Node, Tree, TreePath};
use std::collections::BTreeMap;

/// Files that are left out: path patterns, `*` for any part of a name, `**` for all that lies below.
const LEFT_OUT: [(&str, Why); 45] = [
    // Logs tell the time of each line.
    ("var/log/alternatives.log", Why::Log),
    ("var/log/apk.log", Why::Log),
    ("var/log/apt/*.log", Why::Log),
    ("var/log/apt/*.log.xz", Why::Log),
    ("var/log/bootstrap.log", Why::Log),
    ("var/log/dnf*.log", Why::Log),
    ("var/log/dpkg.log", Why::Log),
    ("var/log/fontconfig.log", Why::Log),
    ("var/log/hawkey.log", Why::Log),
    ("var/log/pacman.log", Why::Log),
    ("var/log/yum.log", Why::Log),
    ("var/log/zypp/history", Why::Log),
    ("var/log/zypper.log", Why::Log),
    // Caches hold times and inode numbers of the build, and are made again when they are missing.
    ("var/cache/apt/*.bin", Why::Cache),
    ("var/cache/dnf/**", Why::Cache),
    ("var/cache/fontconfig/**", Why::Cache),
    ("var/cache/ldconfig/aux-cache", Why::Cache),
    ("var/cache/libdnf5/**", Why::Cache),
    ("var/cache/man/**", Why::Cache),
    ("var/cache/yum/**", Why::Cache),
    ("var/cache/zypp/**", Why::Cache),
    // Backups say what was before the last of several changes.
    ("var/cache/debconf/*-old", Why::Backup),
    ("var/lib/dpkg/*-old", Why::Backup),
    // Histories and states of programs that ran as root.
    ("root/.bash_history", Why::State),
    ("root/.gnupg/random_seed", Why::State),
    ("root/.gnupg/trustdb.gpg", Why::State),
    ("root/.lesshst", Why::State),
    ("root/.python_history", Why::State),
    ("root/.viminfo", Why::State),
    ("root/.wget-hsts", Why::State),
    ("usr/lib/sysimage/rpm/rpmdb.sqlite-shm", Why::State),
    // What dnf did when; why packages are there is in other files.
    ("usr/lib/sysimage/libdnf5/transaction_history.sqlite*", Why::State),
    // What the log of dnf's history holds is in the history then.
    ("var/lib/dnf/history.sqlite-*", Why::State),
    // In which week repositories were asked.
    ("var/lib/dnf/repos/*/countme", Why::State),
    ("var/lib/rpm/__db.*", Why::State),
    ("var/lib/rpm/rpmdb.sqlite-shm", Why::State),
    ("var/lib/systemd/random-seed", Why::State),
    // Keys that every copy of the image would share.
    ("etc/ssh/ssh_host_*_key", Why::Key),
    ("etc/ssh/ssh_host_*_key.pub", Why::Key),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", Why::Key),
    ("etc/ssl/private/ssl-cert-snakeoil.key", Why::Key),
    ("etc/dropbear/dropbear_*_host_key", Why::Key),
    ("etc/unbound/unbound_*.key", Why::Key),
    ("etc/bind/rndc.key", Why::Key),
    // A key of its own, which signs those of the distribution, and pools and sockets of the programs that made it.
    ("etc/pacman.d/gnupg/**", Why::Key),
];

/// Files that stay, empty: systemd gives an empty one its content at the first start.
const EMPTIED: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

/// Files with the day of each password's last change.
const PASSWORDS: [&str; 4] = ["etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-"];

/// What pacman knows of an installed package, and since when.
const INSTALLED: &str = "var/lib/pacman/local/*/desc";

const SECONDS_OF_A_DAY: i64 = 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Log,
    Cache,
    Backup,
    State,
    /// A secret, which a person may miss.
    Key,
    /// It is not what programs write there, so that nobody knows what in it is another on every run.
    Unknown,
}

/// The changes that make `tree` one that every run of the same scripts gives, and the paths left out, each with its reason.
/// `epoch` is the latest time that the image may tell, in seconds since 1970.
pub fn reproducible(tree: &Tree, epoch: i64, read: Read<'_>) -> (Layer, Vec<(TreePath, Why)>) {
    let mut changes = Changes { layer: Layer::default(), replaced: BTreeMap::new() };
    let mut left_out = Vec::new();
    let whole = |path: &TreePath, size: u64| read(path).filter(|bytes| bytes.len() as u64 == size);
    for (path, id) in tree.walk() {
        let inode = tree.inode(id);
        if matches!(inode.node, Node::Directory(_)) {
            continue;
        }
        if let Some((_, why)) = LEFT_OUT.iter().find(|(pattern, _)| matches(pattern.as_bytes(), path.as_bytes())) {
            changes.layer.entries.push(Entry { path: path.clone(), change: Change::Whiteout });
            left_out.push((path, *why));
            continue;
        }
        let Node::File { size, .. } = inode.node else { continue };
        let is = |names: &[&str]| names.iter().any(|name| name.as_bytes() == path.as_bytes());
        if is(&EMPTIED) {
            if size > 0 {
                changes.replace(path, id, &inode.metadata, Vec::new());
            }
        } else if is(&[HISTORY]) {
            let log = read(&log_of(&path)).unwrap_or_default();
            match read(&path).map(|bytes| settle(bytes, &log, epoch)) {
                Some(Ok(bytes)) => changes.replace(path, id, &inode.metadata, bytes),
                _ => {
                    changes.layer.entries.push(Entry { path: path.clone(), change: Change::Whiteout });
                    left_out.push((path, Why::Unknown));
                }
            }
        } else if is(&[AUTO_INSTALLED]) {
            if let Some(text) = whole(&path, size).and_then(|bytes| String::from_utf8(bytes).ok()) {
                changes.replace(path, id, &inode.metadata, settle_auto_installed(&text).into_bytes());
            }
        } else if matches(INSTALLED.as_bytes(), path.as_bytes()) {
            if let Some(text) = whole(&path, size).and_then(|bytes| with_install_time(&bytes, epoch)) {
                changes.replace(path, id, &inode.metadata, text);
            }
        } else if is(&PASSWORDS) {
            if let Some(text) = whole(&path, size).and_then(|bytes| with_days(&bytes, epoch / SECONDS_OF_A_DAY)) {
                changes.replace(path, id, &inode.metadata, text);
            }
        } else if path.as_bytes().ends_with(b".pyc")
            && inode.metadata.mtime > epoch
            && let Some(bytes) = read(&path).and_then(|bytes| with_source_time(bytes, size, epoch))
        {
            changes.replace(path, id, &inode.metadata, bytes);
        }
    }
    (changes.layer, left_out)
}

struct Changes {
    layer: Layer,
    /// Inodes that have their new content, by the name that it was given under.
    replaced: BTreeMap<InodeId, TreePath>,
}

impl Changes {
    /// New content under all names of a file.
    fn replace(&mut self, path: TreePath, id: InodeId, metadata: &Metadata, bytes: Vec<u8>) {
        match self.replaced.get(&id) {
            Some(first) => {
                let change = Change::Link(first.clone());
                self.layer.entries.push(Entry { path, change });
            }
            None => {
                self.replaced.insert(id, path.clone());
                self.layer.put_file(path, metadata.clone(), bytes);
            }
        }
    }
}

/// Of an SQLite database.
fn log_of(path: &TreePath) -> TreePath {
    TreePath::parse([path.as_bytes(), b"-wal"].concat()).expect("a name of some more bytes")
}

/// The third field of `/etc/shadow`, no later than `latest` days after 1970; `None` when nothing changes.
fn with_days(bytes: &[u8], latest: i64) -> Option<Vec<u8>> {
    let mut changed = false;
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| {
        let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let day = fields.get(2).filter(|_| fields.len() == 9).and_then(|field| std::str::from_utf8(field).ok());
        let late = day.and_then(|day| day.parse::<i64>().ok()).is_some_and(|day| day > latest);
        let latest = latest.to_string();
        if late {
            changed = true;
            fields[2] = latest.as_bytes();
        }
        fields.join(&b':')
    });
    let text = lines.collect::<Vec<_>>().join(&b'\n');
    changed.then_some(text)
}

/// The line after `%INSTALLDATE%`, no later than `latest` seconds after 1970; `None` when nothing changes.
fn with_install_time(bytes: &[u8], latest: i64) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (before, rest) = text.split_once("%INSTALLDATE%\n")?;
    let (time, rest) = rest.split_once('\n')?;
    let late = time.parse::<i64>().is_ok_and(|time| time > latest);
    late.then(|| format!("{before}%INSTALLDATE%\n{latest}\n{rest}").into_bytes())
}

/// A compiled Python file names the time of its source, which the packer sets back to `epoch`: both must stay the same.
/// `None` when nothing changes.
fn with_source_time(mut bytes: Vec<u8>, size: u64, epoch: i64) -> Option<Vec<u8>> {
    // Spec: PEP 552. Magic number, flags (0: what follows is a time), time, size of the source; 4 bytes each, little-endian.
    let header: &[u8; 16] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let epoch = u32::try_from(epoch).ok()?;
    if bytes.len() as u64 != size || &header[2..4] != b"\r\n" || word(4) != 0 || word(8) <= epoch {
        return None;
    }
    bytes[8..12].copy_from_slice(&epoch.to_le_bytes());
    Some(bytes)
}

/// `*` stands for any bytes but `/`, `**` at the end for any.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern, path) {
        (b"**", rest) => !rest.is_empty(),
        ([b'*', rest @ ..], _) => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=end).any(|at| matches(rest, &path[at..]))
        }
        ([wanted, pattern @ ..], [found, path @ ..]) => wanted == found && matches(pattern, path),
        ([], []) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: i64 = 1_700_000_000;

    fn tree(files: &[(&str, &[u8])]) -> Tree {
        let mut layer = Layer::default();
        for (path, bytes) in files {
            layer.put_file(TreePath::parse(*path).unwrap(), Metadata::new(0o640, EPOCH + 5), bytes.to_vec());
        }
        let mut tree = Tree::new();
        tree.apply(&layer, 0).unwrap();
        tree
    }

    fn settle_tree(tree: &mut Tree) -> Vec<(String, Why)> {
        let read = |path: &TreePath| content(tree, path);
        let (layer, left_out) = reproducible(tree, EPOCH, &read);
        tree.apply(&layer, 1).unwrap();
        left_out.into_iter().map(|(path, why)| (path.to_string(), why)).collect()
    }

    fn content(tree: &Tree, path: &TreePath) -> Option<Vec<u8>> {
        match &tree.inode(tree.get(path)?).node {
            Node::File { source: crate::tree::Source::Inline(bytes), .. } => Some(bytes.to_vec()),
            _ => None,
        }
    }

    fn text(tree: &Tree, path: &str) -> Option<String> {
        content(tree, &TreePath::parse(path).unwrap()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn leaves_out_logs_caches_backups_and_keys_and_nothing_beside_them() {
        let mut tree = tree(&[
            ("var/log/dpkg.log", b"1"),
            ("var/log/apt/term.log", b"1"),
            ("var/log/own.log", b"1"),
            ("var/cache/man/de/index.db", b"1"),
            ("var/lib/dpkg/status", b"1"),
            ("var/lib/dpkg/status-old", b"1"),
            ("etc/ssh/ssh_host_rsa_key", b"1"),
            ("etc/ssh/ssh_config", b"1"),
        ]);
        let left_out = settle_tree(&mut tree);
        assert_eq!(left_out.len(), 5, "{left_out:?}");
        for path in ["var/log/own.log", "var/lib/dpkg/status", "etc/ssh/ssh_config"] {
            assert!(text(&tree, path).is_some(), "{path}");
        }
        let directory = TreePath::parse("var/log/apt").unwrap();
        assert!(tree.get(&directory).is_some(), "programs that log expect their directory");
        assert!(left_out.iter().any(|(path, why)| path.ends_with("ssh_host_rsa_key") && *why == Why::Key));
    }

    #[test]
    fn sets_back_password_days_and_empties_the_machine_id() {
        let mut tree = tree(&[
            ("etc/shadow", b"root:*:20000:0:99999:7:::\nold:!:10:0:99999:7:::\nodd:x:99999999\n"),
            ("etc/machine-id", b"0123\n"),
        ]);
        assert_eq!(settle_tree(&mut tree), []);
        let shadow = "root:*:19675:0:99999:7:::\nold:!:10:0:99999:7:::\nodd:x:99999999\n";
        assert_eq!(text(&tree, "etc/shadow").as_deref(), Some(shadow));
        assert_eq!(text(&tree, "etc/machine-id").as_deref(), Some(""));
        let metadata = &tree.inode(tree.get(&TreePath::parse("etc/shadow").unwrap()).unwrap()).metadata;
        assert_eq!(metadata.mode, 0o640);
    }

    #[test]
    fn pacmans_packages_are_installed_no_later_than_the_date() {
        let desc = |time: i64| format!("%NAME%\na\n\n%INSTALLDATE%\n{time}\n\n%SIZE%\n1\n");
        let (late, early) = (desc(EPOCH + 9), desc(7));
        let mut tree = tree(&[
            ("var/lib/pacman/local/a-1-1/desc", late.as_bytes()),
            ("var/lib/pacman/local/b-1-1/desc", early.as_bytes()),
            ("etc/pacman.d/gnupg/private-keys-v1.d/x.key", b"1"),
        ]);
        assert_eq!(settle_tree(&mut tree).len(), 1);
        assert_eq!(text(&tree, "var/lib/pacman/local/a-1-1/desc"), Some(desc(EPOCH)));
        assert_eq!(text(&tree, "var/lib/pacman/local/b-1-1/desc"), Some(early.clone()));
    }

    #[test]
    fn gives_compiled_python_the_time_that_its_source_gets() {
        let pyc = |flags: u8, time: u32| {
            let mut bytes = vec![0xa7, 0x0d, b'\r', b'\n', flags, 0, 0, 0];
            bytes.extend(time.to_le_bytes());
            bytes.extend(*b"\x05\0\0\0code");
            bytes
        };
        let late = EPOCH as u32 + 9;
        let (timed, hashed, early) = (pyc(0, late), pyc(1, late), pyc(0, 77));
        let mut tree = tree(&[("a/t.pyc", &timed), ("a/h.pyc", &hashed), ("a/e.pyc", &early), ("a/x.pyc", b"short")]);
        settle_tree(&mut tree);
        let found = |path: &str| content(&tree, &TreePath::parse(path).unwrap()).unwrap();
        assert_eq!(found("a/t.pyc"), pyc(0, EPOCH as u32));
        assert_eq!((found("a/h.pyc"), found("a/e.pyc"), found("a/x.pyc")), (hashed, early, b"short".to_vec()));
    }

    #[test]
    fn dnfs_history_is_settled_and_what_is_none_is_left_out() {
        let history = crate::rpm::state::first(&crate::rpm::pin::tests::sample(), "");
        let mut tree =
            tree(&[(HISTORY, &history), ("var/lib/dnf/history.sqlite-wal", b"cut off"), (AUTO_INSTALLED, b"#x\nb\na")]);
        assert_eq!(settle_tree(&mut tree), [("/var/lib/dnf/history.sqlite-wal".to_owned(), Why::State)]);
        assert!(content(&tree, &TreePath::parse(HISTORY).unwrap()).unwrap() == history);
        assert_eq!(text(&tree, AUTO_INSTALLED).as_deref(), Some("# AutoInstalled\na\nb\n"));
        let mut tree = self::tree(&[(HISTORY, b"SQLite format 3\0")]);
        assert_eq!(settle_tree(&mut tree), [(format!("/{HISTORY}"), Why::Unknown)]);
    }

    #[test]
    fn a_changed_file_keeps_all_its_names() {
        let mut tree = tree(&[("etc/machine-id", b"0123\n")]);
        let mut layer = Layer::default();
        let change = Change::Link(TreePath::parse("etc/machine-id").unwrap());
        layer.entries.push(Entry { path: TreePath::parse("var/lib/dbus/machine-id").unwrap(), change });
        tree.apply(&layer, 1).unwrap();
        settle_tree(&mut tree);
        let id = |path: &str| tree.get(&TreePath::parse(path).unwrap());
        assert_eq!(id("etc/machine-id"), id("var/lib/dbus/machine-id"));
        assert_eq!(text(&tree, "var/lib/dbus/machine-id").as_deref(), Some(""));
    }

    #[test]
    fn patterns_stay_in_their_directory() {
        assert!(matches(b"var/cache/apt/*.bin", b"var/cache/apt/pkgcache.bin"));
        assert!(!matches(b"var/cache/apt/*.bin", b"var/cache/apt/archives/x.bin"));
        assert!(matches(b"a/*_key", b"a/b_key_key") && !matches(b"a/*_key", b"a/b_key.pub"));
        assert!(matches(b"a/**", b"a/b/c") && !matches(b"a/**", b"a"));
    }
}
