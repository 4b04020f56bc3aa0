//! The program: a hidden role first, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = sifbuild::sandbox::role(arguments.iter().cloned()) {
        return ExitCode::from(code as u8);
    }
    ExitCode::from(sifbuild::cli::run(&arguments))
}
