//! The embedding model of a table, and the move to another one.

use rusqlite::params;

use super::{Result, Table};

/// A difference between two tables that [`Table::switch`] may accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Difference {
    /// The new table lacks rows of the old one.
    Missing,
    /// The new table has rows that the old one has not.
    Extra,
    /// Rows of the same rowid have another text key.
    Keys,
    /// The columns differ in more than the dimension, element type and metric of vectors.
    Columns,
}

impl Difference {
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Keys => "keys",
            Self::Columns => "columns",
        }
    }
}

impl<'c> Table<'c> {
    /// The embedding model that all vector columns are of; none if the table names none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where vector columns are of different models; what SQLite says.
    pub fn model(&self) -> Result<Option<String>> {
        let named = self.named()?;
        Ok(self.prepare_cached("SELECT ivf_model(?1)")?.query_row([named], |row| row.get(0))?)
    }

    /// Checks that all vector columns are of this embedding model.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if one is of another or of none: the text names both.
    pub fn check_model(&self, name: &str) -> Result<()> {
        let named = self.named()?;
        self.prepare_cached("SELECT ivf_model(?1, ?2)")?.query_row(params![named, name], |_| Ok(()))?;
        Ok(())
    }

    /// Says of which embedding model the vectors of all vector columns are. It is a label: no vector changes. A table that has
    /// another one must have that of `instead_of`, so that no label is overwritten by mistake.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a name that is empty or longer than 1024 bytes, and where the table has
    /// another model than `instead_of`.
    ///
    /// ```
    /// use sqlite_ivf::{Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let items = Table::create(&db, "items", &TableOptions::new(2).model("all-MiniLM-L6"))?;
    /// items.insert(1, &[1.0, 0.0])?;
    /// assert!(items.search(&[1.0, 0.0], &Search::new(1).model("all-MiniLM-L12")).is_err());
    /// items.set_model("all-MiniLM-L6-v2", Some("all-MiniLM-L6"))?;
    /// assert_eq!(items.search(&[1.0, 0.0], &Search::new(1).model("all-MiniLM-L6-v2"))?[0].rowid, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_model(&self, name: &str, instead_of: Option<&str>) -> Result<()> {
        self.command(&format!("model:{}", serde_json::json!({ "name": name, "instead_of": instead_of })))
    }

    /// The rowids, ascending, that `next` lacks of this table, at most `limit`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if both are one table, or are in different schemas.
    pub fn missing_in(&self, next: &Table<'_>, limit: usize) -> Result<Vec<i64>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.prepare_cached("SELECT missing FROM ivf_missing(?1, ?2, ?3)")?;
        let rows = statement.query_map(params![self.named()?, next.named()?, limit], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Puts `next` in the place of this table, in one transaction: this one is dropped, and `next` gets its name. Searches of
    /// other connections go on. `docs/changing.md` tells how to fill `next`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for differences between the tables that are not among `accepting`, and for
    /// a trigger or view that mentions `next`; [`ErrorKind::Busy`](crate::ErrorKind::Busy). Both tables are then as they were.
    ///
    /// ```
    /// use sqlite_ivf::{Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let items = Table::create(&db, "items", &TableOptions::new(2).model("small"))?;
    /// items.insert_many([(1, [1.0, 0.0]), (2, [0.0, 1.0])])?;
    ///
    /// let next = Table::create(&db, "items_next", &TableOptions::new(3).model("large"))?;
    /// loop {
    ///     let missing = items.missing_in(&next, 100)?;
    ///     if missing.is_empty() {
    ///         break;
    ///     }
    ///     next.insert_many(missing.into_iter().map(|rowid| (rowid, [rowid as f32, 0.0, 1.0])))?;
    /// }
    /// let items = items.switch(next, &[])?;
    /// assert_eq!((items.name(), items.dim(), items.model()?.as_deref()), ("items", 3, Some("large")));
    /// assert_eq!(items.search(&[2.0, 0.0, 1.0], &Search::new(1).model("large"))?[0].rowid, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn switch(self, next: Self, accepting: &[Difference]) -> Result<Self> {
        let accepted: Vec<&str> = accepting.iter().map(|difference| difference.name()).collect();
        let given = params![self.named()?, next.named()?, accepted.join(", ")];
        self.connection.query_row("SELECT ivf_switch(?1, ?2, ?3)", given, |_| Ok(()))?;
        Self::open_in(self.connection, self.schema(), self.name())
    }
}
