//! A small, signed, real RPM mirror, made by rpmbuild and createrepo_c of this host's own programs: enough of a distribution for its rpm to
//! install it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use tempfile::TempDir;

/// Programs of the distribution, by package.
const SHELL: &[&str] = &["/bin/sh"];
pub const COREUTILS: &[&str] = &[
    "/bin/cat",
    "/bin/chmod",
    "/bin/chown",
    "/bin/id",
    "/bin/ln",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/rm",
    "/bin/stat",
    "/bin/touch",
    "/bin/true",
    "/bin/env",
];
pub const FINDUTILS: &[&str] = &["/usr/bin/find"];
const RPM: &[&str] = &["/usr/bin/rpm", "/usr/bin/rpmkeys"];

pub struct Mirror {
    directory: TempDir,
}

/// Shared by the tests that run at one time, which take [copies](Mirror::copy) to spoil. Nobody drops what a static owns: its directory and
/// agent would stay.
static GOOD: Mutex<Weak<Mirror>> = Mutex::new(Weak::new());

impl Mirror {
    pub fn good() -> Arc<Mirror> {
        let mut shared = GOOD.lock().unwrap_or_else(|poison| poison.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Mirror::make());
            *shared = Arc::downgrade(&made);
            made
        })
    }

    /// One that may be changed.
    pub fn copy() -> Mirror {
        let directory = tempfile::tempdir().unwrap();
        let good = Mirror::good();
        run("cp", &["-a", &format!("{}/.", good.directory.path().display()), directory.path().to_str().unwrap()]);
        open(directory.path());
        Mirror { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The repository with the distribution.
    pub fn url(&self) -> String {
        format!("file://{}/os/", self.directory.path().display())
    }

    pub fn key(&self) -> String {
        self.path("key.asc").to_str().unwrap().to_owned()
    }

    /// The file of a package.
    pub fn package(&self, name: &str) -> PathBuf {
        let entries = fs::read_dir(self.path("os/Packages")).unwrap().flatten().map(|entry| entry.path());
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-1"));
        entries.into_iter().find(is_it).unwrap_or_else(|| panic!("no package {name}"))
    }

    /// Writes metadata anew, signed.
    pub fn index(&self) {
        let os = self.path("os");
        run("createrepo_c", &["-q", "--no-database", "--revision=1", os.to_str().unwrap()]);
        self.sign_index();
    }

    pub fn sign_index(&self) {
        let repomd = self.path("os/repodata/repomd.xml");
        let _ = fs::remove_file(repomd.with_extension("xml.asc"));
        self.gpg(&["--armor", "--detach-sign", repomd.to_str().unwrap()]);
    }

    pub fn sign_package(&self, file: &Path) {
        let name = format!("_gpg_name {}", "mirror@test");
        let path = format!("_gpg_path {}", self.path("gnupg").display());
        run(
            "rpmsign",
            &[
                "--define",
                "__gpg /usr/bin/gpg",
                "--define",
                &name,
                "--define",
                &path,
                "--addsign",
                file.to_str().unwrap(),
            ],
        );
    }

    fn gpg(&self, arguments: &[&str]) {
        let home = self.path("gnupg");
        let common = [
            "--homedir",
            home.to_str().unwrap(),
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ];
        run("gpg", &[&common[..], arguments].concat());
    }

    fn make() -> Mirror {
        // Why: a long path is too long for the agent's socket.
        let mirror = Mirror { directory: tempfile::Builder::new().prefix("rpm").tempdir_in("/tmp").unwrap() };
        let home = mirror.path("gnupg");
        fs::create_dir(&home).unwrap();
        run("chmod", &["700", home.to_str().unwrap()]);
        mirror.gpg(&["--quick-generate-key", "Mirror <mirror@test>", "rsa2048", "sign", "never"]);
        mirror.gpg(&["--armor", "--output", mirror.path("key.asc").to_str().unwrap(), "--export"]);
        fs::create_dir_all(mirror.path("os/Packages")).unwrap();
        for (name, spec) in packages() {
            mirror.build(name, &spec);
        }
        mirror.index();
        open(mirror.directory.path());
        mirror
    }

    /// Builds and signs a package from the middle of its spec.
    pub fn build(&self, name: &str, spec: &str) {
        let file = self.path(&format!("{name}.spec"));
        let version = if spec.contains("Version:") { "" } else { "Version: 1\nRelease: 1\n" };
        let head = format!(
            "Name: {name}\n{version}Summary: Test\nLicense: MIT\nAutoReqProv: no\n%global __os_install_post %{{nil}}\n\
             %global debug_package %{{nil}}\n%global _build_id_links none\n%global _binary_payload w1.gzdio\n"
        );
        fs::write(&file, head + spec).unwrap();
        let top = format!("_topdir {}", self.path("build").display());
        let out = format!("_rpmdir {}", self.path("os/Packages").display());
        let flat = "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm";
        let database = format!("_dbpath {}", self.path("rpmdb").display());
        let before: BTreeSet<PathBuf> = self.files();
        run(
            "rpmbuild",
            &[
                "--quiet",
                "-bb",
                "--define",
                &top,
                "--define",
                &out,
                "--define",
                flat,
                "--define",
                &database,
                file.to_str().unwrap(),
            ],
        );
        for new in self.files().difference(&before) {
            self.sign_package(new);
        }
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        fs::read_dir(self.path("os/Packages")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.path("gnupg")).args(["--kill", "all"]).status();
    }
}

/// Other users must read it.
fn open(path: &Path) {
    run("chmod", &["755", path.to_str().unwrap()]);
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install -y rpm createrepo-c gnupg"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Names and specs, without their heads.
fn packages() -> Vec<(&'static str, String)> {
    let all = [SHELL, COREUTILS, FINDUTILS, RPM].concat();
    let filesystem = "%description\nx\n%install\nmkdir -p %{buildroot}/usr/bin %{buildroot}/usr/sbin %{buildroot}/usr/lib %{buildroot}/usr/lib64 \
        %{buildroot}/etc %{buildroot}/var/lib %{buildroot}/var/tmp %{buildroot}/tmp %{buildroot}/root %{buildroot}/proc %{buildroot}/dev \
        %{buildroot}/sys\nfor d in bin sbin lib lib64; do ln -s usr/$d %{buildroot}/$d; done\n\
        printf 'root:x:0:0:root:/root:/bin/sh\\nmail:x:8:8:mail:/var/mail:/bin/false\\n' >%{buildroot}/etc/passwd\n\
        printf 'root:x:0:\\nmail:x:8:\\n' >%{buildroot}/etc/group\n%files\n/bin\n/sbin\n/lib\n/lib64\n%dir /usr/bin\n%dir /usr/sbin\n\
        %dir /usr/lib\n%dir /usr/lib64\n%dir /etc\n%config(noreplace) /etc/passwd\n%config(noreplace) /etc/group\n%dir /var/lib\n\
        %attr(1777,root,root) %dir /var/tmp\n%attr(1777,root,root) %dir /tmp\n%dir /root\n%dir /proc\n%dir /dev\n%dir /sys\n";
    let release = "BuildArch: noarch\nRequires: filesystem\n%description\nx\n%install\nmkdir -p %{buildroot}/etc\n\
        echo 'Test 1' >%{buildroot}/etc/redhat-release\n%files\n/etc/redhat-release\n";
    // What rpm must do as the distribution means it: owners, modes, links, configuration, scriptlets in the shell and in Lua.
    let demo = "Requires: runtime\nRecommends: demo-doc\nRequires(pre): /bin/sh\n%description\nx\n%install\nmkdir -p %{buildroot}/usr/share/demo\n\
        echo data >%{buildroot}/usr/share/demo/data\nln %{buildroot}/usr/share/demo/data %{buildroot}/usr/share/demo/again\n\
        echo tool >%{buildroot}/usr/share/demo/tool\n\
        %pre\ncat /etc/redhat-release >/usr/demo-pre 2>/dev/null || echo early >/usr/demo-pre\n\
        %post -p <lua>\nlocal f = io.open(\"/usr/demo-lua\", \"w\"); f:write(\"lua\\n\"); f:close()\n\
        %files\n%dir /usr/share/demo\n/usr/share/demo/data\n/usr/share/demo/again\n%attr(2755,root,mail) /usr/share/demo/tool\n";
    let dnf = "Requires: demo-doc\n%description\nx\n%install\ninstall -D /bin/true %{buildroot}/usr/bin/dnf-3\n%files\n/usr/bin/dnf-3\n";
    let plain = |text: &str| format!("BuildArch: noarch\n{text}%description\nx\n%files\n");
    vec![
        ("filesystem", filesystem.to_owned()),
        ("runtime", libraries(&all)),
        ("shell", programs(SHELL, "Provides: /bin/sh\n")),
        ("coreutils", programs(COREUTILS, "Requires: /bin/sh\n")),
        ("findutils", programs(FINDUTILS, "")),
        ("rpm", programs(RPM, "")),
        ("test-release", release.to_owned()),
        ("demo", demo.to_owned()),
        ("demo-doc", plain("")),
        ("dnf", dnf.to_owned()),
        ("old", plain("")),
        ("new", plain("Version: 2\nRelease: 1\nObsoletes: old < 2\n")),
        ("choosy", plain("Requires: (demo-doc if demo)\nConflicts: old\n")),
        ("broken", plain("Requires: no-such-thing >= 3\n")),
    ]
}

/// The libraries of programs, at their places.
fn libraries(programs: &[&str]) -> String {
    copies(libraries_of(programs).iter().map(String::as_str), "Requires: filesystem\n", "")
}

pub fn libraries_of(programs: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for program in programs {
        for line in run("ldd", &[program]).lines() {
            let path = line.split_whitespace().find(|word| word.starts_with('/'));
            found.extend(path.map(str::to_owned));
        }
    }
    found
}

fn programs(paths: &[&str], fields: &str) -> String {
    let requires = format!("Requires: runtime\n{fields}");
    let is_rpm = paths.contains(&"/usr/bin/rpm");
    // Compat: Debian's rpm keeps its database in the user's home.
    let more = "cp -r /usr/lib/rpm %{buildroot}/usr/lib/rpm\nfind %{buildroot}/usr/lib/rpm -type l -delete\n\
        sed -i 's|^%%_dbpath\\s.*|%%_dbpath /var/lib/rpm|' %{buildroot}/usr/lib/rpm/macros\n";
    copies(paths.iter().copied(), &requires, if is_rpm { more } else { "" })
}

fn copies<'a>(paths: impl Iterator<Item = &'a str>, fields: &str, more: &str) -> String {
    let (mut install, mut files) = (String::new(), String::new());
    for path in paths {
        let place = if path.starts_with("/usr/") { path.to_owned() } else { format!("/usr{path}") };
        install += &format!("install -D -m 755 {path} %{{buildroot}}{place}\n");
        files += &format!("{place}\n");
    }
    if !more.is_empty() {
        install += &format!("mkdir -p %{{buildroot}}/usr/lib\n{more}");
        files += "/usr/lib/rpm\n";
    }
    format!("{fields}%description\nx\n%install\n{install}%files\n{files}")
}
