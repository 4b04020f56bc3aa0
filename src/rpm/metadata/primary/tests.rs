use super::*;
use crate::rpm::pool::{Architectures, Repository};
use proptest::prelude::*;

const SAMPLE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">
<package type="rpm"><name>bash</name><arch>x86_64</arch><version epoch="1" ver="5.1" rel="2"/>
<checksum type="sha256" pkgid="YES">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<summary>A &lt;shell&gt;</summary><size package="10" installed="20" archive="30"/><location href="Packages/b/bash.rpm"/>
<format><rpm:sourcerpm>bash.src.rpm</rpm:sourcerpm><rpm:provides><rpm:entry name="sh"/></rpm:provides>
<rpm:requires><rpm:entry name="libc" flags="GE" epoch="0" ver="2" pre="1"/><rpm:entry name="(a if b)"/></rpm:requires>
<file>/bin/bash</file><file type="dir">/etc/skel</file></format></package></metadata>"#;

fn read_text(text: &[u8]) -> Result<(usize, Pool), MetadataError> {
    let mut pool = Pool::new(Architectures::of("x86_64").unwrap());
    pool.add_repository(Repository { name: "base".into(), priority: 99 });
    read(text, &mut pool).map(|count| (count, pool))
}

#[test]
fn reads_what_the_solver_needs() {
    let (count, pool) = read_text(SAMPLE.as_bytes()).unwrap();
    assert_eq!(count, 1);
    assert_eq!(pool.nevra(0), "bash-1:5.1-2.x86_64");
    assert_eq!((pool.packages()[0].size, pool.packages()[0].installed_size), (10, 20));
    let shown = |relation| pool.relation(0, relation).iter().map(|one| pool.show(*one)).collect::<Vec<_>>();
    assert_eq!(shown(Relation::Requires), ["libc >= 2", "(a if b)"]);
    assert_eq!(shown(Relation::Provides), ["sh", "bash = 1:5.1-2"]);
    assert_eq!(pool.files(0).collect::<Vec<_>>(), ["/bin/bash", "/etc/skel"]);
}

#[test]
fn refuses_packages_that_lead_elsewhere_or_cannot_be_checked() {
    let error = |from: &str, to: &str| read_text(SAMPLE.replace(from, to).as_bytes()).unwrap_err().to_string();
    assert!(error("Packages/b", "../b").contains("leads out"));
    assert!(error("type=\"sha256\"", "type=\"md5\"").contains("checksum"));
    assert!(error("<name>bash", "<name>a b").contains("no name"));
    assert!(error("flags=\"GE\"", "flags=\"XX\"").contains("comparison"));
    assert!(read_text(&SAMPLE.as_bytes()[..700]).is_err());
}

proptest! {
    #[test]
    fn mutated_files_never_panic(at in 0usize..1300, junk in proptest::collection::vec(any::<u8>(), 0..4)) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        let at = at.min(bytes.len());
        let end = (at + junk.len()).min(bytes.len());
        bytes.splice(at..end, junk);
        let _ = read_text(&bytes);
    }
}
