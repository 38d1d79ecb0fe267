//! Commands that write as a function does: `INSERT INTO t(t) VALUES ('switch=next')` as `ivf_switch('t', 'next')`.
//!
//! A SELECT that writes is not sent on by what replicates statements; an INSERT is. It has no savepoint of its own,
//! because SQLite opens none within a statement that writes, and it cannot DROP a table, because SQLite drops none
//! while a statement reads.

use std::rc::Rc;

use crate::sqlite::Result;
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::{inspect, salvage, switch};

/// Runs a command of this kind; `None` if it is another one.
pub fn run(table: &Rc<Table>, connection: &Connection, text: &str) -> Option<Result<()>> {
    let at = text.find([':', '='])?;
    let (name, sign, argument) = (text[..at].trim(), &text[at..=at], text[at + 1..].trim());
    match (name.to_ascii_lowercase().as_str(), sign) {
        ("switch", "=") => Some(switch::by_name(table, connection, argument)),
        ("switch", _) => Some(switch::by_json(table, connection, argument)),
        ("triggers", "=") => Some(inspect::triggers::by_command(table, argument)),
        ("salvage", "=") => Some(salvage::by_command(table, argument)),
        #[cfg(feature = "vec0")]
        ("import_vec0", "=") => Some(super::vec0::import::by_command(table, connection, argument)),
        _ => None,
    }
}
