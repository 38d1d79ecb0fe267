//! SQL functions on vectors. Those that sqlite-vec also has have its names.

mod arithmetic;
mod distance;
mod each;
mod pack;
#[cfg(test)]
mod tests;

use crate::base::workers::Workers;
use crate::device::DeviceName;
use crate::index::Metric;
use crate::kernels::kernels;
use crate::sqlite::{
    Context, Db, Error, FunctionFlags, Kind, Result, Value, functions_with_prefix, module_exists,
    register_aggregate, register_scalar,
};
use crate::vtab::schema::vec0::Dialect;
use crate::vtab::table_function;
use crate::vtab::values::element::{Element, Vector};
use crate::vtab::values::json::NO_ROOM;

/// The implementation of a scalar function.
type Scalar = fn(&Call<'_>) -> Result<()>;

/// One call of a scalar function.
struct Call<'a> {
    name: &'static str,
    /// The dialect of the name that the library was loaded by.
    dialect: Dialect,
    context: &'a Context<'a>,
    args: &'a [Value<'a>],
}

const SCALARS: [(&str, usize, Scalar); 20] = [
    ("vec_f32", 1, |call| call.make(Element::F32)),
    ("vec_f16", 1, |call| call.make(Element::F16)),
    ("vec_bf16", 1, |call| call.make(Element::Bf16)),
    ("vec_int8", 1, |call| call.make(Element::Int8)),
    ("vec_bit", 1, |call| call.make(Element::Bit)),
    ("vec_length", 1, |call| call.vector(0).map(|vector| call.context.i64(vector.len() as i64))),
    ("vec_type", 1, |call| call.vector(0).map(|vector| call.context.text(vector.element().name()))),
    ("vec_to_json", 1, arithmetic::to_json),
    ("vec_add", 2, |call| arithmetic::combine(call, |a, b| a + b, i8::wrapping_add)),
    ("vec_sub", 2, |call| arithmetic::combine(call, |a, b| a - b, i8::wrapping_sub)),
    ("vec_slice", 3, arithmetic::slice),
    ("vec_normalize", 1, arithmetic::normalize),
    ("vec_quantize_int8", 2, arithmetic::quantize_int8),
    ("vec_quantize_binary", 1, arithmetic::quantize_binary),
    ("vec_distance_l2", 2, |call| distance::distance(call, Metric::L2)),
    ("vec_distance_cosine", 2, |call| distance::distance(call, Metric::Cosine)),
    ("vec_distance_ip", 2, |call| distance::distance(call, Metric::Ip)),
    ("vec_distance_l1", 2, |call| distance::distance(call, Metric::L1)),
    ("vec_distance_hamming", 2, |call| distance::distance(call, Metric::Hamming)),
    ("ivf_version", 0, version),
];

/// Registers the functions, except those that another extension has registered before.
///
/// For SQLite they take any number of arguments. A function of the same name that is registered later, with
/// its own number of arguments, then takes precedence without replacing them. SQLite would refuse a
/// replacement while a statement runs (`SELECT load_extension(...)`).
///
/// # Errors
/// An error from SQLite.
pub fn register(db: Db, dialect: Dialect) -> Result<()> {
    let present = functions_with_prefix(db, "vec_")?;
    let is_there =
        |name: &str, n_args: usize| present.iter().any(|(n, a)| n == name && (*a < 0 || *a == n_args as i32));
    for (name, n_args, function) in SCALARS {
        if !is_there(name, n_args) {
            register_scalar(db, name, -1, FunctionFlags::PURE_TYPED, move |context, args| {
                if args.len() != n_args {
                    return Err(Error::generic(format!("wrong number of arguments to function {name}()")));
                }
                // NULL in, NULL out, as in SQLite's own functions.
                if args.iter().any(Value::is_null) {
                    context.null();
                    return Ok(());
                }
                function(&Call { name, dialect, context, args })
            })?;
        }
    }
    if !is_there("vec_pack", 1) {
        register_aggregate::<pack::Pack>(db, "vec_pack", 1, FunctionFlags::PURE_TYPED)?;
    }
    if !module_exists(db, "vec_each")? {
        table_function::register::<each::Each>(db, ())?;
    }
    let state = FunctionFlags { innocuous: true, ..FunctionFlags::default() };
    register_scalar(db, "ivf_debug", 0, state, |context, _| debug(context))
}

/// The result of `vec_version()` without sqlite-vec: the release of sqlite-vec whose programs work here. They
/// compare it.
#[cfg(feature = "vec0")]
const STAND_IN: &str = "v0.1.9";

/// Registers `vec_version` and `vec_debug`, except those that another extension has registered before.
///
/// # Errors
/// An error from SQLite.
#[cfg(feature = "vec0")]
pub fn register_stand_ins(db: Db) -> Result<()> {
    let present = functions_with_prefix(db, "vec_")?;
    let state = FunctionFlags { innocuous: true, ..FunctionFlags::default() };
    for name in ["vec_version", "vec_debug"] {
        if !present.iter().any(|(n, _)| n == name) {
            // Any number of arguments, as in `register`.
            register_scalar(db, name, -1, state, move |context, args| match args {
                [] if name == "vec_debug" => {
                    // In the lines that programs parse.
                    context.text(&format!(
                        "Version: {STAND_IN}\nDate: none\nCommit: sqlite-ivf v{}\nBuild flags: rescore ivf diskann {}",
                        env!("CARGO_PKG_VERSION"),
                        kernels().isa
                    ));
                    Ok(())
                }
                [] => {
                    context.text(STAND_IN);
                    Ok(())
                }
                _ => Err(Error::generic(format!("wrong number of arguments to function {name}()"))),
            })?;
        }
    }
    Ok(())
}

/// Whether `vec_version` is that of [`register_stand_ins`], which takes any number of arguments.
#[cfg(feature = "vec0")]
pub fn stands_in(db: Db) -> bool {
    let of_any_number = |(name, arguments): &(String, i32)| name == "vec_version" && *arguments < 0;
    functions_with_prefix(db, "vec_version").is_ok_and(|found| found.iter().any(of_any_number))
}

fn debug(context: &Context<'_>) -> Result<()> {
    let budget = crate::vtab::table::registry::cache().budget();
    context.text(&format!(
        "sqlite-ivf v{}\nformat: {}\nkernels: {}\nthreads: {}\ngpu: {}\nresident: {} of {} bytes\nsqlite: {}",
        env!("CARGO_PKG_VERSION"),
        crate::storage::format::FORMAT,
        kernels().isa,
        Workers::all().threads(),
        match DeviceName::automatic() {
            DeviceName::Cpu => "none in this build".to_string(),
            gpu => format!("{gpu}, if it is there"),
        },
        budget.used(),
        budget.limit(),
        context.db().api().version(),
    ));
    Ok(())
}

fn version(call: &Call<'_>) -> Result<()> {
    call.context.text(concat!("v", env!("CARGO_PKG_VERSION")));
    Ok(())
}

impl Call<'_> {
    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        function_error(self.name, what)
    }

    /// The vector in an argument.
    fn vector(&self, at: usize) -> Result<Vector> {
        self.whole(Vector::read(&self.args[at]))
    }

    /// Two vectors of the same type and length. A JSON array is read with the type of the other argument.
    fn pair(&self) -> Result<(Vector, Vector)> {
        let as_other = |at: usize, other: &Vector| match self.args[at].kind() {
            Kind::Text => self.whole(Vector::read_as(&self.args[at], other.element())),
            _ => self.vector(at),
        };
        let (a, b) = if self.args[0].kind() == Kind::Text {
            let b = self.vector(1)?;
            (as_other(0, &b)?, b)
        } else {
            let a = self.vector(0)?;
            let b = as_other(1, &a)?;
            (a, b)
        };
        if a.element() != b.element() {
            let (a, b) = (a.element().name(), b.element().name());
            return Err(self.wrong(format!("the vectors are of different types, {a} and {b}")));
        }
        if a.len() != b.len() {
            return Err(self.wrong(format!("the vectors have {} and {} dimensions", a.len(), b.len())));
        }
        Ok((a, b))
    }

    fn whole(&self, vector: std::result::Result<Vector, String>) -> Result<Vector> {
        match vector {
            Ok(vector) if vector.len() == 0 => Err(self.wrong("a vector has one element at least")),
            vector => vector.map_err(|fault| self.wrong(fault)),
        }
    }

    fn widened(&self, vector: Vector) -> Result<Vec<f32>> {
        vector.widened().map_err(|fault| self.wrong(fault))
    }

    fn give(&self, vector: &Vector) -> Result<()> {
        vector.give(self.context)
    }

    fn make(&self, element: Element) -> Result<()> {
        self.give(&self.whole(Vector::read_as(&self.args[0], element))?)
    }
}

/// The error of a function.
fn function_error(name: &str, what: impl std::fmt::Display) -> Error {
    let what = what.to_string();
    if what == NO_ROOM { Error::nomem() } else { Error::generic(format!("{name}: {what}")) }
}
