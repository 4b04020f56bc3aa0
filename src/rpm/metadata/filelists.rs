//! `filelists.xml`: all files of all packages. Only those that are asked for are kept.

use super::MetadataError;
use super::xml::{Node, Xml};
use crate::rpm::pool::{PackageId, Pool};
use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;
use std::ops::Range;

/// Tells the pool which packages of a repository have files of these paths. Gives how many were found.
pub fn read(
    reader: impl BufRead,
    pool: &mut Pool,
    packages: Range<PackageId>,
    wanted: &BTreeSet<String>,
) -> Result<usize, MetadataError> {
    let by_checksum: HashMap<String, PackageId> =
        packages.map(|package| (pool.packages()[package].checksum.hex().to_owned(), package)).collect();
    let mut xml = Xml::new(reader);
    let mut current: Option<PackageId> = None;
    let mut found = 0;
    let mut is_list = false;
    loop {
        match xml.next()? {
            Node::Open if xml.name == "filelists" => is_list = true,
            Node::Open if xml.name == "package" => {
                current = xml.attribute("pkgid").and_then(|checksum| by_checksum.get(checksum)).copied();
            }
            Node::Open if xml.name == "file" => {
                let path = xml.text()?;
                if let Some(package) = current
                    && wanted.contains(&path)
                {
                    pool.add_file(package, &path);
                    found += 1;
                }
            }
            Node::End if is_list => return Ok(found),
            Node::End => return Err(MetadataError::Content("it has no element filelists".into())),
            _ => {}
        }
    }
}
