//! Groups of packages, and environments of groups (`comps.xml`).

use super::MetadataError;
use super::xml::{Node, Xml};
use crate::rpm::solve::Group;
use std::io::BufRead;

/// Groups of one file.
const MAXIMUM_GROUPS: usize = 10_000;

/// All groups and environments. Optional packages and groups are left out.
pub fn read(reader: impl BufRead) -> Result<Vec<Group>, MetadataError> {
    let mut xml = Xml::new(reader);
    let mut groups = Vec::new();
    let mut is_comps = false;
    loop {
        match xml.next()? {
            Node::Open if xml.name == "comps" => is_comps = true,
            Node::Open if matches!(xml.name.as_str(), "group" | "environment") => {
                let element = xml.name.clone();
                groups.push(read_group(&mut xml, &element)?);
                if groups.len() > MAXIMUM_GROUPS {
                    return Err(MetadataError::TooLarge("it has more than 10000 groups"));
                }
            }
            Node::End if is_comps => return Ok(groups),
            Node::End => return Err(MetadataError::Content("it has no element comps".into())),
            _ => {}
        }
    }
}

fn read_group<R: BufRead>(xml: &mut Xml<R>, element: &str) -> Result<Group, MetadataError> {
    let mut group = Group::default();
    let mut optional = false;
    loop {
        match xml.next()? {
            Node::End => return Err(MetadataError::Xml("it ends in the middle".into())),
            Node::Close if xml.name == element => return Ok(group),
            Node::Close => optional &= xml.name != "optionlist",
            Node::Open => match xml.name.as_str() {
                "id" if group.id.is_empty() => group.id = xml.text()?.trim().to_owned(),
                // Translations follow, with a language.
                "name" if xml.attribute("lang").is_none() => group.name = xml.text()?.trim().to_owned(),
                "optionlist" => optional = true,
                "groupid" => {
                    let id = xml.text()?.trim().to_owned();
                    if !optional {
                        group.groups.push(id);
                    }
                }
                "packagereq" => {
                    let kind = xml.attribute("type").unwrap_or("mandatory").to_owned();
                    let beside = xml.attribute("requires").map(str::to_owned);
                    let name = xml.text()?.trim().to_owned();
                    match (kind.as_str(), beside) {
                        ("conditional", Some(beside)) => group.conditional.push((name, beside)),
                        ("mandatory" | "default" | "", _) => group.packages.push(name),
                        _ => {}
                    }
                }
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "<comps><group><id>core</id><name>Core</name><name xml:lang='de'>Kern</name><packagelist>\
        <packagereq type='mandatory'>bash</packagereq><packagereq type='default'>vim</packagereq>\
        <packagereq type='optional'>nano</packagereq><packagereq type='conditional' requires='x11'>fonts</packagereq>\
        </packagelist></group><environment><id>minimal</id><name>Minimal</name><grouplist><groupid>core</groupid></grouplist>\
        <optionlist><groupid>guest</groupid></optionlist></environment></comps>";

    #[test]
    fn reads_groups_and_environments() {
        let groups = read(SAMPLE.as_bytes()).unwrap();
        assert_eq!(groups[0].name, "Core");
        assert_eq!(groups[0].packages, ["bash", "vim"]);
        assert_eq!(groups[0].conditional, [("fonts".to_owned(), "x11".to_owned())]);
        assert_eq!((groups[1].id.as_str(), &groups[1].groups[..]), ("minimal", &["core".to_owned()][..]));
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0usize..600, junk in "[<>/a-z'= ]{0,4}") {
            let mut text = SAMPLE.to_owned();
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            let _ = read(text.as_bytes());
        }
    }
}
