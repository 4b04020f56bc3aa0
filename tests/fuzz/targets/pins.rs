//! `pins` and `deb::pin`: lock files, printed and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sifbuild::deb::DebianPin;
use sifbuild::pins::{BasePin, Pins};

fuzz_target!(|text: &str| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    debian(&lines);
    let Ok(pins) = Pins::parse(text) else { return };
    assert_eq!(Pins::parse(&pins.write()).expect("our own text"), pins);
    Pins::parse(&pins.lock()).expect("our own text");
    for stage in &pins.stages {
        assert!(pins.recall(&stage.question).is_some());
        stage.base.identity();
        if let BasePin::Debian { lines } = &stage.base {
            debian(lines);
        }
    }
});

fn debian(lines: &[String]) {
    let Ok(pin) = DebianPin::parse(lines) else { return };
    assert_eq!(DebianPin::parse(&pin.lines()).expect("our own lines"), pin);
    for package in &pin.packages {
        assert!(!package.file_name().contains('/'));
    }
}
