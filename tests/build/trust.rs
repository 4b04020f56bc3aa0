//! Which bases are built from: `Fingerprints:`, `--require-signed`, policy files. A base that is not what is asked stops the build before anything.

use super::place::{Outcome, Place};
use super::server::{Registry, copy_image};
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

/// The exit code that nothing else has.
const SIGNATURE: Option<i32> = Some(8);
const STRANGER: &str = "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84";

/// A place with a base `base.sif`.
fn place() -> Place {
    let place = Place::new();
    place.build("base.sif", "Bootstrap: oci\nFrom: layout\n", &[]);
    place
}

/// A key of its own keyring; gives its fingerprint.
pub fn new_key(place: &Place, name: &str, keys: &str) -> String {
    let mut command = place.command(
        &[],
        &[
            "key",
            "newpair",
            "--name",
            name,
            "--email",
            "x@example.org",
            "--comment",
            "",
            "--type",
            "ed25519",
            "-d",
            keys,
        ],
    );
    command.env("SIFBUILD_KEY_PASSPHRASE", "");
    let made = place.outcome(command);
    assert_eq!(made.code, Some(0), "{}", made.text);
    let list = place.succeed(&["key", "list", "-d", keys]);
    let digits =
        list.split_whitespace().find(|word| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits.unwrap_or_else(|| panic!("{list}")).to_owned()
}

pub fn sign(place: &Place, image: &str, keys: &str) {
    let mut command = place.command(&[], &["sign", "-d", keys, image]);
    command.env("SIFBUILD_KEY_PASSPHRASE", "");
    let signed = place.outcome(command);
    assert_eq!(signed.code, Some(0), "{}", signed.text);
}

fn with_fingerprints(list: &str) -> String {
    format!("Bootstrap: localimage\nFrom: base.sif\nFingerprints: {list}\n%setup\n  touch began\n%post\n  true\n")
}

/// It failed with its own code, names what was wanted and found, ran nothing and left nothing.
fn assert_stopped(place: &Place, outcome: &Outcome, told: &[&str]) {
    assert_eq!(outcome.code, SIGNATURE, "{}", outcome.text);
    for text in told {
        assert!(outcome.text.contains(text), "{text:?} is not in: {}", outcome.text);
    }
    let left: Vec<PathBuf> = fs::read_dir(place.file("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let strange = left.iter().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with('.') || name == "next.sif" || name == "began"
    });
    assert_eq!(strange.count(), 0, "{left:?}");
}

#[test]
fn fingerprints_must_all_have_signed_the_base() {
    let place = place();
    let none = place.fail("next.sif", &with_fingerprints(STRANGER), &[]);
    assert_stopped(&place, &none, &["base.sif", "signature not found"]);

    let (ann, bob) = (new_key(&place, "Ann", "keys"), new_key(&place, "Bob", "others"));
    sign(&place, "base.sif", "keys");
    let other = place.fail("next.sif", &with_fingerprints(&bob), &["--keysdir", "keys"]);
    assert_stopped(
        &place,
        &other,
        &[&format!("wanted: {bob}"), &format!("found: {ann} (Ann <x@example.org>)"), "x.def:1"],
    );
    let both = format!("{ann}, {bob}");
    let one = place.fail("next.sif", &with_fingerprints(&both), &["--keysdir", "keys"]);
    assert_stopped(&place, &one, &[&format!("missing: {bob}\n")]);

    let lower = ann.to_lowercase();
    let text = place.build("next.sif", &with_fingerprints(&lower), &["--keysdir", "keys"]);
    assert!(text.contains("base.sif is signed by") && text.contains(&ann), "{text}");
    assert!(place.file("began").exists());
}

#[test]
fn a_key_that_is_nowhere_is_told() {
    let place = place();
    let ann = new_key(&place, "Ann", "keys");
    sign(&place, "base.sif", "keys");
    place.write("home/.apptainer/remote.yaml", "");
    // No keyring that is asked has the key.
    let outcome = place.fail("next.sif", &with_fingerprints(&ann), &["--offline", "--keysdir", "empty"]);
    assert_stopped(&place, &outcome, &["not in the keyring"]);
}

#[test]
fn an_image_that_was_changed_after_it_was_signed_is_refused() {
    let place = place();
    let ann = new_key(&place, "Ann", "keys");
    sign(&place, "base.sif", "keys");
    let good = fs::read(place.file("base.sif")).unwrap();
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    place.write("base.sif", &damaged);
    let outcome = place.fail("next.sif", &with_fingerprints(&ann), &["--keysdir", "keys"]);
    assert_stopped(&place, &outcome, &["integrity"]);
    place.write("base.sif", &good);
    place.write("note", "appended after signing");
    place.succeed(&["sif", "add", "--datatype", "7", "--groupid", "1", "base.sif", "note"]);
    let outcome = place.fail("next.sif", &with_fingerprints(&ann), &["--keysdir", "keys"]);
    assert_stopped(&place, &outcome, &["object not signed"]);
}

#[test]
fn what_was_built_before_does_not_vouch_for_the_base_now() {
    let place = place();
    let ann = new_key(&place, "Ann", "keys");
    let unsigned = fs::read(place.file("base.sif")).unwrap();
    sign(&place, "base.sif", "keys");
    place.build("next.sif", &with_fingerprints(&ann), &["--keysdir", "keys"]);
    fs::remove_file(place.file("next.sif")).unwrap();
    fs::remove_file(place.file("began")).unwrap();
    place.write("base.sif", &unsigned);
    let outcome = place.fail("next.sif", &with_fingerprints(&ann), &["--keysdir", "keys"]);
    assert_stopped(&place, &outcome, &["signature not found"]);
}

#[test]
fn require_signed_wants_a_known_key_of_every_base() {
    let place = place();
    let base = "Bootstrap: localimage\nFrom: base.sif\n";
    let flags = ["--require-signed", "--keysdir", "keys"];
    assert_stopped(&place, &place.fail("next.sif", base, &flags), &["signature not found"]);
    new_key(&place, "Ann", "keys");
    sign(&place, "base.sif", "keys");
    place.build("next.sif", base, &flags);
    place.build("empty.sif", "Bootstrap: scratch\n", &flags);
    fs::remove_file(place.file("next.sif")).unwrap();
    let layout = place.fail("next.sif", "Bootstrap: oci\nFrom: layout\n", &flags);
    assert_stopped(&place, &layout, &["--require-signed", "no signature"]);
    let second = "Bootstrap: scratch\nStage: one\n\nBootstrap: oci\nFrom: layout\nStage: two\n";
    assert_stopped(&place, &place.fail("next.sif", second, &flags), &["x.def:4"]);
    let mut command = place.command(&[], &["build", "next.sif", "base.sif"]);
    command.env("SIFBUILD_REQUIRE_SIGNED", "1");
    let outcome = place.outcome(command);
    assert_eq!(
        outcome.code, SIGNATURE,
        "the variable asks for it too, and the other keyring has no key: {}",
        outcome.text
    );
}

#[test]
fn a_policy_file_decides_by_source() {
    let place = place();
    let ann = new_key(&place, "Ann", "keys");
    let base = "Bootstrap: localimage\nFrom: base.sif\n";
    let directory = fs::canonicalize(place.file("")).unwrap();
    let source = format!("localimage:{}/base.sif", directory.display());
    let policy = |rule: &str| {
        place.write("site.policy", format!("default = \"refuse\"\n[[rule]]\nsource = \"{source}\"\n{rule}"))
    };
    let flags = ["--policy", "site.policy", "--keysdir", "keys", "--force"];

    policy(&format!("signed-by = [\"{ann}\"]\n"));
    assert_stopped(&place, &place.fail("next.sif", base, &flags), &["signature not found"]);
    sign(&place, "base.sif", "keys");
    place.build("next.sif", base, &flags);

    policy("refuse = \"replaced by base-2.sif\"\n");
    fs::remove_file(place.file("next.sif")).unwrap();
    let told = place.fail("next.sif", base, &flags);
    assert_stopped(&place, &told, &[&source, "site.policy:2", "replaced by base-2.sif"]);
    let other = place.fail("next.sif", "Bootstrap: oci\nFrom: layout\n", &flags);
    assert_stopped(&place, &other, &["no rule names this source", &format!("oci:{}/layout", directory.display())]);

    let none = format!("sha256:{}", "0".repeat(64));
    policy(&format!("digests = [\"{none}\"]\n"));
    let told = place.fail("next.sif", base, &flags);
    assert_stopped(&place, &told, &[&format!("wanted: {none}")]);
    let found = told.text.lines().find_map(|line| line.trim().strip_prefix("found: ")).unwrap();
    policy(&format!("digests = [\"{none}\", \"{found}\"]\n"));
    place.build("next.sif", base, &flags);

    policy("signed-bye = []\n");
    fs::remove_file(place.file("next.sif")).unwrap();
    assert_stopped(&place, &place.fail("next.sif", base, &flags), &["site.policy:4", "signed-bye"]);
    let absent = place.fail("next.sif", base, &["--policy", "absent.policy"]);
    assert_eq!(absent.code, Some(1), "{}", absent.text);
}

#[test]
fn the_users_policy_applies_without_being_named() {
    let place = place();
    let configuration = place.file("").parent().unwrap().join("home/.config/sifbuild");
    fs::create_dir_all(&configuration).unwrap();
    fs::write(configuration.join("sifbuild.policy"), "default = \"refuse\"\n").unwrap();
    let told = place.fail("next.sif", "Bootstrap: scratch\n", &[]);
    assert_stopped(&place, &told, &["scratch: is refused by", "sifbuild.policy"]);
}

#[test]
fn a_digest_pin_and_a_signature_hold_for_what_comes_from_a_registry() {
    let place = place();
    let ann = new_key(&place, "Ann", "keys");
    let registry = Registry::start(&place.file("registry"), false);
    let host = &registry.host;
    copy_image(&[], &format!("oci:{}:t", place.file("layout").display()), &format!("docker://{host}/org/app:1.0"));
    let uri = format!("docker://{host}/org/app:1.0");
    let build = |uri: &str, policy: &str| {
        place.write("site.policy", policy);
        place.run(&["build", "--no-https", "--force", "--keysdir", "keys", "--policy", "site.policy", "next.sif", uri])
    };
    let rule = |demand: &str| format!("[[rule]]\nsource = \"docker://{host}/org/**\"\n{demand}\n");
    let told = build(&uri, &rule(&format!("digests = [\"sha256:{}\"]", "0".repeat(64))));
    assert_stopped(&place, &told, &["its digest is none of the listed ones", &uri]);
    let digest = told.text.lines().find_map(|line| line.trim().strip_prefix("found: ")).unwrap().to_owned();
    assert_stopped(&place, &build(&uri, &rule("by-digest = true")), &["by its digest"]);
    assert_stopped(&place, &build(&uri, &rule(&format!("signed-by = [\"{ann}\"]"))), &["no signature", &ann]);
    for (uri, demand) in [
        (uri, format!("digests = [\"{digest}\"]")),
        (format!("docker://{host}/org/app:1.0@{digest}"), format!("digests = [\"{digest}\"]\nby-digest = true")),
    ] {
        let done = build(&uri, &rule(&demand));
        assert_eq!(done.code, Some(0), "{}", done.text);
    }
    fs::remove_file(place.file("next.sif")).unwrap();

    place.succeed(&["push", "--no-https", "base.sif", &format!("oras://{host}/org/base:1")]);
    let oras = |flags: &[&str]| {
        let definition = format!("Bootstrap: oras\nFrom: {host}/org/base:1\nFingerprints: {ann}\n");
        place.write("x.def", definition);
        place.run(&[&["build", "--no-https", "--force", "--keysdir", "keys"], flags, &["next.sif", "x.def"]].concat())
    };
    assert_stopped(&place, &oras(&[]), &["signature not found", &format!("oras://{host}/org/base:1")]);
    sign(&place, "base.sif", "keys");
    place.succeed(&["push", "--no-https", "base.sif", &format!("oras://{host}/org/base:1")]);
    let done = oras(&["--require-signed"]);
    assert_eq!(done.code, Some(0), "{}", done.text);
}

#[test]
fn what_a_policy_refuses_by_its_name_is_not_asked_for_in_any_spelling() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    place.write(
        "site.policy",
        format!(
            "[[rule]]\nsource = \"docker://localhost:{port}/org/app:good\"\n\n\
             [[rule]]\nsource = [\"*://LocalHost:{port}/**\", \"docker://localhost:0{port}/**\"]\nrefuse = \"not here\"\n"
        ),
    );
    let sum = format!("sha256:{}", "0".repeat(64));
    for definition in [
        format!("Bootstrap: docker\nFrom: localhost:{port}/org/app:1\n"),
        format!("Bootstrap: docker\nFrom: LOCALHOST:{port}/org/app:1\n"),
        format!("Bootstrap: docker\nFrom: localhost:0{port}/org/app:1\n"),
        format!("Bootstrap: docker\nFrom: localhost:{port}/org/app:good@{sum}\n"),
    ] {
        let told = place.fail("next.sif", &definition, &["--no-https", "--policy", "site.policy"]);
        assert_stopped(&place, &told, &["not here", &format!("docker://localhost:{port}/org/app")]);
    }
    let asked = listener.accept();
    assert!(asked.is_err(), "the refused registry was asked: {asked:?}");
}

#[test]
fn a_library_has_one_spelling_and_its_address_nothing_besides() {
    let place = Place::new();
    let policy = "[[rule]]\nsource = \"library://127.0.0.1:9/**\"\nrefuse = \"not here\"\n";
    place.write("site.policy", policy);
    let build = |address: &str, flags: &[&str]| {
        let definition = format!("Bootstrap: library\nFrom: a/b/c:1\nLibrary: {address}\n");
        place.fail("next.sif", &definition, flags)
    };
    for address in ["http://127.0.0.1:9", "http://x@127.0.0.1:9/", "http://127.0.0.1:9?y", "http://127.1:09#y"] {
        assert_stopped(&place, &build(address, &["--policy", "site.policy"]), &["not here"]);
    }
    for address in ["http://x:y@127.0.0.1:9/", "http://127.0.0.1:9?y", "http://127.0.0.1:9/#y"] {
        let told = build(address, &[]);
        assert!(told.text.contains("neither user, query"), "{}", told.text);
    }
}

#[test]
fn an_archive_is_called_by_the_path_that_is_read() {
    let place = Place::new();
    fs::copy(place.file("base.tar"), place.file("base.tar:evil")).unwrap();
    let directory = fs::canonicalize(place.file("")).unwrap();
    let rule = format!("default = \"refuse\"\n[[rule]]\nsource = \"oci-archive:{}/base.tar\"\n", directory.display());
    place.write("site.policy", rule);
    place.build("good.sif", "Bootstrap: oci-archive\nFrom: base.tar\n", &["--policy", "site.policy"]);
    let told = place.fail("next.sif", "Bootstrap: oci-archive\nFrom: base.tar:evil\n", &["--policy", "site.policy"]);
    assert_stopped(&place, &told, &["base.tar:evil is refused", "no rule names this source"]);
}
