//! `ivf_hybrid(vec_table, fts_table, query_vector, query_text, k)`: one answer of a vector search and a full-text
//! search over tables that share rowids.
//!
//! Both sides are SQL statements on the connection, so they see what the connection sees, and use FTS5 only
//! through SQL. SQLite keeps what they read from at one version until the statement around them ends.

mod condition;
mod fuse;
mod maxsim;
mod sides;
mod words;

use std::fmt::Display;
use std::rc::Rc;

use crate::base::alloc::TryExtend;
use crate::sqlite::{Db, Error, Kind, Result, Value};
use crate::vtab::hybrid::condition::Condition;
use crate::vtab::hybrid::fuse::{Fused, Fusion};
use crate::vtab::hybrid::sides::{TextSide, VectorSide};
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::{Cell, Column, TableFunction, register as register_function};
use crate::vtab::values::number::{exact_rowid, k_of, number, shown};

const HYBRID: Function = Function("ivf_hybrid");

/// Registers the functions.
///
/// # Errors
/// What SQLite says.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    register_function::<IvfHybrid>(db, Rc::clone(connection))?;
    register_function::<maxsim::IvfMaxsim>(db, Rc::clone(connection))
}

/// The name of a function, which its errors begin with.
#[derive(Debug, Clone, Copy)]
struct Function(&'static str);

impl Function {
    fn wrong(self, what: impl Display) -> Error {
        Error::generic(format!("{}: {what}", self.0))
    }

    /// An error of an inner statement, with what it is about. Others than plain errors are told as they are.
    fn about(self, what: impl Display, error: Error) -> Error {
        if error.primary() == crate::sqlite::ffi::SQLITE_ERROR {
            return self.wrong(format!("{what}: {}", error.message));
        }
        error
    }
}

struct IvfHybrid;

impl TableFunction for IvfHybrid {
    type Environment = Rc<Connection>;
    type Row = Fused;

    const NAME: &'static str = HYBRID.0;
    const COLUMNS: &'static [Column<Fused>] = &[
        ("rowid", |row| Cell::I64(row.rowid)),
        ("rank", |row| Cell::I64(row.rank)),
        ("score", |row| Cell::F64(row.score)),
        ("vec_rank", |row| row.near.map_or(Cell::Null, |near| Cell::I64(near.rank))),
        ("vec_distance", |row| row.near.and_then(|near| near.value).map_or(Cell::Null, Cell::F64)),
        ("fts_rank", |row| row.matching.map_or(Cell::Null, |matching| Cell::I64(matching.rank))),
        ("fts_score", |row| row.matching.and_then(|matching| matching.value).map_or(Cell::Null, Cell::F64)),
    ];
    const ARGUMENTS: &'static [&'static str] = &[
        "vec_table",
        "fts_table",
        "query_vector",
        "query_text",
        "k",
        "vec_column",
        "vec_params",
        "filter",
        "filter_values",
        "fts_mode",
        "fts_columns",
        "fts_filter",
        "fts_filter_values",
        "fusion",
        "rank_constant",
        "vec_weight",
        "fts_weight",
        "candidates",
    ];
    const REQUIRED: usize = 5;
    const ROWIDS: Option<usize> = Some(0);

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<Fused>> {
        let given = Given { function: HYBRID, names: Self::ARGUMENTS, arguments };
        let vectors = VectorSide::find(db, connection, &given)?;
        let text = TextSide::find(db, &given)?;
        let fusion = Fusion::read(&given)?;
        // NULL equals nothing, as in other searches.
        let Some(k) = given.k()? else { return Ok(Vec::new()) };
        let candidates = given.candidates()?.unwrap_or_else(|| fusion.candidates(k));
        // Parameters 1 and 2 of both sides are the query and the number of candidates.
        let filter = Condition::read(db, &given, "filter", &vectors.qualified, 2)?;
        let of_text = Condition::read(db, &given, "fts_filter", &text.qualified, 2 + filter.values.len())?;
        let rowids = given.rowids()?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let among = vectors.among(db, filter, of_text, rowids)?;
        let matching = text.search(db, &vectors, &among, candidates)?;
        // The last search of the table, so that `ivf_profile` tells of it.
        let near = vectors.search(db, &text.qualified, &among, candidates)?;
        fuse::fuse(db, &fusion, near, matching, k)
    }
}

/// The arguments, by their names.
struct Given<'a> {
    function: Function,
    names: &'static [&'static str],
    arguments: &'a [Option<Value<'a>>],
}

impl<'a> Given<'a> {
    /// An argument; none if it was not given or is NULL.
    fn get(&self, name: &str) -> Option<&'a Value<'a>> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.arguments.get(at)?.as_ref().filter(|value| !value.is_null())
    }

    /// An argument that is a text.
    fn text(&self, name: &str, what: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            Some(value) if value.kind() == Kind::Text => value.text().map(Some),
            Some(value) => Err(self.function.wrong(format!("{name} is {what}, got {}", shown(value)))),
            None => Ok(None),
        }
    }

    /// An argument that is one of some words.
    fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T> {
        let Some(value) = self.get(name) else { return Ok(words[0].1) };
        let text = if value.kind() == Kind::Text { value.text()? } else { "" };
        let found = words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
        found.map(|(_, of)| *of).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.function.wrong(format!("{name} must be one of {}, got {}", words.join(", "), shown(value)))
        })
    }

    /// An argument that is a number from 0.
    fn number(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        number(value).filter(|number| *number >= 0.0 && number.is_finite()).ok_or_else(|| {
            self.function.wrong(format!("{name} must be a number from 0, got {}", shown(value)))
        })
    }

    /// The number of answers.
    fn k(&self) -> Result<Option<i64>> {
        let k = self.get("k").map(|k| k_of(k).map_err(|error| self.function.wrong(error.message)));
        Ok(k.transpose()?.map(|k| k as i64))
    }

    /// The number of candidates, if it is given.
    fn candidates(&self) -> Result<Option<i64>> {
        let Some(value) = self.get("candidates") else { return Ok(None) };
        let whole = number(value).filter(|number| *number >= 1.0 && number.fract() == 0.0);
        let wrong =
            || self.function.wrong(format!("candidates must be a whole number from 1, got {}", shown(value)));
        Ok(Some(whole.ok_or_else(wrong)? as i64))
    }

    /// The rows of `rowid IN (...)`, ascending.
    fn rowids(&self) -> Result<Option<Vec<i64>>> {
        let Some(Some(value)) = self.arguments.get(self.names.len()) else { return Ok(None) };
        let mut rowids = Vec::new();
        if let Some(mut list) = value.as_in_list()? {
            while let Some(value) = list.next_value()? {
                rowids.try_extend(exact_rowid(&value))?;
            }
        }
        rowids.sort_unstable();
        rowids.dedup();
        Ok(Some(rowids))
    }
}
