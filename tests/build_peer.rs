//! The same definitions built by us and by the real Apptainer: file trees compared entry by entry, SIF objects, and how
//! the images behave when Apptainer runs them.
//!
//! Runs where `SIFBUILD_PEER` names the script that runs a command beside a real Apptainer
//! (`$SIFBUILD_PEER --bind DIR --user COMMAND…`), and says so where it does not. Needs root, a static busybox and tar.

use serde_json::{Value, json};
use sifbuild::digest::Digest;
use sifbuild::sif::format::DataType;
use sifbuild::sif::reader::Sif;
use sifbuild::squashfs::{Image, Window};
use sifbuild::tree::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What may differ: a path (`…*`: all that begin so), what of it, and why that is intended.
const INTENDED: &[(&str, &str, &str)] = &[
    (".singularity.d/actions/*", "content", "our own text of the same behaviour; run, exec and test are compared"),
    (".singularity.d/env/01-base.sh", "content", "comments only, in both"),
    (".singularity.d/env/90-environment.sh", "content", "comments at the top; what follows them is compared"),
    (".singularity.d/env/94-appsbase.sh", "content", "the same exports in other words; the variables are compared"),
    (".singularity.d/env/95-apps.sh", "content", "our own text of the same behaviour; run --app is compared"),
    (".singularity.d/env/99-base.sh", "content", "our own text of the same behaviour; the variables are compared"),
    (".singularity.d/env/99-runtimevars.sh", "content", "our own text of the same behaviour; variables are compared"),
    (".singularity.d/runscript", "content", "OCI images: our own text around the line that the runtime looks for"),
    (".singularity.d/startscript", "content", "without %startscript comments only, in both"),
    ("scif/apps/one/scif/env/01-base.sh", "content", "the same variables in other words; app one's are compared"),
    ("scif/apps/two/scif/env/01-base.sh", "content", "the same variables in other words; app two's are compared"),
    (".singularity.d/labels.json", "content", "dates and versions; the rest is compared"),
    ("srv/of-shadow", "owner", "Apptainer without root unpacks layers as one user; we keep the owner of the layer"),
    ("srv/of-shadow", "xattrs", "Apptainer without root notes the owner here, since the inode loses it; ours has it"),
    ("srv/out", "mode", "Apptainer makes a directory that it copies anew, 0755; we keep the mode that it had"),
];

/// Labels that say which program built the image, and when.
const DATED_LABELS: &[&str] = &[
    "org.label-schema.build-date",
    "org.label-schema.usage.apptainer.version",
    // Apptainer 1.4 does not write these, later ones do.
    "org.opencontainers.image.created",
    "org.opencontainers.image.architecture",
];

const PLAIN: &str = "Bootstrap: oci-archive\nFrom: DIR/base.tar\n";

const FULL: &str = r#"Bootstrap: oci-archive
From: DIR/base.tar

%files
    DIR/host/data.txt /srv/data.txt
    DIR/host/tree /opt/tree
    DIR/host/tree/* /opt/matched/

%post
    echo "label-of-post from post" >> "$APPTAINER_LABELS"
    echo 'export FROM_POST="a b"' >> "$APPTAINER_ENVIRONMENT"
    echo made > /srv/made
    chmod 4711 /srv/made
    echo linked > /srv/linked
    chown 8:8 /srv/linked
    ln /srv/linked /srv/linked-too
    ln -s made /srv/soft
    mkdir -m 1777 /srv/sticky
    mkfifo /srv/fifo

%environment
    export GREETING="hello & <welcome>"
    export LATER=$GREETING!

%runscript
    echo "run: $# [$*] $GREETING"

%startscript
    echo started

%test
    echo "test: $GREETING"
    test -f /srv/made

%help
    Some <help> & "text".

%labels
    Author Somebody <one@example.org>
    from-base overridden
    empty
"#;

const APPS: &str = r#"Bootstrap: oci-archive
From: DIR/base.tar

%appinstall one
    echo installed > bin/tool
    chmod 755 bin/tool

%appenv one
    export ONE=1

%apprun one
    echo "app one: $ONE $SCIF_APPNAME $SCIF_APPROOT $SCIF_APPDATA [$*]"
    echo "path: $PATH"

%apphelp one
    help of one

%applabels one
    kind first

%apptest one
    echo "testing one"

%appfiles one
    DIR/host/data.txt data.txt

%apprun two
    env | grep SCIF_ | sort

%appstart two
    echo start two
"#;

const STAGES: &str = r#"Bootstrap: oci-archive
From: DIR/base.tar
Stage: first

%post
    mkdir -p /out/deep
    echo content > /out/deep/file
    chmod 640 /out/deep/file
    ln -s file /out/deep/link
    ln -s /out/deep/file /out/absolute
    mkdir -m 2755 /out/setgid

Bootstrap: oci-archive
From: DIR/base.tar
Stage: last

%files from first
    /out /srv/out
    /out/absolute /srv/followed
    /out/deep/* /srv/matched/

%post
    test -f /srv/out/deep/file
"#;

const ON_IMAGE: &str = r#"Bootstrap: localimage
From: DIR/full-theirs.sif

%post
    echo more > /srv/more
    rm /srv/made

%environment
    export SECOND=2

%labels
    second 2
"#;

const DEFINITIONS: &[(&str, &str)] =
    &[("plain", PLAIN), ("full", FULL), ("apps", APPS), ("stages", STAGES), ("on-image", ON_IMAGE)];

/// Commands whose output and status must be the same on both images; `IMAGE` is its path.
const COMMANDS: &[&[&str]] = &[
    &["exec", "--cleanenv", "IMAGE", "/bin/env"],
    &["exec", "--cleanenv", "--env", "GREETING=given", "IMAGE", "/bin/env"],
    &["exec", "IMAGE", "/bin/sh", "-c", "echo $0 \"$@\"", "zero", "a b", "$c"],
    &["run", "IMAGE"],
    &["run", "IMAGE", "one", "two three"],
    &["run", "--app", "one", "IMAGE", "x"],
    &["run", "--app", "two", "IMAGE"],
    &["run", "--app", "absent", "IMAGE"],
    &["exec", "--cleanenv", "--app", "one", "IMAGE", "/bin/env"],
    &["test", "IMAGE"],
    &["test", "--app", "one", "IMAGE"],
    &["exec", "IMAGE", "/.singularity.d/actions/run", "three"],
    &["exec", "IMAGE", "/.singularity.d/actions/exec", "/bin/echo", "four"],
    &["exec", "IMAGE", "/.singularity.d/actions/test"],
    &["inspect", "-d", "IMAGE"],
    &["inspect", "-H", "IMAGE"],
    &["inspect", "-t", "IMAGE"],
    &["inspect", "--list-apps", "IMAGE"],
];

const INSPECT_FLAGS: &[&[&str]] =
    &[&[], &["-l"], &["-d"], &["-r"], &["-s"], &["-t"], &["-e"], &["-H"], &["-j"], &["--list-apps"], &["--all"]];

const PROGRAMS: &[&str] =
    &["sh", "env", "echo", "cat", "ls", "chmod", "chown", "ln", "mkdir", "mkfifo", "rm", "test", "grep", "sort"];

struct Scratch {
    peer: String,
    directory: TempDir,
}

fn scratch() -> Option<Scratch> {
    let Some(peer) = std::env::var_os("SIFBUILD_PEER") else {
        println!("SIFBUILD_PEER is not set: nothing is compared with the real Apptainer");
        return None;
    };
    let directory = tempfile::Builder::new().prefix("build-peer-").tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    Some(Scratch { peer: peer.into_string().unwrap(), directory })
}

/// Standard output and exit status.
type Outcome = (String, Option<i32>);

impl Scratch {
    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn apptainer(&self, arguments: &[&str]) -> (Outcome, String) {
        let mut command = Command::new(&self.peer);
        command.args(["--bind", &self.file(""), "--user", "apptainer", "--quiet"]);
        outcome(command.args(arguments).current_dir("/"))
    }

    fn sifbuild(&self, arguments: &[&str]) -> (Outcome, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sifbuild"));
        command.env("SIFBUILD_CACHEDIR", self.file("cache"));
        outcome(command.args(arguments).current_dir("/"))
    }

    /// Builds `text` with both and gives the paths of our image and theirs.
    fn build(&self, name: &str, text: &str) -> (String, String) {
        let definition = self.file(&format!("{name}.def"));
        fs::write(&definition, text.replace("DIR/", &self.file(""))).unwrap();
        let (ours, theirs) = (self.file(&format!("{name}-ours.sif")), self.file(&format!("{name}-theirs.sif")));
        let ((_, status), complaint) = self.apptainer(&["build", &theirs, &definition]);
        assert_eq!(status, Some(0), "apptainer, {name}: {complaint}");
        let ((_, status), complaint) = self.sifbuild(&["build", &ours, &definition]);
        assert_eq!(status, Some(0), "sifbuild, {name}: {complaint}");
        (ours, theirs)
    }

    /// Files that the definitions take from the host.
    fn make_host_files(&self) {
        let tree = self.directory.path().join("host/tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(self.file("host/data.txt"), "data\n").unwrap();
        fs::write(tree.join("inner/program"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("inner/program"), Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("shared"), "shared\n").unwrap();
        fs::set_permissions(tree.join("shared"), Permissions::from_mode(0o664)).unwrap();
        symlink("shared", tree.join("link")).unwrap();
        symlink("inner", tree.join("link-to-directory")).unwrap();
    }

    /// An OCI archive of one layer: busybox, accounts, a file that is not root's.
    fn make_base(&self) {
        let root = self.directory.path().join("root");
        for directory in ["bin", "etc", "srv", "tmp", "usr/bin"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("apt-get install -y busybox-static");
        for name in PROGRAMS {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(root.join("etc/hosts"), "127.0.0.1 of-the-image\n").unwrap();
        fs::write(root.join("srv/of-shadow"), "shadow\n").unwrap();
        fs::set_permissions(root.join("srv/of-shadow"), Permissions::from_mode(0o2640)).unwrap();
        let layer = self.file("layer.tar");
        let root = root.to_str().unwrap();
        let tar = ["--numeric-owner", "--sort=name", "--mtime=@1000000000", "--owner=0", "-C", root, "-f", &layer];
        make_archive(&[&tar[..], &["--group=0", "--exclude=./srv/of-shadow", "-c", "."]].concat());
        make_archive(&[&tar[..], &["--group=42", "-r", "./srv/of-shadow"]].concat());
        self.make_layout(&fs::read(&layer).unwrap());
    }

    fn make_layout(&self, layer: &[u8]) {
        let layout = self.directory.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8], kind: &str| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
        };
        let layer = put(layer, "layer.v1.tar");
        // Apptainer 1.4 escapes `\ " $ `` in variables twice, so that its file is no shell script any more.
        let config = json!({
            "created": "2001-09-09T01:46:40Z", "architecture": sifbuild::arch::Arch::host().oci(), "os": "linux",
            "config": {
                "Entrypoint": ["/bin/echo", "it's", "$HOME \"q\" `x` \\"],
                "Cmd": ["a default", "-n"],
                "Env": ["PATH=/usr/bin:/bin", "QUOTED=a 'b' (c)", "EMPTY=", "1BAD=x", "BARE"],
                "Labels": {"from-base": "of the image", "markup": "<&>"},
                "WorkingDir": "/srv",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            "history": [{"created": "2001-09-09T01:46:40Z"}],
        });
        let config = put(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        });
        let manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        // Apptainer refuses an archive with the name `.` in it.
        let place = ["-C", layout.to_str().unwrap(), "-cf", &self.file("base.tar")];
        make_archive(&[&place[..], &["oci-layout", "index.json", "blobs"]].concat());
    }
}

fn make_archive(arguments: &[&str]) {
    assert!(Command::new("tar").args(arguments).status().is_ok_and(|status| status.success()), "tar {arguments:?}");
}

fn outcome(command: &mut Command) -> (Outcome, String) {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()), complaint)
}

/// What one path of an image is, by what is compared.
type Facts = BTreeMap<&'static str, String>;

struct Contents {
    tree: BTreeMap<String, Facts>,
    files: BTreeMap<String, Vec<u8>>,
    /// Name and content of each object but the partition.
    objects: Vec<(String, Vec<u8>)>,
    listing: Vec<String>,
}

fn contents(path: &str) -> Contents {
    let mut sif = Sif::read(File::open(path).unwrap()).unwrap();
    let descriptors: Vec<_> = sif.objects().cloned().collect();
    let mut objects = Vec::new();
    let mut listing = Vec::new();
    for object in &descriptors {
        listing.push(format!("{} {:?} {:?} {:?}", object.data_type, object.group(), object.link(), object.extra()));
        if object.data_type != DataType::PARTITION {
            objects.push((object.name(), sif.contents(object, 1 << 20).unwrap()));
        }
    }
    let (partition, _) = sif.primary_partition().unwrap();
    let (offset, size) = (partition.offset as u64, partition.size as u64);
    let image = Image::open(Window::new(File::open(path).unwrap(), offset, size)).unwrap();
    let (mut tree, mut files, mut first_names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (path, id) in image.tree.walk() {
        let path = String::from_utf8(path.as_bytes().to_vec()).unwrap();
        let inode = image.tree.inode(id);
        let xattrs = inode.metadata.xattrs.keys().map(|name| String::from_utf8_lossy(name));
        let (kind, detail) = match &inode.node {
            Node::Directory(_) => ("directory", String::new()),
            Node::File { size, .. } => {
                let mut bytes = Vec::new();
                image.body(id).unwrap().read_to_end(&mut bytes).unwrap();
                let detail = format!("{size} bytes, {}", Digest::of(&bytes));
                files.insert(path.clone(), bytes);
                ("file", detail)
            }
            Node::Symlink { target } => ("symlink", String::from_utf8_lossy(target).into_owned()),
            other => ("special", format!("{other:?}")),
        };
        let facts = Facts::from([
            ("mode", format!("{:04o}", inode.metadata.mode)),
            ("owner", format!("{}:{}", inode.metadata.uid, inode.metadata.gid)),
            ("xattrs", xattrs.collect::<Vec<_>>().join(" ")),
            ("type", kind.to_owned()),
            ("content", detail),
            ("link", first_names.entry(id).or_insert_with(|| path.clone()).clone()),
        ]);
        tree.insert(path, facts);
    }
    Contents { tree, files, objects, listing }
}

/// Every difference of two trees, as (path, what, ours, theirs).
fn differences(ours: &Contents, theirs: &Contents) -> Vec<(String, &'static str, String, String)> {
    let paths: BTreeSet<&String> = ours.tree.keys().chain(theirs.tree.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (ours.tree.get(path), theirs.tree.get(path)) {
            (Some(our), Some(their)) => {
                let fields = our.iter().filter(|(what, value)| **value != their[*what]);
                found.extend(fields.map(|(what, value)| (path.clone(), *what, value.clone(), their[what].clone())));
            }
            (our, their) => {
                let shown = |facts: Option<&Facts>| facts.map_or("absent".to_owned(), |facts| format!("{facts:?}"));
                found.push((path.clone(), "presence", shown(our), shown(their)));
            }
        }
    }
    found
}

fn intended(path: &str, what: &str) -> Option<usize> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    };
    INTENDED.iter().position(|(pattern, field, _)| *field == what && matches(pattern))
}

fn labels(bytes: &[u8]) -> BTreeMap<String, Value> {
    let mut labels: BTreeMap<String, Value> = serde_json::from_slice(bytes).unwrap();
    DATED_LABELS.iter().for_each(|key| drop(labels.remove(*key)));
    labels
}

/// A shell script without comments and blank lines.
fn commands(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// What the table's reasons promise of files whose bytes differ.
fn check_meaning(name: &str, ours: &Contents, theirs: &Contents, faults: &mut Vec<String>) {
    let mut check = |path: &str, equal: bool| {
        if !equal {
            let text = |contents: &Contents| String::from_utf8_lossy(&contents.files[path]).into_owned();
            faults.push(format!("{name}: {path} means another\nours:\n{}\ntheirs:\n{}", text(ours), text(theirs)));
        }
    };
    let path = ".singularity.d/labels.json";
    check(path, labels(&ours.files[path]) == labels(&theirs.files[path]));
    for path in ["env/01-base.sh", "env/90-environment.sh", "startscript"].map(|path| format!(".singularity.d/{path}"))
    {
        check(&path, commands(&ours.files[&path]) == commands(&theirs.files[&path]));
    }
    let path = ".singularity.d/runscript";
    let looked_for = "eval \"set ${SINGULARITY_OCI_RUN}\"";
    let of_oci = |contents: &Contents| commands(&contents.files[path]).iter().any(|line| line == looked_for);
    check(path, ours.files[path] == theirs.files[path] || of_oci(ours) && of_oci(theirs));
}

/// Objects in the same order with the same names; the definition and the OCI configuration the same; of the metadata
/// what does not repeat files that differ by intention.
fn check_objects(name: &str, ours: &Contents, theirs: &Contents, faults: &mut Vec<String>) {
    let names = |contents: &Contents| contents.objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if ours.listing != theirs.listing || names(ours) != names(theirs) {
        let (our, their) = (names(ours), names(theirs));
        faults.push(format!("{name}: objects: {our:?} {:#?}, theirs: {their:?} {:#?}", ours.listing, theirs.listing));
        return;
    }
    for ((object, our), (_, their)) in ours.objects.iter().zip(&theirs.objects) {
        let equal = match object.as_str() {
            "inspect-metadata.json" => attributes(our) == attributes(their),
            "oci-config.json" => serde_json::from_slice::<Value>(our).ok() == serde_json::from_slice(their).ok(),
            _ => our == their,
        };
        if !equal {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            faults.push(format!("{name}: object {object:?}\nours:\n{}\ntheirs:\n{}", text(our), text(their)));
        }
    }
}

fn attributes(bytes: &[u8]) -> Value {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    let attributes = document["data"]["attributes"].as_object_mut().unwrap();
    if let Some(values) = attributes.get_mut("labels").and_then(Value::as_object_mut) {
        DATED_LABELS.iter().for_each(|key| drop(values.remove(*key)));
    }
    // Compared as files.
    for key in ["runscript", "startscript"] {
        attributes.entry(key).and_modify(|text| *text = Value::Null);
    }
    if let Some(files) = attributes.get_mut("environment").and_then(Value::as_object_mut) {
        files.values_mut().for_each(|text| *text = json!(commands(text.as_str().unwrap().as_bytes())));
    }
    document
}

/// Output without what names the image, sorted where it lists variables.
fn comparable(output: &str, image: &str, arguments: &[&str]) -> String {
    let name = Path::new(image).file_name().unwrap().to_str().unwrap();
    let output = output.replace(image, "IMAGE").replace(name, "IMAGE");
    let mut lines: Vec<&str> = output.lines().collect();
    if arguments.contains(&"/bin/env") {
        lines.sort_unstable();
    }
    // Apptainer leaves an empty element in an app's LD_LIBRARY_PATH, which is the working directory to the loader.
    lines.join("\n").replace("/lib::/", "/lib:/")
}

fn check_behaviour(scratch: &Scratch, name: &str, ours: &str, theirs: &str, faults: &mut Vec<String>) {
    for command in COMMANDS {
        let run = |image: &str| {
            let arguments: Vec<&str> = command.iter().map(|word| if *word == "IMAGE" { image } else { word }).collect();
            let ((output, status), complaint) = scratch.apptainer(&arguments);
            // Our scripts complain on standard error; some of Apptainer's on standard output.
            let output = if status == Some(0) { output } else { output + &complaint };
            (comparable(&output, image, command), status)
        };
        let (our, their) = (run(ours), run(theirs));
        if our != their {
            faults.push(format!("{name}: apptainer {command:?}\nours: {our:#?}\ntheirs: {their:#?}"));
        }
    }
    for (flags, image) in INSPECT_FLAGS.iter().flat_map(|flags| [(flags, ours), (flags, theirs)]) {
        let arguments = [&["inspect"], *flags, &[image]].concat();
        let (our, complaint) = scratch.sifbuild(&arguments);
        let (their, _) = scratch.apptainer(&arguments);
        if our != their {
            faults.push(format!("{name}: inspect {flags:?} {image}\nours: {our:?}{complaint}\ntheirs: {their:?}"));
        }
    }
}

#[test]
fn images_are_apptainers_but_for_what_is_intended() {
    let Some(scratch) = scratch() else { return };
    scratch.make_host_files();
    scratch.make_base();
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for (name, text) in DEFINITIONS {
        let (ours, theirs) = scratch.build(name, text);
        let (our_contents, their_contents) = (contents(&ours), contents(&theirs));
        for (path, what, our, their) in differences(&our_contents, &their_contents) {
            let row = intended(&path, what);
            let reason = row.map_or("NOT INTENDED", |row| INTENDED[row].2);
            println!("{name}: /{path}: {what}: ours {our}, theirs {their}: {reason}");
            match row {
                Some(row) => drop(used.insert(row)),
                None => faults.push(format!("{name}: /{path}: {what}: ours {our}, theirs {their}")),
            }
        }
        check_meaning(name, &our_contents, &their_contents, &mut faults);
        check_objects(name, &our_contents, &their_contents, &mut faults);
        check_behaviour(&scratch, name, &ours, &theirs, &mut faults);
    }
    let unused = INTENDED.iter().enumerate().filter(|(row, _)| !used.contains(row));
    faults.extend(unused.map(|(_, row)| format!("no difference needs this row any more: {row:?}")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}
