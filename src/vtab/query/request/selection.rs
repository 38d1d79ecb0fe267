//! The settings of a search: `params`, `model`, and `per` and `mmr`, which say which of the near rows it returns, if not
//! the k nearest.

use std::mem::take;

use crate::base::alloc::{TryExtend, try_copy};
use crate::index::{Answers, Buffers, Condition, Datum, Per, SearchParams, Test};
use crate::sqlite::{Error, Kind, Result, Value};
use crate::vtab::plan::Argument;
use crate::vtab::query::request::{Request, Within};
use crate::vtab::schema::columns::Columns;
use crate::vtab::schema::knobs::params_of;
use crate::vtab::schema::model;
use crate::vtab::table::Table;
use crate::vtab::table::found::Found;
use crate::vtab::table::model::model_in;
use crate::vtab::table_function::Cell;
use crate::vtab::values::number::{beginning, number, shown};

/// How many candidates `mmr` chooses among, by default: so many times k, and at least the second number.
const CANDIDATES: [usize; 2] = [5, 50];

/// What a statement asks for in the place of the k nearest rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// Rows of the k nearest groups.
    pub per: Option<Per>,
    /// Rows that are far from each other.
    pub mmr: Option<Mmr>,
}

/// Maximal marginal relevance.
#[derive(Debug, Clone, Copy)]
pub struct Mmr {
    /// From 0 (far from each other) to 1 (near the query).
    pub lambda: f64,
    candidates: Option<usize>,
}

impl Mmr {
    /// How many rows to choose `wanted` ones among.
    ///
    /// # Errors
    /// If the statement gives fewer than are wanted.
    pub fn candidates(self, wanted: usize) -> Result<usize> {
        let [times, least] = CANDIDATES;
        match self.candidates {
            Some(candidates) if candidates < wanted => Err(Error::generic(format!(
                "mmr must have at least as many candidates as rows are asked for ({wanted}), got {candidates}"
            ))),
            Some(candidates) => Ok(candidates),
            None => Ok(wanted.saturating_mul(times).max(least)),
        }
    }
}

impl Selection {
    /// Whether it is that of an ordinary search.
    pub fn is_nearest(&self) -> bool {
        self.per.is_none() && self.mmr.is_none()
    }

    /// Reads `per`: a column, or a column and a number of rows, `doc_id:3`.
    ///
    /// # Errors
    /// If there is no such column, or no such number. The message names those that there are.
    pub fn set_per(&mut self, columns: &Columns, value: &Value<'_>) -> Result<()> {
        if value.kind() != Kind::Text {
            return Err(wrong_per(columns, &shown(value)));
        }
        self.set_per_text(columns, value.text()?)
    }

    fn set_per_text(&mut self, columns: &Columns, text: &str) -> Result<()> {
        let wrong = || wrong_per(columns, &format!("'{}'", beginning(text)));
        let called = |name: &str| columns.packed_called(name.trim()).map(|column| column.slot);
        // The name of a column may contain a colon.
        let per = match (called(text), text.rsplit_once(':')) {
            (Some(column), _) => Per { column, rows: 1 },
            (None, Some((name, rows))) => {
                let rows = rows.trim().parse().ok().filter(|rows| *rows >= 1).ok_or_else(wrong)?;
                Per { column: called(name).ok_or_else(wrong)?, rows }
            }
            _ => return Err(wrong()),
        };
        given_once("per", self.per.replace(per).is_some())
    }

    /// Reads `mmr`: lambda, or lambda and a number of candidates, `0.5:200`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn set_mmr(&mut self, value: &Value<'_>) -> Result<()> {
        match value.kind() {
            Kind::Text => self.set_mmr_text(value.text()?),
            _ => self.set_mmr_parts(number(value), None, &shown(value)),
        }
    }

    fn set_mmr_text(&mut self, text: &str) -> Result<()> {
        let (lambda, candidates) = text.split_once(':').map_or((text, None), |(l, c)| (l, Some(c)));
        self.set_mmr_parts(lambda.trim().parse().ok(), candidates, &format!("'{}'", beginning(text)))
    }

    fn set_mmr_parts(&mut self, lambda: Option<f64>, candidates: Option<&str>, shown: &str) -> Result<()> {
        let wrong = || {
            Error::generic(format!(
                "mmr must be a number from 0 (far from each other) to 1 (near the query), optionally with the \
                 number of candidates, like '0.5:200', got {shown}"
            ))
        };
        let lambda = lambda.filter(|lambda| (0.0..=1.0).contains(lambda)).ok_or_else(wrong)?;
        let whole = |text: &str| text.trim().parse().ok().filter(|n: &usize| *n >= 1).ok_or_else(wrong);
        let candidates = candidates.map(whole).transpose()?;
        given_once("mmr", self.mmr.replace(Mmr { lambda, candidates }).is_some())
    }

    /// Reads `per` and `mmr` of a text of settings. Returns the others.
    ///
    /// # Errors
    /// Those of [`Selection::set_per`] and [`Selection::set_mmr`].
    pub fn set_params(&mut self, columns: &Columns, texts: &str) -> Result<String> {
        let mut others = Vec::new();
        for text in texts.split(',') {
            match text.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some((name, value)) if name.eq_ignore_ascii_case("per") => {
                    self.set_per_text(columns, value)?
                }
                Some((name, value)) if name.eq_ignore_ascii_case("mmr") => self.set_mmr_text(value)?,
                _ => others.try_push(text)?,
            }
        }
        Ok(others.join(","))
    }
}

fn wrong_per(columns: &Columns, shown: &str) -> Error {
    let names = columns.packed_names();
    Error::generic(format!(
        "per must be a metadata or partition column ({names}), optionally with the most rows of each of its \
         values, like 'column:3', got {shown}"
    ))
}

fn given_once(name: &str, is_twice: bool) -> Result<()> {
    if is_twice { Err(Error::generic(format!("{name} is given twice"))) } else { Ok(()) }
}

impl Request {
    /// Reads an argument that says which of the near rows are wanted, or how. It is not NULL.
    ///
    /// # Errors
    /// If its value is not valid.
    pub(super) fn read_setting(
        &mut self,
        table: &Table,
        argument: Argument,
        value: &Value<'_>,
    ) -> Result<()> {
        let columns = &table.options.columns;
        let asked = match argument {
            Argument::Params => {
                let (model, settings) = model::out_of(params_of(value)?)
                    .map_err(|error| Error::generic(format!("params: {}", error.message)))?;
                model.map(|model| self.name_model(model)).transpose()?;
                let knobs = self.selection.set_params(columns, &settings)?;
                self.knobs.set_params(&knobs)?;
                &mut self.asked.params
            }
            Argument::Per => {
                self.selection.set_per(columns, value)?;
                &mut self.asked.per
            }
            Argument::Mmr => {
                self.selection.set_mmr(value)?;
                &mut self.asked.mmr
            }
            Argument::Model => return self.name_model(model_in(value)?.to_string()),
            _ => return Ok(()),
        };
        *asked = Cell::copy(value.param()?)?;
        Ok(())
    }

    fn name_model(&mut self, model: String) -> Result<()> {
        if self.model.replace(model).is_some() {
            return Err(Error::generic("model is given twice: by itself, and in a text of settings"));
        }
        Ok(())
    }

    /// Checks that `per` and `mmr` can be combined with the rest.
    ///
    /// # Errors
    /// If they cannot.
    pub(super) fn check_selection(&self) -> Result<()> {
        let name = if self.selection.per.is_some() { "per" } else { "mmr" };
        if self.selection.mmr.is_some() && self.k.is_none() {
            return Err(Error::generic("mmr needs k: AND k = 10 (or a LIMIT that stands for it)"));
        }
        if !self.selection.is_nearest() && self.one_of.is_some() {
            return Err(Error::generic(format!(
                "{name} takes no list of distances: write distance <= 0.5, or BETWEEN, in the place of IN"
            )));
        }
        Ok(())
    }

    /// Asks for several rows of each of the groups that one row of each was found of, query by query.
    /// `params` has no filter: the conditions of this request apply.
    ///
    /// # Errors
    /// Those of a search.
    pub(super) fn fill_groups(
        &mut self,
        per: Per,
        within: &Within<'_>,
        params: SearchParams<'_>,
        buffers: &mut Buffers,
        found: &mut Found,
    ) -> Result<()> {
        let Within { index, state, snapshot, .. } = *within;
        let dim = snapshot.dim();
        let metadata = within.metadata_of(&found.answers)?;
        let nearest = take(&mut found.answers);
        let (all, mut one) = (&mut found.answers, Answers::default());
        all.stats = nearest.stats;
        all.offsets.try_push(0)?;
        for (i, query) in found.queries.chunks_exact(dim).enumerate() {
            let values = nearest.places_of(i).iter().map(|(segment, slot)| {
                let of = metadata.get(segment);
                of.map_or(Datum::Null, |of| of.get(per.column, *slot as usize))
            });
            if !nearest.of(i).is_empty() {
                self.filter.conditions.try_push(one_of(per.column, values)?)?;
                let params = SearchParams {
                    k: nearest.of(i).len(),
                    per: Some(per),
                    filter: Some(&self.filter),
                    ..params
                };
                let done = index.search_with(state, snapshot, query, params, buffers, &mut one);
                self.filter.conditions.pop();
                done?;
                all.append(&one)?;
                all.stats.add(&one.stats);
            }
            all.offsets.try_push(all.neighbors.len())?;
        }
        Ok(())
    }
}

/// The condition that a column has one of these values.
fn one_of<'v>(column: usize, values: impl Iterator<Item = Datum<'v>>) -> Result<Condition> {
    let (mut integers, mut floats, mut texts, mut or_null) = (Vec::new(), Vec::new(), Vec::new(), false);
    for value in values {
        match value {
            Datum::Null => or_null = true,
            Datum::Integer(value) => integers.try_push(value)?,
            Datum::Float(value) => floats.try_push(value)?,
            Datum::Text(value) => texts.try_push(try_copy(value.as_bytes())?.into_boxed_slice())?,
        }
    }
    integers.sort_unstable();
    texts.sort_unstable();
    let test = match (integers.is_empty(), floats.is_empty(), texts.is_empty()) {
        (false, ..) => Test::IntegerIn(integers),
        (_, false, _) => Test::FloatIn(floats),
        (.., false) => Test::TextIn(texts),
        _ => Test::Never,
    };
    Ok(Condition { column, test, or_null })
}
