//! The packages of one `primary.xml` in a form that is read in a fraction of the time: texts and dependencies once, then numbers.
//!
//! It is a cache and no exchange format: whatever is unexpected in it means that the XML is read again. A checksum at the end
//! tells damage; numbers are checked nonetheless, so that no file can do more than be refused.

use super::primary::is_word;
use super::repomd::is_relative;
use super::{Checksum, ChecksumAlgorithm};
use crate::rpm::dependency::Sense;
use crate::rpm::pool::{Dependency, MAXIMUM_PACKAGES, Name, NewPackage, PackageId, Pool, Relation};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ops::Range;

/// Invariant: changes with the form, and with what is taken from the XML.
const MAGIC: &[u8] = b"sifbuild packages 1\n";
const SEAL: usize = 32;
const ALGORITHMS: [ChecksumAlgorithm; 5] = [
    ChecksumAlgorithm::Sha1,
    ChecksumAlgorithm::Sha224,
    ChecksumAlgorithm::Sha256,
    ChecksumAlgorithm::Sha384,
    ChecksumAlgorithm::Sha512,
];

/// Writes the packages of a repository that was just read.
pub fn write(pool: &Pool, packages: Range<PackageId>) -> Vec<u8> {
    let mut writer = Writer { pool, names: Numbers::default(), dependencies: Numbers::default() };
    let mut body = Vec::new();
    number(&mut body, packages.len() as u64);
    for package in packages {
        writer.package(&mut body, package);
    }
    let bounds: Vec<_> = writer.dependencies.order.iter().map(|dependency| pool.bound_of(*dependency)).collect();
    let mut middle = Vec::new();
    number(&mut middle, bounds.len() as u64);
    for bound in bounds {
        number(&mut middle, writer.names.of(bound.name));
        middle.push(bound.sense.0);
        number(&mut middle, writer.names.of(bound.evr));
    }
    let mut bytes = MAGIC.to_vec();
    number(&mut bytes, writer.names.order.len() as u64);
    for name in &writer.names.order {
        text(&mut bytes, pool.text(*name));
    }
    bytes.extend(middle);
    bytes.extend(body);
    let seal = Sha256::digest(&bytes);
    bytes.extend(seal);
    bytes
}

/// Adds the packages to the pool's latest repository and tells how many; `None` where the bytes are not what [`write`] made:
/// the pool has no more packages then.
pub fn read(bytes: &[u8], pool: &mut Pool) -> Option<usize> {
    let (content, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
    if Sha256::digest(content)[..] != *seal {
        return None;
    }
    let mut reader = Reader { bytes: content.strip_prefix(MAGIC)? };
    let count = reader.count()?;
    let texts = (0..count).map(|_| reader.text()).collect::<Option<Vec<&str>>>()?;
    let names: Vec<Name> = texts.iter().map(|text| pool.intern(text)).collect();
    let count = reader.count()?;
    let mut dependencies = Vec::with_capacity(count);
    for _ in 0..count {
        let name = *texts.get(reader.number()? as usize)?;
        let sense = Sense(reader.byte().filter(|sense| *sense < 8)?);
        dependencies.push(pool.dependency(name, sense, texts.get(reader.number()? as usize)?));
    }
    let count = reader.count().filter(|count| *count <= MAXIMUM_PACKAGES - pool.packages().len())?;
    let packages = (0..count).map(|_| reader.package(&texts, &names, &dependencies)).collect::<Option<Vec<_>>>()?;
    if !reader.bytes.is_empty() {
        return None;
    }
    packages.into_iter().try_for_each(|package| pool.add(package).map(|_| ()))?;
    Some(count)
}

/// Things by the order in which they were first met.
struct Numbers<T> {
    order: Vec<T>,
    by: HashMap<T, u64>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers { order: Vec::new(), by: HashMap::new() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Numbers<T> {
    fn of(&mut self, thing: T) -> u64 {
        let next = self.order.len() as u64;
        *self.by.entry(thing).or_insert_with(|| {
            self.order.push(thing);
            next
        })
    }
}

struct Writer<'a> {
    pool: &'a Pool,
    names: Numbers<Name>,
    dependencies: Numbers<Dependency>,
}

impl Writer<'_> {
    fn package(&mut self, bytes: &mut Vec<u8>, id: PackageId) {
        let package = &self.pool.packages()[id];
        for name in [package.name, package.evr, package.arch, package.source] {
            number(bytes, self.names.of(name));
        }
        text(bytes, &package.location);
        text(bytes, package.location_base.as_deref().unwrap_or(""));
        let algorithm = ALGORITHMS.iter().position(|one| *one == package.checksum.algorithm());
        bytes.push(algorithm.unwrap_or(ALGORITHMS.len()) as u8);
        text(bytes, package.checksum.hex());
        number(bytes, package.size);
        number(bytes, package.installed_size);
        number(bytes, package.build_time as u64);
        for relation in Relation::ALL {
            let all = self.pool.relation(id, relation);
            number(bytes, all.len() as u64);
            for dependency in all {
                number(bytes, self.dependencies.of(*dependency));
            }
        }
        let files = package.files();
        number(bytes, files.len() as u64);
        for file in files {
            number(bytes, self.names.of(*file));
        }
    }
}

/// Seven bits a byte, the lowest first.
fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Of things that take a byte at least.
    fn count(&mut self) -> Option<usize> {
        let count = self.number()?;
        (count <= self.bytes.len() as u64).then_some(count as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    fn package(&mut self, texts: &[&str], names: &[Name], dependencies: &[Dependency]) -> Option<NewPackage> {
        let mut word = || Some((*texts.get(self.number()? as usize)?).to_owned());
        let (name, evr, arch, source) = (word()?, word()?, word()?, word()?);
        let location = self.text()?.to_owned();
        if ![&name, &evr, &arch].into_iter().all(|text| is_word(text)) || !is_relative(&location) {
            return None;
        }
        let location_base = Some(self.text()?).filter(|base| !base.is_empty()).map(str::to_owned);
        let algorithm = *ALGORITHMS.get(usize::from(self.byte()?))?;
        let checksum = Checksum::new(algorithm, self.text()?)?;
        let (size, installed_size, build_time) = (self.number()?, self.number()?, self.number()? as i64);
        let mut related = Vec::new();
        for relation in Relation::ALL {
            for _ in 0..self.count()? {
                related.push((relation, *dependencies.get(self.number()? as usize)?));
            }
        }
        let count = self.count()?;
        let files = (0..count).map(|_| names.get(self.number()? as usize).copied()).collect::<Option<Vec<Name>>>()?;
        Some(NewPackage {
            name,
            evr,
            arch,
            source,
            location,
            location_base,
            checksum,
            size,
            installed_size,
            build_time,
            dependencies: related,
            files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::metadata::primary;
    use crate::rpm::pool::{Architectures, Repository};

    const XML: &str = r#"<metadata xmlns="http://linux.duke.edu/metadata/common" packages="1">
<package type="rpm"><name>a</name><arch>noarch</arch><version epoch="1" ver="2" rel="3"/>
<checksum type="sha256" pkgid="YES">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<time file="1" build="-5"/><size package="7" installed="300"/><location href="a/a.rpm" xml:base="http://x/"/>
<format><rpm:sourcerpm>a.src.rpm</rpm:sourcerpm>
<rpm:provides><rpm:entry name="b" flags="EQ" epoch="0" ver="1"/></rpm:provides>
<rpm:requires><rpm:entry name="(c if d >= 2)"/><rpm:entry name="/bin/sh"/></rpm:requires>
<rpm:supplements><rpm:entry name="e"/></rpm:supplements><file>/etc/a</file></format></package></metadata>"#;

    fn pool() -> Pool {
        let mut pool = Pool::new(Architectures::of("x86_64").unwrap());
        pool.add_repository(Repository { name: "r".into(), priority: 99 });
        pool
    }

    fn written() -> (Pool, Vec<u8>) {
        let mut pool = pool();
        let count = primary::read(XML.as_bytes(), &mut pool).unwrap();
        let bytes = write(&pool, 0..count);
        (pool, bytes)
    }

    fn told(pool: &Pool) -> String {
        let package = &pool.packages()[0];
        let related = Relation::ALL.map(|relation| {
            let all = pool.relation(0, relation).iter();
            all.map(|one| format!("{} {:?}", pool.show(*one), pool.rich(*one).is_some())).collect::<Vec<_>>()
        });
        let files: Vec<_> = package.files().iter().map(|file| pool.text(*file)).collect();
        let Package { location, location_base, checksum, size, installed_size, build_time, .. } = package;
        let rest = (location, location_base, checksum, size, installed_size, build_time, pool.text(package.source));
        format!("{} {rest:?} {related:?} {files:?}", pool.nevra(0))
    }

    use crate::rpm::pool::Package;

    #[test]
    fn reads_what_it_wrote() {
        let (before, bytes) = written();
        let mut after = pool();
        // Other numbers than before.
        after.intern("something else");
        assert_eq!(read(&bytes, &mut after), Some(1));
        assert_eq!(told(&after), told(&before));
        assert!(told(&after).contains("(c if d >= 2) true"), "{}", told(&after));
    }

    #[test]
    fn refuses_damage_and_lies_without_harm() {
        let (_, bytes) = written();
        let content = bytes.len() - SEAL;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            assert_eq!(read(&damaged, &mut pool()), None, "{at}");
            assert_eq!(read(&bytes[..at], &mut pool()), None, "{at}");
            // With a seal that fits, it may be read or not, but must end.
            if at < content {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    damaged[at] = value;
                    let seal = Sha256::digest(&damaged[..content]);
                    damaged[content..].copy_from_slice(&seal);
                    let _ = read(&damaged, &mut pool());
                }
            }
        }
    }
}
