//! A kept step of a build, looked into by its key.

use super::place::{Place, RANGE_USER, SINGLE_USER};

const DEFINITION: &str = "Bootstrap: oci-archive\nFrom: base.tar:t\n%post\n  echo made > /made\n  echo 'export KEPT=1' >> $APPTAINER_ENVIRONMENT\n";

#[test]
fn a_kept_step_is_listed_and_opened_as_its_script_was_run() {
    let users = [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user);
    for place in std::iter::once(Place::new()).chain(users) {
        place.build("x.sif", DEFINITION, &[]);
        let listed = place.succeed(&["cache", "steps"]);
        let line = listed.lines().find(|line| line.contains("%post: echo made > /made")).unwrap();
        let key = line.split_whitespace().next().unwrap();
        let script = "id -u; pwd; cat /made; echo $KEPT; echo $HOME; touch /root/try && chown 33:44 /root/try && stat -c %u:%g /etc/shadow /root/try";
        let mut command = place.command(&[], &["exec", &key[..8], "sh", "-c", script]);
        command.env("OTHER", "host");
        let outcome = place.outcome(command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        assert_eq!(outcome.text, "0\n/root\nmade\n1\n/root\n0:42\n33:44\n");
        let again = place.succeed(&["exec", key, "ls", "/root"]);
        assert!(!again.contains("try"), "{again}");
        let unknown = place.run(&["exec", "ffffffff", "true"]);
        assert!(unknown.code == Some(255) && unknown.text.contains("cache steps"), "{}", unknown.text);
    }
}

#[test]
fn a_step_of_other_ids_is_not_opened() {
    let Some(place) = Place::of_user(RANGE_USER) else { return };
    place.build("x.sif", DEFINITION, &[]);
    place.build("y.sif", &DEFINITION.replace("made", "other"), &["--id-mode", "single"]);
    let listed = place.succeed(&["cache", "steps"]);
    for line in listed.lines().filter(|line| line.contains("%post")) {
        let key = line.split_whitespace().next().unwrap();
        let text = place.succeed(&["exec", key, "sh", "-c", "id -u; cat /made /other 2>/dev/null || true"]);
        assert!(text == "0\nmade\n" || text == "0\nother\n", "{line}: {text}");
    }
}

#[test]
fn a_kept_failed_step_is_opened_by_the_path_that_the_build_says() {
    let users = [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user);
    for place in std::iter::once(Place::new()).chain(users) {
        let definition = "Bootstrap: oci-archive\nFrom: base.tar:t\n%post\n  echo made > /made\n  chown 5:60 /made\n  rm /opt/above\n  exit 9\n";
        let failed = place.fail("x.sif", definition, &["--keep-failed"]);
        let command =
            failed.text.lines().find_map(|line| line.trim().strip_prefix("to look around in it: sifbuild shell "));
        let path = command.unwrap_or_else(|| panic!("{}", failed.text));
        let text = place.succeed(&[
            "exec",
            path,
            "sh",
            "-c",
            "id -u; cat /made; ls /opt; echo x > /try; stat -c %u:%g /made /etc/shadow",
        ]);
        assert_eq!(text, "0\nmade\n5:60\n0:42\n");
        let mut command = place.command(&["sh", "-c", "echo 'cat /made; ls /try' | \"$0\" \"$@\""], &["shell", path]);
        let outcome = place.outcome({
            command.env("LANG", "C");
            command
        });
        assert!(outcome.code != Some(0) && outcome.text.starts_with("made\n"), "{}", outcome.text);
    }
}
