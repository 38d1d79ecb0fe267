//! Searches in queries of every form, each with the equivalent query of the ordinary table.
//!
//! One text serves both tables: `{0}` is the table in FROM, `{0w}` its conditions, `{0o}` the conditions
//! outside the subquery that contains the search. For the ordinary table `{0}` is a subquery that returns the
//! k nearest rows.

use super::conditions::{Condition, Place};
use super::schema::Schema;
use super::values::{Space, Vector, chance, perhaps, pick};
use crate::common::Numbers;

/// Where the vector of a search comes from.
#[derive(Clone, Debug)]
pub enum Asked {
    /// An expression that is known before.
    Value(Vector),
    /// Of each row of `q`; the join goes by `q.id`.
    Queries,
    /// Of each row of the table itself as `s`.
    Itself,
    /// A batch: each vector once.
    Batch(Vec<Vector>),
    /// Not a search: all rows.
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Search {
    pub name: &'static str,
    pub space: Space,
    pub asked: Asked,
    /// NULL where none; no k at all where `range`.
    pub k: Option<u64>,
    pub range: bool,
    pub knobs: Vec<String>,
    pub conditions: Vec<Condition>,
    /// Outside of the subquery.
    pub outer: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Set,
    Ordered,
    Packed,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub form: String,
    pub searches: Vec<Search>,
    pub how: How,
    /// LIMIT in place of k.
    pub limit: Option<i64>,
}

impl Search {
    pub fn new(numbers: &mut Numbers, schema: &Schema, name: &'static str, asked: Asked) -> Self {
        // A batch asks the first vector column.
        let first = matches!(asked, Asked::Batch(_) | Asked::Queries);
        let space = if first { schema.spaces[0].clone() } else { pick(numbers, &schema.spaces) };
        let asked = match asked {
            Asked::Value(_) => Asked::Value(vector(numbers, &space)),
            other => other,
        };
        let k = (!perhaps(numbers, "null-k", 2)).then(|| pick(numbers, &[0, 1, 1, 2, 3, 3, 4, 7, 100]));
        let mut knobs = Vec::new();
        if schema.trains {
            let how = if perhaps(numbers, "knob-is", 5) { "IS" } else { "=" };
            knobs.push(format!("{{a}}.nprobe {how} -1"));
        }
        Self { name, space, asked, k, range: false, knobs, conditions: Vec::new(), outer: Vec::new() }
    }

    fn index(&self) -> String {
        let matched = match &self.asked {
            Asked::Value(vector) => format!("{{a}}.{} MATCH {}", self.space.name, vector.index),
            Asked::Queries => format!("{{a}}.{} MATCH q.v", self.space.name),
            Asked::Itself => format!("{{a}}.{0} MATCH s.{0}", self.space.name),
            Asked::Batch(vectors) => {
                let all: Vec<String> =
                    vectors.iter().enumerate().map(|(i, v)| format!("({i}, {})", v.plain)).collect();
                let function = self.space.function();
                format!(
                    "{{a}}.batch MATCH (SELECT vec_pack({function}(column2)) FROM (SELECT * FROM (VALUES {}) ORDER BY column1))",
                    all.join(", ")
                )
            }
            Asked::Nothing => return self.joined(|_| true, "1"),
        };
        let mut parts = vec![matched];
        if !self.range {
            parts.push(self.k.map_or("{a}.k = NULL".into(), |k| format!("{{a}}.k = {k}")));
        }
        parts.extend(self.knobs.iter().cloned());
        // SQL gives the order of conditions no meaning: here it goes by their texts.
        parts.extend(self.conditions.iter().map(|condition| condition.text.clone()));
        let turn = self.conditions.first().map_or(0, |condition| condition.text.len() % parts.len());
        parts.rotate_left(turn);
        parts.join(" AND ").replace("{a}", self.name)
    }

    fn joined(&self, wanted: impl Fn(&Condition) -> bool, or: &str) -> String {
        let texts: Vec<&str> =
            self.conditions.iter().filter(|c| wanted(c)).map(|condition| condition.text.as_str()).collect();
        if texts.is_empty() { or.into() } else { texts.join(" AND ").replace("{a}", self.name) }
    }

    /// The k nearest rows of the ordinary table, and the conditions that are looked at after.
    fn plain(&self, before: impl Fn(&Condition) -> bool) -> (String, String) {
        let name = self.name;
        if matches!(self.asked, Asked::Nothing) {
            return (format!("p AS {name}"), self.joined(|_| true, "1"));
        }
        let mut wanted: Vec<String> =
            self.conditions.iter().chain(&self.outer).filter(|c| before(c)).map(|c| c.text.clone()).collect();
        wanted.push("{a}.distance IS NOT NULL".into());
        let wanted = wanted.join(" AND ").replace("{a}", name);
        let after = self.joined(|c| !before(c), "1");
        let k = if self.range { -1 } else { self.k.unwrap_or(0) as i64 };
        let vec = format!("{name}.{}", self.space.name);
        let rows = |other: &str, more: &str, distance: String| {
            format!(
                "(SELECT {name}.rowid AS rowid, {name}.*, {more}{distance} AS distance FROM p AS {name}{other}) AS {name}"
            )
        };
        match &self.asked {
            Asked::Value(vector) => {
                let of = rows("", "", self.space.distance(&vec, &format!("({})", vector.plain)));
                let all = format!(
                    "(SELECT * FROM {of} WHERE {wanted} ORDER BY {name}.distance, {name}.rowid LIMIT {k}) AS {name}"
                );
                (all, after)
            }
            Asked::Batch(vectors) => {
                let all: Vec<String> =
                    vectors.iter().enumerate().map(|(i, v)| format!("({i}, {})", v.plain)).collect();
                let of = rows(
                    &format!(", (VALUES {}) AS b", all.join(", ")),
                    "b.column1 AS query, ",
                    self.space.distance(&vec, "b.column2"),
                );
                (self.ranked(&of, &wanted, "query", k), after)
            }
            Asked::Queries => {
                let other = rows(
                    ", q",
                    "q.id AS asker, q.x AS asker_x, q.s AS asker_s, ",
                    self.space.distance(&vec, "q.v"),
                );
                let wanted = wanted
                    .replace("q.x", &format!("{name}.asker_x"))
                    .replace("q.s", &format!("{name}.asker_s"));
                (self.ranked(&other, &wanted, "asker", k), format!("{name}.asker = q.id AND {after}"))
            }
            Asked::Itself => {
                let theirs = format!("s.{}", self.space.name);
                let of = rows(", p AS s", "s.rowid AS asker, ", self.space.distance(&vec, &theirs));
                (self.ranked(&of, &wanted, "asker", k), format!("{name}.asker = s.rowid AND {after}"))
            }
            Asked::Nothing => (String::new(), String::new()),
        }
    }

    fn ranked(&self, of: &str, wanted: &str, group: &str, k: i64) -> String {
        let name = self.name;
        let most = if k < 0 { "1".into() } else { format!("place <= {k}") };
        format!(
            "(SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {group} ORDER BY distance, rowid) AS place \
             FROM {of} WHERE {wanted}) WHERE {most}) AS {name}"
        )
    }
}

/// A vector to search for: given, or stored.
fn vector(numbers: &mut Numbers, space: &Space) -> Vector {
    if chance(numbers, 12) {
        let rowid = numbers.below(if super::values::skipped("null-query") { 1 } else { 12 });
        let from = |table: &str| match rowid {
            0 => format!("(SELECT {0} FROM {table} ORDER BY rowid LIMIT 1)", space.name),
            rowid => format!("(SELECT {} FROM {table} WHERE rowid = {rowid})", space.name),
        };
        if rowid > 0 || !super::values::skipped("null-query") {
            return Vector { index: from("t"), plain: from("p") };
        }
    }
    if perhaps(numbers, "null-query", 2) {
        return Vector { index: "NULL".into(), plain: "NULL".into() };
    }
    space.vector(numbers)
}

impl Query {
    fn render(&self, part: impl Fn(&Search) -> (String, String, String)) -> String {
        let mut sql = self.form.clone();
        for (i, search) in self.searches.iter().enumerate() {
            let (from, conditions, outer) = part(search);
            sql = sql.replace(&format!("{{{i}}}"), &from);
            sql = sql.replace(&format!("{{{i}w}}"), &conditions).replace(&format!("{{{i}o}}"), &outer);
        }
        sql
    }

    fn outer(search: &Search, wanted: impl Fn(&Condition) -> bool) -> String {
        let texts: Vec<String> =
            search.outer.iter().filter(|c| wanted(c)).map(|c| c.text.replace("{a}", "z")).collect();
        if texts.is_empty() { "1".into() } else { texts.join(" AND ") }
    }

    pub fn index(&self) -> String {
        let sql = self.render(|search| {
            (format!("t AS {}", search.name), search.index(), Self::outer(search, |_| true))
        });
        match (self.limit, self.how) {
            (Some(limit), _) => format!("{sql} LIMIT {limit}"),
            (None, How::Packed) => format!("{sql} AND {}.packed = 1", self.searches[0].name),
            _ => sql,
        }
    }

    /// The texts for the ordinary table: one, or several where several places of conditions are right. An `IN` of a
    /// row value is tested after the search, and may take the other ones of the search with it.
    pub fn plain(&self) -> Vec<String> {
        let is_unsure =
            |search: &Search| search.conditions.iter().chain(&search.outer).any(|c| c.place == Place::Either);
        let one = |either: bool, takes_lists: bool| {
            let sql = self.render(|search| {
                let takes_lists = takes_lists && is_unsure(search);
                let before = |c: &Condition| match c.place {
                    Place::Before => !(takes_lists && c.text.contains(" IN (")),
                    Place::After => false,
                    Place::Either => either,
                };
                let (from, after) = search.plain(before);
                (from, after, Self::outer(search, |c| !before(c)))
            });
            if self.how == How::Packed {
                let sql = sql.replace("a.rowids, a.distances", "a.rowid, a.distance");
                return format!("{sql} ORDER BY a.query, a.distance, a.rowid");
            }
            self.limit.map_or(sql.clone(), |limit| format!("{sql} LIMIT {limit}"))
        };
        match self.searches.iter().any(is_unsure) {
            true => vec![one(true, false), one(false, false), one(false, true)],
            false => vec![one(true, false)],
        }
    }

    /// Simpler queries, for the one that fails.
    pub fn simpler(&self) -> Vec<Query> {
        let mut found = Vec::new();
        for (i, search) in self.searches.iter().enumerate() {
            for c in 0..search.conditions.len() {
                let mut query = self.clone();
                query.searches[i].conditions.remove(c);
                found.push(query);
            }
            for c in 0..search.outer.len() {
                let mut query = self.clone();
                query.searches[i].outer.remove(c);
                found.push(query);
            }
            if !search.knobs.is_empty() {
                let mut query = self.clone();
                query.searches[i].knobs.clear();
                found.push(query);
            }
        }
        found
    }
}
