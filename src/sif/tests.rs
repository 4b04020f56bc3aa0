use super::edit::{self, EditError};
use super::format::*;
use super::metadata::{self, Metadata};
use super::reader::{ReadError, Sif, is_sif};
use super::writer::{ObjectOptions, WriteError, Writer, WriterOptions};
use super::{dump, reader::Window};
use crate::arch::Arch;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};

const DEFINITION: &[u8] = b"Bootstrap: scratch\n";
const METADATA: &[u8] = br#"{"data":{"attributes":{}},"type":"container"}"#;

/// An image as builds make them, with a partition that is no filesystem.
fn image(options: &WriterOptions) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    writer.add(&ObjectOptions::new(DataType::DEFFILE), DEFINITION).unwrap();
    writer.add(&ObjectOptions::named(DataType::GENERIC_JSON, metadata::OBJECT_NAME), METADATA).unwrap();
    let offset = writer.begin_partition(&ObjectOptions::primary_squashfs(Arch::Arm64)).unwrap();
    assert_eq!(offset % PARTITION_ALIGNMENT, 0);
    assert_eq!(writer.file().stream_position().unwrap(), offset);
    writer.file().write_all(&[7; 5000]).unwrap();
    writer.end_partition(5000).unwrap();
    writer.finish().unwrap().into_inner()
}

fn deterministic() -> Vec<u8> {
    image(&WriterOptions::default())
}

/// A fixed id and time.
fn dated() -> WriterOptions {
    WriterOptions { id: Some(random_id([0xAB; 16])), time: Some(1_741_000_000), ..WriterOptions::default() }
}

fn read(bytes: &[u8]) -> Result<Sif<Cursor<&[u8]>>, ReadError> {
    Sif::read(Cursor::new(bytes))
}

/// The image with one descriptor changed.
fn with_descriptor(slot: usize, change: impl FnOnce(&mut Descriptor)) -> Vec<u8> {
    let mut bytes = deterministic();
    let at = DESCRIPTORS_OFFSET as usize + slot * DESCRIPTOR_SIZE;
    let mut descriptor = Descriptor::decode(bytes[at..at + DESCRIPTOR_SIZE].try_into().unwrap());
    change(&mut descriptor);
    bytes[at..at + DESCRIPTOR_SIZE].copy_from_slice(&descriptor.encode());
    bytes
}

fn with_header(change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut bytes = deterministic();
    let mut header = Header::decode(bytes[..HEADER_SIZE].try_into().unwrap());
    change(&mut header);
    bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
    bytes
}

#[test]
fn lays_objects_out_as_apptainer_does() {
    let bytes = deterministic();
    let sif = read(&bytes).unwrap();
    let places: Vec<_> =
        sif.objects().map(|object| (object.id, object.offset, object.size, object.size_with_padding)).collect();
    assert_eq!(places, [(1, 32176, 19, 19), (2, 32195, 45, 45), (3, 32768, 5000, 5528)]);
    assert!(sif.objects().all(|object| object.group() == Some(1) && object.link() == Link::None));
    let header = sif.header();
    assert_eq!(header.arch(), Some(Arch::Arm64));
    assert_eq!((header.descriptors_free, header.descriptors_total), (45, 48));
    assert_eq!((header.data_offset, header.data_size), (32176, 5592));
    assert_eq!(header.descriptors_size, 28080);
    assert_eq!(bytes.len(), 37768);
    assert!(bytes[HEADER_SIZE..4096].iter().all(|byte| *byte == 0));
}

#[test]
fn puts_header_fields_where_the_specification_says() {
    let bytes = image(&dated());
    assert_eq!(&bytes[..32], b"#!/usr/bin/env run-singularity\n\0");
    assert_eq!(&bytes[32..48], b"SIF_MAGIC\x0001\x0004\0");
    assert_eq!(
        bytes[48..64],
        [0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0x4B, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB, 0xAB]
    );
    assert_eq!(bytes[64..72], 1_741_000_000_i64.to_le_bytes());
    assert_eq!(bytes[80..88], 45_i64.to_le_bytes());
    assert_eq!(bytes[112..120], 32176_i64.to_le_bytes());
    let partition = &bytes[4096 + 2 * 585..4096 + 3 * 585];
    assert_eq!(partition[..5], [4, 0x40, 0, 0, 1]);
    assert_eq!(partition[5..9], 3_u32.to_le_bytes());
    assert_eq!(partition[9..13], 0xF000_0001_u32.to_le_bytes());
    assert_eq!(partition[17..25], 32768_i64.to_le_bytes());
    assert_eq!(partition[201..212], [1, 0, 0, 0, 2, 0, 0, 0, b'0', b'4', 0]);
    assert_eq!(bytes[4096 + 585 + 73..][..22], *b"inspect-metadata.json\0");
}

#[test]
fn equal_inputs_give_equal_bytes_and_unset_times() {
    assert_eq!(deterministic(), deterministic());
    let bytes = deterministic();
    let sif = read(&bytes).unwrap();
    assert!(sif.header().is_deterministic());
    assert!(sif.objects().all(|object| object.created_at == UNSET_TIME && object.modified_at == UNSET_TIME));
    assert!(!dump::header(sif.header()).contains("Created"));
}

#[test]
fn gives_objects_back() {
    let bytes = deterministic();
    let mut sif = read(&bytes).unwrap();
    let definition = sif.find(DataType::DEFFILE).unwrap().clone();
    assert_eq!(sif.contents(&definition, 1 << 20).unwrap(), DEFINITION);
    let document = sif.find_named(DataType::GENERIC_JSON, "inspect-metadata.json").unwrap().clone();
    assert_eq!(sif.contents(&document, 1 << 20).unwrap(), METADATA);
    assert!(matches!(sif.contents(&document, 10), Err(ReadError::TooLarge { id: 2, .. })));
    assert!(sif.find_named(DataType::GENERIC_JSON, "oci-config.json").is_none());
    let partition = sif.primary_partition().unwrap().0.clone();
    let mut window = sif.open(&partition);
    window.seek(SeekFrom::End(-2)).unwrap();
    let mut rest = Vec::new();
    window.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [7, 7]);
}

#[test]
fn a_window_stays_inside_its_bounds() {
    let mut window = Window::new(Cursor::new(b"0123456789"), 3, 4);
    let mut text = String::new();
    window.read_to_string(&mut text).unwrap();
    assert_eq!(text, "3456");
    assert!(window.seek(SeekFrom::Current(-5)).is_err());
    assert_eq!(window.seek(SeekFrom::Start(100)).unwrap(), 100);
    assert_eq!(window.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(window.seek(SeekFrom::End(-1)).unwrap(), 3);
    let mut last = [0; 4];
    assert_eq!(window.read(&mut last).unwrap(), 1);
    assert_eq!(last[0], b'6');
}

#[test]
fn reads_images_whose_data_begins_at_32768() {
    // Singularity 3: everything aligned to 4096, and padded sizes that do not add up.
    let mut bytes = vec![0; 36864 + 100];
    let mut header = Header::new(LAUNCH_SCRIPT, random_id([1; 16]), 1_500_000_000, 48);
    header.data_offset = 32768;
    header.data_size = 4196;
    header.descriptors_free = 46;
    bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
    for (slot, (data_type, offset, size)) in
        [(DataType::DEFFILE, 32768, 10), (DataType::LABELS, 36864, 100)].into_iter().enumerate()
    {
        let id = slot as u32 + 1;
        let descriptor = Descriptor { data_type, used: true, id, offset, size, ..Descriptor::UNUSED };
        let at = 4096 + slot * DESCRIPTOR_SIZE;
        bytes[at..at + DESCRIPTOR_SIZE].copy_from_slice(&descriptor.encode());
    }
    assert_eq!(read(&bytes).unwrap().objects().count(), 2);
}

#[test]
fn refuses_what_is_no_image() {
    assert!(matches!(read(b""), Err(ReadError::TooSmall { size: 0 })));
    assert!(matches!(read(&[0; 4096]), Err(ReadError::Magic)));
    assert!(matches!(read(&with_header(|header| header.version = *b"02\0")), Err(ReadError::Version { .. })));
    assert!(is_sif(&deterministic()));
    assert!(!is_sif(b"hsqs"));
}

#[test]
fn refuses_tables_that_do_not_fit_the_file() {
    let broken: [fn(&mut Header); 7] = [
        |header| header.descriptors_total = i64::MAX,
        |header| header.descriptors_total = -1,
        |header| header.descriptors_total = 10_000,
        |header| header.descriptors_offset = i64::MAX,
        |header| header.descriptors_offset = -1,
        |header| header.descriptors_offset = 64,
        |header| header.descriptors_offset = 20_000,
    ];
    for change in broken {
        assert!(matches!(read(&with_header(change)), Err(ReadError::TableOutside { .. })));
    }
    assert!(matches!(read(&with_header(|header| header.descriptors_free = 49)), Err(ReadError::Counts { .. })));
    assert!(matches!(read(&with_header(|header| header.data_size = i64::MAX)), Err(ReadError::DataSection { .. })));
    assert!(matches!(read(&with_header(|header| header.data_offset = 4096)), Err(ReadError::DataSection { .. })));
}

#[test]
fn refuses_objects_outside_the_file() {
    for (offset, size) in [(32176, 1 << 40), (-1, 10), (32176, -1), (i64::MAX, i64::MAX), (37768, 1)] {
        let bytes = with_descriptor(0, |object| (object.offset, object.size) = (offset, size));
        assert!(matches!(read(&bytes), Err(ReadError::ObjectOutside { id: 1, .. })), "{offset} {size}");
    }
    let bytes = deterministic();
    let error = read(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(error.to_string().contains("incomplete"), "{error}");
}

#[test]
fn refuses_objects_that_overlap() {
    let bytes = with_descriptor(1, |object| object.offset = 32190);
    assert!(matches!(read(&bytes), Err(ReadError::Overlap { first: 1, second: 2 })));
    let bytes = with_descriptor(1, |object| object.offset = 4000);
    assert!(matches!(read(&bytes), Err(ReadError::ObjectOnTable { id: 2 })));
    let bytes = with_descriptor(1, |object| (object.offset, object.size) = (32190, 0));
    assert!(read(&bytes).is_ok(), "nothing cannot overlap");
}

#[test]
fn refuses_ids_that_are_not_their_slots() {
    for id in [0, 1, 3, u32::MAX] {
        assert!(matches!(read(&with_descriptor(1, |object| object.id = id)), Err(ReadError::Id { slot: 1, .. })));
    }
}

#[test]
fn refuses_two_primary_partitions() {
    let primary = Extra::Partition(PartitionExtra {
        file_system: FileSystem::SQUASHFS,
        partition_type: PartitionType::PRIMARY_SYSTEM,
        arch: arch_code(Arch::Amd64),
    });
    let bytes = with_descriptor(1, |object| {
        object.data_type = DataType::PARTITION;
        object.extra = primary.encode();
    });
    assert!(matches!(read(&bytes), Err(ReadError::TwoPrimaryPartitions { first: 2, second: 3 })));
}

#[test]
fn the_writer_refuses_what_the_format_cannot_hold() {
    let options = WriterOptions { descriptor_capacity: 1, ..WriterOptions::default() };
    let mut writer = Writer::new(Cursor::new(Vec::new()), &options).unwrap();
    let name = "n".repeat(129);
    let named = ObjectOptions::named(DataType::GENERIC, name);
    assert!(matches!(writer.add(&named, b""), Err(WriteError::NameTooLong { .. })));
    let skewed = ObjectOptions { alignment: 100, ..ObjectOptions::new(DataType::GENERIC) };
    assert!(matches!(writer.add(&skewed, b""), Err(WriteError::Alignment { alignment: 100 })));
    let grouped = ObjectOptions { group: Some(GROUP_MASK), ..ObjectOptions::new(DataType::GENERIC) };
    assert!(matches!(writer.add(&grouped, b""), Err(WriteError::Number { .. })));
    writer.add(&ObjectOptions::primary_squashfs(Arch::Amd64), b"x").unwrap();
    assert!(matches!(
        writer.add(&ObjectOptions::new(DataType::GENERIC), b""),
        Err(WriteError::NoFreeDescriptor { .. })
    ));
}

#[test]
fn the_writer_refuses_a_second_primary_partition() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), &WriterOptions::default()).unwrap();
    writer.add(&ObjectOptions::primary_squashfs(Arch::Amd64), b"x").unwrap();
    let second = writer.add(&ObjectOptions::primary_squashfs(Arch::Arm64), b"y");
    assert!(matches!(second, Err(WriteError::PrimaryPartitionExists { id: 1 })));
}

#[test]
fn adding_appends_and_dates_the_image() {
    let mut file = Cursor::new(image(&dated()));
    let options = ObjectOptions { group: None, link: Link::Group(1), ..ObjectOptions::new(DataType::GENERIC) };
    let id = edit::add(&mut file, &options, &mut &b"more"[..], 2_000_000_000).unwrap();
    let mut sif = Sif::read(file).unwrap();
    let object = sif.object(id).unwrap().clone();
    assert_eq!((object.id, object.offset, object.size), (4, 37768, 4));
    assert_eq!((object.group(), object.link(), object.created_at), (None, Link::Group(1), 2_000_000_000));
    assert_eq!(sif.contents(&object, 100).unwrap(), b"more");
    let header = sif.header();
    assert_eq!((header.created_at, header.modified_at), (1_741_000_000, 2_000_000_000));
    assert_eq!((header.descriptors_free, header.data_size), (44, 5596));
}

#[test]
fn changes_keep_a_deterministic_image_deterministic() {
    let mut file = Cursor::new(deterministic());
    let id = edit::add(&mut file, &ObjectOptions::new(DataType::GENERIC), &mut &b"more"[..], 2_000_000_000).unwrap();
    edit::delete(&mut file, 1, 2_000_000_000).unwrap();
    let sif = Sif::read(file).unwrap();
    assert_eq!(sif.object(id).unwrap().created_at, UNSET_TIME);
    assert_eq!(sif.header().modified_at, UNSET_TIME);
}

#[test]
fn oci_objects_carry_the_digest_of_their_bytes() {
    let mut file = Cursor::new(deterministic());
    let id = edit::add(&mut file, &ObjectOptions::new(DataType::OCI_BLOB), &mut &b""[..], 0).unwrap();
    let digest = crate::digest::Digest::of(b"").to_string();
    assert_eq!(Sif::read(file).unwrap().object(id).unwrap().extra(), Extra::Oci { digest });
}

#[test]
fn deleting_frees_the_slot_and_leaves_the_bytes() {
    let mut file = Cursor::new(deterministic());
    edit::delete(&mut file, 3, 0).unwrap();
    assert_eq!(file.get_ref().len(), 37768);
    let sif = Sif::read(&mut file).unwrap();
    assert_eq!(sif.header().arch, ARCH_UNKNOWN);
    assert_eq!((sif.header().descriptors_free, sif.header().data_size), (46, 5592));
    assert_eq!(sif.slots()[2], Descriptor::UNUSED);
    let id = edit::add(&mut file, &ObjectOptions::new(DataType::GENERIC), &mut &b"z"[..], 0).unwrap();
    let sif = Sif::read(&mut file).unwrap();
    assert_eq!((id, sif.object(id).unwrap().offset), (3, 32240));
    assert!(matches!(edit::delete(&mut file, 4, 0), Err(EditError::NotFound { id: 4 })));
}

#[test]
fn one_partition_is_primary_after_setprim() {
    let mut file = Cursor::new(deterministic());
    let system = ObjectOptions::partition(FileSystem::SQUASHFS, PartitionType::SYSTEM, Arch::S390x);
    let data = ObjectOptions::partition(FileSystem::EXT3, PartitionType::DATA, Arch::S390x);
    let system = edit::add(&mut file, &system, &mut &b"s"[..], 0).unwrap();
    let data = edit::add(&mut file, &data, &mut &b"d"[..], 0).unwrap();
    edit::set_primary(&mut file, system, 0).unwrap();
    let sif = Sif::read(&mut file).unwrap();
    assert_eq!(sif.primary_partition().unwrap().0.id, system);
    assert_eq!(sif.partition(PartitionType::SYSTEM).unwrap().0.id, 3);
    assert_eq!(sif.header().arch(), Some(Arch::S390x));
    assert!(matches!(edit::set_primary(&mut file, data, 0), Err(EditError::NotSystem { .. })));
    assert!(matches!(edit::set_primary(&mut file, 1, 0), Err(EditError::NotPartition { id: 1 })));
    assert!(matches!(edit::set_primary(&mut file, 40, 0), Err(EditError::NotFound { id: 40 })));
}

#[test]
fn prints_headers_as_siftool_does() {
    let bytes = image(&dated());
    let expected = "\
Launch Script:        #!/usr/bin/env run-singularity
Version:              01
Primary Architecture: arm64
ID:                   abababab-abab-4bab-abab-abababababab
Created At:           2025-03-03 11:06:40 +0000 UTC
Modified At:          2025-03-03 11:06:40 +0000 UTC
Descriptors Free:     45
Descriptors Total:    48
Descriptors Offset:   4096
Descriptors Size:     27 KiB
Data Offset:          32176
Data Size:            5 KiB
";
    assert_eq!(dump::header(read(&bytes).unwrap().header()), expected);
    let empty = dump::header(&Header::new("", NIL_ID, UNSET_TIME, 48));
    assert!(empty.starts_with("Version:            01\nDescriptors Free:   48\n"), "{empty}");
    assert!(empty.ends_with("Data Size:          0 B\n"), "{empty}");
}

#[test]
fn lists_objects_as_siftool_does() {
    let mut file = Cursor::new(deterministic());
    let signature = ObjectOptions {
        group: None,
        link: Link::Group(1),
        extra: Extra::Signature { hash_type: HashType::SHA256, entity: [0xA7; 20] },
        ..ObjectOptions::new(DataType::SIGNATURE)
    };
    edit::add(&mut file, &signature, &mut &b"s"[..], 0).unwrap();
    let expected = "\
------------------------------------------------------------------------------
ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE
------------------------------------------------------------------------------
1    |1       |NONE    |32176-32195               |Def.FILE
2    |1       |NONE    |32195-32240               |JSON.Generic
3    |1       |NONE    |32768-37768               |FS (Squashfs/*System/arm64)
4    |NONE    |1   (G) |37768-37769               |Signature (SHA-256)
";
    let sif = Sif::read(file).unwrap();
    assert_eq!(dump::list(sif.objects()), expected);
    let expected = "  Data Type:  Signature
  ID:         4
  Group ID:   NONE
  Linked ID:  1 (G)
  Offset:     37768
  Size:       1
  Hash Type:  SHA-256
  Entity:     A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7
";
    assert_eq!(dump::info(sif.object(4).unwrap()), expected);
}

#[test]
fn control_characters_of_strangers_do_not_reach_the_terminal() {
    let bytes = with_descriptor(1, |object| object.name[..5].copy_from_slice(b"\x1b[2J\n"));
    let sif = read(&bytes).unwrap();
    let text = dump::info(sif.object(2).unwrap());
    assert!(text.contains("\\u{1b}[2J") && !text.contains('\x1b'), "{text}");
}

/// A container's tree by path.
fn describe(files: &[(&str, &str)]) -> Metadata {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    let list = |directory: &str| {
        let start = format!("{directory}/");
        let below = files.keys().filter_map(|path| path.strip_prefix(&start));
        let mut names: Vec<String> = below.map(|rest| rest.split('/').next().unwrap().to_owned()).collect();
        names.dedup();
        names
    };
    metadata::describe(&|path| files.get(path).cloned(), &list)
}

#[test]
fn describes_a_container_in_the_order_of_apptainer() {
    let metadata = describe(&[
        ("/.singularity.d/env/10-docker2singularity.sh", "export A=1\n"),
        ("/.singularity.d/env/90-environment.sh", "x\n\n"),
        ("/.singularity.d/env/91-environment.sh", "y"),
        ("/.singularity.d/env/99-base.sh", "no"),
        ("/.singularity.d/labels.json", "{\"b\":\"2\",\"a\":\"<&>\"}"),
        ("/.singularity.d/runscript", "#!/bin/sh\nrun\n"),
        ("/.singularity.d/startscript", "start"),
        ("/.singularity.d/test", "test"),
        ("/.singularity.d/runscript.help", "help\u{2028}"),
        ("/.singularity.d/Singularity", "bootstrap: scratch"),
        ("/scif/apps/foo/scif/labels.json", "{\"SCIF_APP_NAME\":\"foo\"}"),
        ("/scif/apps/foo/scif/env/90-environment.sh", "export X=1"),
        ("/scif/apps/foo/scif/startscript", "foo start"),
        ("/scif/apps/.hidden/scif/runscript", "no"),
        ("/scif/apps/empty/bin/x", "no"),
    ]);
    let expected = concat!(
        r#"{"data":{"attributes":{"apps":{"foo":{"environment":{"/scif/apps/foo/scif/env/90-environment.sh":"export X=1"},"#,
        r#""labels":{"SCIF_APP_NAME":"foo"},"startscript":"foo start"}},"#,
        r#""environment":{"/.singularity.d/env/10-docker2singularity.sh":"export A=1","#,
        r#""/.singularity.d/env/90-environment.sh":"x","/.singularity.d/env/91-environment.sh":"y"},"#,
        r##""labels":{"a":"\u003c\u0026\u003e","b":"2"},"runscript":"#!/bin/sh\nrun","test":"test","##,
        r#""helpfile":"help\u2028","deffile":"bootstrap: scratch","startscript":"start"}},"type":"container"}"#
    );
    assert_eq!(metadata::to_json_compact(&metadata), expected);
    assert_eq!(Metadata::parse(expected.as_bytes()).unwrap(), metadata);
}

#[test]
fn an_empty_container_has_empty_attributes() {
    let empty = describe(&[]);
    assert_eq!(metadata::to_json_compact(&empty), String::from_utf8_lossy(METADATA));
    assert_eq!(
        metadata::to_json_indented(&empty),
        "{\n\t\"data\": {\n\t\t\"attributes\": {}\n\t},\n\t\"type\": \"container\"\n}"
    );
}

#[test]
fn reads_metadata_with_nulls_and_unknown_members() {
    let text = br#"{"data":{"attributes":{"labels":null,"runscript":null,"new":[1]}},"type":{"x":1}}"#;
    assert_eq!(Metadata::parse(text).unwrap(), Metadata::default());
    assert!(Metadata::parse(b"[]x").is_err());
}

#[test]
fn labels_that_are_not_texts_are_shown_as_json() {
    let metadata = describe(&[("/.singularity.d/labels.json", "{\"n\":5,\"t\":\"x\"}")]);
    let labels = metadata.data.attributes.labels;
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("n".into(), "5".into()), ("t".into(), "x".into())]);
    assert!(describe(&[("/.singularity.d/labels.json", "nonsense")]).data.attributes.labels.is_empty());
}

/// Everything that can be done with an image that was read.
fn exercise(bytes: &[u8]) {
    let Ok(mut sif) = read(bytes) else { return };
    dump::header(sif.header());
    dump::list(sif.objects());
    for object in sif.objects().cloned().collect::<Vec<_>>() {
        dump::info(&object);
        assert!(sif.contents(&object, 1 << 20).unwrap().len() == object.size as usize);
    }
    let mut file = Cursor::new(bytes.to_vec());
    if edit::add(&mut file, &ObjectOptions::new(DataType::GENERIC), &mut &b"x"[..], 5).is_ok() {
        Sif::read(&mut file).expect("an image stays one when an object is added");
    }
    for id in 0..4 {
        let _ = edit::set_primary(&mut file, id, 5);
        let _ = edit::delete(&mut file, id, 5);
        Sif::read(&mut file).expect("an image stays one when an object is deleted");
    }
}

fn any_object() -> impl Strategy<Value = (ObjectOptions, Vec<u8>)> {
    let extra = prop_oneof![
        Just((DataType::GENERIC, Extra::None)),
        Just((DataType::SBOM, Extra::Sbom(SbomFormat::SPDX_JSON))),
        any::<[u8; 20]>()
            .prop_map(|entity| (DataType::SIGNATURE, Extra::Signature { hash_type: HashType::SHA384, entity })),
        Just((
            DataType::CRYPTO_MESSAGE,
            Extra::CryptoMessage { format: MessageFormat::PEM, message_type: MessageType::RSA_OAEP }
        )),
        "[0-9a-f]{1,64}".prop_map(|hex| (DataType::OCI_BLOB, Extra::Oci { digest: format!("sha256:{hex}") })),
    ];
    let link = prop_oneof![Just(Link::None), (1..100_u32).prop_map(Link::Object), (1..100_u32).prop_map(Link::Group)];
    let contents = proptest::collection::vec(any::<u8>(), 0..300);
    (extra, "[a-z./]{0,40}", proptest::option::of(1..100_u32), link, 0..13_u32, contents).prop_map(
        |((data_type, extra), name, group, link, alignment, contents)| {
            (ObjectOptions { data_type, name, group, link, alignment: 1 << alignment, extra }, contents)
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise(&bytes);
    }

    #[test]
    fn mutated_headers_never_panic(at in 42..128_usize, bytes in proptest::collection::vec(any::<u8>(), 1..9)) {
        let mut image = deterministic();
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        exercise(&image);
    }

    #[test]
    fn mutated_descriptors_never_panic(
        slot in 0..4_usize,
        at in prop_oneof![0..80_usize, 201..212_usize],
        bytes in proptest::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut image = deterministic();
        let at = 4096 + slot * DESCRIPTOR_SIZE + at;
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        exercise(&image);
    }

    #[test]
    fn mutated_numbers_never_panic(slot in 0..4_usize, field in 0..7_usize, number in prop_oneof![any::<i64>(), 0..40_000_i64]) {
        let at = 17 + field * 8;
        let mut image = deterministic();
        image[4096 + slot * DESCRIPTOR_SIZE + at..][..8].copy_from_slice(&number.to_le_bytes());
        exercise(&image);
        let mut image = deterministic();
        image[64 + field * 8..][..8].copy_from_slice(&number.to_le_bytes());
        exercise(&image);
    }

    #[test]
    fn truncated_images_never_panic(length in 0..37_768_usize) {
        exercise(&deterministic()[..length]);
    }

    #[test]
    fn metadata_of_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Metadata::parse(&bytes);
        let metadata = metadata::describe(&|_| Some(bytes.clone()), &|_| vec![String::from_utf8_lossy(&bytes).into_owned()]);
        let text = metadata::to_json_compact(&metadata);
        prop_assert_eq!(Metadata::parse(text.as_bytes()).unwrap(), metadata);
    }

    #[test]
    fn what_is_written_is_read(objects in proptest::collection::vec(any_object(), 0..8), time in any::<i64>(), id in any::<[u8; 16]>()) {
        let options = WriterOptions { id: Some(id), time: Some(time), ..WriterOptions::default() };
        let mut writer = Writer::new(Cursor::new(Vec::new()), &options).unwrap();
        for (options, contents) in &objects {
            writer.add(options, contents).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        exercise(&bytes);
        let mut sif = read(&bytes).unwrap();
        prop_assert_eq!(sif.objects().count(), objects.len());
        let found: Vec<Descriptor> = sif.objects().cloned().collect();
        for ((options, contents), object) in objects.iter().zip(found) {
            prop_assert_eq!(&sif.contents(&object, 1 << 20).unwrap(), contents);
            prop_assert_eq!((object.data_type, object.name(), object.group()), (options.data_type, options.name.clone(), options.group));
            prop_assert_eq!((object.link(), object.extra(), object.created_at), (options.link, options.extra.clone(), time));
            prop_assert_eq!(object.offset as u64 % options.alignment, 0);
        }
    }
}
