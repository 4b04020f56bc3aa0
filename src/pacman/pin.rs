//! What a pacman base is, once it is decided: as an RPM base, and the signature of each package, which its file does not hold.

use super::database::is_name;
use crate::rpm::pin::{PinError, RpmPin};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacmanPin {
    /// Its agent is `arch`; a package's location is its file's name.
    pub base: RpmPin,
    /// Detached, by package; of all when signatures are checked.
    pub signatures: BTreeMap<String, Vec<u8>>,
}

impl PacmanPin {
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.base.lines();
        lines
            .extend(self.signatures.iter().map(|(name, bytes)| format!("signature {name} {}", STANDARD.encode(bytes))));
        lines
    }

    /// Reads what [`PacmanPin::lines`] wrote.
    pub fn parse(lines: &[String]) -> Result<PacmanPin, PinError> {
        let base = RpmPin::parse(lines)?;
        // Invariant: a lock file is edited by people, and the script gives these names to pacman.
        if let Some(stray) = base.packages.iter().find(|one| !is_name(&one.location) || !is_name(&one.name)) {
            return Err(PinError::Line(format!("package {} in {}", stray.nevra(), stray.location)));
        }
        let read = |line: &String| -> Option<Result<(String, Vec<u8>), PinError>> {
            let (name, text) = line.strip_prefix("signature ")?.split_once(' ')?;
            let bytes = STANDARD.decode(text).map_err(|_| PinError::Line(format!("signature {name}")));
            Some(bytes.map(|bytes| (name.to_owned(), bytes)))
        };
        Ok(PacmanPin { signatures: lines.iter().filter_map(read).collect::<Result<_, _>>()?, base })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> PacmanPin {
        let mut base = crate::rpm::pin::tests::sample();
        base.agent = "arch".to_owned();
        base.packages.iter_mut().for_each(|one| one.location = format!("{}-2-3-x86_64.pkg.tar.zst", one.name));
        PacmanPin { base, signatures: BTreeMap::from([("bash".to_owned(), vec![1, 2])]) }
    }

    #[test]
    fn reads_back_its_own_lines_and_refuses_files_elsewhere() {
        assert_eq!(PacmanPin::parse(&sample().lines()), Ok(sample()));
        for name in ["Packages/bash.pkg", "--root", ".hidden", "$(x)"] {
            let lines: Vec<String> =
                sample().lines().iter().map(|line| line.replace("bash-2-3-x86_64.pkg.tar.zst", name)).collect();
            assert!(matches!(PacmanPin::parse(&lines), Err(PinError::Line(_))), "{name}");
        }
        let lines: Vec<String> =
            sample().lines().iter().map(|line| line.replace("signature bash ", "signature bash ?")).collect();
        assert!(PacmanPin::parse(&lines).is_err());
    }
}
