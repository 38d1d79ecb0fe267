//! A search of a table that sqlite-vec made: the statement of SQL that it stands for, over a scan of the table itself.

use super::theirs::Theirs;
use crate::sqlite::{Error, Kind, Param, Result, Value, quoted};
use crate::storage::{Element, Row};
use crate::vtab::filter::{number, shown};
use crate::vtab::plan::{self, Argument, Operator, Plan};

/// A SELECT in the making.
#[derive(Default)]
struct Select<'v> {
    params: Vec<Param<'v>>,
    /// Which rows are searched, and which distances are wanted.
    conditions: Vec<String>,
    bounds: Vec<String>,
    limit: Option<i64>,
    offset: i64,
    /// No row can be an answer.
    never: bool,
}

impl<'v> Select<'v> {
    fn param(&mut self, value: &Value<'v>) -> Result<String> {
        self.params.push(match value.kind() {
            Kind::Null => Param::Null,
            Kind::Integer => Param::I64(value.i64()),
            Kind::Real => Param::F64(value.f64()),
            Kind::Text => Param::Text(value.text()?),
            Kind::Blob => Param::Blob(value.blob()?),
        });
        Ok(format!("?{}", self.params.len()))
    }

    /// `(?2, ?3)`, of the values of an IN.
    fn list(&mut self, value: &Value<'v>) -> Result<String> {
        let mut texts = Vec::new();
        if let Some(mut list) = value.as_in_list()? {
            while let Some(value) = list.next_value()? {
                // The list ends before the statement runs: its values are written out.
                texts.push(match value.kind() {
                    Kind::Null => "NULL".into(),
                    Kind::Integer => value.i64().to_string(),
                    Kind::Real => format!("{:?}", value.f64()),
                    Kind::Text => format!("'{}'", value.text()?.replace('\'', "''")),
                    Kind::Blob => {
                        value.blob()?.iter().fold("x'".to_string(), |text, byte| format!("{text}{byte:02x}"))
                            + "'"
                    }
                });
            }
        }
        Ok(format!("({})", texts.join(", ")))
    }

    fn take(&mut self, table: &Theirs, argument: Argument, value: &Value<'v>) -> Result<()> {
        use Argument as A;
        let columns = &table.options.columns;
        let key = columns.text_key().map_or("rowid".into(), |key| quoted(&key.name));
        let (what, operator) = match argument {
            // Its distances are exact whatever they say; the query is the first parameter.
            A::Match | A::Batch | A::Packed | A::Knob(_) | A::Params => return Ok(()),
            A::K => {
                let k = number(value).filter(|k| *k >= 0.0 && k.fract() == 0.0);
                let wrong =
                    || Error::generic(format!("k must be a whole number from 0, got {}", shown(value)));
                self.never |= value.is_null();
                self.limit = if value.is_null() { None } else { Some(k.ok_or_else(wrong)? as i64) };
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
            A::RowidEq | A::KeyEq => (key, "="),
            A::RowidIn | A::KeyIn => (key, "IN"),
            A::RowidNe => (key, "!="),
            A::RowidIsNot => (key, "IS NOT"),
            A::RowidGt => (key, ">"),
            A::RowidGe => (key, ">="),
            A::RowidLt => (key, "<"),
            A::RowidLe => (key, "<="),
            A::RowidNull => (key, "IS"),
            A::RowidNotNull => (key, "IS NOT"),
            A::DistanceEq => ("d".into(), "="),
            A::DistanceIn => ("d".into(), "IN"),
            A::DistanceGt => ("d".into(), ">"),
            A::DistanceGe => ("d".into(), ">="),
            A::DistanceLt => ("d".into(), "<"),
            A::DistanceLe => ("d".into(), "<="),
            A::Value(column, operator) => {
                let text = match operator {
                    Operator::Eq => "=",
                    Operator::In => "IN",
                    Operator::Ne => "!=",
                    Operator::Gt => ">",
                    Operator::Ge => ">=",
                    Operator::Lt => "<",
                    Operator::Le => "<=",
                    Operator::Is | Operator::IsNull => "IS",
                    Operator::IsNot | Operator::IsNotNull => "IS NOT",
                    Operator::Like => "LIKE",
                    Operator::Glob => "GLOB",
                };
                (quoted(&columns.values()[column].name), text)
            }
        };
        let right = if argument.is_list() { self.list(value)? } else { self.param(value)? };
        let condition = format!("{what} {operator} {right}");
        if what == "d" {
            self.bounds.push(condition)
        } else {
            self.conditions.push(condition)
        }
        Ok(())
    }
}

/// The rows that a search finds, nearest first, and how far they are.
///
/// # Errors
/// Arguments that are wrong, or what reading fails with.
pub fn search(table: &Theirs, plan: Plan, text: &str, args: &[Value<'_>]) -> Result<Vec<(Row, Option<f64>)>> {
    let given = plan::arguments(text, &table.options.columns).zip(args);
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
        // SQLite skips the rows of OFFSET itself.
        select.limit.map_or(-1, |limit| limit.saturating_add(select.offset)),
    );
    let mut statement = tables.db().prepare_on_tables(&sql)?;
    let mut rows = statement.query(&select.params)?;
    let mut found = Vec::new();
    while rows.step()? {
        let row = match by_text {
            Some(_) => tables.vec0_row(rows.text(0)?)?,
            None => tables.vec0_rows(rows.i64(0))?.into_iter().next().filter(|row| row.rowid == rows.i64(0)),
        };
        let distance = (rows.kind(1) != Kind::Null).then(|| f64::from(rows.f64(1) as f32));
        found.extend(row.map(|row| (row, distance)));
    }
    // Different f64 may be one f32.
    let order = |distance: Option<f64>| distance.unwrap_or(f64::INFINITY);
    found.sort_by(|(a, near): &(Row, _), (b, far)| {
        order(*near).total_cmp(&order(*far)).then(a.rowid.cmp(&b.rowid))
    });
    Ok(found)
}
