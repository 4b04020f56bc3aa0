//! SIF images beside the real Apptainer: its images read by us, ours read and run by it, edits byte for byte.
//!
//! Runs where `SIFBUILD_PEER` names the script that runs a command beside a real Apptainer
//! (`$SIFBUILD_PEER --bind DIR --user COMMAND…`), and says so where it does not.

use clap::Parser;
use sifbuild::arch::Arch;
use sifbuild::cli::inspect::{self, InspectArguments};
use sifbuild::cli::sif::{self, SifArguments};
use sifbuild::sif::format::DataType;
use sifbuild::sif::metadata;
use sifbuild::sif::writer::{ObjectOptions, Writer, WriterOptions};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const DEFINITION: &str = r#"Bootstrap: localimage
From: BOX

%help
    Some <help> & "text".
    ends in n

%labels
    Author Zoë <z@x>
    zeta 1

%environment
    export FOO="a & b <c>"
    export BAR=then

%runscript
    echo run "$@"

%startscript
    echo start
"#;

const APP_FILES: &[(&str, &str)] = &[
    ("scif/apps/foo/scif/labels.json", "{\n\t\"Key\": \"Value <1>\",\n\t\"SCIF_APP_NAME\": \"foo\"\n}"),
    ("scif/apps/foo/scif/env/90-environment.sh", "    export X=1\n"),
    ("scif/apps/foo/scif/runscript", "#!/bin/sh\n\n    echo foo\n"),
    ("scif/apps/foo/scif/startscript", "#!/bin/sh\n\n    echo foo start\n"),
    ("scif/apps/foo/scif/runscript.help", "help foo\n\n"),
    ("scif/apps/bar/scif/labels.json", "{\"SCIF_APP_NAME\": \"bar\"}"),
];

/// A scratch directory that the peer's unprivileged user may write to, or nothing and one line that says why.
fn scratch() -> Option<Scratch> {
    let Some(peer) = std::env::var_os("SIFBUILD_PEER") else {
        println!("SIFBUILD_PEER is not set: nothing is compared with the real Apptainer");
        return None;
    };
    let directory = tempfile::Builder::new().prefix("sif-peer-").tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    Some(Scratch { peer: peer.into_string().unwrap(), directory })
}

struct Scratch {
    peer: String,
    directory: TempDir,
}

impl Scratch {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// Standard output of the real Apptainer, which must succeed.
    fn apptainer(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(&self.peer)
            .args(["--bind", self.path().to_str().unwrap(), "--user", "apptainer"])
            .args(arguments)
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "apptainer {arguments:?} failed (is /dev/fuse open to it?): {complaint}");
        output.stdout
    }

    /// A root file system with one static program and two apps.
    fn make_box(&self) -> String {
        let root = self.path().join("box");
        fs::create_dir_all(root.join("bin")).unwrap();
        let source = self.path().join("hello.c");
        fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"hello from the box\"); return 0; }\n").unwrap();
        let program = root.join("bin/hello");
        let compiled = Command::new("cc").arg("-static").arg("-Os").arg(&source).arg("-o").arg(program).status();
        assert!(compiled.is_ok_and(|status| status.success()), "cc -static failed: apt-get install -y gcc libc6-dev");
        for (path, text) in APP_FILES {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root.to_str().unwrap().to_owned()
    }

    fn build(&self) -> String {
        let root = self.make_box();
        fs::write(self.file("box.def"), DEFINITION.replace("BOX", &root)).unwrap();
        let image = self.file("apptainer.sif");
        self.apptainer(&["-q", "build", "--notest", &image, &self.file("box.def")]);
        image
    }

    fn compare_sif(&self, arguments: &[&str]) {
        let theirs = self.apptainer(&[&["sif"], arguments].concat());
        let ours = our_sif(arguments);
        assert!(ours == theirs, "sif {arguments:?}\nours:\n{}\ntheirs:\n{}", lossy(&ours), lossy(&theirs));
    }

    fn compare_inspect(&self, flags: &[&str], image: &str) {
        let arguments = [flags, &[image]].concat();
        let theirs = self.apptainer(&[&["inspect"], &arguments[..]].concat());
        let ours = our_inspect(&arguments);
        assert!(ours == theirs, "inspect {flags:?}\nours:\n{}\ntheirs:\n{}", lossy(&ours), lossy(&theirs));
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Parser)]
struct Sif {
    #[command(flatten)]
    arguments: SifArguments,
}

fn our_sif(arguments: &[&str]) -> Vec<u8> {
    let command = Sif::try_parse_from([&["sif"], arguments].concat()).unwrap();
    let mut output = Vec::new();
    sif::write(&command.arguments, &mut output).unwrap();
    output
}

#[derive(Parser)]
struct Inspect {
    #[command(flatten)]
    arguments: InspectArguments,
}

fn our_inspect(arguments: &[&str]) -> Vec<u8> {
    let command = Inspect::try_parse_from([&["inspect"], arguments].concat()).unwrap();
    let mut output = Vec::new();
    inspect::write(&command.arguments, &mut output).unwrap();
    output
}

/// An image of ours around a file system that mksquashfs made.
fn write_image(scratch: &Scratch, name: &str, options: &WriterOptions) -> String {
    let (root, partition) = (scratch.make_box(), scratch.file("box.squashfs"));
    if !Path::new(&partition).exists() {
        let packed = Command::new("mksquashfs").args([&root, &partition, "-noappend", "-all-root", "-quiet"]).output();
        assert!(packed.is_ok_and(|output| output.status.success()), "apt-get install -y squashfs-tools");
    }
    let document = metadata::to_json_compact(&inspect::read(Path::new(&root), &Default::default()).unwrap());
    let image = scratch.file(name);
    let mut writer = Writer::new(File::create(&image).unwrap(), options).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), b"Bootstrap: scratch\n").unwrap();
    writer.add(&ObjectOptions::named(DataType::GENERIC_JSON, metadata::OBJECT_NAME), document.as_bytes()).unwrap();
    writer.begin_partition(&ObjectOptions::primary_squashfs(Arch::host())).unwrap();
    let bytes = fs::read(&partition).unwrap();
    writer.file().write_all(&bytes).unwrap();
    writer.end_partition(bytes.len() as u64).unwrap();
    writer.finish().unwrap();
    fs::set_permissions(&image, Permissions::from_mode(0o777)).unwrap();
    image
}

const INSPECT_FLAGS: &[&[&str]] = &[
    &[],
    &["-l"],
    &["-d"],
    &["-r"],
    &["-s"],
    &["-t"],
    &["-e"],
    &["-H"],
    &["-j"],
    &["-j", "-r"],
    &["-d", "-r", "-s", "-e", "-H", "-l"],
    &["--list-apps"],
    &["--app", "foo"],
    &["--app", "foo", "-e", "-j"],
    &["--app", "foo", "-r", "-H", "-t", "-l"],
    &["--app", "nope"],
    &["--all"],
];

#[test]
fn shows_apptainers_images_as_apptainer_does() {
    let Some(scratch) = scratch() else { return };
    let image = scratch.build();
    scratch.compare_sif(&["header", &image]);
    scratch.compare_sif(&["list", &image]);
    for id in ["1", "2", "3"] {
        scratch.compare_sif(&["info", id, &image]);
        scratch.compare_sif(&["dump", id, &image]);
    }
    for flags in INSPECT_FLAGS {
        scratch.compare_inspect(flags, &image);
    }
    scratch.compare_inspect(&["--list-apps", "-j"], &image);
    scratch.compare_inspect(&["--app", "foo", "--list-apps"], &image);
}

#[test]
fn shows_sandboxes_as_apptainer_does() {
    let Some(scratch) = scratch() else { return };
    let image = scratch.build();
    let sandbox = scratch.file("sandbox");
    scratch.apptainer(&["-q", "build", "--sandbox", &sandbox, &image]);
    for flags in INSPECT_FLAGS {
        scratch.compare_inspect(flags, &sandbox);
    }
}

#[test]
fn apptainer_shows_and_runs_our_images() {
    let Some(scratch) = scratch() else { return };
    let dated = WriterOptions { id: Some([0x42; 16]), time: Some(1_741_000_000), ..WriterOptions::default() };
    for (name, options) in [("dated.sif", dated), ("deterministic.sif", WriterOptions::default())] {
        let image = write_image(&scratch, name, &options);
        scratch.compare_sif(&["header", &image]);
        scratch.compare_sif(&["list", &image]);
        for id in ["1", "2", "3"] {
            scratch.compare_sif(&["info", id, &image]);
            scratch.compare_sif(&["dump", id, &image]);
        }
        for flags in INSPECT_FLAGS {
            scratch.compare_inspect(flags, &image);
        }
        assert_eq!(lossy(&scratch.apptainer(&["-s", "exec", &image, "/bin/hello"])), "hello from the box\n");
    }
}

/// Deterministic images have no times, so that two tools can be compared to the byte.
#[test]
fn edits_leave_the_bytes_that_apptainers_leave() {
    let Some(scratch) = scratch() else { return };
    let ours = write_image(&scratch, "ours.sif", &WriterOptions::default());
    let theirs = scratch.file("theirs.sif");
    fs::copy(&ours, &theirs).unwrap();
    let (small, large) = (scratch.file("hello.c"), scratch.file("box.squashfs"));
    let entity = "433FE984155206BD962725E20E8713472A879943";
    let partition = ["--datatype", "4", "--partfs", "1", "--partarch", "12"];
    let steps: Vec<Vec<&str>> = vec![
        [&["add", "IMAGE", &large], &partition[..], &["--parttype", "1"]].concat(),
        vec!["add", "IMAGE", &small, "--datatype", "7", "--filename", "a name", "--groupid", "3", "--link", "2"],
        vec!["add", "IMAGE", &small, "--datatype", "5", "--signhash", "2", "--signentity", entity],
        vec!["add", "IMAGE", &small, "--datatype", "9", "--sbomformat", "spdx-json", "--link", "4026531841"],
        vec!["add", "IMAGE", &small, "--datatype", "10", "--alignment", "512"],
        vec!["setprim", "4", "IMAGE"],
        vec!["setprim", "4", "IMAGE"],
        vec!["del", "5", "IMAGE"],
        vec!["add", "IMAGE", &small, "--datatype", "8"],
        vec!["del", "8", "IMAGE"],
        vec!["add", "IMAGE", &small, "--datatype", "6"],
        vec!["del", "4", "IMAGE"],
        vec!["add", "IMAGE", &large, "--datatype", "2", "--alignment", "1024"],
    ];
    for step in steps {
        let with = |image: &str| -> Vec<String> {
            step.iter().map(|word| if *word == "IMAGE" { image.to_owned() } else { (*word).to_owned() }).collect()
        };
        let arguments = with(&theirs);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        scratch.apptainer(&[&["sif"], &arguments[..]].concat());
        let arguments = with(&ours);
        our_sif(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let (our_bytes, their_bytes) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
        let difference = our_bytes.iter().zip(&their_bytes).position(|(our, their)| our != their);
        assert_eq!((difference, our_bytes.len()), (None, their_bytes.len()), "{step:?}");
        scratch.compare_sif(&["list", &ours]);
        scratch.compare_sif(&["header", &ours]);
    }
    for id in ["1", "3", "4", "5", "6", "7", "8"] {
        scratch.compare_sif(&["info", id, &ours]);
    }
}

#[test]
fn a_new_image_is_as_apptainers_but_for_id_and_time() {
    let Some(scratch) = scratch() else { return };
    let (ours, theirs) = (scratch.file("ours.sif"), scratch.file("theirs.sif"));
    our_sif(&["new", &ours]);
    scratch.apptainer(&["sif", "new", &theirs]);
    let (mut our_bytes, mut their_bytes) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
    our_bytes[48..80].fill(0);
    their_bytes[48..80].fill(0);
    assert_eq!(our_bytes, their_bytes);
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ours), mode(&theirs));
}
