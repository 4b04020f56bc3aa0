//! The same programs in the same image, run by us and by the real Apptainer: output and exit code, entry by entry.
//!
//! Runs where `SIFBUILD_PEER` names the script that runs a command beside a real Apptainer (`$SIFBUILD_PEER --bind DIR --user
//! COMMAND…`), and says so where it does not. Our program runs in there, too, as the same user.

use super::place::Place;
use super::programs::DEFINITION;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

struct Peer {
    program: String,
    directory: String,
}

type Said = (String, Option<i32>);

impl Peer {
    /// Each line of `script` in a shell of the peer's user, with `RUN` for the program; gives what came of ours, and of theirs.
    fn both(&self, script: &str) -> (Said, Said) {
        let run = |program: &str| {
            let text = format!("cd {}; {}", self.directory, script.replace("RUN", program));
            let mut command = Command::new(&self.program);
            command.args([
                "--bind",
                &self.directory,
                "--user",
                "env",
                "HOSTVAR=host",
                "MINE=host",
                "LANG=host",
                "EMPTY=",
            ]);
            command.args(["APPTAINERENV_INJECTED=a b", "SINGULARITY_FOO=1", "LD_LIBRARY_PATH=/lib"]);
            let output = command.args(["sh", "-c", &text]).current_dir("/").output().unwrap();
            (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
        };
        let ours = run(&format!("env SIFBUILD_CACHEDIR=/tmp/look-cache {}/sifbuild", self.directory));
        (ours, run("apptainer"))
    }

    fn differ(&self, script: &str) -> Option<String> {
        let (ours, theirs) = self.both(script);
        (ours != theirs).then(|| format!("{script}\n  ours   {ours:?}\n  theirs {theirs:?}\n"))
    }
}

fn peer(place: &Place) -> Option<Peer> {
    let Some(program) = std::env::var_os("SIFBUILD_PEER") else {
        println!("SIFBUILD_PEER is not set: nothing is compared with the real Apptainer");
        return None;
    };
    place.build("x.sif", DEFINITION, &["--notest"]);
    place.build("box", DEFINITION, &["--notest", "--sandbox"]);
    fs::copy(env!("CARGO_BIN_EXE_sifbuild"), place.file("sifbuild")).unwrap();
    fs::set_permissions(place.file(""), Permissions::from_mode(0o777)).unwrap();
    let directory = place.file("").to_str().unwrap().trim_end_matches('/').to_owned();
    Some(Peer { program: program.into_string().unwrap(), directory })
}

/// What a shell or this test sets; Apptainer adds directories to the caller's path, for itself.
const OWN: [&str; 4] = ["SIFBUILD_PEER", "SHLVL", "_", "USER_PATH"];

fn variables(text: &str) -> BTreeMap<&str, &str> {
    let split = text.lines().filter_map(|line| line.split_once('='));
    split.filter(|(name, _)| !OWN.contains(name)).collect()
}

#[test]
fn environments_are_apptainers() {
    let place = Place::new();
    let Some(peer) = peer(&place) else { return };
    for flags in [
        "x.sif",
        "box",
        "--cleanenv x.sif",
        "--app one x.sif",
        "--env A=1,B=2 x.sif",
        "--fakeroot x.sif",
        "-B /etc:/mnt x.sif",
    ] {
        let (ours, theirs) = peer.both(&format!("RUN exec {flags} env"));
        assert_eq!(variables(&ours.0), variables(&theirs.0), "ours and theirs: {flags}");
        assert!(variables(&ours.0).len() > 5, "{}", ours.0);
    }
}

#[test]
fn directories_ids_and_exit_codes_are_apptainers() {
    let place = Place::new();
    let Some(peer) = peer(&place) else { return };
    let scripts = [
        "RUN exec x.sif id",
        "RUN exec x.sif sh -c pwd",
        "RUN exec box sh -c pwd",
        "RUN exec --fakeroot x.sif id",
        "RUN exec --pwd /opt x.sif sh -c pwd",
        "RUN exec --pwd /absent x.sif sh -c pwd",
        "cd /; RUN exec PLACE/x.sif sh -c pwd",
        "cd /tmp; RUN exec PLACE/x.sif sh -c pwd",
        "cd /etc; RUN exec PLACE/x.sif sh -c pwd",
        "RUN exec --no-home x.sif sh -c pwd",
        "RUN exec --contain x.sif sh -c pwd",
        "RUN exec x.sif sh -c 'exit 42'",
        "RUN exec x.sif sh -c 'kill -9 $$'",
        "RUN exec x.sif absent",
        "RUN exec x.sif /etc/passwd",
        "RUN exec absent.sif true",
        "RUN exec -B /absent:/x x.sif true",
        "RUN run x.sif a 'b c'",
        "RUN test x.sif a 'b c'",
        "RUN run --app one x.sif a",
        "RUN run --app two x.sif a",
        "RUN test --app one x.sif a",
        "RUN run box a",
        "echo 'echo $0 $MINE; exit 4' | RUN shell x.sif",
        "RUN exec x.sif touch /new",
        "RUN exec --writable-tmpfs x.sif sh -c 'touch /new; stat -c %u:%a /new /bin /'",
        "RUN exec x.sif cat /etc/passwd /etc/group",
        "RUN exec x.sif cat /etc/resolv.conf",
        "umask 027; RUN exec x.sif sh -c umask",
        "RUN exec x.sif grep -e NoNewPrivs -e CapEff -e CapPrm -e SigBlk /proc/self/status",
        "RUN exec -B /etc:/new/place,/etc/hosts:/new-file x.sif sh -c 'ls /new/place; cat /new-file'",
        "RUN exec -H PLACE:/elsewhere x.sif sh -c 'echo $HOME; pwd'",
        "RUN exec x.sif sh -c 'ls -ld $HOME; ls /'",
        "RUN exec x.sif sh -c 'echo $$ > /proc/self/comm; cat < /dev/null; test -e /dev/urandom; ls /sys'",
    ];
    let differing = scripts.iter().filter_map(|script| peer.differ(&script.replace("PLACE", &peer.directory)));
    let differing: Vec<String> = differing.collect();
    assert!(differing.is_empty(), "{}", differing.concat());
}
