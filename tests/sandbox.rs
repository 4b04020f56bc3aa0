//! The sandbox, in real namespaces: the same battery as root, as a user with subordinate ids, and as a user with one id.
//!
//! Without libtest: a process must be single-threaded to enter a user namespace, and becomes the sandbox process by
//! `argv[0]`. As root, two users are made once; each test runs in a process of its own.

#[path = "sandbox/battery.rs"]
mod battery;
#[path = "sandbox/host.rs"]
mod host;

use std::process::exit;

fn main() {
    if let Some(code) = sifbuild::sandbox::role(std::env::args_os()) {
        exit(code);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--inner", mode, name, directory] => battery::perform(mode, name, directory.as_ref()),
        filters => exit(host::perform_all(filters)),
    }
}
