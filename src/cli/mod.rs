//! The edge: one file a command. Arguments, environment, clock and terminal are looked at here and nowhere else.

pub mod check;
pub mod inspect;
pub mod sif;
