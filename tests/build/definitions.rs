//! The definitions of `defs/` whose packages this host's own mirror has.

use super::place::{Place, SINGLE_USER};
use std::path::Path;

#[test]
#[ignore = "takes a quarter of an hour: SIFBUILD_LONG=1 tests/run"]
fn long_definitions_to_start_from_are_built_and_run() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("defs");
    let mut built = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("Bootstrap: debootstrap") || text.contains("\nMirrorURL") {
            continue;
        }
        let place = Place::of_user(SINGLE_USER).expect("this runs as root, where users can be made");
        place.build("x.sif", &text, &[]);
        let suite = text.split("OSVersion: ").nth(1).unwrap().lines().next().unwrap();
        let release = place.succeed(&["exec", "x.sif", "cat", "/etc/os-release"]);
        assert!(release.contains(&format!("VERSION_CODENAME={suite}")), "{}: {release}", path.display());
        if text.contains(" gcc ") {
            let script = "printf 'program x\\nprint *, 6*7\\nend\\n' >/tmp/x$$.f90; gfortran -o /tmp/x$$ /tmp/x$$.f90 && /tmp/x$$; rm /tmp/x$$*";
            let printed = place.succeed(&["exec", "x.sif", "sh", "-c", script]);
            assert!(printed.contains("42"), "{}: {printed}", path.display());
        }
        println!("{}", path.display());
        built += 1;
    }
    assert!(built >= 8, "{built} definitions");
}
