//! Types of SQLite 3.39's `sqlite3ext.h`, for sqlite-loadable. See the README.

#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, missing_docs, clippy::all)]

#[rustfmt::skip]
mod bindings;

pub use bindings::*;
