//! RPM mirrors that break off, lie about sizes, change while they are read, or want to know who asks.

use super::place::{Outcome, Place};
use super::rpm_mirror::Mirror;
use super::server::{run, serve_directory};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// `choosy` from `url`, built with the mirror's key.
fn build(place: &Place, mirror: &Mirror, url: &str, more: &str) -> Outcome {
    place.write(
        "x.def",
        format!("Bootstrap: dnf\nMirrorURL: {url}\nInclude: choosy rpm\n{more}\n%post\n  rpm -q choosy\n"),
    );
    place.run(&["build", "--force", "--keyring", &mirror.key(), "x.sif", "x.def"])
}

/// The next version of `choosy`, and nothing of the one before.
fn move_on(mirror: &Mirror, version: u32) {
    for entry in fs::read_dir(mirror.path("os/Packages")).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with("choosy-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let spec = format!("Version: {version}\nRelease: 1\nBuildArch: noarch\n%description\nx\n%files\n");
    mirror.build("choosy", &spec);
    mirror.index();
}

#[test]
fn bodies_that_break_off_are_asked_for_again() {
    let mirror = Arc::new(Mirror::copy());
    let url = serve_directory(&mirror.path(""), |path, count, body| {
        if count == 0 && ["repomd.xml", "primary.xml", "choosy-1"].iter().any(|part| path.contains(part)) {
            body.truncate(body.len() / 2);
        }
    });
    let outcome = build(&Place::new(), &mirror, &format!("{url}/os/"), "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(outcome.text.contains("choosy-1-1.noarch"), "{}", outcome.text);
}

#[test]
fn files_of_another_size_are_refused_and_the_next_mirror_is_asked() {
    let mirror = Mirror::copy();
    let grow = |part: &'static str| {
        let (copy, mirror) = (tempfile::tempdir().unwrap(), mirror.path(""));
        run("cp", "coreutils", &["-a", mirror.join("os").to_str().unwrap(), copy.path().to_str().unwrap()]);
        for folder in ["os/repodata", "os/Packages"] {
            for entry in fs::read_dir(copy.path().join(folder)).unwrap().flatten() {
                if entry.file_name().to_str().unwrap().contains(part) {
                    let bytes = fs::read(entry.path()).unwrap();
                    fs::write(entry.path(), [&bytes[..], b"x"].concat()).unwrap();
                }
            }
        }
        copy
    };
    for (part, message) in [
        ("primary.xml", "sent more than"),
        ("choosy-1", "were expected: the file on the server is another one or damaged"),
    ] {
        let bad = grow(part);
        let place = Place::new();
        let url = serve_directory(bad.path(), |_, _, _| {});
        let refused = build(&place, &mirror, &format!("{url}/os/"), "");
        assert_eq!(refused.code, Some(4), "{}", refused.text);
        assert!(refused.text.contains(message) && refused.text.contains(part), "{part}: {}", refused.text);
        let list = mirror.path("mirrorlist");
        fs::write(&list, format!("{url}/os/\n{}\n", mirror.url())).unwrap();
        let taken = build(&place, &mirror, &format!("file://{}", list.display()), "");
        assert_eq!(taken.code, Some(0), "{part}: {}", taken.text);
    }
}

#[test]
fn a_mirror_that_changes_while_it_is_read_is_read_again_from_the_start() {
    let mirror = Arc::new(Mirror::copy());
    let changing = Arc::clone(&mirror);
    let mut version = 1;
    // What is asked for after `repomd.xml` is gone by then, once.
    let url = serve_directory(&mirror.path(""), move |path, _, _| {
        if path.ends_with("repomd.xml.asc") && version == 1 {
            version += 1;
            move_on(&changing, version);
        }
    });
    let outcome = build(&Place::new(), &mirror, &format!("{url}/os/"), "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    assert!(outcome.text.contains("all repositories are asked once more"), "{}", outcome.text);
    assert!(outcome.text.contains("choosy-2-1.noarch"), "{}", outcome.text);
}

#[test]
fn a_mirror_that_changes_again_and_again_or_after_the_choice_is_refused_by_name() {
    let mirror = Arc::new(Mirror::copy());
    let changing = Arc::clone(&mirror);
    let mut version = 1;
    let url = serve_directory(&mirror.path(""), move |path, _, _| {
        if path.ends_with("repomd.xml.asc") {
            version += 1;
            move_on(&changing, version);
        }
    });
    let refused = build(&Place::new(), &mirror, &format!("{url}/os/"), "");
    assert_eq!(refused.code, Some(4), "{}", refused.text);
    assert!(refused.text.contains("repomd.xml lists this file: the mirror is being updated"), "{}", refused.text);

    let mirror = Arc::new(Mirror::copy());
    let changing = Arc::clone(&mirror);
    let mut moved = false;
    let url = serve_directory(&mirror.path(""), move |path, _, _| {
        if path.contains("primary.xml") && !moved {
            moved = true;
            move_on(&changing, 2);
        }
    });
    let place = Place::new();
    let gone = build(&place, &mirror, &format!("{url}/os/"), "");
    assert_eq!(gone.code, Some(4), "{}", gone.text);
    for part in [
        "the package choosy-1-1.noarch (Packages/choosy-1-1.noarch.rpm, sha256:",
        "answered 404",
        "the mirror changed since it was asked",
    ] {
        assert!(gone.text.contains(part), "{part:?} in {}", gone.text);
    }
    assert!(!place.file("x.sif").exists());
}

/// `openssl s_server` with a directory, for those only who show a certificate of its authority.
struct Guarded {
    process: Child,
    url: String,
}

impl Guarded {
    fn start(root: &Path, keys: &Path) -> Guarded {
        let at = |name: &str| keys.join(name).to_str().unwrap().to_owned();
        let openssl = |arguments: &[&str]| run("openssl", "openssl", arguments);
        let subject = |name: &str| format!("/CN={name}");
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"];
        openssl(
            &[&new[..], &["-subj", &subject("authority"), "-keyout", &at("ca.key"), "-out", &at("ca.pem")]].concat(),
        );
        for (name, extension) in [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")]
        {
            let (key, certificate) = (at(&format!("{name}.key")), at(&format!("{name}.pem")));
            let by = ["-CA", &at("ca.pem"), "-CAkey", &at("ca.key"), "-addext", extension, "-subj", &subject(name)];
            openssl(
                &[
                    &new[..],
                    &by,
                    &["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &certificate],
                ]
                .concat(),
            );
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let process = Command::new("openssl")
            .args(["s_server", "-quiet", "-WWW", "-accept", &host, "-Verify", "2", "-verify_return_error"])
            .args(["-CAfile", &at("ca.pem"), "-cert", &at("server.pem"), "-key", &at("server.key")])
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(&host).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Guarded { process, url: format!("https://{host}/os/") }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn mirrors_are_shown_the_certificate_that_setopt_names() {
    let (mirror, place) = (Mirror::good(), Place::new());
    let server = Guarded::start(&mirror.path(""), &place.file(""));
    let path = |name: &str| place.file(name).to_str().unwrap().to_owned();
    let authority = format!("Setopt: sslcacert={}", path("ca.pem"));
    let refused = build(&place, &mirror, &server.url, &authority);
    assert_eq!(refused.code, Some(4), "{}", refused.text);
    let client = format!("{authority} base.sslclientcert={} sslclientkey={}", path("client.pem"), path("client.key"));
    // Keys are asked for with the certificates, too.
    let client = format!("{client}\nProductPGP: {}", server.url.replace("/os/", "/key.asc"));
    let taken = build(&place, &mirror, &server.url, &client);
    assert_eq!(taken.code, Some(0), "{}", taken.text);
    let missing = build(&place, &mirror, &server.url, &format!("{authority} sslclientcert=/nowhere.pem"));
    assert!(missing.text.contains("/nowhere.pem"), "{}", missing.text);
}
