//! A small, signed, real pacman mirror of this host's own programs, its packages written here and its database by repo-add: enough of a
//! distribution for its pacman to install it.

use super::mirror::Key;
use super::rpm_mirror::{COREUTILS, FINDUTILS, libraries_of};
use super::server::run;
use sifbuild::archive::tar::{Header, Kind, Writer};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PACMAN: &[&str] = &["/usr/bin/pacman"];
const MOUNT: &[&str] = &["/usr/bin/mount", "/usr/bin/umount"];
const SHELL: &[&str] = &["/usr/bin/bash"];
const TIME: i64 = 1_700_000_000;

pub struct Mirror {
    directory: TempDir,
    pub key: Key,
}

/// A file of a package: path, kind, mode, owner and group, content.
type Member<'a> = (&'a str, Kind, u16, (u32, u32), Vec<u8>);

impl Mirror {
    pub fn new() -> Mirror {
        let mirror = Mirror { directory: tempfile::tempdir().unwrap(), key: Key::new() };
        run("chmod", "coreutils", &["755", mirror.directory.path().to_str().unwrap()]);
        fs::create_dir_all(mirror.path("core/x86_64")).unwrap();
        fs::create_dir_all(mirror.path("extra/x86_64")).unwrap();
        fs::copy(mirror.key.public(), mirror.path("keyring.gpg")).unwrap();
        mirror.fill();
        mirror
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("file://{}/$repo/$arch", self.directory.path().display())
    }

    pub fn keyring(&self) -> String {
        self.path("keyring.gpg").to_str().unwrap().to_owned()
    }

    /// The file of a package of version 1-1.
    pub fn package(&self, name: &str) -> PathBuf {
        self.path(&format!("core/x86_64/{name}-1-1-x86_64.pkg.tar.zst"))
    }

    fn fill(&self) {
        let all = [COREUTILS, FINDUTILS, SHELL, PACMAN, MOUNT].concat();
        let directory = |path, mode| (path, Kind::Directory, mode, (0, 0), Vec::new());
        let link = |path, target: &str| (path, Kind::Symlink(target.into()), 0o777, (0, 0), Vec::new());
        let file = |path, text: &str| (path, Kind::File, 0o644, (0, 0), text.as_bytes().to_vec());
        let filesystem: Vec<Member<'_>> = vec![
            directory("etc/", 0o755),
            file("etc/group", "root:x:0:\nmail:x:8:\n"),
            file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8:mail:/var/mail:/bin/false\n"),
            directory("tmp/", 0o1777),
            directory("usr/", 0o755),
            directory("usr/bin/", 0o755),
            directory("usr/lib/", 0o755),
            directory("usr/lib64/", 0o755),
            link("bin", "usr/bin"),
            link("lib", "usr/lib"),
            link("lib64", "usr/lib64"),
            link("sbin", "usr/bin"),
        ];
        self.add("filesystem", "", "", &filesystem);
        self.add("glibc", "depend = filesystem\n", "", &copies(libraries_of(&all)));
        let mut shell = copies(SHELL.iter().map(|path| (*path).to_owned()));
        shell.push(link("usr/bin/sh", "bash"));
        self.add("bash", "depend = glibc\nprovides = sh\n", "", &shell);
        let plain = |paths: &[&str]| copies(paths.iter().map(|path| (*path).to_owned()));
        self.add("coreutils", "depend = glibc\n", "", &plain(COREUTILS));
        self.add("findutils", "depend = glibc\n", "", &plain(FINDUTILS));
        self.add("util-linux", "depend = glibc\n", "", &plain(MOUNT));
        self.add("pacman", "depend = bash\ndepend = coreutils\nbackup = etc/pacman.conf\n", "", &{
            let mut files = plain(PACMAN);
            files.push(file("etc/pacman.conf", "[options]\nArchitecture = x86_64\n"));
            files
        });
        // What pacman must do as the distribution means it: owners, modes, hard links, capabilities of scriptlets, hooks.
        let demo: Vec<Member<'_>> = vec![
            directory("usr/share/demo/", 0o750),
            file("usr/share/demo/data", "data\n"),
            ("usr/share/demo/again", Kind::HardLink("usr/share/demo/data".into()), 0o644, (0, 0), Vec::new()),
            ("usr/share/demo/tool", Kind::File, 0o2755, (0, 8), b"tool\n".to_vec()),
            ("usr/share/demo/letter", Kind::File, 0o640, (8, 8), b"letter\n".to_vec()),
            file(
                "usr/share/libalpm/hooks/demo.hook",
                "[Trigger]\nOperation = Install\nType = Package\nTarget = demo\n[Action]\nWhen = PostTransaction\nExec = /usr/bin/touch /usr/demo-hook\n",
            ),
        ];
        let scriptlet =
            "post_install() {\n  cat <(id -u) >/usr/demo-post\n  mkdir -p /var/demo\n  chown 8:8 /var/demo\n}\n";
        self.add("demo", "depend = sh\ndepend = coreutils\ndepend = demo-data>=1\n", scriptlet, &demo);
        self.add("demo-data", "", "", &[file("usr/share/demo-data", "x\n")]);
        self.add("base", "depend = demo\ndepend = pacman\ndepend = findutils\n", "", &[]);
        self.add("lonely", "depend = no-such-thing>=3\n", "", &[]);
        self.add("rival", "conflict = demo\n", "", &[]);
        self.add("member", "group = band\n", "", &[]);
        self.index("core");
        self.index("extra");
    }

    /// Writes and signs a package of version 1-1.
    fn add(&self, name: &str, fields: &str, scriptlet: &str, members: &[Member<'_>]) {
        let info = format!(
            "pkgname = {name}\npkgver = 1-1\npkgdesc = Test\nurl = https://x.test\nbuilddate = {TIME}\npackager = Test\nsize = 9\narch = x86_64\n{fields}"
        );
        let mut writer = Writer::new(Vec::new());
        let mut write = |(path, kind, mode, (uid, gid), content): &Member<'_>| {
            let (path, size, xattrs) = (path.as_bytes().to_vec(), content.len() as u64, Default::default());
            let (kind, mode, uid, gid) = (kind.clone(), *mode, *uid, *gid);
            writer
                .append(&Header { path, kind, mode, uid, gid, mtime: TIME, xattrs, size }, &mut &content[..])
                .unwrap();
        };
        for (path, text) in [(".PKGINFO", info.as_str()), (".INSTALL", scriptlet)] {
            if !text.is_empty() {
                write(&(path, Kind::File, 0o644, (0, 0), text.as_bytes().to_vec()));
            }
        }
        members.iter().for_each(write);
        let bytes = zstd::stream::encode_all(&writer.finish().unwrap()[..], 1).unwrap();
        fs::write(self.package(name), bytes).unwrap();
        self.sign(&self.package(name));
    }

    pub fn sign(&self, file: &Path) {
        fs::write(format!("{}.sig", file.display()), self.key.gpg(&["--detach-sign"], &fs::read(file).unwrap()))
            .unwrap();
    }

    /// Writes a database anew.
    pub fn index(&self, repository: &str) {
        let folder = self.path(&format!("{repository}/x86_64"));
        for name in ["db", "files"] {
            let _ = fs::remove_file(folder.join(format!("{repository}.{name}.tar.gz")));
        }
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_owned());
        let packages: BTreeSet<String> = files.filter(|path| path.ends_with(".zst")).collect();
        let database = folder.join(format!("{repository}.db.tar.gz"));
        let mut arguments = vec!["-q", database.to_str().unwrap()];
        arguments.extend(packages.iter().map(String::as_str));
        run("repo-add", "makepkg", &arguments);
    }
}

fn copies(paths: impl IntoIterator<Item = String>) -> Vec<Member<'static>> {
    let copy = |path: String| {
        let content = fs::read(&path).unwrap();
        let place = path.strip_prefix("/usr").unwrap_or(&path).trim_start_matches('/');
        let place = place.strip_prefix("sbin/").map_or(place.to_owned(), |name| format!("bin/{name}"));
        let place: &'static str = Box::leak(format!("usr/{place}").into_boxed_str());
        (place, Kind::File, 0o755, (0, 0), content)
    };
    paths.into_iter().map(copy).collect()
}
