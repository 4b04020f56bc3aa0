//! Images built by us, as root and as users, run by the real Apptainer; and its images read by us.

use super::definitions::{APPS, FULL, STAGES};
use super::place::{Place, RANGE_USER};
use super::scratch::{Scratch, scratch};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Root, and a user with subordinate ids where this process can become one.
fn builders() -> Vec<Place> {
    std::iter::once(Place::new()).chain(Place::of_user(RANGE_USER)).collect()
}

/// Builds `text` with us at `place` and gives the image's path, where Apptainer sees it.
fn build(scratch: &Scratch, place: &Place, name: &str, text: &str) -> String {
    let text = text.replace("DIR/", &scratch.file("")).replace("HOST", &scratch.registry.host);
    place.build(name, &text, &["--no-https", "--force"]);
    let image = scratch.file(name);
    fs::copy(place.file(name), &image).unwrap();
    fs::set_permissions(&image, Permissions::from_mode(0o755)).unwrap();
    image
}

/// What Apptainer says, which must succeed.
fn say(scratch: &Scratch, arguments: &[&str]) -> String {
    let ((output, status), complaint) = scratch.apptainer(arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {output}{complaint}");
    output
}

/// Shell and instances keep to one call, for each has its own mounts.
fn check_shell_and_instance(scratch: &Scratch, image: &str) {
    let script = format!(
        "set -e; echo 'echo in the shell' | apptainer --quiet shell {image}; apptainer --quiet instance start {image} one; \
         apptainer --quiet exec instance://one echo in the instance; apptainer --quiet instance stop one"
    );
    let ((output, status), complaint) = scratch.shell(&script);
    assert_eq!(status, Some(0), "{output}{complaint}");
    assert!(output.contains("in the shell") && output.contains("in the instance"), "{output}{complaint}");
}

#[test]
fn apptainer_runs_images_of_every_source() {
    let Some(scratch) = scratch() else { return };
    scratch.make_host_files();
    scratch.make_base();
    scratch.push_layers();
    for place in builders() {
        let image = build(&scratch, &place, "full.sif", FULL);
        assert_eq!(say(&scratch, &["run", &image, "a", "b c"]), "run: 2 [a b c] hello & <welcome>\n");
        assert_eq!(say(&scratch, &["exec", &image, "cat", "/srv/made"]), "made\n");
        assert_eq!(say(&scratch, &["test", &image]), "test: hello & <welcome>\n");
        assert!(say(&scratch, &["inspect", &image]).contains("Author: Somebody <one@example.org>"));
        assert!(say(&scratch, &["inspect", "-H", &image]).contains("Some <help>"));
        check_shell_and_instance(&scratch, &image);

        let registry = "Bootstrap: docker\nFrom: HOST/org/app:1.0\n%post\n  echo made > /opt/made\n%runscript\n  cat /opt/made\n%test\n  test -e /opt/made\n";
        let image = build(&scratch, &place, "registry.sif", registry);
        assert_eq!(say(&scratch, &["run", &image]), "made\n");
        assert_eq!(say(&scratch, &["exec", &image, "sh", "-c", "echo $FROM_BASE"]), "yes\n");
        say(&scratch, &["test", &image]);
        assert!(say(&scratch, &["inspect", &image]).contains("/org/app:1.0"));
        check_shell_and_instance(&scratch, &image);

        let image = build(&scratch, &place, "stages.sif", STAGES);
        assert_eq!(say(&scratch, &["exec", &image, "cat", "/srv/out/deep/link"]), "content\n");

        let image = build(&scratch, &place, "apps.sif", APPS);
        assert!(say(&scratch, &["run", "--app", "one", &image, "x"]).starts_with("app one: 1 one /scif/apps/one"));
        assert_eq!(say(&scratch, &["test", "--app", "one", &image]), "testing one\n");
        assert_eq!(say(&scratch, &["inspect", "--list-apps", &image]), "one\ntwo\n");
    }
}

#[test]
fn users_build_on_apptainers_images() {
    let Some(scratch) = scratch() else { return };
    scratch.make_host_files();
    scratch.make_base();
    let definition = scratch.file("theirs.def");
    fs::write(&definition, FULL.replace("DIR/", &scratch.file(""))).unwrap();
    let theirs = scratch.file("theirs.sif");
    say(&scratch, &["build", &theirs, &definition]);
    for place in builders() {
        assert_eq!(place.succeed(&["inspect", "-l", &theirs]), say(&scratch, &["inspect", "-l", &theirs]));
        let on_theirs = format!("Bootstrap: localimage\nFrom: {theirs}\n%post\n  echo more > /srv/more\n");
        let image = build(&scratch, &place, "more.sif", &on_theirs);
        assert_eq!(say(&scratch, &["exec", &image, "cat", "/srv/more", "/srv/made"]), "more\nmade\n");
        assert_eq!(say(&scratch, &["run", &image]), "run: 0 [] hello & <welcome>\n");
    }
}

const DEBIAN: &str = r#"Bootstrap: debootstrap
OSVersion: SUITE

%post
    apt-get update
    apt-get install -y --no-install-recommends hello

%runscript
    hello "$@"

%test
    dpkg --audit
"#;

#[test]
#[ignore = "needs root and the mirror of a Debian host: tests/run runs it"]
fn apptainer_runs_a_debian_base_with_a_package() {
    let Some(scratch) = scratch() else { return };
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap();
    for place in builders() {
        let image = build(&scratch, &place, "debian.sif", &DEBIAN.replace("SUITE", suite));
        assert_eq!(say(&scratch, &["run", &image, "-g", "from Debian"]), "from Debian\n");
        assert_eq!(say(&scratch, &["exec", &image, "dpkg", "--audit"]), "");
        say(&scratch, &["test", &image]);
        check_shell_and_instance(&scratch, &image);
    }
}
