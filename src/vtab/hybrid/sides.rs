//! The two sides of a hybrid search, each one SQL statement.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::base::alloc::TryExtend;
use crate::sqlite::{Db, Kind, Param, Result, Value, quoted, sql_of};
use crate::storage::Element;
use crate::vtab::hybrid::condition::{Condition, Term};
use crate::vtab::hybrid::fuse::Found;
use crate::vtab::hybrid::words::{self, Mode};
use crate::vtab::hybrid::{Given, NAME, about, wrong};
use crate::vtab::inspect::{self, table_called};
use crate::vtab::schema::columns::Column;
use crate::vtab::schema::tokens::{self, tokens};
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::values::element::element_of;
use crate::vtab::values::number::{beginning, shown};

/// The rows that may be answers.
pub struct Among<'a> {
    /// On the columns of the `ivf` table.
    pub filter: &'a Condition,
    /// On the columns of the FTS5 table.
    pub of_text: &'a Condition,
    /// A JSON array.
    pub rowids: Option<String>,
}

impl<'a> Among<'a> {
    /// The parameters of a statement: the query and the number of candidates, the values of both filters, `more`.
    fn params(&'a self, query: Param<'a>, candidates: i64, more: Option<Param<'a>>) -> Vec<Param<'a>> {
        let mut params = vec![query, Param::I64(candidates)];
        params.extend(self.filter.params());
        params.extend(self.of_text.params());
        params.extend(self.rowids.as_deref().map(Param::Text));
        params.extend(more);
        params
    }

    /// The number of the parameter for the rowids.
    fn place(&self) -> usize {
        2 + self.filter.values.len() + self.of_text.values.len() + 1
    }
}

fn joined<'t>(terms: impl IntoIterator<Item = &'t Term>) -> String {
    terms.into_iter().map(|term| term.sql.as_str()).collect::<Vec<_>>().join(" AND ")
}

/// The vectors.
pub struct VectorSide<'a> {
    table: Rc<Table>,
    pub schema: String,
    /// Schema and name as SQL has them.
    pub qualified: String,
    column: Column,
    query: Option<&'a Value<'a>>,
    params: Option<&'a str>,
}

impl<'a> VectorSide<'a> {
    /// # Errors
    /// A table or column that there is not; settings that cannot be given.
    pub fn find(db: Db, connection: &Connection, given: &Given<'a>) -> Result<Self> {
        let table = inspect::table(db, connection, NAME, given.arguments)?;
        let columns = &table.options.columns;
        let name = table.name();
        if columns.is_without_rowid() {
            return Err(wrong(format!("'{name}' is a vec0 table with a TEXT PRIMARY KEY: it has no rowids")));
        }
        let vectors = &table.options.vectors;
        let column = match given.text("vec_column", "the name of a vector column")? {
            Some(named) => {
                vectors.iter().find(|column| column.name.eq_ignore_ascii_case(named)).ok_or_else(|| {
                    let names: Vec<&str> = vectors.iter().map(|column| column.name.as_str()).collect();
                    wrong(format!(
                        "vec_column must be a vector column of '{name}' ({}), got '{}'",
                        names.join(", "),
                        beginning(named)
                    ))
                })?
            }
            None => &vectors[0],
        };
        let params = given.text("vec_params", "a text like 'nprobe=16, max_codes=5000'")?;
        if params.is_some() && !columns.has_hidden("params") {
            return Err(wrong(format!("'{name}' has a column params: vec_params cannot be used with it")));
        }
        let schema = table.schema.clone();
        let qualified = format!("{}.{}", quoted(&schema), quoted(&name));
        let (column, query) = (column.clone(), given.get("query_vector"));
        Ok(Self { schema, qualified, column, query, params, table })
    }

    /// The nearest rows.
    ///
    /// # Errors
    /// What the search fails with.
    pub fn search(&self, db: Db, text: &str, among: &Among<'_>, candidates: i64) -> Result<Vec<Found>> {
        let Some(query) = self.query else { return Ok(Vec::new()) };
        // A bound value has no subtype.
        let matched = match element_of(query) {
            Some(Element::F32) => "vec_f32(?1)",
            Some(Element::F16) => "vec_f16(?1)",
            Some(Element::Bf16) => "vec_bf16(?1)",
            Some(Element::Int8) => "vec_int8(?1)",
            Some(Element::Bit) => "vec_bit(?1)",
            None => "?1",
        };
        let matched = format!("{} MATCH {matched} AND k = ", quoted(&self.column.name));
        let params = among.params(query.param()?, candidates, self.params.map(Param::Text));
        let (searched, looked_up): (Vec<&Term>, Vec<&Term>) =
            among.filter.terms.iter().partition(|term| self.is_searched(db, &matched, term, &params));
        let table = &self.qualified;
        let mut sql = format!("SELECT rowid, distance, ?{} FROM {table} WHERE {matched}?2", params.len());
        let mut and = |term: String| {
            let _ = write!(sql, " AND {term}");
        };
        searched.iter().for_each(|term| and(term.sql.clone()));
        if let Some(term) = looked_up.iter().find(|term| term.has_distance) {
            let what =
                "a condition on the distance stands alone or between ANDs, and compares it with a value";
            return Err(wrong(format!("filter: {what}, got '{}'", beginning(&term.sql))));
        }
        if !looked_up.is_empty() {
            and(format!("rowid IN (SELECT rowid FROM {table} WHERE {})", joined(looked_up)));
        }
        if !among.of_text.terms.is_empty() {
            and(format!("rowid IN (SELECT rowid FROM {text} WHERE {})", joined(&among.of_text.terms)));
        }
        if among.rowids.is_some() {
            and(format!("rowid IN (SELECT value FROM json_each(?{}))", among.place()));
        }
        if self.params.is_some() {
            and(format!("params = ?{}", params.len()));
        }
        sql.push_str(" ORDER BY distance, rowid");
        let run = || -> Result<Vec<Found>> {
            let mut statement = db.prepare_on_tables(&sql)?;
            let mut rows = statement.query(&params)?;
            let mut found = Vec::new();
            while rows.step()? {
                let value = (rows.kind(1) != Kind::Null).then(|| rows.f64(1));
                found.try_push(Found { rowid: rows.i64(0), rank: found.len() as i64 + 1, value })?;
            }
            Ok(found)
        };
        run().map_err(|error| about(format!("vec_table '{}'", self.table.name()), error))
    }

    /// Whether a term is part of the search. SQLite tests others after it, which a search with `packed = 1` does
    /// not allow. Those become a set of rows to search among.
    fn is_searched(&self, db: Db, matched: &str, term: &Term, params: &[Param<'_>]) -> bool {
        let sql = format!(
            "SELECT 1, ?{} FROM {} WHERE {matched}0 AND packed = 1 AND {}",
            params.len(),
            self.qualified,
            term.sql
        );
        db.prepare_on_tables(&sql).and_then(|mut statement| statement.execute(params)).is_ok()
    }
}

/// The texts.
pub struct TextSide<'a> {
    name: String,
    pub schema: String,
    /// Schema and name as SQL has them.
    pub qualified: String,
    query: Option<&'a str>,
    mode: Mode,
    columns: Vec<String>,
}

impl<'a> TextSide<'a> {
    /// # Errors
    /// A table that is no FTS5 table, or a column that it does not have.
    pub fn find(db: Db, given: &Given<'a>) -> Result<Self> {
        let what = "the name of an FTS5 table, 'name' or 'schema.name'";
        let named =
            given.text("fts_table", what)?.ok_or_else(|| wrong(format!("fts_table is {what}, got NULL")))?;
        let Some((schema, name)) = table_called(db, named)? else {
            return Err(wrong(format!("no such table: {}", beginning(named))));
        };
        let sql = sql_of(db, &schema, &name)?.unwrap_or_default();
        if !is_fts5(&sql) {
            return Err(wrong(format!(
                "'{name}' is not an FTS5 table (CREATE VIRTUAL TABLE ... USING fts5)"
            )));
        }
        let qualified = format!("{}.{}", quoted(&schema), quoted(&name));
        // Where SQLite lacks FTS5, it cannot open the table.
        db.prepare_on_tables(&format!("SELECT 1 FROM {qualified}"))
            .map_err(|error| about(format!("fts_table '{name}'"), error))?;
        let mode = given.word("fts_mode", &Mode::NAMES)?;
        let query = match given.get("query_text") {
            Some(value) if value.kind() == Kind::Blob => {
                return Err(wrong(format!("query_text is a text, got {}", shown(value))));
            }
            other => other.map(Value::text).transpose()?,
        };
        let columns = match given.text("fts_columns", "a text like 'title, body' or a JSON array")? {
            Some(list) => columns_of(db, &schema, &name, list)?,
            None => Vec::new(),
        };
        Ok(Self { name, schema, qualified, query, mode, columns })
    }

    /// The rows that match best.
    ///
    /// # Errors
    /// What the search fails with.
    pub fn search(&self, db: Db, vectors: &str, among: &Among<'_>, candidates: i64) -> Result<Vec<Found>> {
        let query = |phrases| {
            self.query
                .and_then(|text| words::query(text, self.mode, phrases))
                .map(|query| words::within(&self.columns, &query))
        };
        let Some(text) = query(true) else { return Ok(Vec::new()) };
        let table = &self.qualified;
        let mut sql = format!(
            "SELECT rowid, rank, ?{} FROM {table}(?1)",
            among.place() - 1 + usize::from(among.rowids.is_some())
        );
        let mut word = " WHERE";
        let mut and = |term: String| {
            let _ = write!(sql, "{word} {term}");
            word = " AND";
        };
        // A row that the text finds has no distance.
        let filter: Vec<&Term> = among.filter.terms.iter().filter(|term| !term.has_distance).collect();
        if !filter.is_empty() {
            and(format!("+rowid IN (SELECT rowid FROM {vectors} WHERE {})", joined(filter)));
        }
        if !among.of_text.terms.is_empty() {
            and(joined(&among.of_text.terms));
        }
        if among.rowids.is_some() {
            // The sign keeps SQLite from searching once for each rowid.
            and(format!("+rowid IN (SELECT value FROM json_each(?{}))", among.place()));
        }
        sql.push_str(" ORDER BY rank, rowid LIMIT ?2");
        let run = |text: &str| -> Result<Vec<Found>> {
            let params = among.params(Param::Text(text), candidates, None);
            let mut statement = db.prepare_on_tables(&sql)?;
            let mut rows = statement.query(&params)?;
            let mut found = Vec::new();
            while rows.step()? {
                // FTS5 has the best rows first, with the smallest numbers.
                let value = Some(0.0 - rows.f64(1));
                found.try_push(Found { rowid: rows.i64(0), rank: found.len() as i64 + 1, value })?;
            }
            Ok(found)
        };
        let mut found = run(&text);
        if let (Err(error), true) = (&found, self.mode != Mode::Fts5) {
            // A table with detail=none or detail=column.
            if error.message.contains("phrase queries are not supported") {
                found = query(false).map_or(Ok(Vec::new()), |text| run(&text));
            }
        }
        found.map_err(|error| about(format!("fts_table '{}'", self.name), error))
    }
}

/// Whether a CREATE statement is one of an FTS5 table.
fn is_fts5(sql: &str) -> bool {
    let mut words = Vec::new();
    for token in tokens(sql) {
        match token {
            Ok((tokens::Kind::Comment, _)) => {}
            Ok((_, "(")) | Err(_) => break,
            Ok((_, token)) if token.trim_ascii().is_empty() => {}
            Ok((_, token)) => words.push(token),
        }
    }
    let [first, second, .., using, module] = words.as_slice() else { return false };
    let module = module.trim_matches(['"', '`', '[', ']', '\'']);
    first.eq_ignore_ascii_case("CREATE")
        && second.eq_ignore_ascii_case("VIRTUAL")
        && using.eq_ignore_ascii_case("USING")
        && module.eq_ignore_ascii_case("fts5")
}

/// Columns of an FTS5 table, by a JSON array of their names, or by their names with commas between.
fn columns_of(db: Db, schema: &str, name: &str, list: &str) -> Result<Vec<String>> {
    let mut known = Vec::new();
    let sql = format!("PRAGMA {}.table_xinfo({})", quoted(schema), quoted(name));
    let mut statement = db.prepare_on_tables(&sql)?;
    let mut rows = statement.query(&[])?;
    while rows.step()? {
        if rows.i64(6) == 0 {
            known.push(rows.text(1)?.to_string());
        }
    }
    let named: Vec<String> = match serde_json::from_str(list) {
        Ok(named) => named,
        Err(_) => {
            list.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
        }
    };
    let mut columns = Vec::new();
    for named in named {
        let found = known.iter().find(|known| known.eq_ignore_ascii_case(&named)).ok_or_else(|| {
            wrong(format!(
                "fts_columns must be columns of '{name}' ({}), got '{}'",
                known.join(", "),
                beginning(&named)
            ))
        })?;
        columns.push(found.clone());
    }
    if columns.is_empty() {
        return Err(wrong(format!(
            "fts_columns must be columns of '{name}' ({}), got none",
            known.join(", ")
        )));
    }
    Ok(columns)
}
