//! A package file as the metadata of a repository would tell of it.

use super::{Package, PackageError};
use crate::rpm::dependency::Sense;
use crate::rpm::header::tag;
use crate::rpm::pin::PackagePin;
use crate::rpm::pool::{NewPackage, Pool, Relation};

/// Tags of names, senses and versions.
const RELATIONS: [(Relation, u32, u32, u32); 8] = [
    (Relation::Provides, 1047, 1112, 1113),
    (Relation::Requires, 1049, 1048, 1050),
    (Relation::Conflicts, 1054, 1053, 1055),
    (Relation::Obsoletes, 1090, 1114, 1115),
    (Relation::Recommends, 5046, 5048, 5047),
    (Relation::Suggests, 5049, 5051, 5050),
    (Relation::Supplements, 5052, 5054, 5053),
    (Relation::Enhances, 5055, 5057, 5056),
];

impl Package {
    /// For the pool; where the file lies is the pin's word.
    pub fn describe(&self, pin: &PackagePin, pool: &mut Pool) -> Result<NewPackage, PackageError> {
        let fault = |cause| PackageError::Header { part: "header", cause };
        let texts = |tag| self.header.texts(tag).map(Option::unwrap_or_default).map_err(fault);
        let numbers = |tag| self.header.numbers(tag).map(Option::unwrap_or_default).map_err(fault);
        let mut dependencies = Vec::new();
        for (relation, names, senses, versions) in RELATIONS {
            let (names, senses, versions) = (texts(names)?, numbers(senses)?, texts(versions)?);
            for (at, name) in names.iter().enumerate() {
                // Compat: createrepo_c leaves out what is said to the rpm that installs.
                if name.is_empty() || name.starts_with("rpmlib(") {
                    continue;
                }
                let sense = sense_of(senses.get(at).copied().unwrap_or(0));
                let version = versions.get(at).filter(|_| sense != Sense::ANY).map_or("", String::as_str);
                let version = version.strip_prefix("0:").unwrap_or(version);
                dependencies.push((relation, pool.dependency(name, sense, version)));
            }
        }
        let (folders, places) = (texts(tag::DIRNAMES)?, numbers(tag::DIRINDEXES)?);
        let names = texts(tag::BASENAMES)?;
        let paths = names.iter().zip(places).filter_map(|(name, place)| {
            let folder = folders.get(place as usize)?;
            Some(format!("{folder}{name}"))
        });
        let files = paths.map(|path| pool.intern(&path)).collect();
        Ok(NewPackage {
            name: pin.name.clone(),
            evr: pin.evr.clone(),
            arch: pin.arch.clone(),
            source: self.header.text(tag::SOURCERPM).map_err(fault)?.unwrap_or_default(),
            location: pin.location.clone(),
            location_base: None,
            checksum: pin.checksum.clone(),
            size: pin.size,
            installed_size: pin.installed_size,
            build_time: numbers(tag::BUILDTIME)?.first().map_or(0, |time| i64::from(*time)),
            dependencies,
            files,
        })
    }
}

/// Spec: rpm's bits are 2, 4 and 8 among others.
fn sense_of(flags: u32) -> Sense {
    Sense((flags >> 1 & 7) as u8)
}
