//! The conditions of a statement, in terms of the engine.
//!
//! They compare as SQLite does, because SQLite may test the rows again: values that SQLite would convert are
//! converted here.

use std::collections::HashSet;

use crate::base::alloc::{TryExtend, TryGrow, try_collect};
use crate::index::{Condition, Datum, RowFilter, Test, TextOrder};
use crate::sqlite::{Result, Value};
use crate::vtab::plan::{Argument, Operator};
use crate::vtab::schema::columns::{Columns, Role};
use crate::vtab::table::Table;
use crate::vtab::values::number::{exact_rowid, rowids_around};

mod compare;
pub mod packed;
pub use compare::Host;
use compare::Meaning;

/// The rows that a statement asks for.
#[derive(Default)]
pub struct Filter {
    /// By rowid.
    pub rowids: Rowids,
    /// By metadata, with the slots of the columns.
    pub conditions: Vec<Condition>,
    /// By partition columns, with their indexes among these.
    pub partitions: Vec<Condition>,
    /// The likeliest meaning of conditions that also pass what other meanings would pass, with the slots of
    /// the columns.
    pub surely: Vec<Condition>,
}

impl Filter {
    /// Adds a condition on a metadata or partition column. `alone`: SQLite will not test the rows again.
    ///
    /// # Errors
    /// An error from reading an IN list or from `host`, or `SQLITE_NOMEM`.
    pub fn narrow(
        &mut self,
        host: &impl Host,
        columns: &Columns,
        (value, operator): (usize, Operator),
        with: &Value<'_>,
        alone: bool,
    ) -> Result<()> {
        let column = &columns.values()[value];
        let Meaning { test, or_null, surely } = compare::meaning(host, column.kind, operator, with, alone)?;
        if let Some(test) = surely {
            self.surely.try_push(Condition { column: column.slot, test, or_null })?;
        }
        let condition = |column| Condition { column, test, or_null };
        if column.role == Role::Partition {
            let at = columns.of(Role::Partition).position(|of| of.slot == column.slot).unwrap_or(0);
            return Ok(self.partitions.try_push(condition(at))?);
        }
        Ok(self.conditions.try_push(condition(column.slot))?)
    }

    /// Whether the partition with these values is requested.
    pub fn accepts_partition(&self, values: &[Datum<'_>]) -> bool {
        self.partitions.iter().all(|of| of.accepts(values.get(of.column).copied().unwrap_or(Datum::Null)))
    }

    /// The values of the only requested partition, if the statement gives them all.
    pub fn one_partition(&self, columns: usize) -> Option<Vec<Datum<'_>>> {
        let value = |at| {
            self.partitions.iter().filter(|of| of.column == at && !of.or_null).find_map(|of| match &of.test {
                Test::Integers { low, high } if low == high => Some(Datum::Integer(*low)),
                Test::TextIn(texts) if texts.len() == 1 => {
                    std::str::from_utf8(&texts[0]).ok().map(Datum::Text)
                }
                _ => None,
            })
        };
        (0..columns).map(value).collect()
    }

    /// Whether no row can pass.
    pub fn is_never(&self) -> bool {
        let mut all = self.conditions.iter().chain(&self.partitions);
        all.any(|condition| condition.test == Test::Never && !condition.or_null)
            || self.rowids.low > self.rowids.high
    }

    /// Whether every row of the requested partitions passes.
    pub fn accepts_every_row(&self) -> bool {
        self.rowids.accepts_all() && self.conditions.is_empty()
    }
}

impl RowFilter for Filter {
    fn accepts(&self, rowid: i64) -> bool {
        let Rowids { low, high, only, not } = &self.rowids;
        (*low..=*high).contains(&rowid)
            && only.as_ref().is_none_or(|only| only.contains(&rowid))
            && !not.contains(&rowid)
    }

    fn accepts_all(&self) -> bool {
        self.rowids.accepts_all()
    }

    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

/// The rowids that a statement asks for.
pub struct Rowids {
    pub low: i64,
    pub high: i64,
    /// Only these, if set.
    pub only: Option<HashSet<i64>>,
    not: Vec<i64>,
}

impl Default for Rowids {
    fn default() -> Self {
        Self { low: i64::MIN, high: i64::MAX, only: None, not: Vec::new() }
    }
}

impl Rowids {
    /// Adds a constraint. SQLite tests the rows again, so passing too many is harmless.
    ///
    /// # Errors
    /// An error from reading an IN list, or `SQLITE_NOMEM`.
    pub fn narrow(&mut self, argument: Argument, value: &Value<'_>) -> Result<()> {
        let mut keep = |only: HashSet<i64>| keep_only(&mut self.only, only);
        match argument {
            Argument::RowidEq => keep(exact_rowid(value).into_iter().collect()),
            Argument::RowidIn => {
                let mut only = HashSet::new();
                if let Some(mut list) = value.as_in_list()? {
                    while let Some(value) = list.next_value()? {
                        only.try_room(1)?;
                        only.extend(exact_rowid(&value));
                    }
                } else {
                    only.extend(exact_rowid(value));
                }
                keep(only);
            }
            Argument::RowidNull => keep(HashSet::new()),
            Argument::RowidNotNull => {}
            Argument::RowidIsNot => self.not.try_extend(exact_rowid(value))?,
            _ if value.is_null() => keep(HashSet::new()),
            Argument::RowidNe => self.not.try_extend(exact_rowid(value))?,
            _ => {
                // The rowids next to the value; `None` on a side where all rowids are beyond it.
                let (floor, ceil) = rowids_around(value);
                let (from, to) = match argument {
                    Argument::RowidGe => (ceil, Some(i64::MAX)),
                    Argument::RowidGt => {
                        (floor.map_or(Some(i64::MIN), |floor| floor.checked_add(1)), Some(i64::MAX))
                    }
                    Argument::RowidLe => (Some(i64::MIN), floor),
                    Argument::RowidLt => {
                        (Some(i64::MIN), ceil.map_or(Some(i64::MAX), |ceil| ceil.checked_sub(1)))
                    }
                    _ => (Some(i64::MIN), Some(i64::MAX)),
                };
                match (from, to) {
                    (Some(from), Some(to)) => (self.low, self.high) = (self.low.max(from), self.high.min(to)),
                    _ => keep(HashSet::new()),
                }
            }
        }
        self.end_if_empty();
        Ok(())
    }

    /// Keeps only the rows of a set.
    pub fn keep(&mut self, only: HashSet<i64>) {
        keep_only(&mut self.only, only);
        self.end_if_empty();
    }

    fn end_if_empty(&mut self) {
        if self.only.as_ref().is_some_and(HashSet::is_empty) {
            (self.low, self.high) = (1, 0);
        }
    }

    /// Whether every rowid passes.
    pub fn accepts_all(&self) -> bool {
        self.only.is_none() && self.not.is_empty() && (self.low, self.high) == (i64::MIN, i64::MAX)
    }
}

fn keep_only(kept: &mut Option<HashSet<i64>>, only: HashSet<i64>) {
    match kept {
        Some(before) => before.retain(|rowid| only.contains(rowid)),
        none => *none = Some(only),
    }
}

impl Table {
    /// The partitions that a filter requests, ascending; `None` for all.
    ///
    /// # Errors
    /// `SQLITE_CORRUPT_VTAB` if the table is damaged, `SQLITE_NOMEM`, `SQLITE_INTERRUPT`, or another error
    /// from SQLite.
    pub fn partitions(&self, filter: &Filter) -> Result<Option<Vec<u32>>> {
        if filter.partitions.is_empty() {
            return Ok(None);
        }
        let tables = self.tables();
        if let Some(values) = filter.one_partition(tables.shape().partitions.len()) {
            if !filter.accepts_partition(&values) {
                return Ok(Some(Vec::new()));
            }
            let mut key = Vec::new();
            values.iter().try_for_each(|value| value.write(&mut key))?;
            return Ok(Some(tables.partition_of_key(&key)?.into_iter().collect()));
        }
        let all = tables.all_partitions()?;
        let wanted = all.iter().filter(|partition| filter.accepts_partition(&partition.values()));
        Ok(Some(try_collect(wanted.map(|partition| partition.partition))?))
    }
}

impl Host for Table {
    fn text_order(&self) -> Result<TextOrder> {
        Table::text_order(self)
    }

    fn patterns_are_own(&self) -> Result<[bool; 2]> {
        self.tables().patterns_are_own()
    }
}
