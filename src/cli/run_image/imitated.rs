//! A program as container root with one id: the others are imitated, as in `%post`, by the sandbox's fakeroot.
//!
//! That needs a process beside the program, so this one does not become it: it waits, and passes the exit code on.

use super::Stop;
use crate::event::Observer;
use crate::sandbox::{self, Access, Fakeroot, Program, Root, Run, Script, StandardInput, WorkDirectory};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the text lies that the image's shell reads first; gone with the program.
const PROLOGUE: &str = "/.sifbuild-environment";
/// What the sandbox makes by itself.
const OF_THE_SANDBOX: [&str; 5] = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf"];

/// Gives the program's exit code. `work` is where builds in flight are.
pub fn run(program: &Program, fakeroot: Fakeroot, work: &Path, observer: &dyn Observer) -> Result<i32, Stop> {
    let fault = |error: sandbox::Error| Stop::before_start(error.to_string());
    let announce = |signal: &str| super::render_error(&format!("interrupted by {signal}"));
    sandbox::install_interrupt(announce)
        .map_err(|error| Stop::before_start(format!("signals cannot be handled: {error}")))?;
    sandbox::sweep(work);
    let work = WorkDirectory::create(work).map_err(fault)?;
    let [upper, kernel] = ["upper", "kernel"].map(|name| work.path().join(name));
    for path in [&upper, &kernel] {
        fs::create_dir(path).map_err(|error| Stop::before_start(format!("cannot make {}: {error}", path.display())))?;
    }
    let run = Run {
        root: match (program.access, program.root.as_slice()) {
            (Access::InPlace, [directory]) => Root::Directory(directory.clone()),
            _ => Root::Overlay { lower: program.root.clone(), upper, work: kernel },
        },
        argv: ["/bin/sh", PROLOGUE].map(OsString::from).into_iter().chain(program.argv.iter().cloned()).collect(),
        environment: program.environment.clone(),
        working_directory: PathBuf::from("/"),
        umask: 0o022,
        binds: binds(program),
        read_only_root: program.access == Access::ReadOnly,
        host_name_resolution: true,
        script: Some(Script { path_in_root: PROLOGUE.into(), bytes: prologue(program) }),
        step: "program".to_owned(),
        log: work.path().join("log"),
        standard_input: StandardInput::Inherit,
        interactive: true,
        fakeroot: Some(fakeroot),
        temporary: work.path().to_path_buf(),
    };
    Ok(sandbox::run(&run, observer).map_err(fault)?.code())
}

fn binds(program: &Program) -> Vec<sandbox::Bind> {
    let is_made = |path: &Path| OF_THE_SANDBOX.iter().any(|own| path == Path::new(own));
    let wanted = program.shown.iter().filter(|shown| shown.required || shown.bind.source.exists());
    let mut binds: Vec<sandbox::Bind> =
        wanted.map(|shown| shown.bind.clone()).filter(|bind| !is_made(&bind.destination)).collect();
    if let Some(directory) = program.caller_directory.as_ref().filter(|directory| *directory != Path::new("/")) {
        binds.push(sandbox::Bind { source: directory.clone(), destination: directory.clone(), read_only: false });
    }
    binds
}

/// Goes where the program starts, then as for any program.
fn prologue(program: &Program) -> Vec<u8> {
    let places: Vec<Vec<u8>> =
        program.directories.iter().map(|path| super::environment::quote(path.as_os_str())).collect();
    let mut text = Vec::new();
    if let [only] = places.as_slice() {
        text.extend_from_slice(&[b"cd ", only.as_slice(), b" || exit 255\n"].concat());
    } else {
        for place in &places {
            text.extend_from_slice(&[b"cd ", place.as_slice(), b" 2>/dev/null || "].concat());
        }
        text.extend_from_slice(b"cd /\n");
    }
    text.extend_from_slice(&program.prologue);
    text
}
