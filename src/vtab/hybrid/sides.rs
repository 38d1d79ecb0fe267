//! The two sides of a hybrid search, each one SQL statement.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::base::alloc::TryExtend;
use crate::sqlite::{Db, Error, Kind, Param, Result, Value, ffi, json_array, qualified, quoted, sql_of};
use crate::storage::Element;
use crate::vtab::hybrid::condition::{Condition, Term};
use crate::vtab::hybrid::fuse::Found;
use crate::vtab::hybrid::words::{self, Mode};
use crate::vtab::hybrid::{Function, Given, HYBRID};
use crate::vtab::inspect::{self, table_called};
use crate::vtab::schema::columns::Column;
use crate::vtab::schema::tokens::{self, tokens};
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::Cell;
use crate::vtab::values::element::element_of;
use crate::vtab::values::number::{beginning, shown};

/// The rows that may be answers.
pub struct Among {
    /// On the columns of the `ivf` table: terms that are part of a search of it.
    pub searched: Vec<Term>,
    /// On the columns of the FTS5 table.
    of_text: Vec<Term>,
    /// The values of both.
    values: Vec<Cell>,
    /// Ascending.
    pub rowids: Option<Vec<i64>>,
}

impl Among {
    /// The parameters of a statement: a query, a number of rows, the values of both filters, and `more`.
    pub fn params<'a>(&'a self, query: Param<'a>, rows: i64, more: &[Param<'a>]) -> Vec<Param<'a>> {
        let mut params = vec![query, Param::I64(rows)];
        params.extend(self.values.iter().map(Cell::param));
        params.extend(more);
        params
    }

    /// The number of the first of the `more` parameters.
    pub fn more(&self) -> usize {
        3 + self.values.len()
    }

    /// The terms that rows without a distance can meet.
    fn without_distance(&self) -> String {
        joined(self.searched.iter().filter(|term| !term.has_distance))
    }
}

fn joined<'t>(terms: impl IntoIterator<Item = &'t Term>) -> String {
    terms.into_iter().map(|term| term.sql.as_str()).collect::<Vec<_>>().join(" AND ")
}

/// The rowids that a statement gives, ascending.
fn rowids_of(db: Db, sql: &str, params: &[Param<'_>]) -> Result<Vec<i64>> {
    let mut statement = db.prepare_on_tables(sql)?;
    let mut rows = statement.query(params)?;
    let mut rowids = Vec::new();
    while rows.step()? {
        rowids.try_push(rows.i64(0))?;
    }
    rowids.sort_unstable();
    Ok(rowids)
}

/// The rows that a statement gives in their order, with the value of each.
fn ranked(db: Db, sql: &str, params: &[Param<'_>], value: fn(f64) -> f64) -> Result<Vec<Found>> {
    let mut statement = db.prepare_on_tables(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while rows.step()? {
        let value = (rows.kind(1) != Kind::Null).then(|| value(rows.f64(1)));
        found.try_push(Found { rowid: rows.i64(0), rank: found.len() as i64 + 1, value })?;
    }
    Ok(found)
}

/// The vectors.
pub struct VectorSide<'a> {
    function: Function,
    pub table: Rc<Table>,
    /// Schema and name as SQL has them.
    pub qualified: String,
    pub column: Column,
    query: Option<&'a Value<'a>>,
    pub params: Option<&'a str>,
}

impl<'a> VectorSide<'a> {
    /// # Errors
    /// A table or column that there is not; settings that cannot be given.
    pub fn find(db: Db, connection: &Connection, given: &Given<'a>) -> Result<Self> {
        let table = inspect::table(db, connection, given.function.0, given.arguments)?;
        let columns = &table.options.columns;
        let name = table.name();
        if columns.is_without_rowid() {
            return Err(given
                .function
                .wrong(format!("'{name}' is a vec0 table with a TEXT PRIMARY KEY: it has no rowids")));
        }
        let column = match given.text("vec_column", "the name of a vector column")? {
            Some(named) => table.options.vector_called(named).ok_or_else(|| {
                given.function.wrong(format!(
                    "vec_column must be a vector column of '{name}' ({}), got '{}'",
                    table.options.vector_names(),
                    beginning(named)
                ))
            })?,
            None => 0,
        };
        let column = table.options.vectors[column].clone();
        let params = given.text("vec_params", "a text like 'nprobe=16, max_codes=5000'")?;
        if params.is_some() && !columns.has_hidden("params") {
            return Err(given
                .function
                .wrong(format!("'{name}' has a column params: vec_params cannot be used with it")));
        }
        let qualified = qualified(table.schema(), &name);
        let query = given.get("query_vector");
        Ok(Self { function: given.function, qualified, column, query, params, table })
    }

    /// Which rows may be answers: those that meet both filters, and are among `rowids`.
    ///
    /// SQLite tests some conditions after a search. These are looked up before it, and become a set of rows.
    ///
    /// # Errors
    /// A condition on the distance that is no part of the search; what the look-up fails with.
    pub fn among(
        &self,
        db: Db,
        filter: Condition,
        of_text: Condition,
        mut rowids: Option<Vec<i64>>,
    ) -> Result<Among> {
        let mut among =
            Among { searched: Vec::new(), of_text: of_text.terms, values: filter.values, rowids: None };
        among.values.extend(of_text.values);
        // A search of no rows, so that an error of the query is not taken for one of a term.
        if !filter.terms.is_empty() {
            self.try_search(db, &among, "").map_err(|error| self.told(error))?;
        }
        let mut looked_up = Vec::new();
        for term in filter.terms {
            // `packed = 1` allows only what is part of a search.
            match self.try_search(db, &among, &format!(" AND packed = 1 AND {}", term.sql)) {
                Ok(()) => among.searched.push(term),
                Err(error) if error.primary() == ffi::SQLITE_ERROR => looked_up.push(term),
                Err(error) => return Err(error),
            }
        }
        if let Some(term) = looked_up.iter().find(|term| term.has_distance) {
            let what =
                "a condition on the distance stands alone or between ANDs, and compares it with a value";
            return Err(self.function.wrong(format!("filter: {what}, got '{}'", beginning(&term.sql))));
        }
        if !looked_up.is_empty() {
            let sql = format!(
                "SELECT rowid, ?{} FROM {} WHERE {}",
                among.more() - 1,
                self.qualified,
                joined(&looked_up)
            );
            let mut found = rowids_of(db, &sql, &among.params(Param::Null, 0, &[]))
                .map_err(|error| self.function.about("filter", error))?;
            if let Some(rowids) = rowids {
                found.retain(|rowid| rowids.binary_search(rowid).is_ok());
            }
            rowids = Some(found);
        }
        among.rowids = rowids;
        Ok(among)
    }

    /// The condition of a search, without its k.
    fn matched(&self) -> String {
        let name = quoted(&self.column.name);
        // A bound value has no subtype.
        let query = match self.query.map(element_of) {
            Some(Some(Element::F32)) => "vec_f32(?1)",
            Some(Some(Element::F16)) => "vec_f16(?1)",
            Some(Some(Element::Bf16)) => "vec_bf16(?1)",
            Some(Some(Element::Int8)) => "vec_int8(?1)",
            Some(Some(Element::Bit)) => "vec_bit(?1)",
            Some(None) => "?1",
            // Any vector serves to look for rows that meet a condition.
            None => &format!("(SELECT {name} FROM {} LIMIT 1)", self.qualified),
        };
        format!("{name} MATCH {query} AND k = ")
    }

    fn param(&self) -> Result<Param<'a>> {
        self.query.map_or(Ok(Param::Null), Value::param)
    }

    /// Searches for no rows with a further condition.
    fn try_search(&self, db: Db, among: &Among, and: &str) -> Result<()> {
        let (last, table, matched) = (among.more() - 1, &self.qualified, self.matched());
        let sql = format!("SELECT 1, ?{last} FROM {table} WHERE {matched}0{and}");
        db.prepare_on_tables(&sql)?.execute(&among.params(self.param()?, 0, &[]))
    }

    fn told(&self, error: Error) -> Error {
        self.function.about(format!("vec_table '{}'", self.table.name()), error)
    }

    /// Those of some rows that meet the filter on the columns of this table, ascending.
    fn meeting(&self, db: Db, among: &Among, mut rowids: Vec<i64>) -> Result<Vec<i64>> {
        /// Up to so many rows, a search looks up their lists: as ivf's own `rowid IN (...)`.
        const FEW: usize = 10_000;
        /// Up to so many rows are looked up one by one, which costs as much as a scan of twenty times as many.
        const SINGLE: usize = 1_000;
        let (more, terms) = (among.more(), among.without_distance());
        let select = |last: usize| format!("SELECT rowid, ?{last} FROM {} WHERE ", self.qualified);
        // A search of an index over a table leaves out rows without a vector there, which have metadata all the same.
        let is_found = !self.table.is_over_content() && self.table.options.columns.has_hidden("params");
        if rowids.len() <= if is_found { FEW } else { SINGLE } {
            let rowids = json_array(rowids.iter().copied())?;
            let params = among.params(self.param()?, i64::MAX, &[Param::Text(&rowids)]);
            let matched = match is_found {
                true => {
                    format!("{}?2 AND params = 'nprobe=-1, max_codes=0, profile=exact' AND ", self.matched())
                }
                false => String::new(),
            };
            let sql = format!(
                "{}{matched}{terms} AND rowid IN (SELECT value FROM json_each(?{more}))",
                select(more)
            );
            return rowids_of(db, &sql, &params);
        }
        let sql = format!("{}{terms}", select(more - 1));
        let meeting = rowids_of(db, &sql, &among.params(Param::Null, 0, &[]))?;
        rowids.retain(|rowid| meeting.binary_search(rowid).is_ok());
        rowids.sort_unstable();
        Ok(rowids)
    }

    /// The nearest rows.
    ///
    /// # Errors
    /// What the search fails with.
    pub fn search(&self, db: Db, text: &str, among: &Among, candidates: i64) -> Result<Vec<Found>> {
        if self.query.is_none() {
            return Ok(Vec::new());
        }
        let rowids = among.rowids.as_deref().map(|rowids| json_array(rowids.iter().copied())).transpose()?;
        let more: Vec<Param<'_>> =
            [rowids.as_deref(), self.params].into_iter().flatten().map(Param::Text).collect();
        let params = among.params(self.param()?, candidates, &more);
        let mut sql = format!(
            "SELECT rowid, distance, ?{} FROM {} WHERE {}?2",
            params.len(),
            self.qualified,
            self.matched()
        );
        let mut and = |term: &str| {
            let _ = write!(sql, " AND {term}");
        };
        among.searched.iter().for_each(|term| and(&term.sql));
        if !among.of_text.is_empty() {
            and(&format!("rowid IN (SELECT rowid FROM {text} WHERE {})", joined(&among.of_text)));
        }
        if rowids.is_some() {
            and(&format!("rowid IN (SELECT value FROM json_each(?{}))", among.more()));
        }
        if self.params.is_some() {
            and(&format!("params = ?{}", params.len()));
        }
        sql.push_str(" ORDER BY distance, rowid");
        ranked(db, &sql, &params, |distance| distance).map_err(|error| self.told(error))
    }
}

/// The texts.
pub struct TextSide<'a> {
    name: String,
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
        let named = given
            .text("fts_table", what)?
            .ok_or_else(|| HYBRID.wrong(format!("fts_table is {what}, got NULL")))?;
        let Some((schema, name)) = table_called(db, named)? else {
            return Err(HYBRID.wrong(format!("no such table: {}", beginning(named))));
        };
        let sql = sql_of(db, &schema, &name)?.unwrap_or_default();
        if !is_fts5(&sql) {
            return Err(
                HYBRID.wrong(format!("'{name}' is not an FTS5 table (CREATE VIRTUAL TABLE ... USING fts5)"))
            );
        }
        let qualified = qualified(&schema, &name);
        // Where SQLite lacks FTS5, it cannot open the table.
        db.prepare_on_tables(&format!("SELECT 1 FROM {qualified}"))
            .map_err(|error| HYBRID.about(format!("fts_table '{name}'"), error))?;
        let mode = given.word("fts_mode", &Mode::NAMES)?;
        let query = match given.get("query_text") {
            Some(value) if value.kind() == Kind::Blob => {
                return Err(HYBRID.wrong(format!("query_text is a text, got {}", shown(value))));
            }
            other => other.map(Value::text).transpose()?,
        };
        let columns = match given.text("fts_columns", "a text like 'title, body' or a JSON array")? {
            Some(list) => columns_of(db, &schema, &name, list)?,
            None => Vec::new(),
        };
        Ok(Self { name, qualified, query, mode, columns })
    }

    /// The rows that match best.
    ///
    /// # Errors
    /// What the search fails with.
    pub fn search(
        &self,
        db: Db,
        vectors: &VectorSide<'_>,
        among: &Among,
        candidates: i64,
    ) -> Result<Vec<Found>> {
        let query = |phrases| {
            let query = self.query.and_then(|text| words::query(text, self.mode, phrases));
            query.map(|query| words::within(&self.columns, query)).transpose()
        };
        let Some(text) = query(true)? else { return Ok(Vec::new()) };
        let found = match self.matching(db, &text, vectors, among, candidates) {
            // A table with detail=none or detail=column.
            Err(error)
                if self.mode != Mode::Fts5 && error.message.contains("phrase queries are not supported") =>
            {
                let Some(text) = query(false)? else { return Ok(Vec::new()) };
                self.matching(db, &text, vectors, among, candidates)
            }
            other => other,
        };
        found.map_err(|error| HYBRID.about(format!("fts_table '{}'", self.name), error))
    }

    fn matching(
        &self,
        db: Db,
        text: &str,
        vectors: &VectorSide<'_>,
        among: &Among,
        candidates: i64,
    ) -> Result<Vec<Found>> {
        let last = among.more() - 1;
        let mut of_table = format!("FROM {}(?1)", self.qualified);
        if !among.of_text.is_empty() {
            let _ = write!(of_table, " WHERE {}", joined(&among.of_text));
        }
        let mut only = String::new();
        if among.rowids.is_some() || !among.without_distance().is_empty() || !among.of_text.is_empty() {
            // Ranks are computed for the rows only that may be answers: they cost more than the matching. And a LIKE or
            // GLOB that FTS5 looks up itself, with the trigram tokenizer, would count in them.
            let params = among.params(Param::Text(text), 0, &[]);
            let mut rowids = rowids_of(db, &format!("SELECT rowid, ?{last} {of_table}"), &params)?;
            if let Some(only) = &among.rowids {
                rowids.retain(|rowid| only.binary_search(rowid).is_ok());
            }
            if !among.without_distance().is_empty() {
                rowids = vectors.meeting(db, among, rowids)?;
            }
            only = json_array(rowids.iter().copied())?;
            // The sign keeps SQLite from matching once for each rowid.
            of_table = format!(
                "FROM {}(?1) WHERE +rowid IN (SELECT value FROM json_each(?{}))",
                self.qualified,
                last + 1
            );
        }
        let more = if only.is_empty() { &[][..] } else { &[Param::Text(&only)] };
        let params = among.params(Param::Text(text), candidates, more);
        let sql = format!("SELECT rowid, rank, ?{} {of_table} ORDER BY rank, rowid LIMIT ?2", params.len());
        // FTS5 gives the best rows the smallest numbers.
        ranked(db, &sql, &params, |rank| 0.0 - rank)
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
            HYBRID.wrong(format!(
                "fts_columns must be columns of '{name}' ({}), got '{}'",
                known.join(", "),
                beginning(&named)
            ))
        })?;
        columns.push(found.clone());
    }
    if columns.is_empty() {
        return Err(
            HYBRID.wrong(format!("fts_columns must be columns of '{name}' ({}), got none", known.join(", ")))
        );
    }
    Ok(columns)
}
