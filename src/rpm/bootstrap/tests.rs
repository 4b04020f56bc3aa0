use super::*;
use crate::archive::tar::Reader;
use crate::rpm::header::tests::{Value, write as write_header};
use crate::rpm::pin::tests::sample;

/// One member of a payload: name, mode, links, inode, body.
type Member<'a> = (&'a str, u32, u32, u32, &'a str);

fn package(members: &[Member<'_>]) -> Vec<u8> {
    let mut lead = [0; 96];
    lead[..5].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb, 3]);
    let mut signature = write_header(&[(tag::NAME, Value::Text("x"))]);
    signature.resize(signature.len().next_multiple_of(8), 0);
    let header = write_header(&[(tag::NAME, Value::Text("x"))]);
    let mut payload = Vec::new();
    for (name, mode, links, inode, body) in members.iter().chain([&("TRAILER!!!", 0, 1, 0, "")]) {
        payload.extend(b"070701");
        for field in [*inode, *mode, 0, 0, *links, 0, body.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0] {
            payload.extend(format!("{field:08x}").bytes());
        }
        payload.extend(name.bytes().chain([0]));
        payload.resize(payload.len().next_multiple_of(4), 0);
        payload.extend(body.bytes());
        payload.resize(payload.len().next_multiple_of(4), 0);
    }
    [&lead[..], &signature, &header, &payload].concat()
}

/// `path kind body` of each entry.
fn unpack(packages: &[(&str, Vec<u8>)]) -> Result<Vec<String>, BootstrapError> {
    let mut pin = sample();
    let one = pin.packages[1].clone();
    pin.packages = packages.iter().map(|(name, _)| PackagePin { name: (*name).into(), ..one.clone() }).collect();
    let mut tar = Vec::new();
    write(
        &pin,
        |wanted| {
            let bytes = packages.iter().find(|(name, _)| *name == wanted.name).unwrap().1.clone();
            Ok(Box::new(io::Cursor::new(bytes)) as Box<dyn Read + Send>)
        },
        &mut tar,
    )?;
    let mut reader = Reader::new(&tar[..]);
    let mut found = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut body = String::new();
        entry.read_to_string(&mut body).unwrap();
        let path = String::from_utf8_lossy(&entry.header.path).into_owned();
        found.push(match &entry.header.kind {
            Kind::Directory => format!("{path} directory"),
            Kind::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::HardLink(target) => format!("{path} = {}", String::from_utf8_lossy(target)),
            _ => format!("{path}: {body}"),
        });
    }
    Ok(found)
}

#[test]
fn what_lies_below_a_link_goes_where_it_leads() {
    let filesystem = package(&[("./usr/bin", 0o040_755, 2, 1, ""), ("./bin", 0o120_777, 1, 2, "usr/bin")]);
    let shell = package(&[("./bin/sh", 0o100_755, 1, 1, "shell"), ("./usr/bin/sh", 0o100_755, 1, 2, "other")]);
    let found = unpack(&[("a-shell", shell), ("filesystem", filesystem)]).unwrap();
    assert!(found.contains(&"bin -> usr/bin".to_owned()), "{found:?}");
    assert!(found.contains(&"usr/bin/sh: shell".to_owned()), "{found:?}");
    assert!(!found.iter().any(|entry| entry.contains("other")), "{found:?}");
}

#[test]
fn hard_links_have_the_body_of_the_last() {
    let linked =
        package(&[("./a", 0o100_644, 2, 7, ""), ("./b", 0o100_644, 2, 7, "body"), ("./c", 0o100_644, 2, 8, "")]);
    let found = unpack(&[("x", linked)]).unwrap();
    assert!(["b: body", "a = b", "c: "].iter().all(|wanted| found.iter().any(|entry| entry == wanted)), "{found:?}");
}

#[test]
fn nothing_leads_out_of_the_root() {
    let evil = package(&[
        ("./out", 0o120_777, 1, 1, "../../../etc"),
        ("./out/passwd", 0o100_644, 1, 2, "evil"),
        ("../../up", 0o100_644, 1, 3, "up"),
        ("./loop", 0o120_777, 1, 4, "loop"),
        ("./loop/x", 0o100_644, 1, 5, "x"),
    ]);
    let found = unpack(&[("x", evil)]).unwrap();
    assert!(found.contains(&"etc/passwd: evil".to_owned()) && found.contains(&"up: up".to_owned()), "{found:?}");
    assert!(found.iter().all(|entry| !entry.starts_with('/') && !entry.starts_with("..")), "{found:?}");
}

#[test]
fn manuals_are_left_out_unless_other_names_may_need_their_body() {
    let documented = package(&[
        ("./usr/share/doc/x/README", 0o100_644, 1, 1, "long"),
        ("./usr/share/doc/x/tool", 0o100_755, 2, 2, ""),
        ("./usr/bin/tool", 0o100_755, 2, 2, "program"),
    ]);
    let found = unpack(&[("x", documented)]).unwrap();
    assert!(!found.iter().any(|entry| entry.contains("README")), "{found:?}");
    assert!(found.contains(&"usr/bin/tool: program".to_owned()), "{found:?}");
}
