//! Push and pull without login and TLS; connections that break.

use super::place::Place;
use super::server::{Proxy, Registry};
use sifbuild::arch::Arch;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_pushed_is_pulled_as_it_was() {
    let place = Place::new();
    let registry = Registry::open(&place.file("registry"));
    place.image("a.sif", Arch::host(), 40 << 20, 1);
    let uri = format!("oras://{}/org/app:1.0", registry.host);
    let annotate = ["--annotation", "org.example.key=a=b", "-D", "about it"];
    let pushed = place.succeed(&[&["push", "--no-https", "a.sif", &uri], &annotate[..]].concat());
    let by_digest = format!("oras://{}", pushed.trim());

    let manifest = registry.manifest("org/app", "1.0");
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["org.example.key"], "a=b");
    assert_eq!(annotations["org.opencontainers.image.description"], "about it");
    assert!(annotations["org.opencontainers.image.created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(manifest["layers"][0]["annotations"]["org.opencontainers.image.title"], "a.sif");

    place.succeed(&["pull", "--no-https", &uri]);
    assert!(place.read("app_1.0.sif") == place.read("a.sif"));
    let mode = fs::metadata(place.file("app_1.0.sif")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o755 & !umask());
    place.succeed(&["pull", "--no-https", "--disable-cache", "--dir", "home", "b.sif", &by_digest]);
    assert!(place.read("home/b.sif") == place.read("a.sif"));

    let complaint = place.fail(7, &["pull", "--no-https", &uri]);
    assert!(complaint.contains("app_1.0.sif already exists. Use --force"), "{complaint}");
    place.write("app_1.0.sif", "old");
    place.succeed(&["pull", "--no-https", "--force", &uri]);
    assert!(place.read("app_1.0.sif") == place.read("a.sif"));
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[test]
fn what_is_there_is_not_sent_again() {
    let place = Place::new();
    let registry = Registry::open(&place.file("registry"));
    let proxy = Proxy::start(&registry.host, u64::MAX);
    place.image("a.sif", Arch::host(), 5 << 20, 2);
    let uri = |name: &str| format!("oras://{}/{name}", proxy.host);
    place.succeed(&["push", "--no-https", "a.sif", &uri("org/app:1.0")]);
    let first = proxy.received();
    assert!(first > 5 << 20);
    place.succeed(&["push", "--no-https", "a.sif", &uri("org/app:2.0")]);
    place.succeed(&["push", "--no-https", "--mount-from", "org/app", "a.sif", &uri("org/other:1.0")]);
    assert!(proxy.received() - first < 100_000, "{} bytes", proxy.received() - first);
    place.succeed(&["pull", "--no-https", &uri("org/other:1.0")]);
    assert!(place.read("other_1.0.sif") == place.read("a.sif"));
}

#[test]
fn a_base_is_taken_from_a_registry_once() {
    let place = Place::new();
    let registry = Registry::open(&place.file("registry"));
    place.write("hello", "hello");
    place.write("base.def", "Bootstrap: scratch\n\n%files\n  hello /hello\n\n%labels\n  made.by base\n");
    place.succeed(&["build", "base.sif", "base.def"]);
    let name = format!("{}/org/base:1.0", registry.host);
    place.succeed(&["push", "--no-https", "base.sif", &format!("oras://{name}")]);
    place.write("x.def", format!("Bootstrap: oras\nFrom: {name}\n\n%runscript\n  echo hello\n"));
    place.succeed(&["build", "--no-https", "x.sif", "x.def"]);
    assert!(place.succeed(&["inspect", "x.sif"]).contains("made.by: base"));
    assert!(place.succeed(&["inspect", "-d", "x.sif"]).starts_with("Bootstrap: oras\n"));
    place.succeed(&["build", "--no-https", "--reproducible", "y.sif", &format!("oras://{name}")]);
    let missing = place.fail(4, &["build", "--no-https", "z.sif", &format!("oras://{}/org/base:9", registry.host)]);
    assert!(missing.contains("has no") && missing.contains("manifest unknown"), "{missing}");
    assert!(!place.file("z.sif").exists());
    drop(registry);
    place.succeed(&["build", "--offline", "--force", "x.sif", "x.def"]);
}

#[test]
fn a_push_goes_on_where_the_connection_broke() {
    let place = Place::new();
    let registry = Registry::open(&place.file("registry"));
    let proxy = Proxy::start(&registry.host, 20_000_000);
    // A cut loses up to a chunk, which is much of so little.
    push_through(&place, &proxy, 128 << 20, 1.6);
}

/// `tests/run` starts it: it writes some gigabytes.
#[test]
#[ignore = "writes 3 GB"]
fn a_gigabyte_arrives_over_a_connection_that_breaks_every_50_megabytes() {
    let place = Place::new();
    let registry = Registry::open(&place.file("registry"));
    let proxy = Proxy::start(&registry.host, 50_000_000);
    push_through(&place, &proxy, 1_000_000_000, 1.2);
}

fn push_through(place: &Place, proxy: &Proxy, size: usize, most: f64) {
    let image = place.image("a.sif", Arch::host(), size, 3);
    let uri = format!("oras://{}/org/app:1.0", proxy.host);
    place.succeed(&["push", "--no-https", "a.sif", &uri]);
    let sent = proxy.received();
    assert!(sent as f64 <= size as f64 * most, "{sent} bytes were sent for {size}");
    assert!(proxy.cuts() >= 1);
    println!("{size} bytes: {sent} sent, {} cuts", proxy.cuts());
    place.succeed(&["pull", "--no-https", "b.sif", &uri]);
    let status = std::process::Command::new("cmp").arg(image).arg(place.file("b.sif")).status();
    assert!(status.is_ok_and(|status| status.success()));
}
