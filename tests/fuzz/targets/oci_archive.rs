//! `agent::oci`: images in archives. The first byte chooses the form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::agent::oci::{Context, Source, Transport, open};
use sifbuild::arch::Arch;
use sifbuild::oci::manifest::Target;
use sifbuild_fuzz::{read_some, with_tar_checksums};
use std::cell::RefCell;

thread_local! {
    static DIRECTORY: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    static TARGET: RefCell<Target> = RefCell::new(Target::new(Arch::Amd64, None));
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let transport = if choice % 2 == 0 { Transport::OciArchive } else { Transport::DockerArchive };
    let reference = [None, Some("latest".to_owned()), Some("x:1".to_owned())][usize::from(choice >> 1) % 3].clone();
    DIRECTORY.with(|directory| {
        let work = tempfile::tempdir_in(directory.path()).expect("a place in memory");
        let place = work.path().join("image.tar");
        std::fs::write(&place, with_tar_checksums(rest)).expect("a place in memory");
        let source = Source { transport, place, reference, digest: None };
        TARGET.with_borrow(|target| {
            let context = Context { target, work: work.path(), docker_host: None };
            match open(&source, context) {
                Ok(image) => {
                    for layer in &image.layers {
                        assert!(layer.file.starts_with(work.path()), "a layer lies elsewhere");
                        if let Ok(tar) = layer.open_tar() {
                            read_some(tar);
                        }
                    }
                }
                Err(error) => drop(error.to_string()),
            }
        });
    });
});
