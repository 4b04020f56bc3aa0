//! The real `docker-registry`, asked by the program itself: names, logins, media types, platforms.

use super::base;
use super::image::{assert_base, open};
use super::place::{Outcome, Place};
use super::server::{LOGIN, Registry, copy_image, run};
use super::sources::everyone;
use base64::Engine as _;
use sifbuild::archive::compress::Compression;
use std::fs;

const POST: &str = "%post\n  echo made > /made\n";

/// The base as `org/app:1.0`.
fn registry(place: &Place) -> Registry {
    let registry = Registry::start(&place.file("registry"), false);
    push(place, &registry, &[], "org/app:1.0");
    registry
}

fn push(place: &Place, registry: &Registry, flags: &[&str], name: &str) {
    let source = format!("oci:{}:t", place.file("layout").display());
    copy_image(flags, &source, &format!("docker://{}/{name}", registry.host));
}

fn build_with(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let mut command = place.command(&[], &[&["build", "--force", "x.sif"], arguments].concat());
    command.envs(environment.iter().copied());
    place.outcome(command)
}

fn succeed_with(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) {
    let outcome = build_with(place, arguments, environment);
    assert_eq!(outcome.code, Some(0), "{arguments:?} {environment:?}: {}", outcome.text);
    assert_base(&open(&place.file("x.sif")));
}

#[test]
fn names_in_headers_and_uris_lead_to_one_image() {
    for place in everyone() {
        let registry = registry(&place);
        let host = &registry.host;
        let uri = format!("docker://{host}/org/app:1.0");
        succeed_with(&place, &["--no-https", &uri], &[]);
        let labels = place.succeed(&["inspect", "--labels", "x.sif"]);
        assert!(labels.contains(&format!("org.opencontainers.image.base.name: {host}/org/app:1.0")), "{labels}");
        let digest = labels.lines().find_map(|line| line.strip_prefix("org.opencontainers.image.base.digest: "));
        let digest = digest.expect("the base's digest is a label");
        for header in [
            format!("From: {host}/org/app:1.0"),
            format!("From: org/app:1.0\nRegistry: {host}"),
            format!("From: app:1.0\nNamespace: org\nRegistry: {host}"),
            format!("From: //{host}/org/app:1.0"),
            format!("From: {host}/org/app@{digest}"),
            format!("From: {host}/org/app:1.0@{digest}"),
        ] {
            place.write("x.def", format!("Bootstrap: docker\n{header}\n{POST}"));
            succeed_with(&place, &["--no-https", "x.def"], &[]);
            assert_eq!(open(&place.file("x.sif")).text("made"), "made\n", "{header}");
        }
        let wrong = format!("docker://{host}/org/app@sha256:{}", "0".repeat(64));
        let outcome = build_with(&place, &["--no-https", &wrong], &[]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.text);
        drop(registry);
        // All is kept: with the latest answer, no registry is needed.
        succeed_with(&place, &["--no-https", "--offline", &uri], &[]);
    }
}

#[test]
fn plain_http_is_allowed_by_flag_variable_or_configuration_only() {
    let place = Place::new();
    let registry = registry(&place);
    let uri = format!("docker://{}/org/app:1.0", registry.host);
    let outcome = build_with(&place, &[&uri], &[]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.text);
    assert!(outcome.text.contains("--no-https"), "{}", outcome.text);
    succeed_with(&place, &[&uri], &[("APPTAINER_NOHTTPS", "true")]);
    let configuration = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host);
    place.write("registries.conf", &configuration);
    let path = place.file("registries.conf");
    succeed_with(&place, &[&uri], &[("CONTAINERS_REGISTRIES_CONF", path.to_str().unwrap())]);
    let mirror =
        format!("[[registry]]\nprefix = \"example.invalid\"\nlocation = \"{}\"\ninsecure = true\n", registry.host);
    place.write("config/containers/registries.conf", mirror);
    let home = place.file("config");
    succeed_with(&place, &["docker://example.invalid/org/app:1.0"], &[("XDG_CONFIG_HOME", home.to_str().unwrap())]);
}

#[test]
fn a_login_is_found_in_every_usual_place() {
    for place in everyone() {
        let registry = Registry::start(&place.file("registry"), true);
        push(&place, &registry, &["--dest-creds", LOGIN], "org/app:1.0");
        let uri = format!("docker://{}/org/app:1.0", registry.host);
        let outcome = build_with(&place, &["--no-https", &uri], &[]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.text);
        assert!(outcome.text.contains("no login"), "{}", outcome.text);

        let auth = base64::engine::general_purpose::STANDARD.encode(LOGIN);
        let file = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host);
        for name in ["auth.json", "docker/config.json", "run/containers/auth.json", "home/.docker/config.json"] {
            place.write(name, &file);
        }
        let at = |name: &str| place.file(name).to_str().unwrap().to_owned();
        succeed_with(&place, &["--no-https", "--authfile", "auth.json", &uri], &[]);
        for (variable, value) in [
            ("APPTAINER_AUTH_FILE", at("auth.json")),
            ("REGISTRY_AUTH_FILE", at("auth.json")),
            ("DOCKER_CONFIG", at("docker")),
            ("XDG_RUNTIME_DIR", at("run")),
            ("HOME", at("home")),
        ] {
            succeed_with(&place, &["--no-https", &uri], &[(variable, &value)]);
        }
        let login = [("APPTAINER_DOCKER_USERNAME", "bob"), ("APPTAINER_DOCKER_PASSWORD", "s3cret")];
        succeed_with(&place, &["--no-https", &uri], &login);
        let outcome = build_with(&place, &["--no-https", &uri], &[login[0], ("APPTAINER_DOCKER_PASSWORD", "guessed")]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.text);
        assert!(!outcome.text.contains("guessed"), "{}", outcome.text);
    }
}

#[test]
fn both_kinds_of_manifest_and_every_compression() {
    let place = Place::new();
    let registry = registry(&place);
    let oci = "application/vnd.oci.image.layer.v1.tar";
    for (name, compression, flags, media_type) in [
        ("gzip", Compression::Gzip, &["--preserve-digests"][..], format!("{oci}+gzip")),
        ("zstd", Compression::Zstd, &["--preserve-digests"], format!("{oci}+zstd")),
        ("none", Compression::None, &["--preserve-digests"], oci.to_owned()),
        (
            "schema2",
            Compression::Gzip,
            &["--format", "v2s2"],
            "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
        ),
    ] {
        base::layout_with(&place.file(name), &base::layers(), compression);
        let image = format!("docker://{}/org/app:{name}", registry.host);
        copy_image(flags, &format!("oci:{}:t", place.file(name).display()), &image);
        let manifest = run("skopeo", "skopeo", &["inspect", "--tls-verify=false", "--raw", &image]);
        assert!(manifest.contains(&format!("\"{media_type}\"")), "{manifest}");
        for header in [
            format!("Bootstrap: docker\nFrom: {}/org/app:{name}\n", registry.host),
            format!("Bootstrap: oci\nFrom: {name}:t\n"),
        ] {
            place.write("x.def", format!("{header}{POST}"));
            succeed_with(&place, &["--no-https", "x.def"], &[]);
            place.write("x.def", header);
            succeed_with(&place, &["--no-https", "x.def"], &[]);
        }
    }
}

/// A layout with images for two platforms, `flat` in one index or each in an index inside another, told apart by a file.
fn two_platforms(place: &Place, name: &str, flat: bool) {
    let directory = place.file(name);
    let image = |architecture: &str| {
        let mark = base::archive(&[base::file("etc/architecture", 0o644, architecture.as_bytes())]);
        base::image(&directory, &[base::layers(), vec![mark]].concat(), architecture, Compression::Gzip)
    };
    let images = [image("amd64"), image("arm64")];
    let top = match flat {
        true => base::inner_index(&directory, &images),
        false => {
            let inner = images.map(|image| base::inner_index(&directory, &[image]));
            base::inner_index(&directory, &inner)
        }
    };
    base::index(&directory, &[top]);
}

#[test]
fn the_platform_is_chosen_in_layouts_and_registries() {
    let place = Place::new();
    let registry = registry(&place);
    two_platforms(&place, "flat", true);
    two_platforms(&place, "nested", false);
    let source = format!("oci:{}", place.file("flat").display());
    copy_image(&["--all"], &source, &format!("docker://{}/org/app:flat", registry.host));
    let mut specs = vec!["oci:flat".to_owned(), "oci:nested".to_owned()];
    specs.push(format!("docker://{}/org/app:flat", registry.host));
    // Index by index, as skopeo copies no index inside an index.
    let index: serde_json::Value = serde_json::from_slice(&fs::read(place.file("nested/index.json")).unwrap()).unwrap();
    push_documents(&place, &registry, &index["manifests"][0], "nested");
    specs.push(format!("docker://{}/org/app:nested", registry.host));
    for spec in specs {
        for arch in ["amd64", "arm64"] {
            succeed_with(&place, &["--no-https", "--arch", arch, &spec], &[]);
            assert_eq!(open(&place.file("x.sif")).text("etc/architecture"), arch, "{spec}");
        }
        succeed_with(&place, &["--no-https", &spec], &[]);
        assert_eq!(open(&place.file("x.sif")).text("etc/architecture"), sifbuild::arch::Arch::host().oci(), "{spec}");
        let outcome = build_with(&place, &["--no-https", "--arch", "s390x", &spec], &[]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.text);
        assert!(
            outcome.text.contains("no image for linux/s390x; there is linux/amd64, linux/arm64"),
            "{}",
            outcome.text
        );
    }
}

/// Pushes a document of the layout `nested` under `tag`, after the indexes inside it. Images are in the registry already.
fn push_documents(place: &Place, registry: &Registry, descriptor: &serde_json::Value, tag: &str) {
    let digest = descriptor["digest"].as_str().unwrap();
    let path = place.file("nested/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let bytes = fs::read(path).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    for inner in document["manifests"].as_array().into_iter().flatten() {
        push_documents(place, registry, inner, inner["digest"].as_str().unwrap());
    }
    registry.put_manifest("org/app", tag, descriptor["mediaType"].as_str().unwrap(), &bytes);
}
