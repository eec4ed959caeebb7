//! A table that the build script computed.

include!(concat!(env!("OUT_DIR"), "/squares.rs"));

pub const MADE_BY: &str = env!("TABLES_MADE_BY");
