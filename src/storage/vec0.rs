//! Tables that sqlite-vec made: they can be read and dropped, never written.
//!
//! | shadow table | content |
//! |---|---|
//! | `t_rowids` | per row: `rowid`, `id` (a text, if that is the primary key), `chunk_id`, `chunk_offset` |
//! | `t_chunks` | per chunk: `chunk_id`, `size`; with partition keys also `sequence_id` and their values |
//! | `t_vector_chunksNN` | vectors of column NN, by `chunk_offset`; the rowid is the chunk |
//! | `t_metadatachunksNN` | likewise values of metadata column NN: bits, 8-byte numbers, 16 bytes per text |
//! | `t_metadatatextNN` | by rowid, texts of more than 12 bytes |
//! | `t_auxiliary` | by rowid, auxiliary values |
//!
//! The 16 bytes of a text are its length and its beginning. The layout is that of releases 0.1.6 to 0.1.9.

use std::cell::RefCell;
use std::ops::DerefMut;

use crate::base::alloc::try_filled;
use crate::index::ValueKind;
use crate::sqlite::{BlobReader, Error, Kind, Param, Result, Statement, qualified};
use crate::storage::{Sql, Tables};

/// A row, and where its values are.
#[derive(Debug, Clone)]
pub struct Row {
    pub rowid: i64,
    /// The primary key, if that is a text.
    pub id: Option<String>,
    chunk: i64,
    offset: usize,
}

/// The bytes of a text in `t_metadatachunksNN`: its length and its first twelve bytes.
const TEXT_BYTES: usize = 16;
const TEXT_BEGINNING: usize = 12;
const NUMBERED: [&str; 3] = ["vector_chunks", "metadatachunks", "metadatatext"];
/// More columns than any table has of one kind.
const MOST_COLUMNS: usize = 32;

/// Open blobs of the chunk that was read last, by the names of their tables.
#[derive(Default)]
pub struct Open(RefCell<Vec<(String, i64, BlobReader)>>);

impl Tables {
    /// Some rows from `rowid` on, in the order of rowids; empty after the last.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn vec0_rows(&self, rowid: i64) -> Result<Vec<Row>> {
        self.vec0_find(Sql::Vec0Rows, &[rowid.into(), 256.into()])
    }

    /// The row with this rowid.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn vec0_row(&self, rowid: i64) -> Result<Option<Row>> {
        let found = self.vec0_find(Sql::Vec0Rows, &[rowid.into(), 1.into()])?;
        Ok(found.into_iter().next().filter(|row| row.rowid == rowid))
    }

    /// The row with this text key.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn vec0_row_of_key(&self, key: &str) -> Result<Option<Row>> {
        Ok(self.vec0_find(Sql::Vec0Row, &[key.into()])?.into_iter().next())
    }

    fn vec0_find(&self, which: Sql, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let mut statement = self.statement(which)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while rows.step()? {
            let id = if rows.kind(1) == Kind::Text { Some(rows.text(1)?.to_owned()) } else { None };
            let offset = usize::try_from(rows.i64(3)).unwrap_or(usize::MAX);
            found.push(Row { rowid: rows.i64(0), id, chunk: rows.i64(2), offset });
        }
        Ok(found)
    }

    /// The bytes of a row's vector in column `number`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the chunk is missing or too short.
    pub fn vec0_vector(&self, row: &Row, number: usize, bytes: usize, open: &Open) -> Result<Vec<u8>> {
        let mut vector = try_filled(0, bytes).map_err(|_| Error::nomem())?;
        self.vec0_read(
            row,
            "vector_chunks",
            "vectors",
            number,
            row.offset.saturating_mul(bytes),
            &mut vector,
            open,
        )?;
        Ok(vector)
    }

    /// Passes a row's value in metadata column `number` to `give`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the chunk is missing or too short, or another error from SQLite.
    pub fn vec0_metadata(
        &self,
        row: &Row,
        number: usize,
        kind: ValueKind,
        open: &Open,
        give: impl FnOnce(Param<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut value = [0; TEXT_BYTES];
        let (bytes, at) = match kind {
            ValueKind::Boolean => (1, row.offset / 8),
            ValueKind::Integer | ValueKind::Float => (8, row.offset.saturating_mul(8)),
            ValueKind::Text => (TEXT_BYTES, row.offset.saturating_mul(TEXT_BYTES)),
        };
        self.vec0_read(row, "metadatachunks", "data", number, at, &mut value[..bytes], open)?;
        let [a, b, c, d, e, f, g, h, ..] = value;
        let eight = [a, b, c, d, e, f, g, h];
        match kind {
            ValueKind::Boolean => give(Param::I64((value[0] >> (row.offset % 8) & 1).into())),
            ValueKind::Integer => give(Param::I64(i64::from_le_bytes(eight))),
            ValueKind::Float => give(Param::F64(f64::from_le_bytes(eight))),
            ValueKind::Text => {
                let length = u32::from_le_bytes([a, b, c, d]) as usize;
                if let Some(text) = value[4..].get(..length).filter(|_| length <= TEXT_BEGINNING) {
                    return give(Param::Text(std::str::from_utf8(text).map_err(|_| self.vec0_corrupt(row))?));
                }
                let table = self.shadow(&format!("metadatatext{number:02}"));
                let mut text = self.db().prepare(&self.text_with(Sql::Vec0Text, &table))?;
                self.vec0_give(&mut text, row.rowid, 0, row, give)
            }
        }
    }

    /// Passes a row's value in partition column `number` to `give`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the chunk is missing, or another error from SQLite.
    pub fn vec0_partition(
        &self,
        row: &Row,
        number: usize,
        give: impl FnOnce(Param<'_>) -> Result<()>,
    ) -> Result<()> {
        self.vec0_give(self.statement(Sql::Vec0Chunk)?, row.chunk, 3 + number, row, give)
    }

    /// Passes a row's value in auxiliary column `number` to `give`.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the row is missing, or another error from SQLite.
    pub fn vec0_auxiliary(
        &self,
        row: &Row,
        number: usize,
        give: impl FnOnce(Param<'_>) -> Result<()>,
    ) -> Result<()> {
        self.vec0_give(self.statement(Sql::Vec0Auxiliary)?, row.rowid, 1 + number, row, give)
    }

    /// The quoted name of an object in the schema of the table.
    pub fn qualified(&self, name: &str) -> String {
        qualified(&self.schema, name)
    }

    /// Drops everything that sqlite-vec has stored for the table.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn vec0_drop(&self) -> Result<()> {
        let numbered =
            NUMBERED.iter().flat_map(|name| (0..MOST_COLUMNS).map(move |i| format!("{name}{i:02}")));
        let single = ["info", "chunks", "rowids", "auxiliary"].map(String::from);
        for suffix in numbered.chain(single) {
            self.db().execute(&self.text_with(Sql::Vec0Drop, &self.shadow(&suffix)))?;
        }
        Ok(())
    }

    fn vec0_corrupt(&self, row: &Row) -> Error {
        let name = self.shadow("rowids");
        Error::corrupt(format!("corrupt table: {name}, row {}: its values are missing", row.rowid))
    }

    /// Passes a column of the row that a statement finds by `key` to `give`.
    fn vec0_give(
        &self,
        mut statement: impl DerefMut<Target = Statement>,
        key: i64,
        column: usize,
        row: &Row,
        give: impl FnOnce(Param<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut rows = statement.query(&[Param::I64(key)])?;
        if !rows.step()? {
            return Err(self.vec0_corrupt(row));
        }
        give(rows.param(column)?)
    }

    #[allow(clippy::too_many_arguments)] // of a private helper: a place in a blob
    fn vec0_read(
        &self,
        row: &Row,
        table: &str,
        column: &str,
        number: usize,
        at: usize,
        out: &mut [u8],
        open: &Open,
    ) -> Result<()> {
        let table = self.shadow(&format!("{table}{number:02}"));
        let mut open = open.0.borrow_mut();
        open.retain(|(name, chunk, _)| *name != table || *chunk == row.chunk);
        let place = match open.iter().position(|(name, ..)| *name == table) {
            Some(place) => place,
            None => {
                let blob = self.db().read_blob(&self.schema, &table, column, row.chunk);
                open.push((table, row.chunk, blob.map_err(|_| self.vec0_corrupt(row))?));
                open.len() - 1
            }
        };
        open[place].2.read_at(at, out).map_err(|_| self.vec0_corrupt(row))
    }
}
