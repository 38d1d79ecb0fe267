//! The schema of a table: what its CREATE statement declares.

pub mod columns;
pub mod declared;
mod hidden;
pub mod knobs;
pub mod model;
pub mod options;
pub mod tokens;
pub mod vec0;
pub mod words;
