//! Reading statements: what they ask for, the cursor that gives their rows.

pub mod cursor;
pub mod filter;
mod request;
