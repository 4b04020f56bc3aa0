use super::*;
use crate::deb::pin::Variant;
use crate::digest::Digest;
use std::collections::BTreeMap;

/// A data archive: (path, kind, content or target).
fn data(entries: &[(&str, char, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1);
        header.set_size(0);
        match kind {
            'd' => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, io::empty()).unwrap();
            }
            'f' => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
            kind => {
                let kind = if *kind == 'h' { tar::EntryType::Link } else { tar::EntryType::Symlink };
                header.set_entry_type(kind);
                builder.append_link(&mut header, path, content).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn pin(merged_usr: bool, count: usize) -> DebianPin {
    let package = |number: usize| PackagePin {
        name: format!("p{number}"),
        version: "1".into(),
        architecture: "amd64".into(),
        filename: String::new(),
        size: 0,
        installed_size: None,
        digest: Digest::of(b""),
        batch: 0,
    };
    DebianPin {
        mirror: "http://mirror.test/debian".into(),
        suite: "stable".into(),
        codename: "bookworm".into(),
        origin: "Debian".into(),
        components: vec!["main".into()],
        architecture: "amd64".into(),
        variant: Variant::Minbase,
        release: Digest::of(b""),
        date: 1_700_000_000,
        signers: Vec::new(),
        merged_usr,
        packages: (0..count).map(package).collect(),
    }
}

fn unpacked(merged_usr: bool, packages: &[Vec<u8>]) -> Result<BTreeMap<String, String>, BaseError> {
    let mut output = Vec::new();
    let open = |package: &PackagePin| -> io::Result<Box<dyn Read + Send>> {
        let number: usize = package.name[1..].parse().unwrap();
        Ok(Box::new(io::Cursor::new(crate::deb::package::tests::write(b"", &packages[number]))))
    };
    write(&pin(merged_usr, packages.len()), open, &mut output)?;
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(&output[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut value = match entry.link_name_bytes() {
            Some(target) => format!("-> {}", String::from_utf8_lossy(&target)),
            None => String::new(),
        };
        entry.read_to_string(&mut value).unwrap();
        assert!(found.insert(path.clone(), value).is_none(), "{path} stands twice");
    }
    Ok(found)
}

#[test]
fn moves_what_lies_in_aliased_directories_into_usr() {
    let one = data(&[("./", 'd', ""), ("./bin/", 'd', ""), ("./bin/sh", 's', "dash"), ("./bin/dash", 'f', "x")]);
    let two = data(&[("./bin", 's', "usr/bin"), ("./usr/bin/a", 'f', "a"), ("./bin/b", 'h', "./bin/dash")]);
    let found = unpacked(true, &[one.clone(), two]).unwrap();
    assert_eq!(found["bin"], "-> usr/bin");
    assert_eq!(found["usr/bin/sh"], "-> dash");
    assert_eq!(found["usr/bin/b"], "-> usr/bin/dash");
    assert!(!found.contains_key("lib"), "only what packages use becomes a link");
    assert_eq!(unpacked(false, &[one]).unwrap()["bin/dash"], "x");
}

#[test]
fn the_first_package_that_brings_a_file_wins() {
    let found = unpacked(true, &[data(&[("./a", 'f', "1")]), data(&[("./a", 'f', "2")])]).unwrap();
    assert_eq!(found["a"], "1");
}

#[test]
fn makes_the_files_that_dpkg_and_apt_need() {
    let found = unpacked(true, &[]).unwrap();
    assert_eq!(found["etc/apt/sources.list"], "deb http://mirror.test/debian stable main\n");
    assert!(found["var/lib/dpkg/status"].contains("Package: dpkg"));
    assert!(found.contains_key("var/lib/dpkg/info/"));
}

#[test]
fn keeps_long_paths_and_refuses_those_that_climb_out() {
    let long = format!("./{}/{}", "d".repeat(120), "f".repeat(150));
    let found = unpacked(true, &[data(&[(&long, 'f', "x")])]).unwrap();
    assert_eq!(found[&long[2..]], "x");
    let mut evil = data(&[("aa/bbb", 'f', "x")]);
    let at = evil.windows(6).position(|window| window == b"aa/bbb").unwrap();
    evil[at..at + 6].copy_from_slice(b"../../");
    // The header's checksum is the sum of its bytes.
    let sum: u32 = evil[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    evil[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = unpacked(true, &[evil]).unwrap_err().to_string();
    assert!(error.contains("climbs out"), "{error}");
}

/// Why: a long name is held in memory, and a few compressed bytes can stand for gigabytes of it.
#[test]
fn refuses_a_name_longer_than_a_mebibyte() {
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2 << 20);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize((2 << 20) + 512, b'n');
    let error = unpacked(true, &[bytes]).unwrap_err().to_string();
    assert!(error.contains("the 1048576 that are read"), "{error}");
}

#[test]
fn knows_which_releases_are_merged() {
    for (codename, merged) in
        [("stretch", false), ("buster", true), ("trixie", true), ("sid", true), ("bionic", false), ("noble", true)]
    {
        assert_eq!(is_merged(codename), merged, "{codename}");
    }
}
