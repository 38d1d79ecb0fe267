//! Statements that read: their requests, their filters, and the cursors that return rows.

pub mod cursor;
pub mod filter;
mod request;
