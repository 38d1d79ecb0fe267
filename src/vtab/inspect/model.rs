//! `ivf_model(t [, name])`: the embedding model of a table's vectors, or a check of it.

use std::rc::Rc;

use crate::sqlite::{Db, Error, FunctionFlags, Kind, Result, Value, open_table, register_scalar};
use crate::storage::Sql;
use crate::vtab::inspect::table_called;
use crate::vtab::table::Table;
use crate::vtab::table::model::model_in;
use crate::vtab::table::registry::Connection;
use crate::vtab::values::number::beginning;

const NAME: &str = "ivf_model";

/// Registers the function.
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    let connection = Rc::clone(connection);
    // It reads only what a SELECT from the table would tell, so that triggers may check a model.
    register_scalar(db, NAME, -1, FunctionFlags::default(), move |context, args| {
        let (named, wanted) = match args {
            [named] => (named, None),
            [named, wanted] => (named, Some(model_in(wanted)?)),
            _ => return Err(wrong("it takes a table, and perhaps the name of a model to check".into())),
        };
        let (table, column) = find(db, &connection, named)?;
        // See `ivf_command`: all that is read is of one version.
        let tables = table.tables();
        let mut held = tables.statement(Sql::StateRead)?;
        let mut state = held.query(&[])?;
        state.step()?;
        let indexes = || table.indexes().filter(|index| column.is_none_or(|at| index.options.number == at));
        if let Some(wanted) = wanted {
            indexes().try_for_each(|index| index.check_model(&index.tables().read_state()?, wanted))?;
        }
        let models = indexes().map(Table::model).collect::<Result<Vec<_>>>()?;
        if models.iter().any(|model| *model != models[0]) {
            let name = table.name();
            let each = table.options.vectors.iter().zip(&models).map(|(column, model)| {
                format!(
                    "{} {}",
                    column.name,
                    model.as_deref().map_or("none".into(), |name| format!("'{name}'"))
                )
            });
            return Err(wrong(format!(
                "the vector columns of {name} have different models ({}): name one, like '{name}.{}'",
                each.collect::<Vec<_>>().join(", "),
                table.options.column.name
            )));
        }
        match &models[0] {
            Some(model) => context.text(model),
            None => context.null(),
        }
        Ok(())
    })
}

fn wrong(what: String) -> Error {
    Error::generic(format!("{NAME}: {what}"))
}

/// The table that `value` names, or the table and the number of the vector column, as `table.column`.
fn find(db: Db, connection: &Rc<Connection>, value: &Value<'_>) -> Result<(Rc<Table>, Option<usize>)> {
    if value.kind() != Kind::Text {
        // With the error for it.
        return Ok((super::table(db, connection, NAME, &[Some(*value)])?, None));
    }
    let named = value.text()?;
    if table_called(db, named)?.is_none() {
        for (dot, _) in named.match_indices('.').rev() {
            let Some((schema, name)) = table_called(db, &named[..dot])? else { continue };
            open_table(db, &schema, &name)?;
            let Some(table) = connection.find(&schema, &name) else { continue };
            let column = &named[dot + 1..];
            let Some(at) = table.options.vector_called(column) else {
                let (column, names) = (beginning(column), table.options.vector_names());
                return Err(wrong(format!("{name} has no vector column '{column}', only {names}")));
            };
            return Ok((table, Some(at)));
        }
    }
    Ok((super::table(db, connection, NAME, &[Some(*value)])?, None))
}
