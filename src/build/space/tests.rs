use super::*;
use crate::tree::{Inode, Metadata, Source};
use std::sync::Arc;

#[test]
fn the_least_is_below_what_is_likely_whatever_compresses() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz] {
        let base = Base::of_layers("b".to_owned(), &[(1_000_000, compression), (500_000, compression)]);
        assert!(base.least.bytes < base.likely && base.least_packed < base.packed, "{base:?}");
    }
    let base = Base::of_layers("b".to_owned(), &[(1_000_000, Compression::Gzip), (1_000_000, Compression::None)]);
    assert_eq!((base.least.bytes, base.likely), (1_400_000, 3_500_000));
    let base = Base::of_layers("b".to_owned(), &[(u64::MAX, Compression::Xz); 2]);
    assert_eq!(base.likely, u64::MAX);
}

#[test]
fn a_tree_is_counted_by_inode_and_block() {
    let mut tree = Tree::new();
    let source = Source::Inline(Arc::from(&b""[..]));
    let file = tree.add(Inode { metadata: Metadata::new(0o644, 0), node: Node::File { size: 5000, source } });
    tree.set_child(Tree::ROOT, b"a".to_vec(), file);
    tree.set_child(Tree::ROOT, b"b".to_vec(), file);
    assert_eq!(of_tree(&tree), Amount { bytes: UNIT + 2 * UNIT, inodes: 2 });
}

#[test]
fn a_blob_counts_once_and_only_while_it_is_not_here() {
    let place = tempfile::tempdir().unwrap();
    let (here, absent) = (Digest::of(b"here"), Digest::of(b"absent"));
    std::fs::create_dir(place.path().join("sha256")).unwrap();
    std::fs::write(docker::blob_path(place.path(), &here), b"here").unwrap();
    let wanted = [(&here, 4), (&absent, 6), (&absent, 6)];
    assert_eq!(missing(place.path(), wanted.into_iter()), Amount { bytes: 6, inodes: 1 });
    // One that was cut off is downloaded again.
    assert_eq!(missing(place.path(), [(&here, 5)].into_iter()), Amount { bytes: 5, inodes: 1 });
}
