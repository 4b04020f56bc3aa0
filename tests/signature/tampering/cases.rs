//! Changed copies of a signed image; the image is the one of `desk::write_image`, with two signatures.

pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Fields of the header: place, name.
const HEADER: [(usize, &str); 13] = [
    (2, "launch script"),
    (32, "magic"),
    (43, "version"),
    (45, "architecture"),
    (48, "id"),
    (64, "creation time"),
    (72, "modification time"),
    (80, "descriptors free"),
    (88, "descriptors total"),
    (96, "descriptors offset"),
    (104, "descriptors size"),
    (112, "data offset"),
    (120, "data size"),
];

/// Fields of a descriptor: place, name.
const DESCRIPTOR: [(usize, &str); 14] = [
    (0, "data type"),
    (4, "used"),
    (5, "id"),
    (9, "group"),
    (13, "link"),
    (17, "offset"),
    (25, "size"),
    (33, "size with padding"),
    (41, "creation time"),
    (49, "modification time"),
    (57, "uid"),
    (65, "gid"),
    (73, "name"),
    (201, "extra"),
];

const TABLE: usize = 4096;
const DESCRIPTOR_SIZE: usize = 585;

/// One bit changed in each kind of byte, and what others do to signed images.
pub fn cases(image: &[u8]) -> Vec<Case> {
    let mut cases = vec![Case { name: "nothing".to_owned(), bytes: image.to_vec() }];
    let mut flip = |name: String, place: usize| {
        let mut bytes = image.to_vec();
        bytes[place] ^= 1;
        cases.push(Case { name, bytes });
    };
    for (place, name) in HEADER {
        flip(format!("header: {name}"), place);
    }
    flip("between header and table".to_owned(), 2000);
    for (object, what) in [(2, "object"), (5, "signature")] {
        for (place, name) in DESCRIPTOR {
            flip(format!("{what}'s descriptor: {name}"), TABLE + (object - 1) * DESCRIPTOR_SIZE + place);
        }
    }
    flip("signature's descriptor: fingerprint".to_owned(), TABLE + 4 * DESCRIPTOR_SIZE + 205);
    flip("an unused descriptor".to_owned(), TABLE + 20 * DESCRIPTOR_SIZE + 80);
    let end_of = |id: usize| {
        let at = TABLE + (id - 1) * DESCRIPTOR_SIZE;
        let number = |place: usize| i64::from_le_bytes(image[at + place..at + place + 8].try_into().unwrap()) as usize;
        (number(17), number(17) + number(25))
    };
    flip("object: first byte".to_owned(), end_of(2).0);
    flip("partition: first byte".to_owned(), end_of(3).0);
    flip("partition: last byte".to_owned(), end_of(3).1 - 1);
    flip("padding before the partition".to_owned(), end_of(3).0 - 1);
    let (start, end) = end_of(5);
    let message = &image[start..end];
    let find =
        |wanted: &str| start + message.windows(wanted.len()).position(|window| window == wanted.as_bytes()).unwrap();
    flip("signature: its first line".to_owned(), start);
    flip("signature: name of the hash".to_owned(), find("SHA256") + 1);
    flip("signature: signed text".to_owned(), find("relativeId"));
    flip("signature: armor line".to_owned(), find("-----BEGIN PGP SIGNATURE") + 7);
    flip("signature: last byte".to_owned(), end - 1);
    let body = find("PGP SIGNATURE-----\n\n") + 20;
    // In the second line of base64 are the numbers.
    for (what, place) in [("the packet's first byte", body), ("its numbers", body + 85)] {
        let mut bytes = image.to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        cases.push(Case { name: format!("signature: {what}"), bytes });
    }

    let mut swapped = image.to_vec();
    for place in 0..8 {
        // The two signatures' places are exchanged, so that each descriptor has the other's message.
        for field in [17, 25] {
            swapped.swap(TABLE + 4 * DESCRIPTOR_SIZE + field + place, TABLE + 5 * DESCRIPTOR_SIZE + field + place);
        }
    }
    cases.push(Case { name: "the groups' signatures exchanged".to_owned(), bytes: swapped });
    // A third signature, which is linked to an object instead of a group: what it says is never looked at.
    let mut added = [image, b"anything"].concat();
    let first = TABLE + 4 * DESCRIPTOR_SIZE;
    let mut descriptor = image[first..first + DESCRIPTOR_SIZE].to_vec();
    descriptor[5] = 7;
    descriptor[13..17].copy_from_slice(&3u32.to_le_bytes());
    descriptor[17..25].copy_from_slice(&(image.len() as u64).to_le_bytes());
    descriptor[25..33].copy_from_slice(&8u64.to_le_bytes());
    descriptor[33..41].copy_from_slice(&8u64.to_le_bytes());
    added[TABLE + 6 * DESCRIPTOR_SIZE..TABLE + 7 * DESCRIPTOR_SIZE].copy_from_slice(&descriptor);
    cases.push(Case { name: "a signature of an object added".to_owned(), bytes: added });
    let mut removed = image.to_vec();
    removed[TABLE + 5 * DESCRIPTOR_SIZE..TABLE + 6 * DESCRIPTOR_SIZE].fill(0);
    cases.push(Case { name: "one signature removed".to_owned(), bytes: removed });
    cases.push(Case { name: "bytes behind the last object".to_owned(), bytes: [image, b"tail"].concat() });
    cases.push(Case { name: "the last byte cut off".to_owned(), bytes: image[..image.len() - 1].to_vec() });
    cases
}
