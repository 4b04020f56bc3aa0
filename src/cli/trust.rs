//! `--require-signed` and the policy files: where they are looked for.

use super::arguments::lookup;
use super::build::Stop;
use super::exit;
use super::key::places;
use crate::build::trust::Trust;
use crate::trust::{FILE_NAME, MAXIMUM_SIZE, Policy};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the administrator's file lies; no user can set it aside.
const SYSTEM: &str = "/etc/sifbuild";

/// What is asked of bases
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TrustArguments {
    /// Build only from bases that a key in the keyrings has signed
    #[arg(long)]
    pub require_signed: bool,
    /// Policy file in place of the user's own; the administrator's always applies
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Directory of the user's keyrings
    #[arg(long, value_name = "DIR")]
    pub keysdir: Option<PathBuf>,
}

impl TrustArguments {
    pub fn fill(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let text = |name: &str| lookup(name, variable).filter(|value| !value.is_empty());
        self.require_signed |= text("REQUIRE_SIGNED")
            .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        if self.policy.is_none() {
            self.policy = text("POLICY").map(PathBuf::from);
        }
    }

    pub fn trust(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Trust, Stop> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let configuration = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let own = configuration.map(|directory| directory.join("sifbuild").join(FILE_NAME));
        let mut policies = Vec::new();
        policies.extend(read(&Path::new(SYSTEM).join(FILE_NAME))?);
        match (&self.policy, own) {
            (Some(path), _) => {
                let absent = || Stop::usage(format!("--policy: {} does not exist", path.display()));
                policies.push(read(path)?.ok_or_else(absent)?);
            }
            (None, Some(own)) => policies.extend(read(&own)?),
            (None, None) => {}
        }
        Ok(Trust { require_signed: self.require_signed, policies, places: places(self.keysdir.as_deref()) })
    }
}

/// The rules of a file; nothing where there is none. What cannot be read is never taken for no rules.
fn read(path: &Path) -> Result<Option<Policy>, Stop> {
    let fault = |cause: String| Stop { text: cause, code: exit::SIGNATURE };
    let told = |error: io::Error| fault(format!("the policy {} cannot be read: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(told(error)),
    };
    let mut text = String::new();
    let length = file.take(MAXIMUM_SIZE + 1).read_to_string(&mut text).map_err(told)?;
    if length as u64 > MAXIMUM_SIZE {
        return Err(fault(format!("the policy {} has more than {MAXIMUM_SIZE} bytes", path.display())));
    }
    Policy::parse(&path.display().to_string(), &text).map(Some).map_err(|error| fault(error.to_string()))
}
