//! Writing statements: rows and commands.

pub mod command;
pub mod update;
mod values;
