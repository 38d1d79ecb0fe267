//! Reading statements: their plan, what they ask for, the cursor that gives their rows.

pub mod cursor;
pub mod filter;
pub mod plan;
mod request;
