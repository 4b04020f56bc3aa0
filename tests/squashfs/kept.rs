//! Blocks that one image leaves to the next: the same bytes with and without them, whatever is shown of a layer.

use crate::sample::{CODECS, noise};
use proptest::prelude::*;
use sifbuild::squashfs::{Image, Kept, KeptError, Options, SegmentBody, Summary, Writer};
use sifbuild::tree::{Body, InodeId, Kind, Layer, Metadata, Tree, TreePath};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

/// A layer's bodies, and which of them an image shows.
#[derive(Clone, Debug)]
struct Part {
    bodies: Vec<Vec<u8>>,
    visible: Vec<bool>,
}

fn options(threads: usize) -> Options {
    Options { compression: CODECS[1], block_size: 4096, threads, modification_time: 7 }
}

/// Writes the parts as segments, with loose files before and behind. Tells how many bodies were opened.
fn pack(parts: &[Part], kept: &[Option<Arc<Kept>>], options: Options) -> (Vec<u8>, Summary, usize) {
    let opened = Cell::new(0);
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    let mut layer = Layer::default();
    let mut found = HashMap::new();
    let mut put = |name: String, size: u64, id| {
        let path = TreePath::parse(&name).unwrap();
        layer.put(path.clone(), Metadata::new(0o644, 0), Kind::File { size, body: Body::Stored });
        found.insert(path, id);
    };
    let loose = noise(6000, 99);
    put("first".to_owned(), 6000, writer.body(&mut loose.as_slice(), 6000).unwrap());
    for (number, part) in parts.iter().enumerate() {
        let bodies: Vec<SegmentBody> = (part.bodies.iter().zip(&part.visible))
            .map(|(bytes, visible)| SegmentBody { size: bytes.len() as u64, visible: *visible })
            .collect();
        let open = |body: usize, offset: u64| {
            opened.set(opened.get() + 1);
            Ok(Box::new(&part.bodies[body][offset as usize..]) as Box<dyn Read>)
        };
        let kept = kept.get(number).cloned().flatten();
        let ids = writer.segment(&bodies, &open, kept, true, &mut |_| ()).unwrap();
        for (body, id) in ids.into_iter().enumerate() {
            if let Some(id) = id {
                put(format!("{number}-{body}"), bodies[body].size, id);
            }
        }
    }
    put("last".to_owned(), 6000, writer.body(&mut loose.as_slice(), 6000).unwrap());
    let mut tree = Tree::new();
    tree.apply(&layer, 0).unwrap();
    let ids: HashMap<InodeId, _> =
        tree.walk().into_iter().filter_map(|(path, id)| Some((id, *found.get(&path)?))).collect();
    let (out, summary) = writer.finish(&tree, &|id| ids.get(&id).copied()).unwrap();
    let mut image = out.into_inner();
    image.truncate(summary.size as usize);
    (image, summary, opened.get())
}

fn keep(image: &[u8], summary: &Summary, parts: &[Part], options: Options) -> Vec<Option<Arc<Kept>>> {
    let written = summary.segments.iter().map(|segment| {
        let mut bytes = Vec::new();
        segment.keep(&image.to_vec(), &options, &mut bytes).unwrap();
        let bodies = parts[segment.number()].bodies.len();
        Some(Arc::new(Kept::open(Box::new(bytes), &options, bodies).unwrap().unwrap()))
    });
    written.collect()
}

fn check(image: &[u8], parts: &[Part]) {
    let image = Image::open(image).unwrap();
    for (number, part) in parts.iter().enumerate() {
        for (body, bytes) in part.bodies.iter().enumerate() {
            let id = image.tree.get(&TreePath::parse(format!("{number}-{body}")).unwrap());
            assert_eq!(id.is_some(), part.visible[body]);
            let Some(id) = id else { continue };
            let mut found = Vec::new();
            image.body(id).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(&found, bytes, "body {body} of part {number}");
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![4 => 0..900usize, 1 => 4090..4100usize, 1 => 8190..8194usize, 1 => 0..20_000usize];
    (length, 0..6u64, 0..5u8).prop_map(|(length, seed, zeros)| {
        let mut bytes = noise(length, seed);
        match zeros {
            0 => bytes.fill(0),
            1 => bytes.iter_mut().take(5000).for_each(|byte| *byte = 0),
            _ => {}
        }
        bytes
    })
}

/// Layers with what two images show of them.
fn parts() -> impl Strategy<Value = Vec<(Vec<u8>, bool, bool)>> {
    prop::collection::vec((bytes(), prop::bool::weighted(0.9), prop::bool::weighted(0.9)), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_image_is_the_same_with_and_without_kept_blocks(layers in prop::collection::vec(parts(), 1..4), threads in 1..4usize) {
        let part = |second: bool| -> Vec<Part> {
            layers.iter().map(|layer| Part {
                bodies: layer.iter().map(|(bytes, ..)| bytes.clone()).collect(),
                visible: layer.iter().map(|(_, one, two)| if second { *two } else { *one }).collect(),
            }).collect()
        };
        let (one, two) = (part(false), part(true));
        let (image, summary, _) = pack(&one, &[], options(1));
        check(&image, &one);
        let kept = keep(&image, &summary, &one, options(1));
        let (again, summary, opened) = pack(&one, &kept, options(threads));
        prop_assert!(again == image, "kept blocks changed the image");
        prop_assert_eq!(opened, 0);
        // What was copied can be kept again.
        let kept_again = keep(&again, &summary, &one, options(1));
        let (other, ..) = pack(&two, &[], options(1));
        check(&other, &two);
        for kept in [&kept, &kept_again] {
            prop_assert!(pack(&two, kept, options(threads)).0 == other, "kept blocks changed the image that shows other files");
        }
    }

    #[test]
    fn damaged_kept_blocks_are_refused_or_harmless(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in prop::option::of(any::<prop::sample::Index>())) {
        let part = Part { bodies: (0..9).map(|seed| noise(3000 * seed as usize, seed)).collect(), visible: vec![true; 9] };
        let (image, summary, _) = pack(std::slice::from_ref(&part), &[], options(1));
        let mut bytes = Vec::new();
        summary.segments[0].keep(&image, &options(1), &mut bytes).unwrap();
        let length = bytes.len();
        for (index, byte) in changes {
            bytes[length - 1 - index.index(600)] ^= byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        let _ = Kept::open(Box::new(bytes), &options(1), 9);
    }
}

#[test]
fn blocks_of_other_settings_are_not_taken() {
    let part = Part { bodies: vec![noise(9000, 1)], visible: vec![true] };
    let (image, summary, _) = pack(std::slice::from_ref(&part), &[], options(1));
    let mut bytes = Vec::new();
    summary.segments[0].keep(&image, &options(1), &mut bytes).unwrap();
    let open =
        |options: Options, bodies| Kept::open(Box::new(bytes.clone()), &options, bodies).map(|kept| kept.is_some());
    assert!(open(options(3), 1).unwrap());
    assert!(!open(Options { block_size: 8192, ..options(1) }, 1).unwrap());
    assert!(!open(Options { compression: CODECS[0], ..options(1) }, 1).unwrap());
    assert!(!open(options(1), 2).unwrap());
    let cut = Kept::open(Box::new(bytes[..bytes.len() - 1].to_vec()), &options(1), 1);
    assert!(matches!(cut, Err(KeptError::Damaged(_))));
}

#[test]
fn a_file_that_changed_since_is_noticed() {
    let mut part = Part { bodies: vec![noise(900, 1), noise(900, 2)], visible: vec![true, true] };
    let (image, summary, _) = pack(std::slice::from_ref(&part), &[], options(1));
    let kept = keep(&image, &summary, std::slice::from_ref(&part), options(1));
    part.bodies[1] = noise(900, 3);
    part.visible[0] = false;
    let mut writer = Writer::new(Cursor::new(Vec::new()), options(1)).unwrap();
    let bodies = [SegmentBody { size: 900, visible: false }, SegmentBody { size: 900, visible: true }];
    let open = |body: usize, offset: u64| Ok(Box::new(&part.bodies[body][offset as usize..]) as Box<dyn Read>);
    let error = writer.segment(&bodies, &open, kept[0].clone(), false, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("another than when its blocks were kept"), "{error}");
}
