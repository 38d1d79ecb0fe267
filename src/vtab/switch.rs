//! `ivf_switch(t, next)` puts a table in the place of another, and `ivf_missing(t, next)` tells which rows it
//! still lacks.
//!
//! A table is moved to another model while it goes on answering: a second one is filled beside it, in as many
//! transactions as it takes, and switched in one.

use std::fmt::Display;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::sqlite::{
    Db, Error, FunctionFlags, Kind, Result, Value, qualified, quoted, register_scalar, table_of,
};
use crate::vtab::inspect;
use crate::vtab::schema::columns::{At, Columns, Role};
use crate::vtab::schema::options::Options;
use crate::vtab::schema::tokens::{self, tokens};
use crate::vtab::schema::words::identifier;
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::{self, Cell, Column, TableFunction};
use crate::vtab::values::number::{beginning, exact_rowid, shown};

const NAME: &str = "ivf_switch";
/// The differences between two tables that a switch may be told to accept.
const ACCEPTED: [&str; 4] = ["missing", "extra", "keys", "columns"];
/// How many rowids an error names.
const NAMED_ROWS: i64 = 5;

/// Registers the functions.
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, connection: &Rc<Connection>) -> Result<()> {
    table_function::register::<IvfMissing>(db, Rc::clone(connection))?;
    let connection = Rc::clone(connection);
    // It writes: not for views and triggers.
    let flags = FunctionFlags { direct_only: true, ..FunctionFlags::default() };
    register_scalar(db, NAME, -1, flags, move |context, args| {
        let (old, next, accepted) = match args {
            [old, next] => (old, next, Vec::new()),
            [old, next, accepted] => (old, next, accepted_in(accepted)?),
            _ => {
                return Err(wrong(
                    "it takes the name of a table, that of the table to put in its place, and perhaps what to accept",
                ));
            }
        };
        let told = switch(db, &connection, [old, next], &accepted)?;
        context.text(&serde_json::to_string(&told).map_err(|error| Error::internal(error.to_string()))?);
        Ok(())
    })
}

fn wrong(what: impl Display) -> Error {
    Error::generic(format!("{NAME}: {what}"))
}

/// The differences to accept, from a text like `missing, extra`.
fn accepted_in(value: &Value<'_>) -> Result<Vec<&'static str>> {
    let names = ACCEPTED.join(", ");
    if value.kind() != Kind::Text {
        return Err(wrong(format!("what to accept is a text of {names}, got {}", shown(value))));
    }
    accepted_of(value.text()?)
}

fn accepted_of(text: &str) -> Result<Vec<&'static str>> {
    let names = ACCEPTED.join(", ");
    let given = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    given
        .map(|name| {
            let known = ACCEPTED.into_iter().find(|known| known.eq_ignore_ascii_case(name));
            known.ok_or_else(|| wrong(format!("what to accept is of {names}, got '{}'", beginning(name))))
        })
        .collect()
}

/// The result, as JSON in this order.
#[derive(Serialize)]
struct Told {
    rows: u64,
    missing: u64,
    extra: u64,
    model: Option<String>,
}

/// Drops the table that the first name is of, and gives its name to the other. All of it happens or nothing
/// does.
fn switch(db: Db, connection: &Connection, names: [&Value<'_>; 2], accepted: &[&str]) -> Result<Told> {
    let [old, _] = tables(db, connection, NAME, names)?;
    let began = db.is_autocommit();
    let done = db.within(true, || {
        // From here on nobody else writes, so that what is compared is what is switched.
        old.tables().lock()?;
        drop(old);
        let tables = tables(db, connection, NAME, names)?;
        let told = compared(&tables, accepted, &|names| format!("'{names}' as third argument"))?;
        let [old, next] = &tables;
        let (schema, old_name, next_name) = (old.schema().to_string(), old.name(), next.name());
        check_mentions(db, &schema, &next_name)?;
        drop(tables);
        with_legacy_alter(db, || {
            let drop = format!("DROP TABLE {}", qualified(&schema, &old_name));
            db.prepare_on_tables(&drop)?.execute(&[])?;
            rename(db, &schema, &next_name, &old_name)
        })?;
        Ok(told)
    });
    if done.is_err() && began && !db.is_autocommit() {
        // The COMMIT failed, for example because another connection reads.
        db.execute("ROLLBACK")?;
    }
    done
}

/// The command `switch=next`. `table` is kept as `<name>_old`.
///
/// # Errors
/// As the function; also if there is a table of that name.
pub fn by_name(table: &Rc<Table>, connection: &Connection, next: &str) -> Result<()> {
    by_command(table, connection, next, &[])
}

/// The argument of `switch:{...}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    next: String,
    #[serde(default)]
    accept: String,
}

/// The command `switch:{"next":"next","accept":"missing"}`.
///
/// # Errors
/// As [`by_name`], or if the argument is none.
pub fn by_json(table: &Rc<Table>, connection: &Connection, argument: &str) -> Result<()> {
    let given: Given = serde_json::from_str(argument).map_err(|error| {
        let argument = beginning(argument);
        wrong(format!("it takes {{\"next\":TABLE,\"accept\":NAMES}}, got {argument}: {error}"))
    })?;
    by_command(table, connection, &given.next, &accepted_of(&given.accept)?)
}

fn by_command(table: &Rc<Table>, connection: &Connection, next: &str, accepted: &[&str]) -> Result<()> {
    let (db, schema) = (table.tables().db(), table.schema());
    let found = inspect::table_beside(db, schema, next)?;
    let tables = pair(NAME, Rc::clone(table), inspect::opened(db, connection, NAME, next, found)?)?;
    compared(&tables, accepted, &|names| format!("\"accept\":\"{names}\" in switch:{{\"next\":...}}"))?;
    let (old_name, next_name) = (table.name(), tables[1].name());
    check_mentions(db, schema, &next_name)?;
    let kept = format!("{old_name}_old");
    if table_of(db, schema, &kept)?.is_some() {
        return Err(wrong(format!(
            "{old_name} is kept as '{kept}', and there is a table '{kept}' already: drop it first"
        )));
    }
    drop(tables);
    // If this fails halfway, the transaction must be rolled back.
    table.changing(|_| {
        with_legacy_alter(db, || {
            rename(db, schema, &old_name, &kept)?;
            rename(db, schema, &next_name, &old_name)
        })
    })
}

fn rename(db: Db, schema: &str, name: &str, new: &str) -> Result<()> {
    let rename = format!("ALTER TABLE {} RENAME TO {}", qualified(schema, name), quoted(new));
    db.prepare_on_tables(&rename)?.execute(&[])
}

/// The two tables.
fn tables(
    db: Db,
    connection: &Connection,
    function: &str,
    [old, next]: [&Value<'_>; 2],
) -> Result<[Rc<Table>; 2]> {
    let find = |named: &Value<'_>| inspect::table(db, connection, function, &[Some(*named)]);
    pair(function, find(old)?, find(next)?)
}

/// Checks that the tables are two of one schema. What waits of them is written.
fn pair(function: &str, old: Rc<Table>, next: Rc<Table>) -> Result<[Rc<Table>; 2]> {
    let wrong = |what: String| Error::generic(format!("{function}: {what}"));
    if old.schema() != next.schema() {
        let (name, schema, other) = (next.name(), next.schema(), old.schema());
        return Err(wrong(format!("'{name}' is in the schema '{schema}', '{}' in '{other}'", old.name())));
    }
    if old.name() == next.name() {
        return Err(wrong(format!("both tables are '{}'", old.name())));
    }
    for table in [&old, &next] {
        table.indexes().try_for_each(Table::flush)?;
    }
    Ok([old, next])
}

/// Compares the tables. `by` says how differences are accepted.
fn compared([old, next]: &[Rc<Table>; 2], accepted: &[&str], by: &dyn Fn(&str) -> String) -> Result<Told> {
    let (old_name, next_name) = (old.name(), next.name());
    let [before, after] = [old, next].map(|table| columns(&table.options));
    if before != after && !accepted.contains(&"columns") {
        return Err(wrong(format!(
            "{next_name} has not the columns of {old_name}: ({}), not ({}); {} accepts this",
            after.join(", "),
            before.join(", "),
            by("columns")
        )));
    }
    let (of_old, of_next) = (old.tables(), next.tables());
    let missing = of_old.count_missing_in(&next_name)?;
    let extra = of_next.count_missing_in(&old_name)?;
    let has_keys = [old, next].iter().all(|table| table.options.columns.text_key().is_some());
    let (keys, first) = if has_keys { of_old.other_keys_in(&next_name)? } else { (0, 0) };
    let listed = |count: u64, rowids: Vec<i64>| {
        let shown: Vec<String> = rowids.iter().map(i64::to_string).collect();
        format!("{}{}", shown.join(", "), if count > rowids.len() as u64 { ", ..." } else { "" })
    };
    let rows = |count: u64| if count == 1 { "1 row".to_string() } else { format!("{count} rows") };
    let (mut faults, mut names) = (Vec::new(), Vec::new());
    if missing > 0 && !accepted.contains(&"missing") {
        let which = listed(missing, of_old.missing_in(&next_name, i64::MIN, NAMED_ROWS)?);
        faults.push(format!("it lacks {} (rowid {which})", rows(missing)));
        names.push("missing");
    }
    if extra > 0 && !accepted.contains(&"extra") {
        let which = listed(extra, of_next.missing_in(&old_name, i64::MIN, NAMED_ROWS)?);
        faults.push(format!("it has {} that {old_name} has not (rowid {which})", rows(extra)));
        names.push("extra");
    }
    if keys > 0 && !accepted.contains(&"keys") {
        faults.push(format!("{} of the same rowid have another key (rowid {first})", rows(keys)));
        names.push("keys");
    }
    if !faults.is_empty() {
        return Err(wrong(format!(
            "{next_name} is not what {old_name} is: {}; {} accepts this",
            faults.join(", "),
            by(&names.join(", "))
        )));
    }
    let count = next.tables().read_state()?.rows as u64;
    Ok(Told { rows: count, missing, extra, model: next.common_model()?.map(|model| model.to_string()) })
}

/// The declared columns but for the type of vectors, which may differ.
fn columns(options: &Options) -> Vec<String> {
    let of: &Columns = &options.columns;
    let declared = (0..of.command_at() as i32).map(|column| match of.at(column) {
        At::Vector(vector) => format!("{} vector", options.vectors[vector].name),
        At::Value(value) => {
            let column = &of.values()[value];
            let role = format!("{:?}", column.role).to_ascii_lowercase();
            format!("{} {} {role}", column.name, column.declared)
        }
        At::Rowid | At::Hidden(_) => {
            let key = of.values().iter().find(|column| column.role == Role::Key);
            format!("{} INTEGER key", key.map_or("rowid", |column| &column.name))
        }
    });
    let module = format!("{:?}", of.dialect).to_ascii_lowercase();
    declared.chain([format!("module {module}")]).collect()
}

/// Refuses to switch while a trigger or view mentions the table that loses its name: it would fail from then
/// on, and with it the statement that fires it.
fn check_mentions(db: Db, schema: &str, next: &str) -> Result<()> {
    let select = |schema: &str| {
        format!(
            "SELECT type, name, sql FROM {}.sqlite_schema WHERE type IN ('trigger', 'view')",
            quoted(schema)
        )
    };
    let mut schemas = vec![schema];
    if schema != "temp" {
        schemas.push("temp");
    }
    for schema in schemas {
        let mut statement = db.prepare(&select(schema))?;
        let mut rows = statement.query(&[])?;
        while rows.step()? {
            if mentions(rows.text(2)?, next) {
                return Err(wrong(format!(
                    "the {} '{}' mentions {next}, which is about to lose this name: drop it first, in the same transaction",
                    rows.text(0)?,
                    rows.text(1)?
                )));
            }
        }
    }
    Ok(())
}

/// Whether a statement mentions a name, bare or in quotes.
fn mentions(sql: &str, name: &str) -> bool {
    let mut run = String::new();
    let is_it = |quoted: &str| identifier(quoted).is_ok_and(|(found, _)| found.eq_ignore_ascii_case(name));
    for token in tokens(sql) {
        // What is not understood may mention it.
        let Ok((kind, token)) = token else { return true };
        if kind == tokens::Kind::Quoted {
            // A doubled quote ends one token and begins another.
            run.push_str(token);
            continue;
        }
        if (!run.is_empty() && is_it(&run))
            || (kind == tokens::Kind::Word && token.eq_ignore_ascii_case(name))
        {
            return true;
        }
        run.clear();
    }
    !run.is_empty() && is_it(&run)
}

/// Runs `work` with `PRAGMA legacy_alter_table`, under which a RENAME leaves triggers and views as they are,
/// and does not ask whether all of them can be resolved.
fn with_legacy_alter(db: Db, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let was = db.query_i64("PRAGMA legacy_alter_table", &[])?.unwrap_or(0);
    db.execute("PRAGMA legacy_alter_table = 1")?;
    let done = work();
    let restored = db.execute(&format!("PRAGMA legacy_alter_table = {was}"));
    done.and(restored)
}

/// `ivf_missing(t, of_next [, of_limit [, of_after]])`: the rowids of `t` that another table lacks.
struct IvfMissing;

impl TableFunction for IvfMissing {
    type Environment = Rc<Connection>;
    type Row = i64;

    const NAME: &'static str = "ivf_missing";
    const COLUMNS: &'static [Column<i64>] = &[("missing", |rowid| Cell::I64(*rowid))];
    const ARGUMENTS: &'static [&'static str] = &["t", "of_next", "of_limit", "of_after"];
    const REQUIRED: usize = 2;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<i64>> {
        let [Some(old), Some(next), limit, after] = arguments else {
            return Err(Error::internal("an argument is missing"));
        };
        let [old, next] = tables(db, connection, Self::NAME, [old, next])?;
        let whole = |name: &str, value: &Option<Value<'_>>, none: i64| match value.filter(|v| !v.is_null()) {
            None => Ok(none),
            Some(value) => exact_rowid(&value).ok_or_else(|| {
                let (function, got) = (Self::NAME, shown(&value));
                Error::generic(format!("{function}: {name} must be a whole number, got {got}"))
            }),
        };
        let limit = whole("of_limit", limit, -1)?;
        Ok(old.tables().missing_in(&next.name(), whole("of_after", after, i64::MIN)?, limit)?)
    }
}
