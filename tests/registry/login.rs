//! Logins and a private authority: where they are kept and found, and what is said when they are missing.

use super::place::{Outcome, Place, outcome};
use super::server::Registry;
use sifbuild::arch::Arch;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const PASSWORD: &str = "s3cret";

/// A closed registry whose authority `home` trusts.
fn closed(place: &Place) -> Registry {
    let registry = Registry::closed(&place.file("registry"));
    let authority = fs::read(registry.authority()).unwrap();
    place.write(&format!("home/.config/containers/certs.d/{}/ca.crt", registry.host), authority);
    registry
}

fn log_in(place: &Place, registry: &Registry, password: &str, environment: &[(&str, &str)]) -> Outcome {
    let uri = format!("docker://{}", registry.host);
    let mut command = place.command(&["registry", "login", "-u", "bob", "--password-stdin", &uri]);
    command.envs(environment.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code: output.status.code(), output: text(&output.stdout), errors: text(&output.stderr) }
}

#[test]
fn a_login_is_checked_kept_used_and_forgotten() {
    let place = Place::new();
    let registry = closed(&place);
    place.image("a.sif", Arch::host(), 1 << 20, 1);
    let uri = format!("oras://{}/org/app:1", registry.host);
    let refused = place.fail(4, &["push", "a.sif", &uri]);
    assert!(refused.contains("refused to take") && refused.contains("sifbuild registry login docker://"), "{refused}");

    let wrong = log_in(&place, &registry, "guessed", &[]);
    assert_eq!(wrong.code, Some(4), "{}", wrong.errors);
    assert!(wrong.errors.contains("refused the login") && !wrong.errors.contains("guessed"), "{}", wrong.errors);
    assert!(!place.file("home/.docker").exists());

    let right = log_in(&place, &registry, PASSWORD, &[]);
    assert_eq!(right.code, Some(0), "{}", right.errors);
    let file = place.file("home/.docker/config.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    place.succeed(&["push", "a.sif", &uri]);
    place.succeed(&["pull", "b.sif", &uri]);
    assert!(place.read("b.sif") == place.read("a.sif"));
    place.write("x.def", format!("Bootstrap: oras\nFrom: {}/org/app:1\n", registry.host));
    place.succeed(&["plan", "x.def"]);

    let list = place.succeed(&["registry", "list"]);
    assert!(list.contains(&registry.host) && list.contains("user bob"), "{list}");
    let explained = place.succeed(&["registry", "explain", &uri]);
    for sign in ["connection: HTTPS\n", "certs.d", "ca.crt", ".docker/config.json entry", "(user bob)"] {
        assert!(explained.contains(sign), "{sign}: {explained}");
    }
    for text in [&list, &explained, &right.errors] {
        assert!(!text.contains(PASSWORD) && !text.contains("Ym9iOnMzY3JldA"), "{text}");
    }
    assert!(holding(&place.file("store"), &[PASSWORD, "Ym9iOnMzY3JldA"]).is_empty());
    place.succeed(&["registry", "logout", &format!("oras://{}", registry.host)]);
    assert!(place.fail(4, &["pull", "--force", "b.sif", &uri]).contains("no login"));
    assert!(place.read("b.sif") == place.read("a.sif"), "a failed pull must leave what is there");
}

/// The files below a directory that hold one of the texts.
fn holding(directory: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, texts));
        } else if let Ok(bytes) = fs::read(&path) {
            let has = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if texts.iter().any(has) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn nothing_that_is_said_or_kept_holds_the_password() {
    let place = Place::new();
    let registry = closed(&place);
    place.build("a.sif", 1000);
    let uri = format!("oras://{}/org/app:1", registry.host);
    place.write("x.def", format!("Bootstrap: oras\nFrom: {}/org/app:1\n", registry.host));
    for arguments in [
        ["-v", "push", "a.sif", &uri].as_slice(),
        &["-v", "pull", "b.sif", &uri],
        &["-v", "build", "c.sif", "x.def"],
        &["-v", "search", &uri],
        &["-v", "attach", "--type", "text/x-a", "x.def", &uri],
        &["-v", "attachments", &uri],
        &["-v", "registry", "explain", &uri],
        &["-v", "pull", "d.sif", &format!("{uri}9")],
    ] {
        let mut command = place.command(arguments);
        command.env("SIFBUILD_DOCKER_USERNAME", "bob").env("SIFBUILD_DOCKER_PASSWORD", PASSWORD);
        let outcome = outcome(&mut command);
        let text = format!("{}{}", outcome.output, outcome.errors);
        assert_eq!(outcome.code == Some(0), !arguments.contains(&"d.sif"), "{arguments:?}: {text}");
        assert!(!text.contains(PASSWORD) && !text.contains("Ym9iOnMzY3JldA"), "{text}");
    }
    let secrets = [PASSWORD, "Ym9iOnMzY3JldA"];
    for name in ["store", "home"] {
        assert_eq!(holding(&place.file(name), &secrets), Vec::<PathBuf>::new());
    }
    for name in ["a.sif", "b.sif", "c.sif"] {
        let bytes = place.read(name);
        assert!(
            !secrets.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes())),
            "{name}"
        );
    }
}

#[test]
fn a_helper_that_the_file_names_keeps_the_login() {
    let place = Place::new();
    let registry = closed(&place);
    let script = "#!/bin/sh\nf=$HOME/kept\ncase $1 in\nstore) cat > $f ;;\nget) test -f $f && cat $f || { echo credentials not found in native keychain; exit 1; } ;;\nerase) rm $f ;;\nesac\n";
    place.write("bin/docker-credential-test", script);
    fs::set_permissions(place.file("bin/docker-credential-test"), fs::Permissions::from_mode(0o755)).unwrap();
    place.write("home/.apptainer/docker-config.json", r#"{"credsStore":"test","other":1}"#);
    let path = format!("{}:/usr/bin:/bin", place.file("bin").display());
    let right = log_in(&place, &registry, PASSWORD, &[("PATH", &path)]);
    assert_eq!(right.code, Some(0), "{}", right.errors);
    assert!(right.errors.contains("docker-credential-test"), "{}", right.errors);
    let file = String::from_utf8(place.read("home/.apptainer/docker-config.json")).unwrap();
    assert!(file.contains("\"other\": 1") && !file.contains("auth\""), "{file}");
    place.image("a.sif", Arch::host(), 1000, 1);
    let uri = format!("oras://{}/org/app:1", registry.host);
    let pushed = outcome(place.command(&["push", "a.sif", &uri]).env("PATH", &path));
    assert_eq!(pushed.code, Some(0), "{}", pushed.errors);
    let host = format!("docker://{}", registry.host);
    let out = outcome(place.command(&["registry", "logout", &host]).env("PATH", &path));
    assert_eq!(out.code, Some(0), "{}", out.errors);
    assert!(!place.file("home/kept").exists());
}

#[test]
fn an_unknown_authority_is_told_and_can_be_passed_over() {
    let place = Place::new();
    let registry = Registry::closed(&place.file("registry"));
    place.image("a.sif", Arch::host(), 1000, 1);
    let uri = format!("oras://{}/org/app:1", registry.host);
    let login = ["--docker-username", "bob", "--docker-password", PASSWORD];
    let unknown = place.fail(4, &[&["push", "a.sif", &uri], &login[..]].concat());
    assert!(unknown.contains("no secure connection") && unknown.contains("certs.d"), "{unknown}");
    let mut command = place.command(&[&["push", "a.sif", &uri], &login[..]].concat());
    let trusting = outcome(command.env("SSL_CERT_FILE", registry.authority()));
    assert_eq!(trusting.code, Some(0), "{}", trusting.errors);
    place.succeed(&[&["pull", "--no-https", &uri], &login[..]].concat());
}

#[test]
fn explain_tells_of_mirrors_and_plain_connections() {
    let place = Place::new();
    let text =
        "[[registry]]\nprefix='r.example/team'\ninsecure=true\n[[registry.mirror]]\nlocation='m.example:5000/copy'\n";
    place.write("registries.conf", text);
    let mut command = place.command(&["registry", "explain", "docker://r.example/team/app:1"]);
    let explained = outcome(command.env("CONTAINERS_REGISTRIES_CONF", place.file("registries.conf")));
    let expected = "image: r.example/team/app:1\n\nmirror: m.example:5000/copy/app\n  connection: HTTPS\n  login: none\n\n\
        registry: r.example/team/app\n  connection: HTTPS without a check of the certificate, or plain HTTP\n  login: none\n";
    assert_eq!(explained.output, expected, "{}", explained.errors);
}
