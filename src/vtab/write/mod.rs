//! Statements that write: rows and commands.

pub mod command;
pub mod content;
pub mod update;
mod values;
