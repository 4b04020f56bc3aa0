use super::*;
use proptest::prelude::*;
use std::io::Read;

fn header(path: &str, kind: Kind, size: u64) -> Header {
    Header { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Xattrs::new(), size }
}

fn write(members: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, body) in members {
        writer.append(header, &mut body.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, String> {
    let mut reader = Reader::new(bytes);
    let mut members = Vec::new();
    while let Some(mut entry) = reader.next_entry().map_err(|error| error.to_string())? {
        let mut body = Vec::new();
        entry.by_ref().take(1 << 24).read_to_end(&mut body).map_err(|error| error.to_string())?;
        members.push((entry.header.clone(), body));
    }
    Ok(members)
}

#[test]
fn what_is_written_is_read_back() {
    let xattrs = Xattrs::from([(b"security.capability".to_vec(), b"\x01\0\0\x02\n=".to_vec())]);
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let members = vec![
        (Header { mode: 0o755, ..header("dir/", Kind::Directory, 0) }, vec![]),
        (
            Header { mode: 0o4755, uid: 4_000_000_000, gid: 7, mtime: -5, xattrs, ..header("dir/f", Kind::File, 700) },
            vec![9; 700],
        ),
        (header(&long, Kind::File, 3), b"abc".to_vec()),
        (header("h", Kind::HardLink(long.clone().into()), 0), vec![]),
        (header("l", Kind::Symlink(vec![b'x'; 150]), 0), vec![]),
        (header("null", Kind::CharacterDevice { major: 1, minor: 3 }, 0), vec![]),
        (header("loop", Kind::BlockDevice { major: 7, minor: 0 }, 0), vec![]),
        (header("fifo", Kind::Fifo, 0), vec![]),
    ];
    assert_eq!(read(&write(&members)).unwrap(), members);
}

#[test]
fn numbers_are_octal_or_base_256() {
    for (field, value) in [
        (b"0000644\0".as_slice(), Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"\0\0\0\0\0\0\0\0", Some(0)),
        (b"\x80\0\0\0\0\x01\0\0", Some(65536)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
        (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        (b"0000689\0", None),
    ] {
        assert_eq!(header::number(field), value, "{field:?}");
    }
}

#[test]
fn lengths_that_lie_are_refused_by_name() {
    let mut bytes = write(&[(header("a", Kind::File, 4), b"abcd".to_vec())]);
    bytes.truncate(514);
    assert_eq!(read(&bytes).unwrap_err(), "the archive ends in the middle of a");
    bytes.truncate(100);
    assert_eq!(read(&bytes).unwrap_err(), "the archive ends in the middle of the header at byte 0");
    assert_eq!(
        read(&[b'x'; 1024]).unwrap_err(),
        "byte 0 of the archive should start a tar header, but its checksum does not fit"
    );
}

fn with_kind(kind: u8, size: &str, body: &[u8]) -> Vec<u8> {
    let mut block = write(&[(header("odd", Kind::Fifo, 0), vec![])]);
    block.truncate(512);
    block[156] = kind;
    block[124..124 + size.len()].copy_from_slice(size.as_bytes());
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(body);
    block
}

#[test]
fn a_huge_extended_header_is_refused_before_it_is_read() {
    let message = read(&with_kind(b'x', "77777777777", b"")).unwrap_err();
    assert_eq!(
        message,
        "tar member odd: its extended header is 8589934591 bytes long, more than the 1048576 that are read"
    );
    assert!(read(&with_kind(b'L', "77777777777", b"")).unwrap_err().contains("its long name is"));
    assert_eq!(read(&with_kind(b'Q', "00000000000", b"")).unwrap_err(), "tar member odd has the unknown type 'Q'");
}

#[test]
fn malformed_pax_records_are_refused() {
    for body in
        ["x", "9999 a=b\n", "6 ab\n", "8 size=x\n", "11 size=-12\n", "5 =b\n", "30 path=no line end behind here"]
    {
        let mut block = body.as_bytes().to_vec();
        block.resize(512, 0);
        let message = read(&with_kind(b'x', &format!("{:011o}", body.len()), &block)).unwrap_err();
        assert!(message.contains("the extended header is malformed"), "{body}: {message}");
    }
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let path = b"s";
    let segment = |offset, length| sparse::Segment { offset, length };
    assert!(sparse::check(&[segment(0, 5), segment(10, 5)], 20, 10, path).is_ok());
    for (segments, size, packed) in [
        (vec![segment(5, 5), segment(0, 5)], 20, 10),
        (vec![segment(0, 5), segment(4, 5)], 20, 10),
        (vec![segment(0, 30)], 20, 30),
        (vec![segment(0, 5)], 20, 10),
        (vec![segment(u64::MAX, 5)], u64::MAX, 5),
        (vec![], 1 << 60, 0),
    ] {
        assert!(sparse::check(&segments, size, packed, path).is_err(), "{segments:?}");
    }
}

#[test]
fn times_are_rounded_down() {
    for (text, seconds) in [("1.9", 1), ("-1.5", -2), ("-1", -1), ("-0.25", -1), ("12", 12)] {
        let record = format!("mtime={text}\n");
        let body = format!("{} {record}", record.len() + 3);
        assert_eq!(pax::Records::parse(body.as_bytes(), b"x").unwrap().mtime, Some(seconds), "{text}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn mutated_archives_never_panic(at in 0usize..512, value in any::<u8>(), kind in prop::sample::select(b"0123456789SxgLKVD".to_vec()), body in prop::collection::vec(any::<u8>(), 0..1200)) {
        let mut block = write(&[(header("odd", Kind::File, 0), vec![])]);
        block.truncate(512);
        block[156] = kind;
        block[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
        block[at] = value;
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block.extend_from_slice(&body);
        block.resize(block.len().next_multiple_of(512) + 1024, 0);
        let _ = read(&block);
    }

    #[test]
    fn arbitrary_pax_bodies_never_panic(records in prop::collection::vec(("(path|size|mtime|uid|GNU\\.sparse\\.(map|offset|numbytes|major|size|realsize)|SCHILY\\.xattr\\.a|LIBARCHIVE\\.xattr\\.%4)", "[0-9,.=-]{0,12}"), 0..6), body in prop::collection::vec(any::<u8>(), 0..700)) {
        let mut text = Vec::new();
        for (key, value) in records {
            let record = format!("{key}={value}\n");
            text.extend_from_slice(format!("{} {record}", record.len() + 3).as_bytes());
        }
        let size = format!("{:011o}", text.len());
        text.resize(text.len().next_multiple_of(512), 0);
        let mut archive = with_kind(b'x', &size, &text);
        archive.extend_from_slice(&write(&[(header("m", Kind::File, body.len() as u64), body)]));
        let _ = read(&archive);
    }
}
