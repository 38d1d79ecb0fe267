//! `ivf_command(t, command)`: runs commands that write nothing, for connections that may not INSERT.

use std::rc::Rc;

use crate::sqlite::{Db, Error, FunctionFlags, Kind, Result, register_scalar};
use crate::storage::Sql;
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::write::command;

const NAME: &str = "ivf_command";

/// Registers the function.
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    let connection = Rc::clone(connection);
    // Not for views and triggers: an untrusted schema could evict resident content, or open a device.
    let flags = FunctionFlags { direct_only: true, ..FunctionFlags::default() };
    register_scalar(db, NAME, 2, flags, move |context, args| {
        let table = super::table(db, &connection, NAME, &[args.first().copied()])?;
        let text = match args.get(1) {
            Some(value) if value.kind() == Kind::Text => value.text()?,
            other => {
                let kind = other.map_or(Kind::Null, |value| value.kind());
                return Err(Error::generic(format!("{NAME}: a command is a text, got {}", kind.name())));
            }
        };
        run(&table, text)?;
        context.text("ok");
        Ok(())
    })
}

fn run(table: &Table, text: &str) -> Result<()> {
    if !command::writes_nothing(text) {
        let name = table.name();
        return Err(Error::generic(format!(
            "{NAME}: only commands that write nothing are run here ({}), got '{}'; all commands are run by INSERT INTO \
             {name}({name}) VALUES ('...'), where the database may be written",
            command::WRITE_NOTHING.join(", "),
            crate::vtab::values::number::beginning(text)
        )));
    }
    // A SELECT without a table has no read transaction. A statement that is not finished holds one, so that
    // everything that the command reads is of one version.
    let tables = table.tables();
    let mut held = tables.statement(Sql::StateRead)?;
    let mut state = held.query(&[])?;
    state.step()?;
    table.indexes().try_for_each(|index| command::run(index, text))
}
