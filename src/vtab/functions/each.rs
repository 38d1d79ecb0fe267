//! `vec_each(v)`: the elements of a vector, a row each.

use crate::base::alloc::try_collect;
use crate::sqlite::{Db, Result, Value};
use crate::vtab::functions::function_error;
use crate::vtab::table_function::{Cell, Column, TableFunction};
use crate::vtab::values::element::Vector;

pub struct Each;

impl TableFunction for Each {
    type Environment = ();
    type Row = Cell;

    const NAME: &'static str = "vec_each";
    const COLUMNS: &'static [Column<Cell>] = &[("value", Cell::clone)];
    const ARGUMENTS: &'static [&'static str] = &["vector"];
    const REQUIRED: usize = 1;
    const INNOCUOUS: bool = true;

    fn rows(_: Db, (): &(), arguments: &[Option<Value<'_>>]) -> Result<Vec<Cell>> {
        let Some(Some(value)) = arguments.first() else { return Ok(Vec::new()) };
        if value.is_null() {
            return Ok(Vec::new());
        }
        let vector = Vector::read(value).map_err(|fault| function_error("vec_each", fault))?;
        Ok(match vector {
            Vector::Floats(_, values) => {
                try_collect(values.into_iter().map(|value| Cell::F64(value.into())))?
            }
            Vector::Int8(values) => try_collect(values.into_iter().map(|value| Cell::I64(value.into())))?,
            Vector::Bits(bytes) => {
                try_collect((0..bytes.len() * 8).map(|i| Cell::I64(Vector::bit(&bytes, i).into())))?
            }
        })
    }
}
