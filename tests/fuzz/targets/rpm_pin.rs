//! `rpm::pin`: lines of a lock file that people edit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::rpm::pin::RpmPin;
use sifbuild::rpm::script::install_script;

fuzz_target!(|text: &str| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Ok(pin) = RpmPin::parse(&lines) else { return };
    assert!(pin.packages.iter().all(|package| !package.file_name().contains('/')));
    assert_eq!(RpmPin::parse(&pin.lines()), Ok(pin.clone()));
    let _ = install_script(&pin);
});
