//! `t_auxiliary`: a row of SQLite with the text key and the auxiliary values of a row.

use crate::base::alloc::TryExtend;
use crate::sqlite::{Kind, Param, Result as SqliteResult};
use crate::storage::{Shape, Sql, StorageError, Tables};

/// Expands a placeholder in the statements of `t_auxiliary`; `None` for another name.
pub(super) fn placeholder(shape: &Shape, name: &str) -> Option<String> {
    let of: fn(&str, usize, &str) -> String = match name {
        "auxiliary_columns" => |column, _, kind| format!(", {column} {kind}"),
        "auxiliary_params" => |_, i, _| format!(", ?{}", i + 2),
        "auxiliary_sets" => |column, i, _| {
            let comma = if i == 0 { "" } else { ", " };
            format!("{comma}{column} = iif(?2 & {}, ?{}, {column})", 1_u64 << i, i + 3)
        },
        "auxiliary_cases" => |column, i, _| format!(" WHEN {i} THEN {column}"),
        _ => return None,
    };
    let key = shape.text_key.then(|| ("key".to_string(), "TEXT NOT NULL UNIQUE"));
    let values = shape.auxiliary.iter().enumerate().map(|(i, kind)| (format!("value{i}"), *kind));
    let columns = key.into_iter().chain(values).enumerate();
    Some(columns.map(|(i, (column, kind))| of(&column, i, kind)).collect())
}

impl Tables {
    /// Writes the values of a row: the key, if the table has one, and the auxiliary values.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn write_auxiliary(&self, rowid: i64, values: &[Param<'_>]) -> SqliteResult<()> {
        let params: Vec<Param<'_>> = std::iter::once(rowid.into()).chain(values.iter().copied()).collect();
        self.run(Sql::AuxiliaryWrite, &params)
    }

    /// Sets the values of a row that are `Some`, and its rowid.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn update_auxiliary(&self, old: i64, new: i64, values: &[Option<Param<'_>>]) -> SqliteResult<()> {
        let changes = values.iter().enumerate().filter(|(_, value)| value.is_some());
        let mask = changes.fold(0_i64, |mask, (i, _)| mask | 1 << i);
        if mask != 0 {
            let values = values.iter().map(|value| value.unwrap_or(Param::Null));
            let params = [old.into(), mask.into()].into_iter().chain(values).collect::<Vec<_>>();
            self.run(Sql::AuxiliaryUpdate, &params)?;
            if mask & 1 != 0 && self.shape().has_keys_in_map {
                self.run(Sql::RowidsKey, &[old.into()])?;
            }
        }
        if new == old { Ok(()) } else { self.run(Sql::AuxiliaryMove, &[old.into(), new.into()]) }
    }

    /// Deletes the values of the rows from `first` to `last`.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn delete_auxiliary(&self, first: i64, last: i64) -> SqliteResult<()> {
        self.run(Sql::AuxiliaryDelete, &[first.into(), last.into()])
    }

    /// Passes value `which` of a row to `give`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the row is missing or its key is not a text, or [`StorageError::Sqlite`].
    pub fn auxiliary<T>(
        &self,
        rowid: i64,
        which: usize,
        give: impl FnOnce(Param<'_>) -> T,
    ) -> Result<T, StorageError> {
        let mut statement = self.statement(Sql::AuxiliaryRead)?;
        let mut rows = statement.query(&[rowid.into(), (which as i64).into()])?;
        if !rows.step()? {
            return Err(self.corrupt("auxiliary", rowid, "the row is missing"));
        }
        let kind = rows.kind(0);
        if which == 0 && self.shape().text_key && kind != Kind::Text {
            return Err(self.corrupt("auxiliary", rowid, format!("the key is of type {}", kind.name())));
        }
        Ok(give(rows.param(0)?))
    }

    /// The rows whose text key equals a number: as text, or as the number that the key reads as.
    ///
    /// # Errors
    /// [`StorageError::Sqlite`], or [`StorageError::Index`] if there is no memory.
    pub fn rows_of_number(&self, number: Param<'_>) -> Result<Vec<i64>, StorageError> {
        let mut statement = self.statement(Sql::AuxiliaryNumbers)?;
        let mut rows = statement.query(&[number])?;
        let mut found = Vec::new();
        while rows.step()? {
            found.try_push(rows.i64(0))?;
        }
        Ok(found)
    }

    /// The row with this text key.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn row_of_key(&self, key: &str) -> SqliteResult<Option<i64>> {
        let mut statement = self.statement(Sql::AuxiliaryFind)?;
        let mut rows = statement.query(&[key.into()])?;
        Ok(rows.step()?.then(|| rows.i64(0)))
    }
}
