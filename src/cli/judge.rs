//! What a pull makes of an image's signatures: a warning, or a refusal where `--require-signed` or a policy asks for more.

use super::build::Stop;
use super::keyserver::Asker;
use super::progress::Terminal;
use super::trust::TrustArguments;
use super::{exit, session};
use crate::build::trust::Trust;
use crate::digest::Digest;
use crate::event::{Event, Observer};
use crate::keyrings::{Found, Origin};
use crate::openpgp::{Fingerprint, Policy};
use crate::sif::reader::Sif;
use crate::sif::signature::{Material, Report, Scope, issuers, verify};
use std::fs::File;
use std::path::Path;

/// How what is pulled is judged.
pub struct Judge<'a> {
    trust: Trust,
    /// As policies name it.
    source: String,
    /// A missing signature deserves a warning.
    warns: bool,
    terminal: &'a Terminal,
}

impl<'a> Judge<'a> {
    /// Refuses at once what the policies refuse by name. `by_digest`: the address names a digest.
    pub fn new(
        arguments: &TrustArguments,
        source: String,
        by_digest: bool,
        warns: bool,
        terminal: &'a Terminal,
    ) -> Result<Judge<'a>, Stop> {
        let variable = |name: &str| std::env::var(name).ok();
        let mut arguments = arguments.clone();
        arguments.fill(&variable);
        let judge = Judge { trust: arguments.trust(&variable)?, source, warns, terminal };
        for policy in &judge.trust.policies {
            let (demands, by) = policy.demands(&judge.source);
            if let Some(reason) = demands.refused {
                return Err(judge.refusal(format!("is refused by {by}: {reason}")));
            }
            if demands.by_digest && !by_digest {
                return Err(judge.refusal(format!("is refused by {by}: name it by its digest (…@sha256:…)")));
            }
        }
        Ok(judge)
    }

    fn refusal(&self, cause: String) -> Stop {
        Stop { text: format!("{} {cause}", self.source), code: exit::SIGNATURE }
    }

    /// Refuses the file that was pulled, before it gets its name. `digests`: what it is known by.
    pub fn check(&self, path: &Path, digests: &[&Digest]) -> Result<(), Stop> {
        let demands: Vec<_> = self.trust.policies.iter().map(|policy| policy.demands(&self.source)).collect();
        for (demand, by) in demands.iter().filter(|(demand, _)| !demand.digests.is_empty()) {
            if !digests.iter().any(|digest| demand.digests.contains(digest)) {
                let found: Vec<String> = digests.iter().map(ToString::to_string).collect();
                return Err(self.refusal(format!("is none of the images that {by} lists: {}", found.join(", "))));
            }
        }
        let asked = self.trust.require_signed || demands.iter().any(|(demand, _)| !demand.signed_by.is_empty());
        if !asked && !self.warns {
            return Ok(());
        }
        let (report, found) = match self.verify(path) {
            Ok(judged) => judged,
            Err(cause) if asked => return Err(self.refusal(format!("is not verified: {cause}"))),
            Err(cause) => {
                self.warn(&cause);
                return Ok(());
            }
        };
        if let Some(complaint) = report.complaint() {
            if asked {
                return Err(self.refusal(format!("is not verified: {complaint}")));
            }
            self.warn(&complaint);
            return Ok(());
        }
        let keys = report.signers_of_everything();
        for (demand, by) in &demands {
            if let Some(missing) = demand.signed_by.iter().find(|key| !keys.contains(key)) {
                return Err(self.refusal(format!(
                    "is not signed by all that {by} names\n  missing: {missing}\n  found: {}",
                    list(&keys)
                )));
            }
        }
        let known = keys.iter().any(|key| matches!(found.origins.get(key), Some(Origin::Local | Origin::Global)));
        let named = demands.iter().any(|(demand, _)| !demand.signed_by.is_empty());
        if self.trust.require_signed && !named && !known {
            return Err(self.refusal(format!(
                "is not signed by a key in your keyrings, and --require-signed asks for one\n  found: {}",
                list(&keys)
            )));
        }
        self.terminal.observe(Event::Info(format!("{} is signed by {}", self.source, list(&keys))));
        Ok(())
    }

    fn warn(&self, cause: &str) {
        let text = format!("{} is not verified: {cause}; -U takes it without this warning", self.source);
        self.terminal.observe(Event::Warning(text));
    }

    fn verify(&self, path: &Path) -> Result<(Report, Found), String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut sif = Sif::read(file).map_err(|error| error.to_string())?;
        let named = issuers(&mut sif, Scope::Groups, false).map_err(|error| error.to_string())?;
        let asker = Asker::new(None, self.terminal);
        let found = self.trust.places.gather(&named, Some(&|issuer| asker.ask(issuer)));
        let found = found.map_err(|error| error.to_string())?;
        let policy = Policy::at(session::now().seconds);
        let material = Material { keyring: Some(&found.keyring), policy, keys: &[], legacy: false };
        let report = verify(&mut sif, Scope::Groups, &material).map_err(|error| error.to_string())?;
        Ok((report, found))
    }
}

fn list(keys: &[Fingerprint]) -> String {
    match keys {
        [] => "no key that signed everything".to_owned(),
        keys => keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
