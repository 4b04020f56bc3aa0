use super::*;
use crate::digest::Digest;
use crate::tree::Metadata as TreeMetadata;
use crate::tree::{Entry as LayerEntry, TreePath};

const MODE: &str = "single";

/// A step's result with one file of `size` bytes.
fn keep(store: &Store, name: &str, size: usize, below: &[Digest]) -> Digest {
    let key = Digest::of(name.as_bytes());
    let root = store.work().join(name);
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), vec![7; size]).unwrap();
    let kind = Kind::File { size: size as u64, body: Body::Stored };
    let change = Change::Put(TreeMetadata::new(0o644, 0), kind);
    let layer = Layer { entries: vec![LayerEntry { path: TreePath::parse("f").unwrap(), change }] };
    store.remember(&key, name, &layer, &root, below, &[]).unwrap();
    key
}

fn archive(store: &Store, name: &str, size: usize) -> PathBuf {
    let path = store.blobs().join("sha256").join(name);
    fs::write(&path, vec![7; size]).unwrap();
    path
}

fn age(path: &Path, seconds: u64) {
    File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn age_result(store: &Store, key: &Digest, seconds: u64) {
    age(&store.root().join("steps").join(MODE).join(key.hex()).join("index"), seconds);
}

fn down_to(bytes: u64) -> Collection {
    Collection { limit: bytes, target: bytes, spared: None }
}

#[test]
fn what_was_used_least_recently_goes_first_until_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let old = keep(&store, "old", 300_000, &[]);
    let newer = keep(&store, "newer", 300_000, &[]);
    let newest = archive(&store, "a", 300_000);
    age_result(&store, &old, 300);
    age_result(&store, &newer, 200);
    age(&newest, 100);
    drop(store);
    let unneeded = Store::collect(place.path(), MODE, down_to(1 << 20)).unwrap().unwrap();
    assert_eq!(unneeded, Usage::default());
    let removed = Store::collect(place.path(), MODE, down_to(700_000)).unwrap().unwrap();
    assert_eq!(removed.entries, 1);
    let store = Store::open(place.path(), MODE).unwrap();
    assert!(!store.recalls(&old) && store.recalls(&newer) && newest.exists());
    // Its use makes it the newest.
    store.recall(&newer).unwrap().unwrap();
    drop(store);
    Store::collect(place.path(), MODE, down_to(400_000)).unwrap().unwrap();
    assert!(Store::open(place.path(), MODE).unwrap().recalls(&newer) && !newest.exists());
}

#[test]
fn a_limit_leaves_room_below_it_and_what_was_just_used() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let keys: Vec<Digest> = (0..5).map(|number| keep(&store, &number.to_string(), 200_000, &[])).collect();
    keys.iter().zip(1..).for_each(|(key, age)| age_result(&store, key, 1000 - 100 * age));
    let own = keep(&store, "own", 200_000, &[]);
    drop(store);
    let spared = Some(SystemTime::now());
    let collection = Collection { limit: 1_100_000, target: 700_000, spared };
    Store::collect(place.path(), MODE, collection).unwrap().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let kept: Vec<bool> = keys.iter().map(|key| store.recalls(key)).collect();
    assert_eq!(kept, [false, false, false, true, true]);
    drop(store);
    Store::collect(place.path(), MODE, Collection { limit: 0, target: 0, spared }).unwrap().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    assert!(store.recalls(&own) && !store.recalls(&keys[4]));
}

#[test]
fn what_others_stand_on_is_as_young_as_they_and_goes_after_them() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let base = keep(&store, "base", 200_000, &[]);
    let other = keep(&store, "other", 200_000, &[]);
    let top = keep(&store, "top", 200_000, std::slice::from_ref(&base));
    for (key, age) in [(&base, 300), (&other, 200), (&top, 100)] {
        age_result(&store, key, age);
    }
    drop(store);
    let recalled = |limit| {
        Store::collect(place.path(), MODE, down_to(limit)).unwrap().unwrap();
        let store = Store::open(place.path(), MODE).unwrap();
        [&base, &other, &top].map(|key| store.recalls(key))
    };
    assert_eq!(recalled(500_000), [true, false, true]);
    assert_eq!(recalled(300_000), [true, false, false]);
}

#[test]
fn a_store_in_use_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let key = keep(&store, "x", 100_000, &[]);
    assert_eq!(Store::collect(place.path(), MODE, down_to(0)).unwrap(), None);
    assert!(store.recalls(&key));
}

#[test]
fn sizes_are_remembered_and_count_what_came_later() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let key = keep(&store, "x", 400_000, &[]);
    let folder = store.root().join("steps").join(MODE).join(key.hex());
    let size = || store.usage().1.bytes;
    let before = size();
    assert!((400_000..480_000).contains(&before), "{before}");
    store.add_supplement(&key, "blocks-x", &mut |out| out.write_all(&[1; 100_000])).unwrap();
    assert!((before + 98_304..before + 130_000).contains(&size()), "{}", size());
    // Nobody looks into its root again.
    fs::write(folder.join("root/f"), [0; 9]).unwrap();
    assert!(size() > before);
    // One of an older build is measured once.
    fs::remove_file(folder.join(SIZE)).unwrap();
    let measured = size();
    assert!(measured < 200_000, "{measured}");
    assert!(folder.join(SIZE).exists());
}

#[test]
fn holes_take_nothing() {
    let place = tempfile::tempdir().unwrap();
    File::create(place.path().join("f")).unwrap().set_len(1 << 40).unwrap();
    let kind = Kind::File { size: 1 << 40, body: Body::Stored };
    let change = Change::Put(TreeMetadata::new(0o644, 0), kind);
    let layer = Layer { entries: vec![LayerEntry { path: TreePath::parse("f").unwrap(), change }] };
    assert_eq!(size_on_disk(&layer, place.path()), 0);
}

#[test]
fn what_an_interrupted_build_or_collection_left_goes_without_a_limit() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    let steps = store.root().join("steps").join(MODE);
    drop(store);
    for name in [".draft-x", ".gone-y"] {
        fs::create_dir_all(steps.join(name).join("root")).unwrap();
    }
    Store::collect(place.path(), MODE, down_to(u64::MAX)).unwrap().unwrap();
    assert_eq!(names(&steps), Vec::<String>::new());
}

#[test]
fn a_store_that_got_nothing_has_not_grown() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), MODE).unwrap();
    assert!(!store.has_grown());
    let key = keep(&store, "x", 1, &[]);
    assert!(store.has_grown());
    let store = Store::open(place.path(), MODE).unwrap();
    store.recall(&key).unwrap().unwrap();
    assert!(!store.has_grown());
    std::thread::sleep(Duration::from_millis(20));
    archive(&store, "a", 1);
    assert!(store.has_grown());
}

#[test]
fn a_limit_is_remembered_and_forgotten() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(Limit::remembered(place.path()), None);
    for limit in [Limit::Bytes(12 << 30), Limit::Unlimited] {
        Limit::remember(Some(limit), place.path()).unwrap();
        assert_eq!(Limit::remembered(place.path()), Some(limit));
    }
    Limit::remember(None, place.path()).unwrap();
    Limit::remember(None, place.path()).unwrap();
    assert_eq!(Limit::remembered(place.path()), None);
    let Limit::Bytes(bytes) = Limit::default_of(place.path()) else { panic!("a default is a number") };
    assert!(bytes > 0 && bytes <= DEFAULT_LIMIT);
}
