//! `ivf_maxsim(vec_table, token_vectors, k, per)`: late interaction (Khattab and Zaharia, ColBERT, SIGIR 2020).
//!
//! A document is several rows, one for each of its tokens, and so is the query. A document scores the sum, over
//! the query's tokens, of the similarity of the most similar of its rows. The documents that are nearest to each
//! token are the candidates; of these the sums are exact.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::rc::Rc;

use crate::base::alloc::TryExtend;
use crate::index::Metric;
use crate::sqlite::{Db, Kind, Param, Result, Value, json_array, quoted};
use crate::vtab::hybrid::condition::Condition;
use crate::vtab::hybrid::sides::{Among, VectorSide};
use crate::vtab::hybrid::{Function, Given};
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::{Cell, Column, TableFunction};
use crate::vtab::values::element::element_of;
use crate::vtab::values::number::shown;

const MAXSIM: Function = Function("ivf_maxsim");

/// How many documents each token finds: so many times k, and at least the second number.
const CANDIDATES: [i64; 2] = [5, 50];

/// All rows that meet the conditions, exactly.
const EXACT: &str = "nprobe=-1, max_codes=0, profile=exact";

pub struct IvfMaxsim;

/// A document of the answer.
pub struct Scored {
    rank: i64,
    document: Cell,
    score: f64,
}

impl TableFunction for IvfMaxsim {
    type Environment = Rc<Connection>;
    type Row = Scored;

    const NAME: &'static str = MAXSIM.0;
    const COLUMNS: &'static [Column<Scored>] = &[
        ("rank", |row| Cell::I64(row.rank)),
        ("document", |row| row.document.clone()),
        ("score", |row| Cell::F64(row.score)),
    ];
    const ARGUMENTS: &'static [&'static str] = &[
        "vec_table",
        "token_vectors",
        "k",
        "per",
        "vec_column",
        "vec_params",
        "filter",
        "filter_values",
        "candidates",
    ];
    const REQUIRED: usize = 4;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<Scored>> {
        let given = Given { function: MAXSIM, names: Self::ARGUMENTS, arguments };
        let vectors = VectorSide::find(db, connection, &given)?;
        let tokens = Tokens::read(&given, &vectors)?;
        let per = per_of(&given, &vectors)?;
        let (Some(k), Some(tokens)) = (given.k()?, tokens) else { return Ok(Vec::new()) };
        let [times, least] = CANDIDATES;
        let candidates = given.candidates()?.unwrap_or(k.saturating_mul(times).max(least));
        let filter = Condition::read(db, &given, "filter", &vectors.qualified, 2)?;
        let among = vectors.among(db, filter, Condition::default(), None)?;
        let search = Search { db, vectors: &vectors, tokens: &tokens, among: &among, per: &per };
        let near = search.candidates(candidates)?;
        let mut documents = search.scores(&near)?;
        documents.sort_unstable_by(|a, b| {
            b.score.total_cmp(&a.score).then_with(|| order(&a.document, &b.document))
        });
        documents.truncate(usize::try_from(k).unwrap_or(usize::MAX));
        (1..).zip(&mut documents).for_each(|(rank, row)| row.rank = rank);
        Ok(documents)
    }
}

/// The name of the column whose values are the documents.
fn per_of(given: &Given<'_>, vectors: &VectorSide<'_>) -> Result<String> {
    let columns = &vectors.table.options.columns;
    let named = given.get("per").filter(|value| value.kind() == Kind::Text).map(Value::text).transpose()?;
    let found = named.and_then(|name| columns.packed_called(name));
    found.map(|column| column.name.clone()).ok_or_else(|| {
        let names = columns.packed_names();
        let got = given.get("per").map_or("NULL".into(), shown);
        MAXSIM.wrong(format!("per must be a metadata or partition column ({names}), got {got}"))
    })
}

/// The vectors of the query, as statements search for them.
struct Tokens<'a> {
    /// The left side of MATCH.
    of: String,
    /// A batch, or one vector after the other where a batch cannot search.
    queries: Vec<Param<'a>>,
    is_batch: bool,
}

impl<'a> Tokens<'a> {
    /// `None` for NULL.
    fn read(given: &Given<'a>, vectors: &VectorSide<'a>) -> Result<Option<Self>> {
        let Some(value) = given.get("token_vectors") else { return Ok(None) };
        let (column, columns) = (&vectors.column, &vectors.table.options.columns);
        if let Some(element) = element_of(value).filter(|element| *element != column.element) {
            let (got, name) = (element.name(), column.element.name());
            return Err(MAXSIM.wrong(format!("token_vectors are {got}, '{}' is {name}", column.name)));
        }
        if !columns.has_hidden("params") {
            let table = vectors.table.name();
            return Err(MAXSIM
                .wrong(format!("'{table}' has a column params: {} cannot set a search of it", MAXSIM.0)));
        }
        let is_first = vectors.table.options.vectors.first().is_some_and(|first| first.name == column.name);
        let is_batch = is_first && columns.has_hidden("batch") && columns.has_hidden("query");
        let (of, queries) = match value.param()? {
            batch if is_batch => ("batch".into(), vec![batch]),
            Param::Blob(blob) => {
                let bytes = column.element.bytes(column.dim);
                if blob.is_empty() || blob.len() % bytes != 0 {
                    let (n, name) = (blob.len(), column.element.name());
                    return Err(MAXSIM.wrong(format!(
                        "token_vectors: a blob of {n} bytes is not a batch of {name}[{}]",
                        column.dim
                    )));
                }
                (quoted(&column.name), blob.chunks_exact(bytes).map(Param::Blob).collect())
            }
            _ => {
                let what = format!(
                    "token_vectors for '{}' are a blob of vectors, as vec_pack makes it, got {}",
                    column.name,
                    shown(value)
                );
                return Err(MAXSIM.wrong(what));
            }
        };
        Ok(Some(Self { of, queries, is_batch }))
    }
}

/// Documents, as JSON arrays.
enum Near {
    Documents(String),
    /// By a row of each: not every value is the same after it was JSON.
    Rows(String),
}

impl Near {
    fn of(near: &[(Cell, i64)]) -> Result<Self> {
        let documents = near.iter().map(|(document, _)| match document {
            Cell::I64(value) => Some(serde_json::Value::from(*value)),
            Cell::Text(value) if !value.contains('\0') => Some(value.as_str().into()),
            _ => None,
        });
        match documents.collect::<Option<Vec<_>>>() {
            Some(documents) => Ok(Self::Documents(serde_json::Value::from(documents).to_string())),
            None => Ok(Self::Rows(json_array(near.iter().map(|(_, rowid)| *rowid))?)),
        }
    }
}

/// The two searches.
struct Search<'a> {
    db: Db,
    vectors: &'a VectorSide<'a>,
    tokens: &'a Tokens<'a>,
    among: &'a Among,
    per: &'a str,
}

impl Search<'_> {
    /// Runs a search for each token, and passes the token, the rowid, the document and the distance of each row.
    /// `near`: only these documents.
    fn each(
        &self,
        k: i64,
        params: &str,
        near: Option<&Near>,
        mut row: impl FnMut(i64, i64, Cell, f64) -> Result<()>,
    ) -> Result<()> {
        let Self { vectors, tokens, among, per, .. } = self;
        let (document, table) = (quoted(per), &vectors.qualified);
        let mut terms = format!("{} MATCH ?1 AND k = ?2 AND {document} IS NOT NULL", tokens.of);
        among.searched.iter().for_each(|term| {
            let _ = write!(terms, " AND {}", term.sql);
        });
        let rowids = among.rowids.as_deref().map(|rowids| json_array(rowids.iter().copied())).transpose()?;
        // A declared column may have the name `per`.
        let is_own = vectors.table.options.columns.has_hidden("per");
        let with_per = format!("{params}, per={per}");
        let among_near = near.map(|near| match near {
            Near::Documents(_) => format!("{document} IN (SELECT value FROM json_each("),
            Near::Rows(_) => {
                format!("{document} IN (SELECT {document} FROM {table} WHERE rowid IN (SELECT value FROM json_each(")
            }
        });
        let bound = [
            is_own.then_some(("per = ", *per, "")),
            Some(("params = ", if is_own { params } else { &with_per }, "")),
            rowids.as_deref().map(|rowids| ("rowid IN (SELECT value FROM json_each(", rowids, "))")),
            near.zip(among_near.as_deref()).map(|(near, term)| match near {
                Near::Documents(documents) => (term, documents.as_str(), "))"),
                Near::Rows(rowids) => (term, rowids.as_str(), ")))"),
            }),
        ];
        let mut more: Vec<Param<'_>> = Vec::new();
        for (before, value, after) in bound.into_iter().flatten() {
            let _ = write!(terms, " AND {before}?{}{after}", among.more() + more.len());
            more.push(Param::Text(value));
        }
        let query = if tokens.is_batch { "query" } else { "0" };
        // The last parameter is named, because those of the filter may all be unused.
        let last = among.more() + more.len() - 1;
        let sql = format!("SELECT {query}, rowid, {document}, distance, ?{last} FROM {table} WHERE {terms}");
        let mut statement = self.db.prepare_on_tables(&sql)?;
        for (number, query) in (0..).zip(&tokens.queries) {
            let params = among.params(*query, k, &more);
            let mut rows = statement.query(&params)?;
            while rows.step()? {
                row(number + rows.i64(0), rows.i64(1), Cell::copy(rows.param(2)?)?, rows.f64(3))?;
            }
        }
        Ok(())
    }

    /// The documents that are nearest to each token, ascending, each with a row.
    fn candidates(&self, k: i64) -> Result<Vec<(Cell, i64)>> {
        let mut near = Vec::new();
        let params = self.vectors.params.unwrap_or_default();
        self.each(k, params, None, |_, rowid, document, _| Ok(near.try_push((document, rowid))?))
            .map_err(|error| MAXSIM.about(format!("vec_table '{}'", self.vectors.table.name()), error))?;
        near.sort_unstable_by(|(a, _), (b, _)| order(a, b));
        near.dedup_by(|(a, _), (b, _)| a == b);
        Ok(near)
    }

    /// The scores of documents.
    fn scores(&self, near: &[(Cell, i64)]) -> Result<Vec<Scored>> {
        if near.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(Cell, i64, f64)> = Vec::new();
        self.each(near.len() as i64, EXACT, Some(&Near::of(near)?), |token, _, document, distance| {
            Ok(found.try_push((document, token, distance))?)
        })?;
        found.sort_by(|(a, token, _), (b, other, _)| order(a, b).then(token.cmp(other)));
        let is_cosine = self.vectors.column.metric == Metric::Cosine;
        let mut scored: Vec<Scored> = Vec::new();
        for (document, _, distance) in found {
            let similarity = if is_cosine { 1.0 - distance } else { -distance };
            match scored.last_mut().filter(|last| last.document == document) {
                Some(last) => last.score += similarity,
                None => scored.try_push(Scored { rank: 0, document, score: similarity })?,
            }
        }
        Ok(scored)
    }
}

/// The order of documents: of numbers, or of the bytes of texts.
fn order(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        (Cell::I64(a), Cell::I64(b)) => a.cmp(b),
        (Cell::F64(a), Cell::F64(b)) => a.total_cmp(b),
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}
