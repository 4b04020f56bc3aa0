//! `--section`: which parts of a definition a build performs (facts §1.6).

use crate::definition::Stage;
use std::collections::BTreeSet;

const NAMES: [&str; 9] = ["pre", "setup", "files", "help", "labels", "environment", "runscript", "startscript", "test"];

/// The sections that are performed. `%post` and the apps always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections(BTreeSet<&'static str>);

/// Why a list is no choice of sections.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionsError {
    #[error("'{name}' is no section that can be chosen; these can: all, none, {}", NAMES.join(", "))]
    Unknown { name: String },
    #[error("'{name}' cannot be mixed with other sections")]
    Mixed { name: String },
}

impl Default for Sections {
    fn default() -> Sections {
        Sections::all()
    }
}

impl Sections {
    pub fn all() -> Sections {
        Sections(NAMES.into())
    }

    pub fn none() -> Sections {
        Sections(BTreeSet::new())
    }

    /// From the words of `--section`; no word at all means all sections.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Sections, SectionsError> {
        let words: Vec<&str> = words.into_iter().collect();
        match words.as_slice() {
            [] | ["all"] => return Ok(Sections::all()),
            ["none"] => return Ok(Sections::none()),
            _ => {}
        }
        let mut chosen = BTreeSet::new();
        for word in words {
            if matches!(word, "all" | "none") {
                return Err(SectionsError::Mixed { name: word.to_owned() });
            }
            let name = NAMES.into_iter().find(|name| *name == word);
            // Compat: `post` may be named and changes nothing.
            if name.is_none() && word != "post" {
                return Err(SectionsError::Unknown { name: word.to_owned() });
            }
            chosen.extend(name);
        }
        Ok(Sections(chosen))
    }

    /// The stage as far as it is performed.
    pub fn select(&self, stage: &Stage) -> Stage {
        let mut stage = stage.clone();
        let keep = |name: &str| self.0.contains(name);
        stage.pre.take_if(|_| !keep("pre"));
        stage.setup.take_if(|_| !keep("setup"));
        stage.help.take_if(|_| !keep("help"));
        stage.environment.take_if(|_| !keep("environment"));
        stage.runscript.take_if(|_| !keep("runscript"));
        stage.startscript.take_if(|_| !keep("startscript"));
        stage.test.take_if(|_| !keep("test"));
        if !keep("files") {
            stage.files.clear();
        }
        if !keep("labels") {
            stage.labels.clear();
        }
        stage
    }
}
