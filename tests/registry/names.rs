//! Several images under one tag, further tags, what is deleted, found and attached.

use super::place::Place;
use super::server::Registry;
use sifbuild::arch::Arch;

struct Stage {
    place: Place,
    registry: Registry,
}

impl Stage {
    fn new() -> Stage {
        let place = Place::new();
        let registry = Registry::open(&place.file("registry"));
        Stage { place, registry }
    }

    fn uri(&self, name: &str) -> String {
        format!("oras://{}/{name}", self.registry.host)
    }

    /// With `--no-https` behind the command's name.
    fn succeed(&self, arguments: &[&str]) -> String {
        self.place.succeed(&[&arguments[..1], &["--no-https"], &arguments[1..]].concat())
    }

    fn fail(&self, code: i32, arguments: &[&str]) -> String {
        self.place.fail(code, &[&arguments[..1], &["--no-https"], &arguments[1..]].concat())
    }

    fn pulled(&self, arch: &str, name: &str) -> Vec<u8> {
        self.succeed(&["pull", "--force", "--arch", arch, "pulled.sif", &self.uri(name)]);
        self.place.read("pulled.sif")
    }
}

#[test]
fn one_tag_holds_an_image_for_each_architecture() {
    let stage = Stage::new();
    let uri = stage.uri("org/app:1");
    for (name, arch, seed) in [("a.sif", Arch::Amd64, 1), ("b.sif", Arch::Arm64, 2), ("c.sif", Arch::Amd64, 3)] {
        stage.place.image(name, arch, 100_000, seed);
    }
    let image = |name: &str| stage.place.read(name);
    stage.succeed(&["push", "a.sif", "b.sif", &uri]);
    assert!(stage.pulled("amd64", "org/app:1") == image("a.sif"));
    assert!(stage.pulled("arm64", "org/app:1") == image("b.sif"));
    let missing = stage.fail(4, &["pull", "--force", "--arch", "s390x", "x.sif", &uri]);
    assert!(missing.contains("no image for linux/s390x; there is linux/amd64, linux/arm64"), "{missing}");

    // One image would take the place of both.
    let refused = stage.fail(4, &["push", "c.sif", &uri]);
    assert!(refused.contains("has images for linux/amd64, linux/arm64") && refused.contains("--arch"), "{refused}");
    stage.succeed(&["push", "--arch", "amd64", "c.sif", &uri]);
    assert!(stage.pulled("amd64", "org/app:1") == image("c.sif"));
    assert!(stage.pulled("arm64", "org/app:1") == image("b.sif"));
    let index = stage.registry.manifest("org/app", "1");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    stage.succeed(&["push", "--force", "a.sif", &uri]);
    assert!(stage.registry.manifest("org/app", "1").get("manifests").is_none());

    // An image that stood alone keeps its place beside the new one.
    stage.succeed(&["push", "--arch", "arm64", "b.sif", &uri]);
    assert!(stage.pulled("amd64", "org/app:1") == image("a.sif"));
    assert!(stage.pulled("arm64", "org/app:1") == image("b.sif"));
    let wrong = stage.fail(1, &["push", "--arch", "arm64", "a.sif", &uri]);
    assert!(wrong.contains("a.sif says that it is for amd64"), "{wrong}");
    assert!(stage.fail(1, &["push", "a.sif", "c.sif", &uri]).contains("another of the images"));
}

#[test]
fn a_base_is_taken_for_the_architecture_that_is_built() {
    let stage = Stage::new();
    stage.place.image("a.sif", Arch::Amd64, 5000, 1);
    stage.succeed(&["push", "--arch", "amd64", "a.sif", &stage.uri("org/app:1")]);
    let missing = stage.fail(4, &["build", "--arch", "arm64", "x.sif", &stage.uri("org/app:1")]);
    assert!(missing.contains("no image for linux/arm64; there is linux/amd64"), "{missing}");
}

#[test]
fn tags_are_given_listed_and_deleted() {
    let stage = Stage::new();
    stage.place.image("a.sif", Arch::host(), 1000, 1);
    stage.place.image("b.sif", Arch::host(), 1000, 2);
    stage.succeed(&["push", "a.sif", &stage.uri("org/app:1.0")]);
    stage.succeed(&["push", "b.sif", &stage.uri("org/app:2.0")]);
    stage.succeed(&["tag", &stage.uri("org/app:1.0"), "latest", "1"]);
    let listed = stage.succeed(&["search", &stage.uri("org/app")]);
    let tags: Vec<&str> = listed.lines().filter_map(|line| line.rsplit_once("app:")?.1.split(' ').next()).collect();
    assert_eq!(tags, ["1", "1.0", "2.0", "latest"]);
    assert!(listed.contains("SIF, 33."), "{listed}");
    let host = format!("oras://{}", stage.registry.host);
    assert_eq!(stage.succeed(&["search", &host]).trim(), stage.uri("org/app"));
    assert!(stage.fail(4, &["tag", &stage.uri("org/app:9"), "x"]).contains("is not there"));
    assert!(stage.fail(1, &["tag", &stage.uri("org/app:1"), "not a tag"]).contains("is not a tag"));

    assert!(stage.fail(1, &["delete", &stage.uri("org/app:2.0")]).contains("only with --force"));
    stage.succeed(&["delete", "--force", &stage.uri("org/app:2.0")]);
    assert!(stage.fail(4, &["pull", &stage.uri("org/app:2.0")]).contains("has no"));
    stage.succeed(&["pull", &stage.uri("org/app:latest")]);
}

#[test]
fn files_are_attached_listed_and_pulled() {
    let stage = Stage::new();
    stage.place.image("a.sif", Arch::host(), 1000, 1);
    let uri = stage.uri("org/app:1");
    stage.succeed(&["push", "a.sif", &uri]);
    stage.place.write("sbom.spdx.json", "{\"spdxVersion\":\"SPDX-2.3\"}");
    stage.place.write("report.txt", "fine");
    stage.succeed(&["attach", "--type", "application/spdx+json", "sbom.spdx.json", &uri]);
    let attached = stage.succeed(&["attach", "--type", "text/x-report", "--annotation", "by=us", "report.txt", &uri]);
    stage.succeed(&["attach", "--type", "text/x-report", "--annotation", "by=us", "report.txt", &uri]);

    let all = stage.succeed(&["attachments", &uri]);
    assert!(all.contains("application/spdx+json") && all.contains("sbom.spdx.json"), "{all}");
    assert!(all.contains(attached.trim()) && all.contains("report.txt"), "{all}");
    stage.succeed(&["attachments", &uri, "--type", "application/spdx+json", "--pull", "home"]);
    assert_eq!(stage.place.read("home/sbom.spdx.json"), stage.place.read("sbom.spdx.json"));
    assert!(!stage.place.file("home/report.txt").exists());
    let twice = stage.fail(4, &["attachments", &uri, "--type", "application/spdx+json", "--pull", "home"]);
    assert!(twice.contains("is there already"), "{twice}");

    // The image itself is the same, and the tag that this old registry needs names an index.
    let manifest = stage.registry.manifest("org/app", "1");
    assert!(manifest.get("subject").is_none());
    let list = stage.succeed(&["search", &stage.uri("org/app")]);
    assert!(list.contains(":sha256-"), "{list}");
    assert!(stage.fail(1, &["attach", "--type", "report", "report.txt", &uri]).contains("media type"));
}
