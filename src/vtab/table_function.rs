//! Table-valued functions: read-only tables that exist without a CREATE statement, and compute all rows of a
//! call at once.

use std::marker::PhantomData;

use crate::base::alloc::try_copy;
use crate::sqlite::{
    BestIndex, Context, Db, Error, IndexInfo, OMITS, Op, Param, Result, TableKind, VTab, VTabArgs,
    VTabCursor, Value, register_module,
};
use crate::storage::format::f32_bytes;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Cell {
    #[default]
    Null,
    I64(i64),
    F64(f64),
    Text(String),
    Blob(Vec<u8>),
    /// There was no memory for the value.
    Refused,
}

impl Cell {
    /// A copy of a value.
    ///
    /// # Errors
    /// `SQLITE_NOMEM`.
    pub fn copy(value: Param<'_>) -> Result<Self> {
        Ok(match value {
            Param::Null => Self::Null,
            Param::I64(value) => Self::I64(value),
            Param::F64(value) => Self::F64(value),
            Param::Text(value) => {
                let copy = try_copy(value.as_bytes())?;
                Self::Text(String::from_utf8(copy).map_err(|error| Error::internal(error.to_string()))?)
            }
            Param::Blob(value) => Self::Blob(try_copy(value)?),
        })
    }

    /// As the parameter of a statement; [`Cell::Refused`] as NULL.
    pub fn param(&self) -> Param<'_> {
        match self {
            Self::Null | Self::Refused => Param::Null,
            Self::I64(value) => Param::I64(*value),
            Self::F64(value) => Param::F64(*value),
            Self::Text(value) => Param::Text(value),
            Self::Blob(value) => Param::Blob(value),
        }
    }

    /// Sets it as the result of a function or column.
    ///
    /// # Errors
    /// `SQLITE_NOMEM` for [`Cell::Refused`].
    pub fn give(&self, context: &Context<'_>) -> Result<()> {
        match self {
            Self::Null => context.null(),
            Self::I64(value) => context.i64(*value),
            Self::F64(value) => context.f64(*value),
            Self::Text(value) => context.text(value),
            Self::Blob(value) => context.blob(value),
            Self::Refused => return Err(Error::nomem()),
        }
        Ok(())
    }

    /// A vector as a blob.
    pub fn floats(vector: &[f32]) -> Self {
        f32_bytes(vector).map_or(Self::Refused, Self::Blob)
    }
}

/// A column: its name, and its value in a row.
pub type Column<R> = (&'static str, fn(&R) -> Cell);

/// Defines a table-valued function. A new column is one line in [`TableFunction::COLUMNS`].
pub trait TableFunction: 'static {
    /// What it needs besides its arguments.
    type Environment: Clone + 'static;
    type Row: 'static;

    const NAME: &'static str;
    const COLUMNS: &'static [Column<Self::Row>];
    /// The arguments, in their order: hidden columns after the others.
    const ARGUMENTS: &'static [&'static str];
    /// How many of the arguments are required.
    const REQUIRED: usize;
    /// Whether it depends only on its arguments, so that an untrusted schema may use it.
    const INNOCUOUS: bool = false;
    /// The column whose `IN (...)` it takes as one more argument, a list, after the others.
    const ROWIDS: Option<usize> = None;

    /// Computes the rows. An argument that was not given is `None`.
    ///
    /// # Errors
    /// Any error. SQLite shows its text to the user.
    fn rows(
        db: Db,
        environment: &Self::Environment,
        arguments: &[Option<Value<'_>>],
    ) -> Result<Vec<Self::Row>>;
}

/// Registers a table-valued function.
///
/// # Errors
/// An error from SQLite.
pub fn register<F: TableFunction>(db: Db, environment: F::Environment) -> Result<()> {
    register_module::<Function<F>>(db, F::NAME, environment)
}

/// Stands before the name of an argument that SQLite tests itself. There, NULL equals nothing, while here it is an argument that
/// was not given.
const COMPARED: char = '+';

/// The function as a virtual table.
pub struct Function<F: TableFunction> {
    db: Db,
    environment: F::Environment,
}

impl<F: TableFunction> VTab for Function<F> {
    type Aux = F::Environment;
    type Cursor = FunctionCursor<F>;

    const KIND: TableKind = TableKind::EponymousOnly;
    const INNOCUOUS: bool = F::INNOCUOUS;

    fn connect(db: Db, aux: &F::Environment, _: &VTabArgs<'_>) -> Result<(String, Self)> {
        let visible = F::COLUMNS.iter().map(|(name, _)| format!("\"{name}\""));
        let hidden = F::ARGUMENTS.iter().map(|name| format!("\"{name}\" HIDDEN"));
        let declaration = format!("CREATE TABLE x({})", visible.chain(hidden).collect::<Vec<_>>().join(", "));
        Ok((declaration, Self { db, environment: aux.clone() }))
    }

    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
        // The constraint of each argument. SQLite tests the second one for the same argument itself.
        let mut given = vec![None; F::ARGUMENTS.len() + 1];
        let mut waits = false;
        for constraint in info.constraints().filter(|constraint| constraint.op == Op::Eq) {
            let is_of_rowid = usize::try_from(constraint.column).is_ok_and(|at| F::ROWIDS == Some(at));
            if is_of_rowid && info.vtab_in(constraint.index, None) {
                if given[F::ARGUMENTS.len()].is_some() {
                    let text =
                        format!("{}: rowid IN is given twice, write one list (INTERSECT joins two)", F::NAME);
                    return Err(Error::generic(text));
                }
                // Before its values are known, the rows among which to search are not.
                if !constraint.usable {
                    return Ok(BestIndex::Unusable);
                }
                info.vtab_in(constraint.index, Some(true));
                given[F::ARGUMENTS.len()] = Some(constraint.index);
                continue;
            }
            let at = usize::try_from(constraint.column).ok().and_then(|at| at.checked_sub(F::COLUMNS.len()));
            match at.filter(|at| *at < F::ARGUMENTS.len()).and_then(|at| given.get_mut(at)) {
                Some(place) if constraint.usable => {
                    place.get_or_insert(constraint.index);
                }
                Some(_) => waits = true,
                None => {}
            }
        }
        let missing = given.iter().take(F::REQUIRED).position(Option::is_none);
        if waits {
            // In another order of the tables, the argument is known.
            return Ok(BestIndex::Unusable);
        }
        if let Some(missing) = missing {
            let (name, arguments) = (F::NAME, F::ARGUMENTS.join(", "));
            let text = format!("{name}({arguments}): the argument {} is missing", F::ARGUMENTS[missing]);
            return Err(Error::generic(text));
        }
        let mut names = Vec::new();
        for (name, constraint) in F::ARGUMENTS.iter().zip(&given) {
            let Some(constraint) = constraint else { continue };
            names.push(if *constraint < OMITS { (*name).to_string() } else { format!("{COMPARED}{name}") });
        }
        if given[F::ARGUMENTS.len()].is_some() {
            names.push("rowid in".to_string());
        }
        info.set_idx_str(&names.join(","))?;
        let mut mask = 0;
        let mut arguments = 0;
        for (at, constraint) in given.into_iter().enumerate() {
            if let Some(constraint) = constraint {
                arguments += 1;
                mask |= 1 << at;
                info.set_argv(constraint, arguments, true);
            }
        }
        info.set_idx_num(mask);
        info.set_estimated_cost(1e3);
        info.set_estimated_rows(100);
        Ok(BestIndex::Ok)
    }

    fn open(&self) -> Result<FunctionCursor<F>> {
        Ok(FunctionCursor { rows: Vec::new(), at: 0, arguments: Vec::new(), function: PhantomData })
    }
}

/// The rows of one call.
pub struct FunctionCursor<F: TableFunction> {
    rows: Vec<F::Row>,
    at: usize,
    arguments: Vec<Cell>,
    function: PhantomData<F>,
}

impl<F: TableFunction> VTabCursor<Function<F>> for FunctionCursor<F> {
    fn filter(
        &mut self,
        vtab: &Function<F>,
        mask: i32,
        names: Option<&str>,
        args: &[Value<'_>],
    ) -> Result<()> {
        for (name, value) in names.unwrap_or_default().split(',').zip(args) {
            if let Some(name) = name.strip_prefix(COMPARED).filter(|_| value.is_null()) {
                let text = format!(
                    "{}: {name} is NULL and comes after {OMITS} other conditions, where SQLite lets NULL find \
                     nothing: write {name} = NULL first in WHERE or leave it out",
                    F::NAME
                );
                return Err(Error::generic(text));
            }
        }
        let mut args = args.iter().copied();
        let given: Vec<Option<Value<'_>>> = (0..F::ARGUMENTS.len() + usize::from(F::ROWIDS.is_some()))
            .map(|at| if mask >> at & 1 == 1 { args.next() } else { None })
            .collect();
        self.arguments = given.iter().map(cell).collect::<Result<_>>()?;
        self.at = 0;
        self.rows = F::rows(vtab.db, &vtab.environment, &given)?;
        Ok(())
    }

    fn next(&mut self, _: &Function<F>) -> Result<()> {
        self.at += 1;
        Ok(())
    }

    fn eof(&self) -> bool {
        self.at >= self.rows.len()
    }

    fn column(&self, _: &Function<F>, context: &Context<'_>, column: i32) -> Result<()> {
        let column = column as usize;
        let made;
        let cell = match F::COLUMNS.get(column) {
            Some((_, value)) => {
                made = self.rows.get(self.at).map(value);
                made.as_ref()
            }
            None => self.arguments.get(column - F::COLUMNS.len()),
        };
        cell.unwrap_or(&Cell::Null).give(context)
    }

    fn rowid(&self, _: &Function<F>) -> Result<i64> {
        Ok(self.at as i64)
    }
}

fn cell(value: &Option<Value<'_>>) -> Result<Cell> {
    let Some(value) = value else { return Ok(Cell::Null) };
    Cell::copy(value.param()?)
}
