use super::format::{BINARY_SIZE, HeaderError, KdfParameters};
use super::reader::{Container as Reader, Limits, UnlockError, is_luks};
use super::writer::{Container, PAYLOAD_OFFSET};
use super::{Kdf, dump, format};
use crate::squashfs::ReadAt;
use proptest::prelude::*;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

const CHEAP: Kdf = Kdf::Argon2id { time: 4, memory: 64, cpus: 2 };

/// Different bytes on each call, the same on each run.
fn counted() -> impl Fn(&mut [u8]) -> io::Result<()> {
    let state = std::cell::Cell::new(0x9E37_79B9_7F4A_7C15_u64);
    move |bytes: &mut [u8]| {
        for byte in bytes {
            let next = state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.set(next);
            *byte = (next >> 33) as u8;
        }
        Ok(())
    }
}

fn container(kdf: Kdf, payload: &[u8]) -> Vec<u8> {
    let container = Container::new(b"secret", kdf, &counted()).unwrap();
    let mut file = Cursor::new(container.header.clone());
    let mut out = container.payload(&mut file, PAYLOAD_OFFSET);
    out.write_all(payload).unwrap();
    out.flush().unwrap();
    drop(out);
    file.into_inner()
}

static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| container(CHEAP, &[7; 4096]));

fn unlock(bytes: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, UnlockError> {
    let payload = Reader::read(bytes)?.unlock(passphrase, Limits::default())?;
    let mut clear = vec![0; payload.length() as usize];
    payload.read_exact_at(&mut clear, 0)?;
    Ok(clear)
}

#[test]
fn reads_back_what_was_written() {
    let payload: Vec<u8> = (0..700 * 512_u32).map(|number| (number / 3) as u8).collect();
    for kdf in [CHEAP, Kdf::Pbkdf2 { iterations: 1000 }] {
        let bytes = container(kdf, &payload);
        assert!(is_luks(&bytes));
        assert!(unlock(&bytes, b"secret").unwrap() == payload);
        let opened = Reader::read(bytes.as_slice()).unwrap().unlock(b"secret", Limits::default()).unwrap();
        for (start, length) in [(0, 1), (511, 2), (512, 512), (1000, 100_000), (payload.len() - 1, 1)] {
            let mut part = vec![0; length];
            opened.read_exact_at(&mut part, start as u64).unwrap();
            assert!(part == payload[start..start + length], "{start} {length}");
        }
        assert!(opened.read_exact_at(&mut [0], payload.len() as u64).is_err());
    }
}

#[test]
fn nothing_of_the_payload_or_the_passphrase_stands_in_the_container() {
    let bytes = container(CHEAP, &b"plain text ".repeat(512));
    for secret in [&b"plain text"[..], b"secret"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_wrong_passphrase_is_told_from_a_damaged_container() {
    assert!(matches!(unlock(&SAMPLE, b"Secret"), Err(UnlockError::Passphrase)));
    let mut bytes = SAMPLE.clone();
    bytes[0..16].fill(0);
    assert_eq!(unlock(&bytes, b"secret").unwrap(), [7; 4096], "the second header serves");
    bytes[0x4000..0x4010].fill(0);
    assert!(matches!(unlock(&bytes, b"secret"), Err(UnlockError::Header(HeaderError::Magic, _))));
    for cut in [0, 100, BINARY_SIZE, 0x4000, 0x8000 + 1000] {
        assert!(unlock(&SAMPLE[..cut], b"secret").is_err(), "{cut}");
    }
}

#[test]
fn refuses_what_would_cost_too_much_before_paying() {
    let change = |change: &dyn Fn(&mut format::Metadata)| {
        let (header, mut metadata) = format::decode(&SAMPLE[..0x4000], 0).unwrap();
        change(&mut metadata);
        let mut bytes = SAMPLE.clone();
        bytes[..0x4000].copy_from_slice(&format::encode(&format::BinaryHeader { seqid: 9, ..header }, &metadata));
        unlock(&bytes, b"secret")
    };
    let salt = format::Base64(vec![1; 32]);
    for (time, memory) in [(4, u32::MAX), (u32::MAX, 1 << 20), (u32::MAX, 8)] {
        let kdf = KdfParameters::Argon2id { time, memory, cpus: 1, salt: salt.clone() };
        let told = change(&|metadata| metadata.keyslots.get_mut("0").unwrap().kdf = Some(kdf.clone()));
        assert!(matches!(told, Err(UnlockError::Cost { .. })), "{told:?}");
    }
    let told = change(&|metadata| metadata.digests.get_mut("0").unwrap().iterations = u32::MAX);
    assert!(matches!(told, Err(UnlockError::Cost { .. })), "{told:?}");
    let told = change(&|metadata| metadata.segments.get_mut("0").unwrap().offset.0 = u64::MAX);
    assert!(matches!(told, Err(UnlockError::Damaged(_))), "{told:?}");
    let told =
        change(&|metadata| metadata.segments.get_mut("0").unwrap().encryption = "aes-cbc-essiv:sha256".to_owned());
    assert!(told.unwrap_err().to_string().contains("aes-cbc-essiv:sha256"));
    let told =
        change(&|metadata| metadata.config.requirements = Some(format::Requirements { mandatory: vec!["new".into()] }));
    assert!(told.unwrap_err().to_string().contains("`new`"));
    let many = |metadata: &mut format::Metadata| {
        let mut keyslot = metadata.keyslots["0"].clone();
        keyslot.kdf =
            Some(KdfParameters::Pbkdf2 { hash: "sha256".into(), iterations: 100_000_000, salt: salt.clone() });
        keyslot.area.offset.0 = u64::MAX;
        metadata.keyslots = (1..16).map(|number| (number.to_string(), keyslot.clone())).collect();
    };
    assert!(change(&many).is_err());
}

#[test]
fn writes_in_any_order_and_over_what_was_written() {
    let container = Container::new(b"secret", CHEAP, &counted()).unwrap();
    let mut file = Cursor::new(container.header.clone());
    let mut expected = vec![0_u8; 1 << 20];
    let mut out = container.payload(&mut file, PAYLOAD_OFFSET);
    out.write_all(&expected).unwrap();
    for (number, (at, length)) in
        [(300_000, 400_000), (100, 10), (0, 96), (262_143, 2), (511, 1), (1 << 19, 524_288), (5, 600_000)]
            .into_iter()
            .enumerate()
    {
        out.seek(SeekFrom::Start(at)).unwrap();
        let bytes = vec![number as u8 + 1; length];
        out.write_all(&bytes).unwrap();
        expected[at as usize..at as usize + length].copy_from_slice(&bytes);
    }
    out.flush().unwrap();
    drop(out);
    assert!(unlock(&file.into_inner(), b"secret").unwrap() == expected);
}

fn cryptsetup(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("cryptsetup")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cryptsetup is needed: apt-get install -y cryptsetup-bin");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn cryptsetup_opens_and_prints_ours() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("container");
    let path = path.to_str().unwrap();
    for kdf in [CHEAP, Kdf::Pbkdf2 { iterations: 1000 }] {
        std::fs::write(path, container(kdf, &[7; 1 << 16])).unwrap();
        let opened = cryptsetup(&["open", "--test-passphrase", "--key-file", "-", path], b"secret");
        assert!(opened.status.success(), "{opened:?}");
        assert!(!cryptsetup(&["open", "--test-passphrase", "--key-file", "-", path], b"wrong").status.success());
        let bytes = std::fs::read(path).unwrap();
        let found = Reader::read(bytes.as_slice()).unwrap();
        let printed = cryptsetup(&["luksDump", path], b"");
        assert_eq!(dump::text(&found.header, &found.metadata), String::from_utf8_lossy(&printed.stdout));
    }
}

#[test]
fn cryptsetup_decrypts_our_payload() {
    let directory = tempfile::tempdir().unwrap();
    let (path, header) = (directory.path().join("container"), directory.path().join("header"));
    let payload: Vec<u8> = (0..1 << 20_u32).map(|number| (number / 5) as u8).collect();
    std::fs::write(&path, container(CHEAP, &payload)).unwrap();
    let (path, header) = (path.to_str().unwrap(), header.to_str().unwrap());
    let arguments = [
        "reencrypt",
        "--decrypt",
        "--force-offline-reencrypt",
        "--header",
        header,
        "--batch-mode",
        "--key-file",
        "-",
        path,
    ];
    let done = cryptsetup(&arguments, b"secret");
    assert!(done.status.success(), "{done:?}");
    assert!(std::fs::read(path).unwrap()[..payload.len()] == payload);
}

#[test]
fn opens_what_cryptsetup_makes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("container");
    let text = path.to_str().unwrap();
    let sets: [&[&str]; 3] = [
        &["--pbkdf-memory", "1024", "--pbkdf-force-iterations", "4"],
        &["--pbkdf", "argon2i", "--pbkdf-memory", "1024", "--pbkdf-force-iterations", "4", "--sector-size", "512"],
        &["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha512"],
    ];
    for set in sets {
        std::fs::write(&path, vec![0; 20 << 20]).unwrap();
        let base = ["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-", text];
        let made = cryptsetup(&[&base[..], set].concat(), b"secret");
        assert!(made.status.success(), "{made:?}");
        let bytes = std::fs::read(&path).unwrap();
        let payload = Reader::read(bytes.as_slice()).unwrap().unlock(b"secret", Limits::default()).unwrap();
        assert_eq!(payload.length(), 4 << 20);
        let found = Reader::read(bytes.as_slice()).unwrap();
        let printed = cryptsetup(&["luksDump", text], b"");
        assert_eq!(dump::text(&found.header, &found.metadata), String::from_utf8_lossy(&printed.stdout));
        assert!(matches!(unlock(&bytes, b"wrong"), Err(UnlockError::Passphrase)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..10_000)) {
        let _ = unlock(&bytes, b"secret");
    }

    #[test]
    fn no_changed_header_panics(
        changes in proptest::collection::vec((0..0x8000_usize, any::<u8>()), 1..8),
        json in "[0-9a-z\"{}:,\\[\\]]{0,40}",
        at in 0..1500_usize,
    ) {
        let mut bytes = SAMPLE.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        // With a right checksum, so that the JSON is read.
        bytes[BINARY_SIZE + at..BINARY_SIZE + at + json.len()].copy_from_slice(json.as_bytes());
        bytes[448..512].fill(0);
        let sum: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes[..0x4000]).into();
        bytes[448..480].copy_from_slice(&sum);
        if let Ok(found) = Reader::read(bytes.as_slice()) {
            dump::text(&found.header, &found.metadata);
            let _ = found.unlock(b"secret", Limits { memory: 128, work: 4096, iterations: 200_000 });
        }
    }
}
