//! Two images compared entry by entry, and what of their differences is intended.

use serde_json::{Value, json};
use sifbuild::digest::Digest;
use sifbuild::sif::format::DataType;
use sifbuild::sif::reader::Sif;
use sifbuild::squashfs::{Image, Window};
use sifbuild::tree::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

/// What may differ: a path (`…*`: all that begin so), what of it, and why that is intended.
pub const INTENDED: &[(&str, &str, &str)] = &[
    (".singularity.d/actions/*", "content", "our own text of the same behaviour; run, exec and test are compared"),
    (".singularity.d/env/01-base.sh", "content", "comments only, in both"),
    (".singularity.d/env/90-environment.sh", "content", "comments at the top; what follows them is compared"),
    (".singularity.d/env/94-appsbase.sh", "content", "the same exports in other words; the variables are compared"),
    (".singularity.d/env/95-apps.sh", "content", "our own text of the same behaviour; run --app is compared"),
    (".singularity.d/env/99-base.sh", "content", "our own text of the same behaviour; the variables are compared"),
    (".singularity.d/env/99-runtimevars.sh", "content", "our own text of the same behaviour; variables are compared"),
    (".singularity.d/runscript", "content", "OCI images: our own text around the line that the runtime looks for"),
    (".singularity.d/startscript", "content", "without %startscript comments only, in both"),
    ("scif/apps/one/scif/env/01-base.sh", "content", "the same variables in other words; app one's are compared"),
    ("scif/apps/two/scif/env/01-base.sh", "content", "the same variables in other words; app two's are compared"),
    (".singularity.d/labels.json", "content", "dates and versions; the rest is compared"),
    ("srv/of-shadow", "owner", "Apptainer without root unpacks layers as one user; we keep the owner of the layer"),
    ("srv/of-shadow", "xattrs", "Apptainer without root notes the owner here, since the inode loses it; ours has it"),
    ("etc/shadow", "owner", "as srv/of-shadow"),
    ("etc/shadow", "xattrs", "as srv/of-shadow"),
    ("var/games", "owner", "as srv/of-shadow"),
    ("var/games", "xattrs", "as srv/of-shadow"),
    ("srv/out", "mode", "Apptainer makes a directory that it copies anew, 0755; we keep the mode that it had"),
];

/// Labels that say which program built the image, and when.
pub const DATED_LABELS: &[&str] = &[
    "org.label-schema.build-date",
    "org.label-schema.usage.apptainer.version",
    // Apptainer 1.4 does not write these, later ones do.
    "org.opencontainers.image.created",
    "org.opencontainers.image.architecture",
    "org.opencontainers.image.base.name",
    "org.opencontainers.image.base.digest",
];
/// What one path of an image is, by what is compared.
pub type Facts = BTreeMap<&'static str, String>;

pub struct Contents {
    tree: BTreeMap<String, Facts>,
    files: BTreeMap<String, Vec<u8>>,
    /// Name and content of each object but the partition.
    objects: Vec<(String, Vec<u8>)>,
    listing: Vec<String>,
}

pub fn contents(path: &str) -> Contents {
    let mut sif = Sif::read(File::open(path).unwrap()).unwrap();
    let descriptors: Vec<_> = sif.objects().cloned().collect();
    let mut objects = Vec::new();
    let mut listing = Vec::new();
    for object in &descriptors {
        listing.push(format!("{} {:?} {:?} {:?}", object.data_type, object.group(), object.link(), object.extra()));
        if object.data_type != DataType::PARTITION {
            objects.push((object.name(), sif.contents(object, 1 << 20).unwrap()));
        }
    }
    let (partition, _) = sif.primary_partition().unwrap();
    let (offset, size) = (partition.offset as u64, partition.size as u64);
    let image = Image::open(Window::new(File::open(path).unwrap(), offset, size)).unwrap();
    let (mut tree, mut files, mut first_names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (path, id) in image.tree.walk() {
        let path = String::from_utf8(path.as_bytes().to_vec()).unwrap();
        let inode = image.tree.inode(id);
        let xattrs = inode.metadata.xattrs.keys().map(|name| String::from_utf8_lossy(name));
        let (kind, detail) = match &inode.node {
            Node::Directory(_) => ("directory", String::new()),
            Node::File { size, .. } => {
                let mut bytes = Vec::new();
                image.body(id).unwrap().read_to_end(&mut bytes).unwrap();
                let detail = format!("{size} bytes, {}", Digest::of(&bytes));
                files.insert(path.clone(), bytes);
                ("file", detail)
            }
            Node::Symlink { target } => ("symlink", String::from_utf8_lossy(target).into_owned()),
            other => ("special", format!("{other:?}")),
        };
        let facts = Facts::from([
            ("mode", format!("{:04o}", inode.metadata.mode)),
            ("owner", format!("{}:{}", inode.metadata.uid, inode.metadata.gid)),
            ("xattrs", xattrs.collect::<Vec<_>>().join(" ")),
            ("type", kind.to_owned()),
            ("content", detail),
            ("link", first_names.entry(id).or_insert_with(|| path.clone()).clone()),
        ]);
        tree.insert(path, facts);
    }
    Contents { tree, files, objects, listing }
}

/// Every difference of two trees, as (path, what, ours, theirs).
pub fn differences(ours: &Contents, theirs: &Contents) -> Vec<(String, &'static str, String, String)> {
    let paths: BTreeSet<&String> = ours.tree.keys().chain(theirs.tree.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (ours.tree.get(path), theirs.tree.get(path)) {
            (Some(our), Some(their)) => {
                let fields = our.iter().filter(|(what, value)| **value != their[*what]);
                found.extend(fields.map(|(what, value)| (path.clone(), *what, value.clone(), their[what].clone())));
            }
            (our, their) => {
                let shown = |facts: Option<&Facts>| facts.map_or("absent".to_owned(), |facts| format!("{facts:?}"));
                found.push((path.clone(), "presence", shown(our), shown(their)));
            }
        }
    }
    found
}

pub fn intended(path: &str, what: &str) -> Option<usize> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    };
    INTENDED.iter().position(|(pattern, field, _)| *field == what && matches(pattern))
}

pub fn labels(bytes: &[u8]) -> BTreeMap<String, Value> {
    let mut labels: BTreeMap<String, Value> = serde_json::from_slice(bytes).unwrap();
    DATED_LABELS.iter().for_each(|key| drop(labels.remove(*key)));
    labels
}

/// A shell script without comments and blank lines.
pub fn commands(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// What the table's reasons promise of files whose bytes differ.
pub fn check_meaning(name: &str, ours: &Contents, theirs: &Contents, faults: &mut Vec<String>) {
    let mut check = |path: &str, equal: bool| {
        if !equal {
            let text = |contents: &Contents| String::from_utf8_lossy(&contents.files[path]).into_owned();
            faults.push(format!("{name}: {path} means another\nours:\n{}\ntheirs:\n{}", text(ours), text(theirs)));
        }
    };
    let path = ".singularity.d/labels.json";
    check(path, labels(&ours.files[path]) == labels(&theirs.files[path]));
    for path in ["env/01-base.sh", "env/90-environment.sh", "startscript"].map(|path| format!(".singularity.d/{path}"))
    {
        check(&path, commands(&ours.files[&path]) == commands(&theirs.files[&path]));
    }
    let path = ".singularity.d/runscript";
    let looked_for = "eval \"set ${SINGULARITY_OCI_RUN}\"";
    let of_oci = |contents: &Contents| commands(&contents.files[path]).iter().any(|line| line == looked_for);
    check(path, ours.files[path] == theirs.files[path] || of_oci(ours) && of_oci(theirs));
}

/// Objects in the same order with the same names; the definition and the OCI configuration the same; of the metadata
/// what does not repeat files that differ by intention.
pub fn check_objects(name: &str, ours: &Contents, theirs: &Contents, faults: &mut Vec<String>) {
    let names = |contents: &Contents| contents.objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if ours.listing != theirs.listing || names(ours) != names(theirs) {
        let (our, their) = (names(ours), names(theirs));
        faults.push(format!("{name}: objects: {our:?} {:#?}, theirs: {their:?} {:#?}", ours.listing, theirs.listing));
        return;
    }
    for ((object, our), (_, their)) in ours.objects.iter().zip(&theirs.objects) {
        let equal = match object.as_str() {
            "inspect-metadata.json" => attributes(our) == attributes(their),
            "oci-config.json" => serde_json::from_slice::<Value>(our).ok() == serde_json::from_slice(their).ok(),
            _ => our == their,
        };
        if !equal {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            faults.push(format!("{name}: object {object:?}\nours:\n{}\ntheirs:\n{}", text(our), text(their)));
        }
    }
}

pub fn attributes(bytes: &[u8]) -> Value {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    let attributes = document["data"]["attributes"].as_object_mut().unwrap();
    if let Some(values) = attributes.get_mut("labels").and_then(Value::as_object_mut) {
        DATED_LABELS.iter().for_each(|key| drop(values.remove(*key)));
    }
    // Compared as files.
    for key in ["runscript", "startscript"] {
        attributes.entry(key).and_modify(|text| *text = Value::Null);
    }
    if let Some(files) = attributes.get_mut("environment").and_then(Value::as_object_mut) {
        files.values_mut().for_each(|text| *text = json!(commands(text.as_str().unwrap().as_bytes())));
    }
    document
}
