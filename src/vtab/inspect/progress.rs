//! `ivf_progress`.

use std::sync::Arc;

use crate::base::alloc::try_collect;
use crate::sqlite::{Db, Result, Step, Value};
use crate::vtab::table::progress::{Running, running};
use crate::vtab::table_function::{Cell, Column, TableFunction};

/// The long commands that run in this process, on all connections, one row each. Reads no table.
pub struct IvfProgress;

/// A command, its progress, and the seconds since it began.
pub struct Command(Arc<Running>, Step, f64);

impl TableFunction for IvfProgress {
    type Environment = ();
    type Row = Command;

    const NAME: &'static str = "ivf_progress";
    const COLUMNS: &'static [Column<Command>] = &[
        ("name", |of| Cell::Text(of.0.table.clone())),
        ("command", |of| Cell::Text(of.0.command.into())),
        ("stage", |of| Cell::Text(of.1.stage.into())),
        ("done", |of| Cell::I64(number(of.1.done))),
        ("total", |of| if of.1.total > 0 { Cell::I64(number(of.1.total)) } else { Cell::Null }),
        ("fraction", |of| {
            if of.1.total > 0 { Cell::F64(of.1.done as f64 / of.1.total as f64) } else { Cell::Null }
        }),
        ("seconds", |of| Cell::F64(of.2)),
        ("schema", |of| Cell::Text(of.0.schema.clone())),
        ("file", |of| of.0.file.clone().map_or(Cell::Null, Cell::Text)),
    ];
    const ARGUMENTS: &'static [&'static str] = &[];
    const REQUIRED: usize = 0;

    fn rows(_: Db, (): &(), _: &[Option<Value<'_>>]) -> Result<Vec<Command>> {
        let command = |running: Arc<Running>| {
            let (step, seconds) = (running.step(), running.elapsed().as_secs_f64());
            Command(running, step, seconds)
        };
        Ok(try_collect(running()?.into_iter().map(command))?)
    }
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
