//! `rpm::metadata`: each of a repository's files, chosen by the first byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::rpm::metadata::modules::Modules;
use sifbuild::rpm::metadata::{Repomd, comps, filelists, mirrors, primary};
use sifbuild::rpm::pool::{Architectures, Pool, Repository};
use std::collections::BTreeSet;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut pool = Pool::new(Architectures::of("x86_64").expect("it is known"));
    pool.add_repository(Repository { name: "base".into(), priority: 99 });
    match kind % 6 {
        0 => {
            let Ok(repomd) = Repomd::parse(rest) else { return };
            assert!(repomd.data.values().all(|data| !data.location.split('/').any(|part| part == "..")));
        }
        1 => {
            let Ok(count) = primary::read(rest, &mut pool) else { return };
            assert_eq!(count, pool.packages().len());
            assert!(pool.packages().iter().all(|package| !package.location.starts_with('/')));
            let _ = pool.wanted_files();
        }
        2 => {
            let _ = filelists::read(rest, &mut pool, 0..0, &BTreeSet::new());
        }
        3 => {
            let _ = comps::read(rest);
        }
        4 => {
            let _ = mirrors::read(rest);
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let mut modules = Modules::default();
            if modules.read(text).is_ok()
                && let Ok(chosen) = modules.choose(&[])
            {
                modules.filter(&mut pool, &chosen);
            }
        }
    }
});
