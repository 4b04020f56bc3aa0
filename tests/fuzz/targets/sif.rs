//! `sif`: objects lie apart and inside; text of any image prints; changed images are images.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::sif::format::{DataType, Descriptor, Extra};
use sifbuild::sif::reader::Sif;
use sifbuild::sif::writer::ObjectOptions;
use sifbuild::sif::{dump, edit};
use std::io::Cursor;

fuzz_target!(|data: &[u8]| {
    let Ok(mut sif) = Sif::read(Cursor::new(data)) else { return };
    dump::header(sif.header());
    dump::list(sif.objects());
    let objects: Vec<Descriptor> = sif.objects().cloned().collect();
    let mut ranges = Vec::new();
    for object in &objects {
        dump::info(object);
        let range = object.offset as usize..object.end() as usize;
        assert_eq!(sif.contents(object, u64::MAX).expect("it lies inside the file"), data[range.clone()]);
        assert!(sif.contents(object, range.len() as u64).is_ok());
        if !range.is_empty() {
            assert!(sif.contents(object, range.len() as u64 - 1).is_err());
            ranges.push(range);
        }
        let extra = object.extra();
        let known = !matches!(extra, Extra::None | Extra::Oci { .. });
        assert!(!known || Extra::decode(object.data_type, &extra.encode()) == extra);
        assert_eq!(Descriptor::decode(&object.encode()), *object);
    }
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "objects overlap");
    change(data, &objects);
});

fn change(data: &[u8], objects: &[Descriptor]) {
    let mut file = Cursor::new(data.to_vec());
    for options in [ObjectOptions::named(DataType(0x4002), "added"), ObjectOptions::new(DataType::OCI_BLOB)] {
        if let Ok(id) = edit::add(&mut file, &options, &mut &b"bytes"[..], 7) {
            let mut sif = Sif::read(&mut file).expect("an image with one more object is an image");
            let object = sif.object(id).expect("the object was added").clone();
            assert_eq!(sif.contents(&object, 5).expect("it is in the file"), b"bytes");
            for object in objects {
                assert_eq!(sif.object(object.id), Some(object), "another object was changed");
                assert_eq!(
                    sif.contents(object, u64::MAX).unwrap(),
                    data[object.offset as usize..object.end() as usize]
                );
            }
        }
    }
    for object in objects {
        if edit::set_primary(&mut file, object.id, 7).is_ok() {
            let sif = Sif::read(&mut file).expect("an image with another primary partition is an image");
            assert!(sif.object(object.id).is_some_and(Descriptor::is_primary_partition));
        }
    }
    for object in objects {
        edit::delete(&mut file, object.id, 7).expect("the object is there");
        let sif = Sif::read(&mut file).expect("an image with one object fewer is an image");
        assert!(sif.object(object.id).is_none());
    }
}
