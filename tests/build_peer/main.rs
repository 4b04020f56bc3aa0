//! The same definitions built by us and by the real Apptainer: file trees compared entry by entry, SIF objects, and how
//! the images behave when Apptainer runs them.
//!
//! Runs where `SIFBUILD_PEER` names the script that runs a command beside a real Apptainer
//! (`$SIFBUILD_PEER --bind DIR --user COMMAND…`), and says so where it does not. Needs root, a static busybox and tar.

#[path = "../build/base.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod base;
mod behaviour;
mod compared;
mod definitions;
#[path = "../build/place.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod place;
mod runs;
mod scratch;
#[path = "../build/server.rs"]
#[allow(dead_code, reason = "shared with tests/build")]
mod server;
mod trees;
