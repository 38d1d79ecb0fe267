//! Values that a caller gives, kept until a statement takes them.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value};

/// A value, or why it cannot be one: told where a statement would take it, since a builder cannot fail.
pub type Given = std::result::Result<Value, String>;

/// A value of its own.
pub(super) fn owned(value: &dyn ToSql) -> Given {
    match value.to_sql() {
        Ok(ToSqlOutput::Borrowed(value)) => value.try_into().map_err(|_| "a text is not UTF-8".to_string()),
        Ok(ToSqlOutput::Owned(value)) => Ok(value),
        Ok(_) => Err("only NULL, numbers, texts and blobs can be given here".into()),
        Err(error) => Err(error.to_string()),
    }
}
