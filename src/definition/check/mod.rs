//! Lints: what builds, but probably not into what its author wants.
//!
//! One function a lint. Each looks at one stage's text, so that places are exact even behind build arguments.

mod characters;

pub(super) use characters::is_invisible;
