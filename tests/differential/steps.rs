//! The steps of a script: random statements, each for the index and for the ordinary table.

use super::conditions::alone;
use super::forms::query;
use super::queries::{Asked, How, Query, Search};
use super::schema::Schema;
use super::values::{Kind, Role, Vector, chance, fitting, perhaps, pick, refused, written};
use crate::common::Numbers;

#[derive(Clone, Debug)]
pub enum Step {
    /// A statement that knows of both tables, or of none.
    Run {
        on: usize,
        sql: String,
    },
    /// A command of the index, which has to succeed if the file is not locked.
    Command {
        on: usize,
        sql: String,
    },
    /// The same change of both.
    Change {
        on: usize,
        index: String,
        plain: String,
    },
    /// `INSERT ... VALUES`: rows of pairs.
    Insert {
        on: usize,
        head: String,
        columns: Vec<String>,
        rows: Vec<Vec<Vector>>,
    },
    Ask {
        on: usize,
        query: Box<Query>,
    },
    /// A SELECT that stays open while other statements run.
    Open {
        on: usize,
        cursor: usize,
        query: Box<Query>,
    },
    Next {
        on: usize,
        cursor: usize,
        rows: usize,
    },
    Close {
        on: usize,
        cursor: usize,
        early: bool,
    },
    /// Both tables hold the same rows.
    Compare {
        on: usize,
    },
    Reopen {
        on: usize,
    },
}

impl Step {
    pub fn on(&self) -> usize {
        match self {
            Self::Run { on, .. }
            | Self::Command { on, .. }
            | Self::Change { on, .. }
            | Self::Insert { on, .. }
            | Self::Ask { on, .. }
            | Self::Open { on, .. }
            | Self::Next { on, .. }
            | Self::Close { on, .. }
            | Self::Compare { on }
            | Self::Reopen { on } => *on,
        }
    }

    /// The statements for the index and the ordinary table.
    pub fn insert(head: &str, columns: &[String], rows: &[Vec<Vector>]) -> (String, String) {
        let side = |table: &str, of: fn(&Vector) -> &str| {
            let rows: Vec<String> = rows
                .iter()
                .map(|row| format!("({})", row.iter().map(of).collect::<Vec<_>>().join(", ")))
                .collect();
            format!("{head} INTO {table}({}) VALUES {}", columns.join(", "), rows.join(", "))
        };
        (side("t", |v| &v.index), side("p", |v| &v.plain))
    }
}

fn same(text: impl Into<String>) -> Vector {
    let text = text.into();
    Vector { index: text.clone(), plain: text }
}

const VERBS: [&str; 7] =
    ["INSERT", "INSERT", "INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL", "REPLACE"];

fn insert(numbers: &mut Numbers, schema: &Schema, on: usize) -> Step {
    let head = pick(numbers, &VERBS).to_string();
    let bad = perhaps(numbers, "refused", 8);
    let mut columns = Vec::new();
    let named = schema.has(Role::Rowid) && chance(numbers, 70);
    let rowids = named || chance(numbers, 80);
    if rowids {
        columns.push(if named { "id".to_string() } else { "rowid".into() });
    }
    let mut given = Vec::new();
    for column in schema.columns.iter().filter(|column| column.role != Role::Rowid) {
        if column.role == Role::Key || chance(numbers, 85) {
            columns.push(column.name.clone());
            given.push(column.clone());
        }
    }
    columns.extend(schema.spaces.iter().map(|space| space.name.clone()));
    let mut rows: Vec<Vec<Vector>> = Vec::new();
    for _ in 0..pick(numbers, &[1, 1, 2, 3, 5]) {
        let mut row = Vec::new();
        if rowids {
            let rowid = if perhaps(numbers, "affinity", 4) {
                pick(numbers, &["'5'", "7.0"]).to_string()
            } else {
                (1 + numbers.below(14)).to_string()
            };
            row.push(same(if bad || chance(numbers, 5) { "NULL".into() } else { rowid }));
        }
        for column in &given {
            row.push(match column.role {
                Role::Key if bad => same(format!("'z{}'", numbers.next())),
                Role::Key if chance(numbers, 50) => same(format!("'k{}'", numbers.below(20))),
                _ => same(written(numbers, column)),
            });
        }
        row.extend(schema.spaces.iter().map(|space| space.vector(numbers)));
        rows.push(row);
    }
    if bad {
        let row = numbers.below(rows.len() as u64) as usize;
        let first = usize::from(rowids);
        let at = first + numbers.below((columns.len() - first) as u64) as usize;
        let cell = match at - first {
            i if i < given.len() => {
                let refusing = matches!(given[i].role, Role::Metadata | Role::Partition);
                let value = refused(numbers, given[i].kind);
                if refusing { same(value) } else { rows[row][at].clone() }
            }
            i => {
                let space = &schema.spaces[i - given.len()];
                if chance(numbers, 25) { same("NULL") } else { space.no_vector(numbers) }
            }
        };
        rows[row][at] = cell;
    }
    Step::Insert { on, head, columns, rows }
}

/// `INSERT ... SELECT` from another table or from itself.
fn insert_select(numbers: &mut Numbers, schema: &Schema, on: usize) -> Step {
    let head = pick(numbers, &["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"]);
    let mut columns: Vec<String> = schema.spaces.iter().map(|space| space.name.clone()).collect();
    if chance(numbers, 50) || schema.has(Role::Key) {
        // From `d`, under its ids.
        let mut values: Vec<Vector> = schema.spaces.iter().map(|space| space.vector(numbers)).collect();
        if schema.spaces[0].element != "bit" && chance(numbers, 50) {
            let space = &schema.spaces[0];
            let json = format!("json_array(d.id{})", ", 1".repeat(space.dim - 1));
            values[0] = Vector { index: json.clone(), plain: format!("{}({json})", space.function()) };
        }
        for column in &schema.columns {
            let value = match column.role {
                Role::Rowid => continue,
                Role::Key => "'k' || d.id".to_string(),
                _ if column.kind == Kind::Boolean => "d.id % 2".into(),
                _ => format!("d.{}", super::conditions::own(column.kind)),
            };
            columns.push(column.name.clone());
            values.push(same(value));
        }
        columns.push("rowid".into());
        values.push(same(format!("d.id + {}", pick(numbers, &[0, 0, 5, 20]))));
        let side = |table: &str, of: fn(&Vector) -> &str| {
            let values: Vec<&str> = values.iter().map(of).collect();
            format!(
                "{head} INTO {table}({}) SELECT {} FROM d WHERE d.id < 5 ORDER BY d.id",
                columns.join(", "),
                values.join(", ")
            )
        };
        return Step::Change { on, index: side("t", |v| &v.index), plain: side("p", |v| &v.plain) };
    }
    columns.extend(schema.typed().iter().map(|column| column.name.clone()));
    let side = |table: &str| {
        let columns = columns.join(", ");
        format!("{head} INTO {table}({columns}) SELECT {columns} FROM {table} WHERE rowid < 6 ORDER BY rowid")
    };
    Step::Change { on, index: side("t"), plain: side("p") }
}

/// Which rows a change is about, for both tables.
fn wanted(numbers: &mut Numbers, schema: &Schema) -> (String, String) {
    let rowid = 1 + numbers.below(14);
    match numbers.below(6) {
        0 | 1 => {
            let text = format!("rowid = {rowid}");
            (text.clone(), text)
        }
        2 => {
            let text = format!("rowid IN ({rowid}, 3, 4)");
            (text.clone(), text)
        }
        3 => {
            let mut a = search(numbers, schema);
            a.k = Some(1 + numbers.below(3));
            let query = Query {
                form: "rowid IN (SELECT a.rowid FROM {0} WHERE {0w})".into(),
                searches: vec![a],
                how: How::Set,
                limit: None,
            };
            (query.index(), query.plain().remove(0))
        }
        _ => {
            let condition = loop {
                let condition = alone(numbers, schema);
                if !condition.text.contains("distance") {
                    break condition;
                }
            };
            (condition.text.replace("{a}", "t"), condition.text.replace("{a}", "p"))
        }
    }
}

fn search(numbers: &mut Numbers, schema: &Schema) -> Search {
    let space = schema.spaces[0].clone();
    let vector = space.vector(numbers);
    let knobs = if schema.trains { vec!["{a}.nprobe = -1".into()] } else { Vec::new() };
    Search {
        name: "a",
        space,
        asked: Asked::Value(vector),
        k: Some(pick(numbers, &[2, 4, 8])),
        range: false,
        knobs,
        conditions: Vec::new(),
        outer: Vec::new(),
    }
}

fn update(numbers: &mut Numbers, schema: &Schema, on: usize) -> Step {
    let (index, plain) = wanted(numbers, schema);
    let mut sets: Vec<(String, Vector)> = Vec::new();
    for column in &schema.columns {
        if !chance(numbers, 40) || matches!(column.role, Role::Rowid | Role::Key) {
            continue;
        }
        let name = &column.name;
        let value = match (column.kind, numbers.below(6)) {
            // (Not of an auxiliary column: with a blob that would be a text that is not UTF-8.)
            (Kind::Text, 0) if column.role != Role::Auxiliary => format!("{name} || 'x'"),
            (Kind::Integer, 0) => format!("{name} / 2"),
            (Kind::Float, 0) => format!("{name} * 2"),
            _ => written(numbers, column),
        };
        sets.push((name.clone(), same(value)));
    }
    for space in &schema.spaces {
        if sets.is_empty() || chance(numbers, 40) {
            sets.push((space.name.clone(), space.vector(numbers)));
        }
    }
    let side = |verb: &str, table: &str, of: fn(&Vector) -> &str, wanted: &str| {
        let sets: Vec<String> = sets.iter().map(|(name, v)| format!("{name} = {}", of(v))).collect();
        format!("{verb} {table} SET {} WHERE {wanted}", sets.join(", "))
    };
    if chance(numbers, 20) {
        // What names a row, of one row.
        let rowid = 1 + numbers.below(14);
        let key = schema.columns.iter().find(|column| matches!(column.role, Role::Rowid | Role::Key));
        let value = match key {
            Some(column) if column.role == Role::Key => fitting(numbers, Kind::Text),
            _ => (1 + numbers.below(14)).to_string(),
        };
        let name = key.map_or("rowid", |column| column.name.as_str());
        let verb = pick(numbers, &["UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE", "UPDATE OR FAIL"]);
        let one = |table: &str| format!("{verb} {table} SET {name} = {value} WHERE rowid = {rowid}");
        return Step::Change { on, index: one("t"), plain: one("p") };
    }
    if perhaps(numbers, "update-from", 10) && !schema.typed().is_empty() {
        let column = pick(numbers, &schema.typed());
        let value = if column.kind == Kind::Boolean {
            "d.id % 2".to_string()
        } else {
            format!("d.{}", super::conditions::own(column.kind))
        };
        let one = |table: &str| {
            format!("UPDATE {table} SET {} = {value} FROM d WHERE d.id = {table}.rowid", column.name)
        };
        return Step::Change { on, index: one("t"), plain: one("p") };
    }
    let verb = pick(numbers, &["UPDATE", "UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE"]);
    Step::Change {
        on,
        index: side(verb, "t", |v| &v.index, &index),
        plain: side(verb, "p", |v| &v.plain, &plain),
    }
}

fn delete(numbers: &mut Numbers, schema: &Schema, on: usize) -> Step {
    if chance(numbers, 6) {
        return Step::Change { on, index: "DELETE FROM t".into(), plain: "DELETE FROM p".into() };
    }
    let (index, plain) = wanted(numbers, schema);
    Step::Change {
        on,
        index: format!("DELETE FROM t WHERE {index}"),
        plain: format!("DELETE FROM p WHERE {plain}"),
    }
}

fn command(numbers: &mut Numbers, on: usize) -> Step {
    let command = pick(
        numbers,
        &[
            "train",
            "train:{\"nlist\": 3}",
            "train:{\"nlist\": 2, \"seed\": 9}",
            "optimize",
            "integrity-check",
            "unload",
            "preload",
            "delete-all",
        ],
    );
    let sql = format!("INSERT INTO t(t) VALUES ('{command}')");
    if command == "delete-all" {
        // It counts no rows.
        return Step::Change { on, index: sql, plain: "DELETE FROM p".into() };
    }
    Step::Command { on, sql }
}

/// A SELECT to hold: all rows, or the answers of a search.
fn open(numbers: &mut Numbers, schema: &Schema) -> Query {
    let columns: Vec<String> = schema
        .names()
        .into_iter()
        .filter(|_| chance(numbers, 70))
        .map(|name| {
            let blob = schema.spaces.iter().any(|space| space.name == name);
            if blob { format!(", hex(a.{name})") } else { format!(", a.{name}") }
        })
        .collect();
    let columns = columns.concat();
    if chance(numbers, 50) {
        let all = Search { asked: Asked::Nothing, ..search(numbers, schema) };
        return Query {
            form: format!("SELECT a.rowid{columns} FROM {{0}}"),
            searches: vec![all],
            how: How::Set,
            limit: None,
        };
    }
    let form = format!("SELECT a.rowid, a.distance{columns} FROM {{0}} WHERE {{0w}}");
    Query { form, searches: vec![search(numbers, schema)], how: How::Ordered, limit: None }
}

pub fn steps(numbers: &mut Numbers, schema: &Schema) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut held: Vec<(usize, usize)> = Vec::new();
    let mut cursors = 0;
    for _ in 0..1 + numbers.below(3) {
        steps.push(insert(numbers, schema, 0));
    }
    for _ in 0..15 + numbers.below(25) {
        let on = numbers.below(schema.connections as u64) as usize;
        let step = match numbers.below(100) {
            0..22 => insert(numbers, schema, on),
            22..25 => insert_select(numbers, schema, on),
            25..34 => update(numbers, schema, on),
            34..40 => delete(numbers, schema, on),
            40..44 if schema.trains => command(numbers, on),
            44..48 => Step::Compare { on },
            48..62 => {
                let all = [
                    "BEGIN",
                    "COMMIT",
                    "SAVEPOINT a",
                    "ROLLBACK TO a",
                    "RELEASE a",
                    "ROLLBACK",
                    "BEGIN IMMEDIATE",
                    "COMMIT",
                ];
                Step::Run { on, sql: pick(numbers, &all).into() }
            }
            62 => Step::Run { on, sql: pick(numbers, &["VACUUM", "PRAGMA wal_checkpoint"]).into() },
            63 if held.iter().all(|(_, at)| *at != on) => Step::Reopen { on },
            64..68 => {
                Step::Run { on, sql: format!("UPDATE d SET x = x WHERE id = {}", 1 + numbers.below(9)) }
            }
            68..71 if perhaps(numbers, "cursors", 100) => {
                cursors += 1;
                held.push((cursors, on));
                Step::Open { on, cursor: cursors, query: Box::new(open(numbers, schema)) }
            }
            71..75 if !held.is_empty() => {
                let (cursor, on) = pick(numbers, &held);
                Step::Next { on, cursor, rows: 1 + numbers.below(4) as usize }
            }
            75..77 if !held.is_empty() => {
                let (cursor, on) = held.remove(numbers.below(held.len() as u64) as usize);
                Step::Close { on, cursor, early: chance(numbers, 20) }
            }
            _ => Step::Ask { on, query: Box::new(query(numbers, schema)) },
        };
        steps.push(step);
    }
    for (cursor, on) in held {
        steps.push(Step::Close { on, cursor, early: false });
    }
    for on in 0..schema.connections {
        steps.push(Step::Run { on, sql: "COMMIT".into() });
    }
    steps.push(Step::Compare { on: 0 });
    steps
}
