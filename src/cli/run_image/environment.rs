//! What a program in an image sees of variables, as Apptainer gives them (facts §4.1).
//!
//! The image's own scripts come first, from a clean state; then what was given for the container, which wins over them; then the
//! caller's variables that nothing has set yet. A shell in the image does it, from the text made here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// `PATH` before the image says anything (facts §4.1).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

type Variable = (OsString, OsString);

/// Prefixes of the caller's variables that are for the container, the stronger last.
const GIVEN: [&str; 3] = ["SINGULARITYENV_", "APPTAINERENV_", "SIFBUILDENV_"];
/// Prefixes of variables that are for the programs themselves.
const OWN: [&str; 3] = ["SINGULARITY_", "APPTAINER_", "SIFBUILD_"];
/// Never taken from the caller.
const OMITTED: [&str; 3] = ["HOME", "PATH", "LD_LIBRARY_PATH"];
/// Taken from the caller even into a clean environment; in lower case.
const PASSED: [&str; 6] = ["term", "http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy"];
/// A shell keeps these itself, or does not let them be set.
const OF_THE_SHELL: [&str; 10] =
    ["_", "BASHOPTS", "BASH_VERSINFO", "EUID", "GROUPS", "IFS", "OPTIND", "PPID", "SHELLOPTS", "UID"];

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Exec,
    Run,
    Shell,
    Test,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Exec => "exec",
            Action::Run => "run",
            Action::Shell => "shell",
            Action::Test => "test",
        }
    }
}

/// What the environment is made of.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// All variables of the caller.
    pub caller: Vec<Variable>,
    pub clean: bool,
    /// `--env` and `--env-file`: names and values.
    pub given: Vec<(String, String)>,
    pub app: Option<String>,
    /// Last component of the image's path, and the path.
    pub name: String,
    pub image: String,
    /// In the container.
    pub home: OsString,
    /// `--bind`, as given.
    pub binds: String,
    /// `--shell`.
    pub shell: Option<String>,
}

impl Surroundings {
    /// Variables that the image's scripts see.
    pub fn first(&self) -> Vec<Variable> {
        let mut variables = vec![("HOME".into(), self.home.clone()), ("PATH".into(), DEFAULT_PATH.into())];
        let own = [("CONTAINER", &self.image), ("NAME", &self.name)];
        variables.extend(own.iter().flat_map(|(name, value)| twins(name, value)));
        if let Some(app) = &self.app {
            variables.extend(twins("APPNAME", app));
        }
        if let Some(shell) = &self.shell {
            variables.extend(twins("SHELL", shell));
        }
        let of_place = |(name, _): &&Variable| name == "PWD";
        variables.extend(self.caller.iter().filter(of_place).cloned());
        variables
    }

    /// Variables of a program that no shell of the image comes before.
    pub fn plain(&self, action: Action) -> Vec<Variable> {
        let mut variables = self.first();
        for (name, value) in self.last(action).into_iter().chain(self.injected()) {
            let name = match name.to_str().and_then(|name| name.strip_prefix("SING_USER_DEFINED_")) {
                Some("PATH") => OsString::from("PATH"),
                Some(_) => continue,
                None => name,
            };
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
        }
        variables
    }

    /// What wins over the image.
    fn injected(&self) -> Vec<Variable> {
        let mut found: Vec<Variable> = Vec::new();
        for prefix in GIVEN {
            for (name, value) in &self.caller {
                if let Some(inner) = name.to_str().and_then(|name| name.strip_prefix(prefix)) {
                    found.push((inner.into(), value.clone()));
                }
            }
        }
        found.extend(self.given.iter().map(|(name, value)| (name.into(), value.into())));
        // Names that 99-runtimevars.sh of the image understands.
        for (name, _) in &mut found {
            if let Some(path @ ("PATH" | "PREPEND_PATH" | "APPEND_PATH")) = name.to_str() {
                *name = format!("SING_USER_DEFINED_{path}").into();
            }
        }
        found.retain(|(name, _)| name != "HOME");
        found
    }

    /// What is set only where nothing else has.
    fn last(&self, action: Action) -> Vec<Variable> {
        let is_own = |name: &str| OWN.iter().chain(&GIVEN).any(|prefix| name.starts_with(prefix));
        let is_passed = |name: &str| PASSED.contains(&name.to_ascii_lowercase().as_str());
        let mut found: Vec<Variable> = Vec::new();
        for (name, value) in &self.caller {
            let text = name.to_string_lossy();
            if is_passed(&text) || !self.clean && !is_own(&text) && !OMITTED.contains(&text.as_ref()) {
                found.push((name.clone(), value.clone()));
            }
            if text == "PATH" && !self.clean {
                found.push(("USER_PATH".into(), value.clone()));
            }
        }
        if self.clean {
            found.push(("LANG".into(), "C".into()));
        }
        found.extend(twins("ENVIRONMENT", "/.singularity.d/env/91-environment.sh"));
        found.extend(twins("BIND", &self.binds));
        found.push(("APPTAINER_COMMAND".into(), action.name().into()));
        found.push(("APPTAINER_APPNAME".into(), self.app.clone().unwrap_or_default().into()));
        found.push(("PS1".into(), "Apptainer> ".into()));
        found.push(("PROMPT_COMMAND".into(), "PS1=\"Apptainer> \"; unset PROMPT_COMMAND".into()));
        found
    }

    /// The text that a POSIX shell in the image reads: it ends by becoming the program, whose arguments are its own.
    pub fn prologue(&self, action: Action) -> Vec<u8> {
        let mut text = include_bytes!("prologue.sh").to_vec();
        let mut inject = Vec::new();
        for (name, value) in self.injected().iter().filter(|(name, _)| is_name(name)) {
            inject.extend_from_slice(&[b"export ", name.as_bytes(), b"=", &quote(value), b"\n"].concat());
        }
        let mut restore = Vec::new();
        for (name, value) in self.last(action).iter().filter(|(name, _)| is_name(name)) {
            let (name, value) = (name.as_bytes(), quote(value));
            // Compat: what the image made empty is unset.
            restore.extend_from_slice(&[b"if [ -z \"${", name, b"+x}\" ]; then export ", name, b"=", &value].concat());
            restore.extend_from_slice(&[b"; elif [ -z \"$", name, b"\" ]; then unset ", name, b"; fi\n"].concat());
        }
        replace(&mut text, b"@INJECT@", &inject);
        replace(&mut text, b"@RESTORE@", &restore);
        text.extend_from_slice(match action {
            Action::Exec => include_bytes!("exec.sh").as_slice(),
            Action::Run => include_bytes!("run.sh"),
            Action::Shell => include_bytes!("shell.sh"),
            Action::Test => include_bytes!("test.sh"),
        });
        text
    }
}

fn twins(name: &str, value: &str) -> [Variable; 2] {
    ["APPTAINER", "SINGULARITY"].map(|prefix| (format!("{prefix}_{name}").into(), value.into()))
}

/// Whether a shell can hold a variable of this name, and lets it be set.
fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !bytes.is_empty()
        && bytes.iter().all(fits)
        && !bytes[0].is_ascii_digit()
        && !OF_THE_SHELL.iter().any(|name| name.as_bytes() == bytes)
}

pub fn quote(value: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in value.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// Puts `text` where a line of `template` is `mark`.
fn replace(template: &mut Vec<u8>, mark: &[u8], text: &[u8]) {
    if let Some(at) = template.windows(mark.len()).position(|window| window == mark) {
        template.splice(at..at + mark.len(), text.iter().copied());
    }
}

#[cfg(test)]
mod tests;
