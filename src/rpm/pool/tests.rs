use super::*;
use crate::rpm::metadata::ChecksumAlgorithm;

/// A pool of packages written one a line: `name version-release arch`, then fields as `Requires: a >= 1, (b or c)` behind `;`. A line
/// `repository NAME PRIORITY` begins a repository.
pub(crate) fn pool(text: &str) -> Pool {
    let mut pool = Pool::new(Architectures::of("x86_64").unwrap());
    pool.add_repository(Repository { name: "base".into(), priority: 99 });
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("repository ") {
            let (name, priority) = rest.split_once(' ').unwrap();
            pool.add_repository(Repository { name: name.into(), priority: priority.parse().unwrap() });
            continue;
        }
        let mut parts = line.split(';');
        let words: Vec<&str> = parts.next().unwrap().split_whitespace().collect();
        let mut new = NewPackage {
            name: words[0].into(),
            evr: words[1].into(),
            arch: words.get(2).unwrap_or(&"noarch").to_string(),
            source: String::new(),
            location: "x.rpm".into(),
            location_base: None,
            checksum: Checksum::of(ChecksumAlgorithm::Sha256, line.as_bytes()),
            size: 1,
            installed_size: 1,
            build_time: 0,
            dependencies: Vec::new(),
            files: Vec::new(),
        };
        for part in parts {
            let (field, value) = part.split_once(':').unwrap();
            for one in value.split(',').map(str::trim) {
                if field.trim() == "Files" {
                    new.files.push(pool.intern(one));
                    continue;
                }
                let relation = Relation::ALL
                    .into_iter()
                    .find(|relation| format!("{relation:?}") == field.trim())
                    .unwrap_or_else(|| panic!("{field}"));
                new.dependencies.push((relation, dependency(&mut pool, one)));
            }
        }
        pool.add(new).unwrap();
    }
    pool
}

pub(crate) fn dependency(pool: &mut Pool, text: &str) -> Dependency {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [name, operator, evr] if !text.starts_with('(') => {
            pool.dependency(name, Sense::from_operator(operator).unwrap(), evr)
        }
        _ => pool.dependency(text, Sense::ANY, ""),
    }
}

fn providers(pool: &mut Pool, text: &str) -> Vec<String> {
    let dependency = dependency(pool, text);
    let found = providers::Providers::new(pool).of(dependency);
    found.iter().map(|package| pool.nevra(*package)).collect()
}

#[test]
fn finds_who_provides_a_name_a_version_or_a_file() {
    let mut pool =
        pool("a 1-1; Provides: virtual = 2, plain; Files: /usr/bin/a\nb 1:3-1; Provides: virtual\nvirtual 9-1");
    assert_eq!(providers(&mut pool, "virtual >= 3"), ["b-1:3-1.noarch", "virtual-9-1.noarch"]);
    assert_eq!(providers(&mut pool, "virtual = 2"), ["a-1-1.noarch", "b-1:3-1.noarch"]);
    assert_eq!(providers(&mut pool, "b > 2"), ["b-1:3-1.noarch"]);
    assert_eq!(providers(&mut pool, "/usr/bin/a"), ["a-1-1.noarch"]);
    assert_eq!(providers(&mut pool, "(plain with virtual)"), ["a-1-1.noarch"]);
    assert_eq!(providers(&mut pool, "(virtual without plain)"), ["b-1:3-1.noarch", "virtual-9-1.noarch"]);
    assert!(providers(&mut pool, "(plain").is_empty());
}

#[test]
fn asks_only_for_files_that_the_main_metadata_leaves_out() {
    let pool = pool("a 1-1; Requires: /usr/share/x, /usr/bin/y, (/opt/z or b)");
    assert_eq!(pool.wanted_files().into_iter().collect::<Vec<_>>(), ["/opt/z", "/usr/share/x"]);
}
