//! `--docker-login`: a user and a password, asked for at the terminal.

use super::build::Stop;
use super::exit;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read};

/// Longest answer in bytes.
const LONGEST: usize = 4096;

/// Asks for what is not given.
pub fn ask(user: &mut Option<String>, password: &mut Option<String>) -> Result<(), Stop> {
    if user.is_some() && password.is_some() {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Stop::usage(
            "--docker-login asks at a terminal, and this is none; set SIFBUILD_DOCKER_USERNAME and SIFBUILD_DOCKER_PASSWORD, or log in \
             beforehand with `docker login` or `podman login`",
        ));
    }
    let fault = |error: io::Error| Stop::usage(format!("--docker-login: the terminal cannot be read: {error}"));
    if user.is_none() {
        eprint!("Enter Docker Username: ");
        let mut line = String::new();
        io::stdin().lock().take(LONGEST as u64).read_line(&mut line).map_err(fault)?;
        *user = Some(line.trim().to_owned());
    }
    if password.is_none() {
        let answer = read_hidden("Enter Docker Password: ");
        eprintln!();
        *password = answer.map_err(fault)?;
    }
    match (user, password) {
        (Some(user), Some(password)) if !user.is_empty() && !password.is_empty() => Ok(()),
        // As a shell tells the end by Ctrl-C.
        (_, None) => Err(Stop { text: "nothing was built".to_owned(), code: 128 + 2 }),
        _ => Err(Stop { text: "--docker-login: the user or the password is empty".to_owned(), code: exit::USAGE }),
    }
}

/// Gives a terminal its settings back, whatever happens.
struct Hidden(Termios);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// A line that is not shown; `None` for Ctrl-C. Keys arrive one by one, so that no signal leaves the terminal silent.
pub fn read_hidden(question: &str) -> io::Result<Option<String>> {
    let hidden = Hidden(tcgetattr(io::stdin())?);
    let mut settings = hidden.0.clone();
    settings.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &settings)?;
    eprint!("{question}");
    let mut bytes = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte? {
            b'\n' | b'\r' | 4 => break,
            3 => return Ok(None),
            8 | 127 => drop(bytes.pop()),
            byte if bytes.len() < LONGEST => bytes.push(byte),
            _ => {}
        }
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
