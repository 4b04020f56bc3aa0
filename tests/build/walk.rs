//! Bases, sections and forms of target.

use super::image::{assert_base, open};
use super::place::{Place, has, is_root};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

pub const BASE: &str = "Bootstrap: oci-archive\nFrom: base.tar:t\n";

#[test]
fn a_scratch_image_holds_its_files() {
    let place = Place::new();
    place.write("one.txt", "one");
    fs::create_dir(place.file("tree")).unwrap();
    place.write("tree/two.txt", "two");
    fs::set_permissions(place.file("tree/two.txt"), PermissionsExt::from_mode(0o600)).unwrap();
    place.build("x.sif", "Bootstrap: scratch\n%files\n  one.txt /data/one\n  tree /data/\n", &[]);
    let root = open(&place.file("x.sif"));
    assert_eq!(root.text("data/one"), "one");
    assert_eq!(root.text("data/tree/two.txt"), "two");
    assert!(root.find(".singularity.d/runscript").is_some());
    assert_eq!(fs::metadata(place.file("x.sif")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn an_archive_without_scripts_keeps_owners_modes_links_and_attributes() {
    let place = Place::new();
    place.build("x.sif", BASE, &[]);
    let root = open(&place.file("x.sif"));
    assert_base(&root);
    assert!(root.text(".singularity.d/env/10-docker2singularity.sh").contains("FROM_BASE"));
}

#[test]
fn a_layout_with_a_script_keeps_owners_modes_links_and_attributes() {
    let place = Place::new();
    place.build("x.sif", "Bootstrap: oci\nFrom: layout:t\n%post\n  echo made > /made\n  rm /usr/bin/noted\n", &[]);
    let root = open(&place.file("x.sif"));
    assert_eq!(root.text("made"), "made\n");
    assert_eq!(root.find("usr/bin/noted"), None);
    place.build("y.sif", "Bootstrap: oci\nFrom: layout:t\n%post\n  echo made > /made\n", &[]);
    assert_base(&open(&place.file("y.sif")));
}

const EVERYTHING: &str = r#"Bootstrap: oci-archive
From: base.tar:t
Stage: first

%post
    mkdir /out
    echo "from first" > /out/product
    chmod 750 /out/product

Bootstrap: oci-archive
From: base.tar:t
Stage: last

%files from first
    /out/product /opt/product
%files
    host.txt /opt/host.txt
%pre
    touch pre-ran
%setup
    echo setup > "$APPTAINER_ROOTFS/setup-ran"
%post
    test -e /setup-ran
    test "$(cat /opt/host.txt)" = host
    test "$(cat /opt/product)" = "from first"
    echo 'export FROM_POST=1' >> "$APPTAINER_ENVIRONMENT"
    echo "made-by post" >> "$APPTAINER_LABELS"
    ln -s product /opt/link
%environment
    export GREETING=hello
%runscript
    echo "run $GREETING"
%startscript
    echo start
%labels
    Author someone
%help
    Ask the author.
%test
    test "$GREETING" = hello
    test -e /opt/link
    echo "the test ran"
%appinstall hello
    echo app > "$SCIF_APPROOT/installed"
%apprun hello
    echo "hello app"
%applabels hello
    Kind app
"#;

#[test]
fn every_section_has_its_effect() {
    let place = Place::new();
    place.write("host.txt", "host\n");
    let text = place.build("x.sif", EVERYTHING, &[]);
    assert!(text.contains("the test ran"), "{text}");
    assert!(place.file("pre-ran").exists());
    let root = open(&place.file("x.sif"));
    assert_base(&root);
    assert_eq!(root.text("setup-ran"), "setup\n");
    assert_eq!(root.owner("opt/product"), "0750 0:0");
    assert_eq!(root.target("opt/link").as_deref(), Some("product"));
    assert_eq!(root.find("out"), None, "the first stage is not the image");
    assert_eq!(root.text("scif/apps/hello/installed"), "app\n");
    assert!(root.text("scif/apps/hello/scif/runscript").contains("hello app"));
    let inspect = |flag: &str| place.succeed(&["inspect", flag, "x.sif"]);
    let labels = inspect("--labels");
    for expected in ["Author: someone", "made-by: post", "org.example.base: small", "org.label-schema.build-date"] {
        assert!(labels.contains(expected), "{labels}");
    }
    assert!(inspect("--environment").contains("GREETING=hello"));
    assert!(inspect("--environment").contains("FROM_POST"));
    assert!(inspect("--helpfile").contains("Ask the author."));
    assert!(inspect("--runscript").contains("run $GREETING"));
    assert!(inspect("--startscript").contains("echo start"));
    assert!(inspect("--test").contains("the test ran"));
    assert_eq!(inspect("--deffile").trim_end(), EVERYTHING.trim_end());
    assert!(inspect("--list-apps").contains("hello"));
    assert!(place.succeed(&["inspect", "--app", "hello", "x.sif"]).contains("Kind"));
}

#[test]
fn a_sandbox_is_a_directory_with_the_owners() {
    let place = Place::new();
    place.build("box", &format!("{BASE}%post\n  echo made > /made\n"), &["--sandbox"]);
    assert_eq!(fs::read_to_string(place.file("box/made")).unwrap(), "made\n");
    let mode = fs::metadata(place.file("box/usr/bin/raise")).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o4755);
    let inode = |path: &str| fs::metadata(place.file(path)).unwrap().ino();
    assert_eq!(inode("box/usr/bin/one"), inode("box/usr/bin/two"));
    if super::place::is_root("who owns a sandbox's files") {
        let shadow = fs::metadata(place.file("box/etc/shadow")).unwrap();
        assert_eq!((shadow.uid(), shadow.gid()), (0, 42));
    }
    place.build("again.sif", "Bootstrap: localimage\nFrom: box\n", &[]);
    assert_base(&open(&place.file("again.sif")));
}

#[test]
fn a_layout_target_is_a_base_for_the_next_build() {
    let place = Place::new();
    place.build("out", &format!("{BASE}%post\n  echo made > /made\n%labels\n  Own label\n"), &["--oci-layout"]);
    let index = fs::read_to_string(place.file("out/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["schemaVersion"], 2);
    place.build("again.sif", "Bootstrap: oci\nFrom: out\n", &[]);
    let root = open(&place.file("again.sif"));
    assert_base(&root);
    assert_eq!(root.text("made"), "made\n");
    assert!(place.succeed(&["inspect", "--labels", "again.sif"]).contains("Own: label"));
}

#[test]
fn an_image_of_ours_is_a_base() {
    let place = Place::new();
    place.build("one.sif", &format!("{BASE}%labels\n  First label\n%environment\n  export FIRST=1\n"), &[]);
    place.build(
        "two.sif",
        "Bootstrap: localimage\nFrom: one.sif\n%post\n  echo made > /made\n%labels\n  Second label\n",
        &[],
    );
    let root = open(&place.file("two.sif"));
    assert_base(&root);
    assert_eq!(root.text("made"), "made\n");
    let labels = place.succeed(&["inspect", "--labels", "two.sif"]);
    assert!(labels.contains("First: label") && labels.contains("Second: label"), "{labels}");
    place.build("three.sif", "Bootstrap: localimage\nFrom: two.sif\n", &[]);
    assert_base(&open(&place.file("three.sif")));
}

#[test]
fn a_squashfs_of_mksquashfs_is_a_base() {
    // Another user's mksquashfs sees the owners of a sandbox as subordinate ids.
    if !has("/usr/bin/mksquashfs", "squashfs-tools") || !is_root("a squashfs with its true owners") {
        return;
    }
    let place = Place::new();
    place.build("box", BASE, &["--sandbox"]);
    for compression in ["gzip", "xz", "zstd"] {
        let name = format!("{compression}.squashfs");
        let status = Command::new("mksquashfs")
            .args(["box", &name, "-comp", compression, "-quiet", "-no-progress"])
            .current_dir(place.file(""))
            .status();
        assert!(status.unwrap().success());
        place.build(
            "x.sif",
            &format!("Bootstrap: localimage\nFrom: {name}\n%post\n  echo made > /made\n"),
            &["--force"],
        );
        let root = open(&place.file("x.sif"));
        assert_base(&root);
        assert_eq!(root.text("made"), "made\n");
    }
}

#[test]
fn the_same_definition_and_date_give_the_same_bytes() {
    let place = Place::new();
    place.write("host.txt", "host\n");
    let definition = format!("{BASE}%files\n  host.txt /opt/\n%environment\n  export A=1\n%labels\n  Own label\n");
    let first = place.bytes("one.sif", &definition, &["-j1"]);
    assert!(first == place.bytes("two.sif", &definition, &["-j4"]), "one thread and four");
    assert!(first == place.bytes("one.sif", &definition, &["--force"]), "a second time");
    assert!(first == place.bytes("three.sif", &definition, &["--disable-cache"]), "without a store");
    let with_script = format!("{definition}%post\n  echo made > /made\n  mkdir -p /a/b && ln /made /a/b/link\n");
    let first = place.bytes("post.sif", &with_script, &["-j1"]);
    assert!(first == place.bytes("post2.sif", &with_script, &["-j4", "--no-reuse"]), "scripts, run twice");
    assert!(first == place.bytes("post3.sif", &with_script, &[]), "scripts, reused");
}

#[test]
fn the_later_of_two_copies_to_one_path_stays() {
    let place = Place::new();
    place.write("long.txt", "a long text\n");
    place.write("short.txt", "short\n");
    let files = "%files\n  long.txt /opt/x\n  short.txt /opt/x\n  short.txt /opt/y\n  long.txt /opt/y\n";
    let stages = format!("{BASE}Stage: a\n{BASE}Stage: b\n%files from a\n  /usr/bin/one /opt/n\n  /opt/above /opt/n\n");
    let linked = "  /usr/bin /opt/c\n  /opt/above /opt/c/one\n";
    for post in ["", "%post\n  true\n"] {
        place.build("x.sif", &format!("{stages}{linked}{files}{post}"), &["--force"]);
        let root = open(&place.file("x.sif"));
        assert_eq!((root.text("opt/x"), root.text("opt/y")), ("short\n".to_owned(), "a long text\n".to_owned()));
        assert_eq!(root.text("opt/n"), "above");
        assert_eq!((root.text("opt/c/one"), root.text("opt/c/two")), ("above".to_owned(), "one".to_owned()));
    }
}

#[test]
fn a_base_whose_own_base_was_unchecked_is_told_whatever_scripts_do_to_its_labels() {
    let place = Place::new();
    let hides = "%post\n  rm /.singularity.d/labels.json\n%labels\n  org.sifbuild.unchecked nothing\n";
    for base in ["base.sif", "box"] {
        let flags: &[&str] = if base == "box" { &["--sandbox"] } else { &[] };
        place.build(base, &format!("{BASE}%labels\n  org.sifbuild.unchecked --some\n"), flags);
        // The second time, the result of `%post` is taken from the store.
        for _ in 0..2 {
            place.build("x.sif", &format!("Bootstrap: localimage\nFrom: {base}\n{hides}"), &["--force"]);
            let labels = place.succeed(&["inspect", "--labels", "x.sif"]);
            assert!(labels.contains("org.sifbuild.unchecked: --some"), "{labels}");
        }
    }
}
