//! `primary.xml`: the packages, and what they say of each other.

use super::repomd::is_relative;
use super::xml::{Node, Xml};
use super::{Checksum, ChecksumAlgorithm, MetadataError};
use crate::rpm::dependency::Sense;
use crate::rpm::pool::{Dependency, NewPackage, Pool, Relation};
use std::collections::HashSet;
use std::io::BufRead;

/// Dependencies and files of one package; the kernel has thousands.
const MAXIMUM_PARTS: usize = 200_000;

/// Adds all packages of a file to the pool's latest repository. Gives how many there were.
pub fn read(reader: impl BufRead, pool: &mut Pool) -> Result<usize, MetadataError> {
    let mut xml = Xml::new(reader);
    let mut count = 0;
    let mut is_primary = false;
    loop {
        match xml.next()? {
            Node::Open if xml.name == "metadata" => is_primary = true,
            Node::Open if xml.name == "package" => {
                if let Some(package) = read_package(&mut xml, pool)? {
                    pool.add(package).ok_or(MetadataError::TooLarge("there are more than 1048576 packages"))?;
                    count += 1;
                }
            }
            Node::End if is_primary => return Ok(count),
            Node::End => return Err(MetadataError::Content("it has no element metadata".into())),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Partial {
    name: Option<String>,
    arch: String,
    evr: Option<String>,
    source: String,
    location: String,
    location_base: Option<String>,
    checksum: Option<Checksum>,
    size: u64,
    installed_size: u64,
    build_time: i64,
    dependencies: Vec<(Relation, Dependency)>,
    seen: HashSet<(Relation, Dependency)>,
    files: Vec<crate::rpm::pool::Name>,
}

/// None: a source package.
fn read_package<R: BufRead>(xml: &mut Xml<R>, pool: &mut Pool) -> Result<Option<NewPackage>, MetadataError> {
    let mut partial = Partial::default();
    let mut relation = None;
    loop {
        match xml.next()? {
            Node::End => return Err(MetadataError::Xml("it ends in the middle".into())),
            Node::Close if xml.name == "package" => break,
            Node::Close => {
                if relation_of(&xml.name).is_some() {
                    relation = None;
                }
            }
            Node::Open => {
                if let Some(opened) = relation_of(&xml.name) {
                    relation = Some(opened);
                } else {
                    read_part(xml, pool, &mut partial, relation)?;
                }
            }
        }
        if partial.dependencies.len() + partial.files.len() > MAXIMUM_PARTS {
            return Err(MetadataError::TooLarge("a package has more than 200000 dependencies and files"));
        }
    }
    partial.finish()
}

fn read_part<R: BufRead>(
    xml: &mut Xml<R>,
    pool: &mut Pool,
    partial: &mut Partial,
    relation: Option<Relation>,
) -> Result<(), MetadataError> {
    let number = |xml: &Xml<R>, name: &str| xml.attribute(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    match xml.name.as_str() {
        "entry" => {
            if let Some(relation) = relation
                && let Some(dependency) = read_entry(xml, pool)?
                && partial.seen.insert((relation, dependency))
            {
                partial.dependencies.push((relation, dependency));
            }
        }
        "file" => {
            let text = xml.text()?;
            if text.starts_with('/') {
                partial.files.push(pool.intern(&text));
            }
        }
        "name" if partial.name.is_none() => partial.name = Some(xml.text()?),
        "arch" => partial.arch = xml.text()?,
        "version" => partial.evr = Some(evr(xml)),
        "checksum" => {
            let algorithm = xml.attribute("type").and_then(ChecksumAlgorithm::parse);
            let text = xml.text()?;
            partial.checksum = algorithm.and_then(|algorithm| Checksum::new(algorithm, &text));
        }
        "size" => {
            partial.size = number(xml, "package");
            partial.installed_size = number(xml, "installed");
        }
        "time" => {
            partial.build_time = xml.attribute("build").and_then(|text| text.parse().ok()).unwrap_or(0);
        }
        "location" => {
            partial.location = xml.attribute("href").unwrap_or("").to_owned();
            partial.location_base = xml.attribute("base").filter(|base| !base.is_empty()).map(str::to_owned);
        }
        "sourcerpm" => partial.source = xml.text()?,
        _ => {}
    }
    Ok(())
}

fn relation_of(name: &str) -> Option<Relation> {
    Some(match name {
        "provides" => Relation::Provides,
        "requires" => Relation::Requires,
        "conflicts" => Relation::Conflicts,
        "obsoletes" => Relation::Obsoletes,
        "recommends" => Relation::Recommends,
        "suggests" => Relation::Suggests,
        "supplements" => Relation::Supplements,
        "enhances" => Relation::Enhances,
        _ => return None,
    })
}

/// `[epoch:]version[-release]` of the attributes; an epoch of 0 is left out.
fn evr<R: BufRead>(xml: &Xml<R>) -> String {
    let epoch = xml.attribute("epoch").filter(|epoch| !epoch.is_empty() && *epoch != "0");
    let mut text = epoch.map_or_else(String::new, |epoch| format!("{epoch}:"));
    text.push_str(xml.attribute("ver").unwrap_or(""));
    if let Some(release) = xml.attribute("rel").filter(|release| !release.is_empty()) {
        text.push('-');
        text.push_str(release);
    }
    text
}

fn read_entry<R: BufRead>(xml: &Xml<R>, pool: &mut Pool) -> Result<Option<Dependency>, MetadataError> {
    let Some(name) = xml.attribute("name").filter(|name| !name.is_empty()) else { return Ok(None) };
    let sense = match xml.attribute("flags") {
        None | Some("") => Sense::ANY,
        Some(flags) => Sense::from_flags(flags)
            .ok_or_else(|| MetadataError::Content(format!("{flags:?} is no comparison of versions")))?,
    };
    let evr = if sense == Sense::ANY { String::new() } else { evr(xml) };
    Ok(Some(pool.dependency(name, sense, &evr)))
}

impl Partial {
    fn finish(self) -> Result<Option<NewPackage>, MetadataError> {
        let name = self.name.filter(|name| is_word(name));
        let name = name.ok_or_else(|| MetadataError::Content("a package has no name".into()))?;
        if matches!(self.arch.as_str(), "src" | "nosrc") {
            return Ok(None);
        }
        let fault = |what: &str| MetadataError::Content(format!("the package {name} has {what}"));
        let evr = self.evr.filter(|evr| is_word(evr)).ok_or_else(|| fault("no version"))?;
        if !is_word(&self.arch) {
            return Err(fault("no architecture"));
        }
        if !is_relative(&self.location) {
            return Err(fault("a path that leads out of the repository"));
        }
        let checksum = self.checksum.ok_or_else(|| fault("no checksum that is known (SHA-1, SHA-2)"))?;
        Ok(Some(NewPackage {
            evr,
            arch: self.arch,
            source: self.source,
            location: self.location,
            location_base: self.location_base,
            checksum,
            size: self.size,
            installed_size: self.installed_size,
            build_time: self.build_time,
            dependencies: self.dependencies,
            files: self.files,
            name,
        }))
    }
}

/// Invariant: names and versions go into lines of a lock and into file names.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 512
        && !text.starts_with('.')
        && text.chars().all(|character| !character.is_whitespace() && !character.is_control() && character != '/')
}

#[cfg(test)]
mod tests;
