//! Searches of a table made by sqlite-vec. Each runs as an SQL statement over a scan of the table.

use super::theirs::Theirs;
use crate::sqlite::{Kind, Param, Result, Value, quoted};
use crate::storage::{Element, Row};
use crate::vtab::plan::{Argument, Plan};
use crate::vtab::values::number::k_of;

/// A SELECT under construction.
#[derive(Default)]
struct Select<'v> {
    params: Vec<Param<'v>>,
    /// The conditions on rows. `bounds` has those on distances.
    conditions: Vec<String>,
    bounds: Vec<String>,
    limit: Option<i64>,
    offset: i64,
    /// Whether no row can be an answer.
    never: bool,
}

impl<'v> Select<'v> {
    fn param(&mut self, value: &Value<'v>) -> Result<String> {
        self.params.push(value.param()?);
        Ok(format!("?{}", self.params.len()))
    }

    /// The values of an IN list as literals: the list itself ends before the statement runs.
    fn list(value: &Value<'v>) -> Result<String> {
        let mut values = Vec::new();
        if let Some(mut list) = value.as_in_list()? {
            while let Some(value) = list.next_value()? {
                values.push(literal(value.param()?));
            }
        }
        Ok(format!("({})", values.join(", ")))
    }

    fn take(&mut self, table: &Theirs, argument: Argument, value: &Value<'v>) -> Result<()> {
        use Argument as A;
        let columns = &table.options.columns;
        let key = columns.text_key().map_or("rowid".into(), |key| quoted(&key.name));
        let word = argument.word(columns);
        let (what, operator) = match argument {
            // Distances are always exact, so knobs have no effect. The query is the first parameter.
            A::Match | A::Batch | A::Packed | A::Knob(_) | A::Params => return Ok(()),
            A::K if value.is_null() => {
                self.never = true;
                return Ok(());
            }
            A::K => {
                self.limit = Some(k_of(value)? as i64);
                return Ok(());
            }
            A::Limit => {
                self.limit = Some(value.i64()).filter(|limit| *limit >= 0);
                return Ok(());
            }
            A::Offset => {
                self.offset = value.i64().max(0);
                return Ok(());
            }
            A::Value(column, operator) => (quoted(&columns.values()[column].name), operator.word()),
            // The words are like `rowid>=`, `key in`, `distance<`.
            _ => match word.strip_prefix("distance") {
                Some(operator) => ("d".into(), operator),
                None => (key, word.strip_prefix("rowid").or(word.strip_prefix("key")).unwrap_or_default()),
            },
        };
        let right = match operator {
            operator if operator.ends_with("null") => String::new(),
            _ if argument.is_list() => Self::list(value)?,
            _ => self.param(value)?,
        };
        let condition = format!("{what}{operator} {right}");
        if what == "d" {
            self.bounds.push(condition)
        } else {
            self.conditions.push(condition)
        }
        Ok(())
    }
}

/// A value as an SQL literal.
fn literal(value: Param<'_>) -> String {
    match value {
        Param::Null => "NULL".into(),
        Param::I64(value) => value.to_string(),
        Param::F64(value) if value.is_infinite() => format!("{}9e999", if value < 0.0 { "-" } else { "" }),
        Param::F64(value) => format!("{value:?}"),
        Param::Text(value) => format!("'{}'", value.replace('\'', "''")),
        Param::Blob(value) => {
            format!("x'{}'", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    }
}

/// The rows that a search finds, nearest first, with their distances.
///
/// # Errors
/// An invalid argument; `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, or another error from
/// SQLite.
pub fn search(table: &Theirs, plan: &Plan, args: &[Value<'_>]) -> Result<Vec<(Row, Option<f64>)>> {
    let given = plan.given(args);
    let Some((_, query)) = given.clone().find(|(argument, _)| *argument == Argument::Match) else {
        return Ok(Vec::new());
    };
    let column = &table.options.vectors[plan.vector];
    let function = match column.element {
        Element::Int8 => "vec_int8",
        Element::Bit => "vec_bit",
        _ => "vec_f32",
    };
    let mut select = Select { never: query.is_null(), ..Select::default() };
    select.param(query)?;
    for (argument, value) in given {
        select.take(table, argument, value)?;
    }
    if select.never {
        return Ok(Vec::new());
    }
    let of = |conditions: &[String]| match conditions {
        [] => String::new(),
        conditions => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let by_text = table.options.columns.text_key();
    let key = by_text.map_or("rowid".into(), |key| quoted(&key.name));
    let tables = &table.tables;
    let sql = format!(
        "SELECT r, d FROM (SELECT {key} AS r, CAST(vec_distance_{}({function}({}), {function}(?1)) AS REAL) AS d FROM {}{}){} \
         ORDER BY d IS NULL, d, r LIMIT {}",
        column.metric.name(),
        quoted(&column.name),
        tables.qualified(&table.name),
        of(&select.conditions),
        of(&select.bounds),
        // SQLite itself skips the rows of OFFSET.
        select.limit.map_or(-1, |limit| limit.saturating_add(select.offset)),
    );
    let mut statement = tables.db().prepare_on_tables(&sql)?;
    let mut rows = statement.query(&select.params)?;
    let mut found = Vec::new();
    while rows.step()? {
        let row = match by_text {
            Some(_) => tables.vec0_row_of_key(rows.text(0)?)?,
            None => tables.vec0_row(rows.i64(0))?,
        };
        let distance = (rows.kind(1) != Kind::Null).then(|| f64::from(rows.f64(1) as f32));
        found.extend(row.map(|row| (row, distance)));
    }
    // Different f64 distances may be the same f32.
    let order = |distance: Option<f64>| distance.unwrap_or(f64::INFINITY);
    found.sort_by(|(a, near): &(Row, _), (b, far)| {
        order(*near).total_cmp(&order(*far)).then(a.rowid.cmp(&b.rowid))
    });
    Ok(found)
}
