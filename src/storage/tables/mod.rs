//! The shadow tables: their names and statements, and the rows that are read and written whole.

mod auxiliary;
pub(crate) mod centroids;
pub(crate) mod content;
pub(crate) mod order;
mod other;
pub(crate) mod partitions;
pub(crate) mod shape;
mod sql;
mod state;

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::base::alloc::try_vec;
use crate::index::{Projection, SegmentId, TextOrder};
use crate::sqlite::{BlobReader, Db, Error, Kind, Param, Result as SqliteResult, Statement, escaped};
use crate::storage::StorageError;
use crate::storage::format::seal::Seal;
use crate::storage::format::{DecodeError, FORMAT};
use auxiliary::placeholder;
pub use shape::{Layout, Shape};
pub use sql::Sql;
pub use state::State;

/// The names of shadow tables, without the table's name and the underscore before them.
pub const SHADOW_NAMES: [&str; 10] = [
    "config",
    "state",
    "centroids",
    "lists",
    "codes",
    "vectors",
    "rowids",
    "metadata",
    "auxiliary",
    "partitions",
];

/// The shadow tables of one table, with their prepared statements.
#[derive(Debug)]
pub struct Tables {
    db: Db,
    pub(crate) schema: String,
    table: String,
    shape: Rc<Shape>,
    statements: RefCell<Vec<Option<Statement>>>,
}

/// A prepared statement, lent by [`Tables`] until it is dropped.
#[derive(Debug)]
pub struct Lent<'a> {
    tables: &'a Tables,
    which: Sql,
    statement: Option<Statement>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // If two users have the statement at a time (because of a trigger), the second one has prepared it
        // anew.
        if let (Some(statement), Ok(mut kept)) =
            (self.statement.take(), self.tables.statements.try_borrow_mut())
        {
            kept[self.which as usize] = Some(statement);
        }
    }
}

impl Deref for Lent<'_> {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        self.statement
            .as_ref()
            .unwrap_or_else(|| unreachable!("a lent statement is there until it is dropped"))
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Statement {
        self.statement
            .as_mut()
            .unwrap_or_else(|| unreachable!("a lent statement is there until it is dropped"))
    }
}

impl Tables {
    /// The shadow tables of `schema.table`.
    pub fn new(db: Db, schema: &str, table: &str, shape: Rc<Shape>) -> Self {
        let statements = RefCell::new(Sql::ALL.iter().map(|_| None).collect());
        Self { db, schema: schema.to_string(), table: table.to_string(), shape, statements }
    }

    /// What the table has besides vectors.
    pub fn shape(&self) -> &Rc<Shape> {
        &self.shape
    }

    /// Executes statements: the first always, the others if the table has metadata, auxiliary values or
    /// partitions.
    fn execute_all(&self, which: [Sql; 4], new: &str) -> SqliteResult<()> {
        let Shape { metadata, partitions, .. } = &*self.shape;
        let wanted = [true, !metadata.is_empty(), self.shape.auxiliary_columns() > 0, !partitions.is_empty()];
        let which = which.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
        which.map(|(which, _)| which).try_for_each(|which| self.db.execute(&self.text_with(which, new)))
    }

    /// The connection.
    pub fn db(&self) -> Db {
        self.db
    }

    /// The name of a shadow table, without its schema.
    pub fn shadow(&self, suffix: &str) -> String {
        format!("{}_{suffix}{}", self.table, self.name_end())
    }

    /// The end of the names of the shadow tables: the number of the vector column, but for the first.
    fn name_end(&self) -> String {
        if self.shape.number == 0 { String::new() } else { self.shape.number.to_string() }
    }

    fn text(&self, which: Sql) -> String {
        self.text_with(which, "")
    }

    /// The text of a statement with its `{names}` filled in. One pass over the template, because a name may
    /// contain braces.
    pub(crate) fn text_with(&self, which: Sql, new: &str) -> String {
        let mut text = String::new();
        let mut rest = which.template();
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            text.push_str(before);
            match name {
                "new" => text.push_str(&escaped(new)),
                "schema" => text.push_str(&escaped(&self.schema)),
                "number" => text.push_str(&self.name_end()),
                name => match placeholder(&self.shape, name).or_else(|| self.of_content(name)) {
                    Some(columns) => text.push_str(&columns),
                    None => {
                        let table = escaped(&self.shadow(name));
                        text.push_str(&format!("\"{}\".\"{table}\"", escaped(&self.schema)));
                    }
                },
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }

    /// A prepared statement.
    ///
    /// # Errors
    /// An error from SQLite, for example if a shadow table is missing.
    pub fn statement(&self, which: Sql) -> SqliteResult<Lent<'_>> {
        let kept = self.statements.try_borrow_mut().ok().and_then(|mut kept| kept[which as usize].take());
        let statement = match kept {
            Some(statement) => statement,
            None => self.db.prepare(&self.text(which)).map_err(|error| self.named(which, error))?,
        };
        Ok(Lent { tables: self, which, statement: Some(statement) })
    }

    fn of_content(&self, name: &str) -> Option<String> {
        self.shape.content.as_ref()?.placeholder(&self.schema, self.shape.number, name)
    }

    /// An error of preparing a statement. One that reads the table that the index is over names the option.
    fn named(&self, which: Sql, mut error: Error) -> Error {
        if let (Sql::ContentRead | Sql::ContentScan, Some(content)) = (which, &self.shape.content) {
            let hint = match error.message.starts_with("no such table") {
                true => " (content is a table or a view of tables, none of them virtual)",
                false => "",
            };
            error.message =
                format!("content='{}' of '{}': {}{hint}", content.table, self.table, error.message);
        }
        error
    }

    /// Runs a statement that returns no rows.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn run(&self, which: Sql, params: &[Param<'_>]) -> SqliteResult<()> {
        self.statement(which)?.execute(params)
    }

    /// Creates the shadow tables, with the state of an empty table. `fenced` adds columns to the map that
    /// sqlite-vec looks for: if it is loaded later and takes the table for its own, it reports an error
    /// instead of ending the process.
    ///
    /// # Errors
    /// An error from SQLite, for example if a table with such a name exists.
    pub fn create(&self, uuid: [u8; 16], settings: &[u8], fenced: bool) -> SqliteResult<()> {
        self.execute_all(
            [Sql::Create, Sql::MetadataCreate, Sql::AuxiliaryCreate, Sql::PartitionsCreate],
            "",
        )?;
        self.db.execute(&self.text(if fenced { Sql::RowidsFence } else { Sql::RowidsCreate }))?;
        self.run(Sql::ConfigWrite, &["format".into(), FORMAT.into()])?;
        self.write_settings(Seal::new(uuid), settings)?;
        self.write_state(&State {
            uuid,
            ver: [0; 16],
            stamp: [0; 16],
            rows: 0,
            generation: 0,
            nlist: 0,
            centroids: 0,
        })
    }

    /// Drops the shadow tables.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn drop_all(&self) -> SqliteResult<()> {
        self.forget_statements();
        self.execute_all([Sql::Drop, Sql::MetadataDrop, Sql::AuxiliaryDrop, Sql::PartitionsDrop], "")
    }

    /// Renames the shadow tables.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn rename(&self, new: &str) -> SqliteResult<()> {
        self.forget_statements();
        self.execute_all([Sql::Rename, Sql::MetadataRename, Sql::AuxiliaryRename, Sql::PartitionsRename], new)
    }

    fn forget_statements(&self) {
        if let Ok(mut kept) = self.statements.try_borrow_mut() {
            kept.iter_mut().for_each(|statement| *statement = None);
        }
    }

    /// Checks the format of the table.
    ///
    /// # Errors
    /// [`StorageError::UnsupportedFormat`] if it is newer, [`StorageError::Corrupt`] if it is missing or
    /// invalid, or [`StorageError::Sqlite`].
    pub fn check_format(&self) -> Result<(), StorageError> {
        let mut statement = self.statement(Sql::ConfigRead)?;
        let mut rows = statement.query(&["format".into()])?;
        match rows.step()?.then(|| (rows.kind(0), rows.i64(0))) {
            Some((Kind::Integer, FORMAT)) => Ok(()),
            Some((Kind::Integer, found)) if found > FORMAT => {
                Err(StorageError::UnsupportedFormat { table: self.table.clone(), found })
            }
            _ => Err(self.corrupt("config", 0, "the format is missing or unknown")),
        }
    }

    /// Reads the settings, without their checksum.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if they are missing or damaged, or [`StorageError::Sqlite`].
    pub fn read_settings(&self, seal: Seal) -> Result<Vec<u8>, StorageError> {
        let mut statement = self.statement(Sql::ConfigRead)?;
        let mut rows = statement.query(&["settings".into()])?;
        if !rows.step()? || rows.kind(0) != Kind::Blob {
            return Err(self.corrupt("config", 0, "the settings are missing or not a blob"));
        }
        let settings = seal.decode_settings(rows.blob(0)?);
        settings
            .map(<[u8]>::to_vec)
            .map_err(|fault| self.corrupt("config", 0, format!("the settings: {fault}")))
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn write_settings(&self, seal: Seal, settings: &[u8]) -> SqliteResult<()> {
        self.run(Sql::ConfigWrite, &["settings".into(), seal.encode_settings(settings).as_slice().into()])
    }

    /// Reads the queries that the calibration was measured by, `[n][dim]`; empty if it was measured by rows.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if they are damaged, or [`StorageError::Sqlite`].
    pub fn read_queries(&self, seal: Seal, dim: usize) -> Result<Vec<f32>, StorageError> {
        let mut statement = self.statement(Sql::ConfigRead)?;
        let mut rows = statement.query(&["queries".into()])?;
        if !rows.step()? {
            return Ok(Vec::new());
        }
        if rows.kind(0) != Kind::Blob {
            return Err(self.corrupt("config", 0, "the queries are not a blob"));
        }
        let blob = rows.blob(0)?;
        let mut queries = try_vec(blob.len() / 4)?;
        let read = seal.decode_queries(dim, blob, &mut queries);
        read.map_err(|fault| self.corrupt("config", 0, format!("the queries: {fault}")))?;
        Ok(queries)
    }

    /// Writes the queries that the calibration was measured by. Deletes them if `queries` is empty.
    ///
    /// # Errors
    /// [`StorageError::Sqlite`], or [`StorageError::Index`] if there is no memory.
    pub fn write_queries(&self, seal: Seal, dim: usize, queries: &[f32]) -> Result<(), StorageError> {
        if queries.is_empty() {
            self.run(Sql::ConfigDelete, &["queries".into()])?;
            return Ok(());
        }
        let bytes = seal.encode_queries(dim, queries)?;
        self.run(Sql::ConfigWrite, &["queries".into(), bytes.as_slice().into()])?;
        Ok(())
    }

    /// Reads the projection of sketches; `None` if the table has none.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is damaged, or [`StorageError::Sqlite`].
    pub fn read_projection(&self, seal: Seal, dim: usize) -> Result<Option<Projection>, StorageError> {
        let mut statement = self.statement(Sql::ConfigRead)?;
        let mut rows = statement.query(&["projection".into()])?;
        if !rows.step()? {
            return Ok(None);
        }
        if rows.kind(0) != Kind::Blob {
            return Err(self.corrupt("config", 0, "the projection is not a blob"));
        }
        let projection = seal.decode_projection(dim, rows.blob(0)?);
        projection.map(Some).map_err(|error| match error {
            DecodeError::Fault(fault) => self.corrupt("config", 0, format!("the projection: {fault}")),
            DecodeError::OutOfMemory(error) => error.into(),
        })
    }

    /// Writes the projection of sketches, or deletes it.
    ///
    /// # Errors
    /// [`StorageError::Sqlite`], or [`StorageError::Index`] if there is no memory.
    pub fn write_projection(&self, seal: Seal, projection: Option<&Projection>) -> Result<(), StorageError> {
        match projection {
            None => self.run(Sql::ConfigDelete, &["projection".into()])?,
            Some(projection) => {
                let bytes = seal.encode_projection(projection)?;
                self.run(Sql::ConfigWrite, &["projection".into(), bytes.as_slice().into()])?;
            }
        }
        Ok(())
    }

    /// The order of texts in the database.
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn text_order(&self) -> SqliteResult<TextOrder> {
        let mut statement = self.statement(Sql::EncodingRead)?;
        let mut rows = statement.query(&[])?;
        Ok(match if rows.step()? { rows.text(0)? } else { "" } {
            "UTF-16le" => TextOrder::Utf16Le,
            "UTF-16be" => TextOrder::Utf16Be,
            _ => TextOrder::Utf8,
        })
    }

    /// Whether LIKE and GLOB are SQLite's own. The host may have replaced them (`PRAGMA case_sensitive_like`
    /// replaces LIKE).
    ///
    /// # Errors
    /// An error from SQLite.
    pub fn patterns_are_own(&self) -> SqliteResult<[bool; 2]> {
        // A build of SQLite may lack the pragma `function_list`.
        let statement = self.statement(Sql::LikeRead).or_else(|_| self.statement(Sql::LikeProbe));
        let mut statement = statement?;
        let mut rows = statement.query(&[])?;
        Ok(if rows.step()? { [rows.i64(0) != 0, rows.i64(1) != 0] } else { [false; 2] })
    }

    /// Takes the lock that keeps other connections of a shared cache from the table until the transaction
    /// ends: all of them read the state first.
    ///
    /// # Errors
    /// `SQLITE_LOCKED` while one of them reads the table. Nothing is changed then.
    pub fn lock(&self) -> SqliteResult<()> {
        self.run(Sql::StateLock, &[])
    }

    /// Opens the `data` of a segment for reading in parts.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is missing or not a blob, or [`StorageError::Sqlite`].
    pub fn open_data(&self, suffix: &str, id: SegmentId) -> Result<BlobReader, StorageError> {
        self.db.read_blob(&self.schema, &self.shadow(suffix), "data", id.raw()).map_err(|error| {
            match error.primary() {
                crate::sqlite::ffi::SQLITE_ERROR => {
                    self.corrupt(suffix, id.raw(), "the row is missing or not a blob")
                }
                _ => error.into(),
            }
        })
    }

    /// The error for a blob of a segment that was not decoded.
    pub fn undecoded(&self, suffix: &str, id: SegmentId, error: DecodeError) -> StorageError {
        match error {
            DecodeError::Fault(fault) => self.corrupt(suffix, id.raw(), fault),
            DecodeError::OutOfMemory(error) => error.into(),
        }
    }

    /// The error for a damaged row of a shadow table.
    pub fn corrupt(&self, suffix: &str, row: i64, detail: impl Into<String>) -> StorageError {
        StorageError::Corrupt { table: self.shadow(suffix), row, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::ValueKind;
    use crate::sqlite::linked_db;
    use crate::storage::Content;

    #[test]
    fn every_statement_prepares_against_the_tables_that_create_makes() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let db = linked_db(&connection).unwrap();
        let shape = Rc::new(Shape {
            number: 3,
            metadata: vec![ValueKind::Text],
            partitions: vec![0],
            text_key: true,
            has_keys_in_map: true,
            auxiliary: vec!["TEXT", "BLOB"],
            content: Some(Content {
                table: "docs \"}{lists}".into(),
                rowid: "rowid".into(),
                vectors: ["a", "b", "c", "v \"{codes}"].map(String::from).to_vec(),
                metadata: vec!["m".into()],
                ..Content::default()
            }),
        });
        let docs = "CREATE TABLE \"docs \"\"}{lists}\"(a, b, c, \"v \"\"{codes}\", m)";
        connection.execute_batch(docs).unwrap();
        let tables = Tables::new(db, "main", "odd \"name\"", Rc::clone(&shape));
        tables.create([7; 16], b"x", true).unwrap();
        // A build without introspection has no list of functions, and sqlite-vec's tables do not exist here.
        let is_elsewhere = |which: &Sql| *which == Sql::LikeRead || format!("{which:?}").starts_with("Vec0");
        let other = Tables::new(db, "main", "other", Rc::clone(&shape));
        other.create([8; 16], b"x", true).unwrap();
        Tables::new(db, "main", "other", Rc::new(Shape { number: 0, ..(*shape).clone() }))
            .create([9; 16], b"x", true)
            .unwrap();
        for &which in Sql::ALL.iter().filter(|which| !is_elsewhere(which)) {
            let text = which.template();
            if format!("{which:?}").starts_with("Other") {
                db.prepare(&tables.text_with(which, "other")).unwrap();
                continue;
            }
            if !["CREATE", "DROP", "ALTER"].iter().any(|verb| text.starts_with(&format!("{verb} "))) {
                tables.statement(which).unwrap_or_else(|error| panic!("{which:?}: {error}"));
            }
        }
        let odd = "{new} {lists} \"}\nDROP TABLE nothing; --";
        tables.rename(odd).unwrap();
        let renamed = Tables::new(db, "main", odd, shape);
        assert_eq!(renamed.read_state().unwrap().uuid, [7; 16]);
        assert_eq!(renamed.read_settings(Seal::new([7; 16])).unwrap(), b"x");
        assert!(renamed.read_settings(Seal::new([8; 16])).is_err());
        renamed.drop_all().unwrap();
        other.drop_all().unwrap();
        Tables::new(db, "main", "other", Rc::new(Shape { number: 0, ..(*other.shape()).as_ref().clone() }))
            .drop_all()
            .unwrap();
        connection.execute_batch("DROP TABLE \"docs \"\"}{lists}\"").unwrap();
        let left: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}
