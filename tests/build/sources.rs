//! Every source on this host, as a header and as a URI, for root and for users.

use super::base;
use super::image::{assert_base, open};
use super::place::{Place, RANGE_USER, SINGLE_USER, has};
use super::server::{copy_image, run, serve_daemon, serve_file};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const POST: &str = "%post\n  echo made > /made\n";

/// Root, a user with subordinate ids, a user with one id, as far as this process can become them.
pub fn everyone() -> Vec<Place> {
    let users = [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user);
    std::iter::once(Place::new()).chain(users).collect()
}

/// Builds from the header, from the header with a script, and from `uri` where that is one; each image has all of the base.
fn check(place: &Place, header: &str, uri: Option<&str>) {
    place.build("x.sif", header, &["--force"]);
    assert_base(&open(&place.file("x.sif")));
    place.build("x.sif", &format!("{header}{POST}"), &["--force"]);
    let root = open(&place.file("x.sif"));
    assert_base(&root);
    assert_eq!(root.text("made"), "made\n", "{header}");
    if let Some(uri) = uri {
        place.succeed(&["build", "--force", "x.sif", uri]);
        assert_base(&open(&place.file("x.sif")));
    }
}

#[test]
fn oci_layouts_by_tag_and_digest() {
    for place in everyone() {
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(place.file("layout/index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        for from in ["layout".to_owned(), "layout:t".to_owned(), format!("layout@{digest}")] {
            check(&place, &format!("Bootstrap: oci\nFrom: {from}\n"), Some(&format!("oci:{from}")));
        }
        assert!(place.succeed(&["inspect", "--deffile", "x.sif"]).starts_with("bootstrap: oci\nfrom: layout@sha256:"));
    }
}

#[test]
fn oci_archives_plain_and_compressed() {
    for place in everyone() {
        run("gzip", "gzip", &["-k", place.file("base.tar").to_str().unwrap()]);
        for from in ["base.tar", "base.tar:t", "base.tar.gz:t"] {
            check(&place, &format!("Bootstrap: oci-archive\nFrom: {from}\n"), Some(&format!("oci-archive:{from}")));
        }
        let absolute = place.file("base.tar");
        place.succeed(&["build", "--force", "x.sif", &format!("oci-archive://{}", absolute.display())]);
        assert_base(&open(&place.file("x.sif")));
    }
}

/// What `docker save` writes of the base, as skopeo writes it.
fn save(place: &Place) {
    let source = format!("oci:{}:t", place.file("layout").display());
    let destination = format!("docker-archive:{}:docker.io/org/app:1.0", place.file("saved.tar").display());
    copy_image(&[], &source, &destination);
}

#[test]
fn docker_archives_by_name() {
    for place in everyone() {
        save(&place);
        for from in ["saved.tar", "saved.tar:org/app:1.0"] {
            check(
                &place,
                &format!("Bootstrap: docker-archive\nFrom: {from}\n"),
                Some(&format!("docker-archive:{from}")),
            );
        }
    }
}

#[test]
fn images_of_a_docker_daemon() {
    for place in everyone() {
        save(&place);
        let socket = place.file("docker.sock");
        let asked = serve_daemon(&socket, fs::read(place.file("saved.tar")).unwrap());
        let host = format!("unix://{}", socket.display());
        place.build(
            "x.sif",
            &format!("Bootstrap: docker-daemon\nFrom: org/app:1.0\n{POST}"),
            &["--docker-host", &host],
        );
        let root = open(&place.file("x.sif"));
        assert_base(&root);
        assert_eq!(root.text("made"), "made\n");
        for (variable, uri) in
            [("DOCKER_HOST", "docker-daemon:org/app:1.0"), ("APPTAINER_DOCKER_HOST", "docker-daemon://org/app:1.0")]
        {
            let mut command = place.command(&[], &["build", "--force", "x.sif", uri]);
            command.env(variable, &host);
            let outcome = place.outcome(command);
            assert_eq!(outcome.code, Some(0), "{uri}: {}", outcome.text);
            assert_base(&open(&place.file("x.sif")));
        }
        let asked = asked.lock().unwrap();
        assert!(asked.len() >= 3);
        assert!(asked.iter().all(|path| path == "/images/docker.io/org/app:1.0/get"), "{asked:?}");
    }
}

#[test]
fn local_images_of_every_kind() {
    if !has("/usr/bin/mksquashfs", "squashfs-tools") {
        return;
    }
    for place in everyone() {
        place.build("base.sif", super::walk::BASE, &[]);
        check(&place, "Bootstrap: localimage\nFrom: base.sif\n", Some("base.sif"));
        check(&place, &format!("Bootstrap: localimage\nFrom: {}\n", place.file("base.sif").display()), None);
        // The squashfs of a SIF is one that can stand alone.
        let sif = place.succeed(&["sif", "list", "base.sif"]);
        let partition = sif.lines().find(|line| line.contains("FS (Squashfs")).expect("a SIF has a squashfs");
        let id = partition.split_whitespace().next().unwrap();
        let mut command = place.command(&[], &["sif", "dump", id, "base.sif"]);
        place.write("bare.squashfs", command.output().unwrap().stdout);
        check(&place, "Bootstrap: localimage\nFrom: bare.squashfs\n", Some("bare.squashfs"));
    }
}

/// As root, for only root can pack the owners of a directory.
#[test]
fn a_squashfs_or_directory_of_somebody_else() {
    if !has("/usr/bin/mksquashfs", "squashfs-tools") || !super::place::is_root("a squashfs with owners") {
        return;
    }
    let maker = Place::new();
    maker.build("box", super::walk::BASE, &["--sandbox"]);
    let image = maker.file("made.squashfs");
    let place = maker.file("box");
    run("mksquashfs", "squashfs-tools", &[place.to_str().unwrap(), image.to_str().unwrap(), "-quiet", "-no-progress"]);
    for place in everyone() {
        fs::copy(&image, place.file("made.squashfs")).unwrap();
        check(&place, "Bootstrap: localimage\nFrom: made.squashfs\n", Some("made.squashfs"));
    }
}

#[test]
fn a_directory_of_the_user_becomes_roots() {
    for user in [RANGE_USER, SINGLE_USER] {
        let Some(place) = Place::of_user(user) else { return };
        place.build("box", super::walk::BASE, &["--sandbox"]);
        place.build("x.sif", &format!("Bootstrap: localimage\nFrom: box\n{POST}"), &[]);
        place.succeed(&["build", "y.sif", "box"]);
        for name in ["x.sif", "y.sif"] {
            let root = open(&place.file(name));
            assert_eq!(root.owner("bin/busybox"), "0755 0:0");
            assert_eq!(root.target("bin/sh").as_deref(), Some("busybox"));
            assert_eq!(root.text("opt/above"), "above");
            assert_eq!(root.find("usr/bin/one"), root.find("usr/bin/two"));
            if user == RANGE_USER {
                assert_base(&root);
            }
        }
    }
}

#[test]
fn busybox_from_its_url() {
    let url = serve_file(fs::read(base::BUSYBOX).expect("install it: apt-get install -y busybox-static"));
    for place in everyone() {
        let definition =
            format!("Bootstrap: busybox\nMirrorURL: {url}/busybox\n%post\n  ls /etc > /listing\n  echo made > /made\n");
        place.build("x.sif", &definition, &[]);
        let root = open(&place.file("x.sif"));
        assert_eq!(root.text("made"), "made\n");
        assert_eq!(root.owner("bin/busybox"), "0755 0:0");
        assert_eq!(root.find("bin/busybox"), root.find("bin/sh"), "applets are hard links");
        assert_eq!(root.text("etc/passwd"), "root:!:0:0:root:/root:/bin/sh");
        assert!(root.text("etc/hosts").starts_with("127.0.0.1"));
        assert!(root.text("listing").contains("passwd"));
        assert_eq!(root.text(".singularity.d/runscript"), "#!/bin/sh\n");
        let text = place.build("y.sif", &definition, &[]);
        assert!(text.contains("post: reused"), "{text}");
    }
}

#[test]
fn busybox_that_is_no_program_is_told() {
    let place = Place::new();
    let url = serve_file(b"<html>moved</html>".to_vec());
    let outcome = place.fail("x.sif", &format!("Bootstrap: busybox\nMirrorURL: {url}/busybox\n"), &[]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text);
    assert!(outcome.text.contains("it does not begin as an ELF file does"), "{}", outcome.text);
}

#[test]
fn scratch_with_a_program_from_the_host() {
    for place in everyone() {
        fs::copy(base::BUSYBOX, place.file("busybox")).unwrap();
        fs::set_permissions(place.file("busybox"), PermissionsExt::from_mode(0o755)).unwrap();
        let definition =
            "Bootstrap: scratch\n%files\n  busybox /bin/sh\n%post\n  echo made > /made\n%test\n  test -e /made\n";
        place.build("x.sif", definition, &[]);
        let root = open(&place.file("x.sif"));
        assert_eq!(root.text("made"), "made\n");
        assert_eq!(root.owner("bin/sh"), "0755 0:0");
    }
}

/// `%pre` runs after the world was asked and before the base is read.
#[test]
fn a_base_that_changes_while_it_is_built_from_is_refused() {
    let place = Place::new();
    place.build("base.sif", super::walk::BASE, &[]);
    place.build("other.sif", &format!("{}{POST}", super::walk::BASE), &[]);
    place.build("box", super::walk::BASE, &["--sandbox"]);
    base::layout(&place.file("other"), &base::layers()[..1]);
    base::layout_archive(&place.file("other.tar"), &place.file("other"));
    for (header, change) in [
        ("Bootstrap: oci-archive\nFrom: base.tar\n", "cp other.tar base.tar"),
        ("Bootstrap: oci\nFrom: layout\n", "rm -r layout; mv other layout"),
        ("Bootstrap: localimage\nFrom: base.sif\n", "cp other.sif base.sif"),
        ("Bootstrap: localimage\nFrom: box\n", "echo more > box/etc/more"),
    ] {
        let outcome = place.fail("x.sif", &format!("{header}%pre\n  {change}\n{POST}"), &[]);
        assert_eq!(outcome.code, Some(4), "{header}: {}", outcome.text);
        assert!(outcome.text.contains("changed while it was built from"), "{header}: {}", outcome.text);
        assert!(!place.file("x.sif").exists());
    }
}
