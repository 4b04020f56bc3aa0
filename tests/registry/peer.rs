//! Push and pull beside the real Apptainer and oras, both ways, through a registry with a login and a private authority.
//!
//! Runs where `SIFBUILD_PEER` names the script that runs a command beside a real Apptainer
//! (`$SIFBUILD_PEER --bind DIR --user COMMAND…`), and says so where it does not.

use super::place::Place;
use super::server::Registry;
use sifbuild::arch::Arch;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

struct Peer {
    program: String,
    place: Place,
    registry: Registry,
}

impl Peer {
    fn new() -> Option<Peer> {
        let Some(program) = std::env::var_os("SIFBUILD_PEER") else {
            println!("SIFBUILD_PEER is not set: nothing is exchanged with the real Apptainer");
            return None;
        };
        let place = Place::new();
        let registry = Registry::closed(&place.file("registry"));
        // The peer is another user.
        fs::set_permissions(place.file(""), Permissions::from_mode(0o755)).unwrap();
        place.write("peer/ca.crt", fs::read(registry.authority()).unwrap());
        fs::create_dir(place.file("peer/home")).unwrap();
        for name in ["peer", "peer/home"] {
            fs::set_permissions(place.file(name), Permissions::from_mode(0o777)).unwrap();
        }
        Some(Peer { program: program.into_string().unwrap(), place, registry })
    }

    /// Runs what must succeed in the directory `peer`; gives its output.
    fn run(&self, arguments: &[&str]) -> String {
        let directory = self.place.file("peer");
        let script = "cd \"$1\" && export HOME=\"$1/home\" SSL_CERT_FILE=\"$1/ca.crt\" && shift && exec \"$@\"";
        let shell = ["sh", "-c", script, "sh", directory.to_str().unwrap()];
        let output = Command::new(&self.program)
            .args(["--bind", directory.to_str().unwrap(), "--user"])
            .args(shell)
            .args(arguments)
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the program itself, trusting the authority.
    fn ours(&self, arguments: &[&str]) -> String {
        let mut command = self.place.command(arguments);
        let outcome = super::place::outcome(command.env("SSL_CERT_FILE", self.registry.authority()));
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.errors);
        outcome.output
    }

    fn uri(&self, name: &str) -> String {
        format!("oras://{}/{name}", self.registry.host)
    }
}

const LOGIN: [&str; 4] = ["--docker-username", "bob", "--docker-password", "s3cret"];

#[test]
fn images_go_both_ways_between_us_and_apptainer_and_oras() {
    let Some(peer) = Peer::new() else { return };
    let host = peer.registry.host.clone();
    // A login of either tool serves the other, too.
    peer.run(&["apptainer", "registry", "login", "-u", "bob", "-p", "s3cret", &format!("docker://{host}")]);
    let kept = peer.place.read("peer/home/.docker/config.json");
    peer.place.write("home/.docker/config.json", kept);
    peer.place.build("peer/ours.sif", 20 << 20);
    let ours = peer.place.read("peer/ours.sif");

    peer.ours(&["push", "peer/ours.sif", &peer.uri("org/ours:1")]);
    peer.run(&["apptainer", "pull", "apptainer.sif", &peer.uri("org/ours:1")]);
    assert!(peer.place.read("peer/apptainer.sif") == ours);
    let reference = format!("{host}/org/ours:1");
    peer.run(&["oras", "pull", "--ca-file", "ca.crt", "-u", "bob", "-p", "s3cret", "-o", "pulled", &reference]);
    assert!(peer.place.read("peer/pulled/ours.sif") == ours);

    peer.run(&["apptainer", "push", "ours.sif", &peer.uri("org/apptainer:1")]);
    peer.ours(&["pull", "--force", "x.sif", &peer.uri("org/apptainer:1")]);
    assert!(peer.place.read("x.sif") == ours);
    // A login that we keep is Apptainer's, too.
    peer.run(&["apptainer", "registry", "logout", &format!("docker://{host}")]);
    let uri = format!("docker://{host}");
    let config = peer.place.file("peer/home/.docker/config.json");
    let login = ["registry", "login", "-u", "bob", "-p", "s3cret", "--authfile", config.to_str().unwrap(), &uri];
    peer.ours(&login);
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    peer.run(&["apptainer", "pull", "--force", "apptainer.sif", &peer.uri("org/apptainer:1")]);

    let media_type = "application/vnd.sylabs.sif.layer.v1.sif";
    let reference = format!("{host}/org/oras:1");
    let config = "application/vnd.sylabs.sif.config.v1+json";
    peer.place.write("peer/config.json", "{}");
    let push = ["oras", "push", "--ca-file", "ca.crt", "-u", "bob", "-p", "s3cret", "--config"];
    peer.run(&[&push[..], &[&format!("config.json:{config}"), &reference, &format!("ours.sif:{media_type}")]].concat());
    peer.ours(&[&["pull", "--force", "x.sif", &peer.uri("org/oras:1")], &LOGIN[..]].concat());
    assert!(peer.place.read("x.sif") == ours);
}

#[test]
fn apptainer_and_oras_understand_our_indexes_and_attachments() {
    let Some(peer) = Peer::new() else { return };
    let host = peer.registry.host.clone();
    peer.run(&["apptainer", "registry", "login", "-u", "bob", "-p", "s3cret", &format!("docker://{host}")]);
    peer.place.build("peer/a.sif", 1000);
    peer.place.image("peer/b.sif", Arch::S390x, 5000, 1);
    let uri = peer.uri("org/app:1");
    peer.ours(&[&["push", "peer/a.sif", "peer/b.sif", &uri], &LOGIN[..]].concat());
    peer.run(&["apptainer", "pull", "pulled.sif", &uri]);
    assert!(peer.place.read("peer/pulled.sif") == peer.place.read("peer/a.sif"));
    let oras = |arguments: &[&str]| {
        let flags = ["--ca-file", "ca.crt", "-u", "bob", "-p", "s3cret"];
        peer.run(&[&["oras"], arguments, &flags[..]].concat())
    };
    let reference = format!("{host}/org/app:1");
    oras(&["pull", "--platform", "linux/s390x", "-o", "pulled", &reference]);
    assert!(peer.place.read("peer/pulled/b.sif") == peer.place.read("peer/b.sif"));

    let kind = "application/spdx+json";
    peer.place.write("peer/ours.json", "ours");
    peer.place.write("peer/theirs.json", "theirs");
    peer.ours(&[&["attach", "--type", kind, "peer/ours.json", &uri], &LOGIN[..]].concat());
    oras(&["attach", "--artifact-type", kind, &reference, "theirs.json:text/plain"]);
    let found = oras(&["discover", "--format", "json", &reference]);
    assert_eq!(found.matches(kind).count(), 2, "{found}");
    let listed = peer.ours(&[&["attachments", &uri, "--pull", "all"], &LOGIN[..]].concat());
    assert!(listed.contains("ours.json") && listed.contains("theirs.json"), "{listed}");
    assert_eq!(peer.place.read("all/theirs.json"), b"theirs");
    assert_eq!(peer.place.read("all/ours.json"), b"ours");
}

#[test]
fn our_manifest_is_apptainers_but_for_annotations() {
    let Some(peer) = Peer::new() else { return };
    let host = peer.registry.host.clone();
    peer.run(&["apptainer", "registry", "login", "-u", "bob", "-p", "s3cret", &format!("docker://{host}")]);
    peer.place.build("peer/x.sif", 1 << 20);
    peer.run(&["apptainer", "push", "x.sif", &peer.uri("org/x:theirs")]);
    peer.ours(&[&["push", "peer/x.sif", &peer.uri("org/x:ours")], &LOGIN[..]].concat());
    let manifest = |tag: &str| {
        let fetch = ["oras", "manifest", "fetch", "--ca-file", "ca.crt", "-u", "bob", "-p", "s3cret"];
        let text = peer.run(&[&fetch[..], &[&format!("{host}/org/x:{tag}")]].concat());
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        // Later versions than 1.4 write these, too.
        value.as_object_mut().unwrap().remove("annotations");
        value["config"].as_object_mut().unwrap().remove("data");
        value
    };
    assert_eq!(manifest("ours"), manifest("theirs"));
}
