//! `sifbuild doctor` on hosts that are prepared here, each with its remedy tried; and builds on those where little is possible.
//!
//! Needs root, to prepare hosts and to become users; says so, in one line, where it is not.

#[path = "../build/base.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod base;
mod containers;
mod filter;
mod hosts;
#[path = "../build/place.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod place;
mod prepared;
