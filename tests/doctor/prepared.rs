//! A host, prepared by a shell script in a mount namespace of its own, and what `doctor` says of it.

use super::place::{Place, RANGE_USER, SINGLE_USER, is_root};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

pub struct Prepared {
    pub place: Place,
}

/// What a command did.
pub struct Done {
    pub code: Option<i32>,
    pub text: String,
    pub complaint: String,
}

/// As root, as a user with subordinate ids, as one without; none where this process is not root.
pub fn hosts() -> Vec<Prepared> {
    if !is_root("a prepared host") {
        return Vec::new();
    }
    let users = [RANGE_USER, SINGLE_USER].into_iter().filter_map(Place::of_user);
    std::iter::once(Place::new()).chain(users).map(|place| Prepared { place }).collect()
}

pub fn host_of(user: &str) -> Option<Prepared> {
    Place::of_user(user).map(|place| Prepared { place })
}

impl Prepared {
    /// Words that become this host's user.
    pub fn user_words(&self) -> Vec<String> {
        let Some(user) = self.place.user() else { return Vec::new() };
        [
            "setpriv".to_owned(),
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
            "--init-groups".to_owned(),
        ]
        .to_vec()
    }

    pub fn program(&self) -> String {
        self.place.file("../sifbuild").to_str().unwrap().to_owned()
    }

    /// Runs `script` as root; in it `"$@"` is the program, as the user, with `arguments`.
    pub fn perform(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        let program = self.place.command(&[], &[]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script, "sh"]).args(self.user_words()).arg(self.program());
        command.args(arguments).current_dir(self.place.file("")).env_clear().stdin(Stdio::null());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.envs(variables.iter().copied()).env("SCRATCH", self.place.file("../scratch"));
        let output = command.process_group(0).output().unwrap();
        Done {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            complaint: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What `doctor` says after `script`.
    pub fn examine(&self, script: &str, variables: &[(&str, &str)]) -> Examined {
        let done = self.perform(&format!("{script}\nexec \"$@\""), &["doctor", "--json"], variables);
        Examined::read(&done)
    }
}

pub struct Examined {
    pub code: i32,
    pub report: Value,
}

impl Examined {
    pub fn read(done: &Done) -> Examined {
        let report = serde_json::from_str(&done.text);
        let report = report.unwrap_or_else(|error| panic!("{error}: {:?} {} {}", done.code, done.text, done.complaint));
        Examined { code: done.code.unwrap(), report }
    }

    pub fn mode(&self) -> Option<&str> {
        self.report["mode"].as_str()
    }

    /// State, and cause and remedy together.
    pub fn finding(&self, ability: &str) -> (String, String) {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().rfind(|finding| finding["ability"] == ability);
        let found = found.unwrap_or_else(|| panic!("{ability} is not in {:#}", self.report));
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (text("state"), format!("{} / {} / {}", text("detail"), text("cause"), text("remedy")))
    }

    pub fn remedy(&self, ability: &str) -> String {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().rfind(|finding| finding["ability"] == ability).unwrap();
        found["remedy"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn assert(&self, code: i32, ability: &str, state: &str, expected: &str) {
        let (found, text) = self.finding(ability);
        assert_eq!(self.code, code, "{:#}", self.report);
        assert!(found == state && text.contains(expected), "{found}: {text}");
    }
}
