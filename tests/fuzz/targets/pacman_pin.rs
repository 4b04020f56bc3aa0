//! `pacman::pin`: lines of a lock file that people edit, which become a shell script.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::pacman::PacmanPin;
use sifbuild::pacman::script::install_script;

fuzz_target!(|text: &str| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Ok(pin) = PacmanPin::parse(&lines) else { return };
    for package in &pin.base.packages {
        assert!(!package.location.contains(['/', '$', '`', ';', '\'']) && !package.name.contains(['$', '`', ';', '\'']));
    }
    assert_eq!(PacmanPin::parse(&pin.lines()), Ok(pin.clone()));
    let _ = install_script(&pin);
});
