//! A seccomp filter as container runtimes have it: a program that is started with it, and all that it starts, may not make namespaces.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Words of a command, one a line.
pub const VARIABLE: &str = "SIFBUILD_TEST_FILTERED";

/// Start of a command that runs the words in [`VARIABLE`] with the filter.
pub fn runner() -> Vec<String> {
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [own.as_str(), "--exact", "filter::runs_a_command_with_the_filter", "--ignored", "--nocapture", "--quiet"]
        .map(str::to_owned)
        .to_vec()
}

/// Not a test: the other tests start this program again, to be the one that installs the filter.
#[test]
#[ignore = "a helper of the other tests, which start it"]
fn runs_a_command_with_the_filter() {
    let words = std::env::var(VARIABLE).expect("the tests of containers set it");
    let words: Vec<&str> = words.lines().collect();
    install();
    let error = Command::new(words[0]).args(&words[1..]).env_remove(VARIABLE).exec();
    panic!("{}: {error}", words[0]);
}

/// Docker's default profile as it is without CAP_SYS_ADMIN: these calls give EPERM, `clone3` gives ENOSYS.
fn install() {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERROR: u32 = 0x0005_0000;
    let statement = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![statement(LOAD, 0, 0, 0)];
    for number in [
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
    ] {
        program.push(statement(JUMP_EQUAL, 0, 1, number as u32));
        program.push(statement(RETURN, 0, 0, ERROR | libc::EPERM as u32));
    }
    program.push(statement(JUMP_EQUAL, 0, 1, libc::SYS_clone3 as u32));
    program.push(statement(RETURN, 0, 0, ERROR | libc::ENOSYS as u32));
    // clone with a flag for a namespace; the flags are the first argument, on x86-64 and aarch64.
    program.push(statement(JUMP_EQUAL, 0, 3, libc::SYS_clone as u32));
    program.push(statement(LOAD, 0, 0, 16));
    program.push(statement(JUMP_SET, 0, 1, 0x7e02_0000));
    program.push(statement(RETURN, 0, 0, ERROR | libc::EPERM as u32));
    program.push(statement(RETURN, 0, 0, ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives through the call. Without no_new_privs, as Docker does it: this is root.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    assert_eq!(result, 0, "seccomp: {}", std::io::Error::last_os_error());
}
