//! The input of SQLite's planner for a table, and the table's answer.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::{ptr, slice};

use super::api::call;
use super::ffi::{self, sqlite3_index_info};
use super::{Api, Error, Result, Value};

/// The operator of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Op {
    Eq,
    Gt,
    Le,
    Lt,
    Ge,
    Match,
    Like,
    Glob,
    Regexp,
    Ne,
    IsNot,
    IsNotNull,
    IsNull,
    Is,
    Limit,
    Offset,
    /// A function that xFindFunction declared.
    Function(u8),
    /// An operator that this crate does not know.
    Other(u8),
}

impl Op {
    fn from_code(code: u8) -> Op {
        match code {
            2 => Op::Eq,
            4 => Op::Gt,
            8 => Op::Le,
            16 => Op::Lt,
            32 => Op::Ge,
            64 => Op::Match,
            65 => Op::Like,
            66 => Op::Glob,
            67 => Op::Regexp,
            68 => Op::Ne,
            69 => Op::IsNot,
            70 => Op::IsNotNull,
            71 => Op::IsNull,
            72 => Op::Is,
            73 => Op::Limit,
            74 => Op::Offset,
            150.. => Op::Function(code),
            _ => Op::Other(code),
        }
    }
}

/// SQLite itself tests the constraints from this index on, whatever `omit` says (`whereLoopAddVirtualOne` in where.c).
pub const OMITS: usize = 16;

/// One term of the WHERE clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Its index, for the methods of [`IndexInfo`].
    pub index: usize,
    /// The column on the left, -1 for the rowid. Meaningless for LIMIT and OFFSET.
    pub column: i32,
    /// The operator.
    pub op: Op,
    /// Whether the right side is known in this plan. An unusable constraint cannot get an argument.
    pub usable: bool,
}

/// One term of the ORDER BY clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The column, -1 for the rowid.
    pub column: i32,
    /// Whether it is DESC.
    pub desc: bool,
}

/// The result of best_index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BestIndex {
    /// The plan is valid.
    Ok,
    /// No plan is possible with the constraints that are usable now. SQLite tries another join order.
    Unusable,
}

/// The planner's input. Methods with the index of a constraint panic if it does not exist.
pub struct IndexInfo<'a> {
    api: Api,
    /// The first part of a larger object of SQLite, whose routines must get exactly this pointer.
    info: *mut sqlite3_index_info,
    lent: PhantomData<&'a mut ()>,
}

impl IndexInfo<'_> {
    /// # Safety
    /// `info` is the argument of the running xBestIndex, and `'a` ends with it.
    pub(super) unsafe fn from_raw<'a>(api: Api, info: *mut sqlite3_index_info) -> IndexInfo<'a> {
        IndexInfo { api, info, lent: PhantomData }
    }

    fn info(&self) -> &sqlite3_index_info {
        // SAFETY: the promise of from_raw; nobody else writes while xBestIndex runs.
        unsafe { &*self.info }
    }

    fn answer(&mut self) -> &mut sqlite3_index_info {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { &mut *self.info }
    }

    fn terms(&self) -> &[ffi::sqlite3_index_constraint] {
        // SAFETY: there are nConstraint of them.
        unsafe { array(self.info().aConstraint, self.info().nConstraint) }
    }

    /// The index of a constraint, checked.
    fn at(&self, constraint: usize) -> c_int {
        assert!(constraint < self.terms().len(), "constraint {constraint} of {}", self.terms().len());
        constraint as c_int
    }

    /// The terms of the WHERE clause. The iterator does not borrow, so the answer can be given while it runs.
    pub fn constraints(&self) -> impl Iterator<Item = Constraint> + use<> {
        let terms = self.terms().iter().enumerate().map(|(index, term)| Constraint {
            index,
            column: term.iColumn,
            op: Op::from_code(term.op),
            usable: term.usable != 0,
        });
        terms.collect::<Vec<_>>().into_iter()
    }

    /// The right side of a constraint, if the planner knows it already.
    ///
    /// # Panics
    /// If there is no such constraint.
    pub fn rhs(&self, constraint: usize) -> Option<Value<'_>> {
        let index = self.at(constraint);
        let mut value = ptr::null_mut();
        // SAFETY: SQLite's own info, and a valid index; the value lives as long as xBestIndex runs.
        unsafe {
            let code = call!(self.api, vtab_rhs_value(self.info, index, &raw mut value));
            (code == ffi::SQLITE_OK && !value.is_null()).then(|| Value::from_raw(self.api, value))
        }
    }

    /// Passes the right side to xFilter as argument number `argv_index` (from 1; 0 revokes it). `omit` tells
    /// SQLite not to test the constraint again, and is heard for the first [`OMITS`] constraints only.
    ///
    /// # Panics
    /// If there is no such constraint.
    pub fn set_argv(&mut self, constraint: usize, argv_index: i32, omit: bool) {
        let index = self.at(constraint);
        // SAFETY: there is one usage per constraint, and `at` has checked the index.
        let usage = unsafe { &mut *self.info().aConstraintUsage.add(index as usize) };
        usage.argvIndex = argv_index;
        usage.omit = u8::from(omit);
    }

    /// The terms of the ORDER BY clause.
    pub fn order_by(&self) -> impl Iterator<Item = OrderBy> + '_ {
        // SAFETY: there are nOrderBy of them.
        let terms = unsafe { array(self.info().aOrderBy, self.info().nOrderBy) };
        terms.iter().map(|term| OrderBy { column: term.iColumn, desc: term.desc != 0 })
    }

    /// Promises rows in the order of ORDER BY.
    pub fn set_order_by_consumed(&mut self, yes: bool) {
        self.answer().orderByConsumed = c_int::from(yes);
    }

    /// A number for xFilter.
    pub fn set_idx_num(&mut self, number: i32) {
        self.answer().idxNum = number;
    }

    /// A text for xFilter.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn set_idx_str(&mut self, text: &str) -> Result<()> {
        let copy = self.api.copy_text(text);
        if copy.is_null() {
            return Err(Error::nomem());
        }
        let api = self.api;
        let answer = self.answer();
        if answer.needToFreeIdxStr != 0 {
            // SAFETY: a text from an earlier call of this method.
            unsafe { call!(api, free(answer.idxStr.cast())) };
        }
        answer.idxStr = copy;
        answer.needToFreeIdxStr = 1;
        Ok(())
    }

    /// The cost of the plan, in units of about one disk access.
    pub fn set_estimated_cost(&mut self, cost: f64) {
        self.answer().estimatedCost = cost;
    }

    /// The estimated number of rows.
    pub fn set_estimated_rows(&mut self, rows: i64) {
        self.answer().estimatedRows = rows;
    }

    /// Promises at most one row.
    pub fn set_unique(&mut self, yes: bool) {
        self.answer().idxFlags = if yes { ffi::SQLITE_INDEX_SCAN_UNIQUE } else { 0 };
    }

    /// One bit per column that the statement uses. Bit 63 stands for all columns from 63 on.
    pub fn columns_used(&self) -> u64 {
        self.info().colUsed
    }

    /// Whether a constraint is an IN that xFilter can get as one list. With `Some`, also decides whether it
    /// does: the constraint then needs an argument number too, and [`Value::as_in_list`] opens the list.
    ///
    /// # Panics
    /// If there is no such constraint.
    pub fn vtab_in(&mut self, constraint: usize, handle: Option<bool>) -> bool {
        let index = self.at(constraint);
        // SAFETY: SQLite's own info, and a valid index.
        unsafe { call!(self.api, vtab_in(self.info, index, handle.map_or(-1, c_int::from))) != 0 }
    }

    /// How the order of rows matters: 0 as in ORDER BY; 1 only groups; 2 groups, and duplicates may be left
    /// out; 3 as in ORDER BY, and duplicates may be left out.
    pub fn distinct(&self) -> i32 {
        // SAFETY: SQLite's own info.
        unsafe { call!(self.api, vtab_distinct(self.info)) }
    }

    /// The collation of a constraint, like "BINARY".
    ///
    /// # Panics
    /// If there is no such constraint.
    pub fn collation(&self, constraint: usize) -> Option<&str> {
        let index = self.at(constraint);
        // SAFETY: SQLite's own info, and a valid index; the text lives as long as xBestIndex runs.
        unsafe {
            let name = call!(self.api, vtab_collation(self.info, index));
            // A name that is not UTF-8 is that of another collation.
            (!name.is_null()).then(|| CStr::from_ptr(name).to_str().unwrap_or("?"))
        }
    }
}

/// # Safety
/// `pointer` is valid for `length` items during `'a`. It may be anything if there are none.
unsafe fn array<'a, T>(pointer: *const T, length: c_int) -> &'a [T] {
    match usize::try_from(length) {
        // SAFETY: the caller's promise.
        Ok(length @ 1..) if !pointer.is_null() => unsafe { slice::from_raw_parts(pointer, length) },
        _ => &[],
    }
}
