//! Programs in images and in kept steps: `exec`, `run`, `shell`, `test`, as root and as users without privileges.

#[path = "../build/base.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod base;
mod mounted;
mod peer;
#[path = "../build/place.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod place;
mod programs;
mod steps;
