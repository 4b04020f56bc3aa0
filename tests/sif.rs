//! `sifbuild sif` and `sifbuild inspect` on files that they made themselves.

use clap::Parser;
use sifbuild::arch::Arch;
use sifbuild::cli::inspect::{self, InspectArguments, InspectError};
use sifbuild::cli::sif::{self, SifArguments, SifError};
use sifbuild::sif::format::{DataType, FileSystem, PartitionType};
use sifbuild::sif::metadata;
use sifbuild::sif::writer::{ObjectOptions, Writer, WriterOptions};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

#[derive(Parser)]
struct Sif {
    #[command(flatten)]
    arguments: SifArguments,
}

#[derive(Parser)]
struct Inspect {
    #[command(flatten)]
    arguments: InspectArguments,
}

fn run_sif(arguments: &[&str]) -> Result<String, SifError> {
    let command = Sif::try_parse_from([&["sif"], arguments].concat()).unwrap();
    let mut output = Vec::new();
    sif::write(&command.arguments, &mut output)?;
    Ok(String::from_utf8(output).unwrap())
}

fn run_inspect(arguments: &[&str]) -> Result<String, InspectError> {
    let command = Inspect::try_parse_from([&["inspect"], arguments].concat()).unwrap();
    let mut output = Vec::new();
    inspect::write(&command.arguments, &mut output)?;
    Ok(String::from_utf8(output).unwrap())
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A sandbox with labels, scripts and one app.
fn sandbox(directory: &TempDir) -> PathBuf {
    let root = directory.path().join("root");
    put(&root, ".singularity.d/labels.json", r#"{"b": "2", "a": "<1>"}"#);
    put(&root, ".singularity.d/runscript", "#!/bin/sh\nrun\n");
    put(&root, ".singularity.d/Singularity", "bootstrap: scratch\n");
    put(&root, ".singularity.d/env/90-environment.sh", "export A=1\n");
    put(&root, "scif/apps/foo/scif/labels.json", r#"{"SCIF_APP_NAME": "foo"}"#);
    put(&root, "scif/apps/foo/scif/runscript", "foo runs\n");
    root
}

fn image(directory: &TempDir) -> String {
    let document = metadata::to_json_compact(&inspect::read(&sandbox(directory), &Default::default()).unwrap());
    let path = directory.path().join("image.sif");
    let mut writer = Writer::new(File::create(&path).unwrap(), &WriterOptions::default()).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), b"bootstrap: scratch\n").unwrap();
    writer.add(&ObjectOptions::named(DataType::GENERIC_JSON, metadata::OBJECT_NAME), document.as_bytes()).unwrap();
    writer.add(&ObjectOptions::primary_squashfs(Arch::Amd64), &[0; 4096]).unwrap();
    writer.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn inspects_images_and_sandboxes_alike() {
    let directory = TempDir::new().unwrap();
    let (image, root) = (image(&directory), sandbox(&directory));
    for path in [image.as_str(), root.to_str().unwrap()] {
        let show = |flags: &[&str]| run_inspect(&[flags, &[path]].concat()).unwrap();
        assert_eq!(show(&[]), "a: <1>\nb: 2\n");
        assert_eq!(show(&["-r", "-d"]), "bootstrap: scratch\n#!/bin/sh\nrun\n");
        assert_eq!(show(&["-e"]), "=== /.singularity.d/env/90-environment.sh ===\nexport A=1\n\n");
        assert_eq!(show(&["--list-apps"]), "foo\n");
        assert_eq!(show(&["--app", "foo", "-r"]), "foo runs\n");
        assert_eq!(show(&["--app", "foo"]), "SCIF_APP_NAME: foo\n");
        assert_eq!(show(&["--app", "bar", "-r"]), "");
        assert_eq!(show(&["-t", "-s", "-H"]), "");
        assert!(show(&["-j"]).contains("\t\t\t\t\"a\": \"\\u003c1\\u003e\",\n"));
        assert!(show(&["--all", "--app", "foo"]).contains("\"deffile\": \"bootstrap: scratch\""));
    }
}

/// The sandbox as a squashfs file.
fn squashfs(directory: &TempDir) -> String {
    let (root, path) = (sandbox(directory), directory.path().join("image.squashfs"));
    let packed = Command::new("mksquashfs").args([&root, &path]).args(["-noappend", "-all-root", "-quiet"]).output();
    assert!(packed.is_ok_and(|output| output.status.success()), "apt-get install -y squashfs-tools");
    path.to_str().unwrap().to_owned()
}

#[test]
fn reads_file_systems_of_images_without_metadata() {
    let directory = TempDir::new().unwrap();
    let bare = squashfs(&directory);
    let contents = fs::read(&bare).unwrap();
    let launched = directory.path().join("launched.squashfs").to_str().unwrap().to_owned();
    fs::write(&launched, [b"#!/usr/bin/env run-singularity\n", &contents[..]].concat()).unwrap();
    let old = directory.path().join("old.sif").to_str().unwrap().to_owned();
    let mut writer = Writer::new(File::create(&old).unwrap(), &WriterOptions::default()).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), b"bootstrap: scratch\n\n").unwrap();
    writer.add(&ObjectOptions::primary_squashfs(Arch::Amd64), &contents).unwrap();
    writer.finish().unwrap();

    let expected = run_inspect(&["--all", sandbox(&directory).to_str().unwrap()]).unwrap();
    for image in [bare, launched, old] {
        assert_eq!(run_inspect(&["--all", &image]).unwrap(), expected, "{image}");
    }
}

#[test]
fn says_why_an_image_without_metadata_is_not_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image.sif");
    let write = |options: Option<ObjectOptions>| {
        let mut writer = Writer::new(File::create(&path).unwrap(), &WriterOptions::default()).unwrap();
        options.map(|options| writer.add(&options, &[0; 4096]).unwrap());
        writer.finish().unwrap();
        run_inspect(&[path.to_str().unwrap()]).unwrap_err().to_string()
    };
    let primary = |file_system| ObjectOptions::partition(file_system, PartitionType::PRIMARY_SYSTEM, Arch::Amd64);
    assert!(write(None).contains("no primary partition"));
    let error = write(Some(primary(FileSystem::ENCRYPTED_SQUASHFS)));
    assert!(error.contains("encrypted, and no key"), "{error}");
    let error = write(Some(primary(FileSystem::GOCRYPTFS_SQUASHFS)));
    assert!(error.contains("gocryptfs") && error.contains("--sandbox"), "{error}");
    let error = write(Some(primary(FileSystem::SQUASHFS)));
    assert!(error.contains("not a squashfs image"), "{error}");
}

#[test]
fn links_of_a_sandbox_do_not_lead_out_of_it() {
    let directory = TempDir::new().unwrap();
    let root = sandbox(&directory);
    fs::write(directory.path().join("secret"), "secret of the host").unwrap();
    symlink(directory.path().join("secret"), root.join(".singularity.d/test")).unwrap();
    symlink("../../../../../../secret", root.join(".singularity.d/runscript.help")).unwrap();
    symlink("/etc/start", root.join(".singularity.d/startscript")).unwrap();
    put(&root, "etc/start", "start of the container");
    let text = run_inspect(&["--all", root.to_str().unwrap()]).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains("start of the container"), "{text}");
}

#[test]
fn refuses_files_of_other_formats_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("other");
    fs::write(&path, "no image").unwrap();
    let path = path.to_str().unwrap();
    assert!(matches!(run_inspect(&[path]), Err(InspectError::UnknownFormat { .. })));
    assert!(run_sif(&["list", path]).unwrap_err().to_string().contains("not a SIF image"));
    let missing = directory.path().join("missing");
    assert!(matches!(run_inspect(&[missing.to_str().unwrap()]), Err(InspectError::Open { .. })));
}

#[test]
fn an_image_grows_and_shrinks_by_commands() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (image, object) = (path("new.sif"), path("object"));
    fs::write(&object, "bytes of the object").unwrap();
    run_sif(&["new", &image]).unwrap();
    assert_eq!(fs::metadata(&image).unwrap().len(), 32176);
    run_sif(&["add", &image, &object, "--datatype", "7", "--filename", "mine"]).unwrap();
    let partition = ["--datatype", "4", "--parttype", "1", "--partfs", "1", "--partarch", "2"];
    run_sif(&[&["add", &image, &object], &partition[..]].concat()).unwrap();
    run_sif(&["setprim", "2", &image]).unwrap();
    assert!(run_sif(&["header", &image]).unwrap().contains("Primary Architecture: amd64"));
    assert!(run_sif(&["info", "1", &image]).unwrap().contains("Name:         mine"));
    assert_eq!(run_sif(&["dump", "1", &image]).unwrap(), "bytes of the object");
    run_sif(&["del", "1", &image]).unwrap();
    let list = run_sif(&["list", &image]).unwrap();
    assert!(
        list.ends_with("2    |NONE    |NONE    |32768-32787               |FS (Squashfs/*System/amd64)\n"),
        "{list}"
    );
    assert!(matches!(run_sif(&["info", "1", &image]), Err(SifError::NotFound { id: 1, .. })));
}

#[test]
fn a_change_keeps_the_mode_and_the_link_and_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let image = image(&directory);
    fs::set_permissions(&image, Permissions::from_mode(0o764)).unwrap();
    let link = directory.path().join("link.sif");
    symlink(&image, &link).unwrap();
    run_sif(&["del", "1", link.to_str().unwrap()]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&image).unwrap().permissions().mode() & 0o7777, 0o764);

    let before = fs::read(&image).unwrap();
    assert!(matches!(run_sif(&["del", "9", &image]), Err(SifError::Edit { .. })));
    assert!(matches!(run_sif(&["setprim", "2", &image]), Err(SifError::Edit { .. })));
    assert_eq!(fs::read(&image).unwrap(), before);
    let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["image.sif", "link.sif", "root"]);
}

#[test]
fn options_that_a_data_type_needs_are_asked_for() {
    for (arguments, option) in [
        (vec!["add", "a", "b"], "--datatype"),
        (vec!["add", "a", "b", "--datatype", "4", "--parttype", "1", "--partfs", "1"], "--partarch"),
        (vec!["add", "a", "b", "--datatype", "5", "--signhash", "1"], "--signentity"),
        (vec!["add", "a", "b", "--datatype", "9"], "--sbomformat"),
        (vec!["add", "a", "b", "--datatype", "12"], "--datatype"),
        (vec!["add", "a", "b", "--datatype", "5", "--signhash", "1", "--signentity", "abcd"], "40 hexadecimal digits"),
        (vec!["add", "a", "b", "--datatype", "9", "--sbomformat", "none"], "spdx-json"),
    ] {
        let error = Sif::try_parse_from([vec!["sif"], arguments].concat()).err().unwrap().to_string();
        assert!(error.contains(option), "{error}");
    }
}
