//! SQL functions on vectors, under the names that sqlite-vec uses where it has them.

use crate::index::Metric;
use crate::kernels::kernels;
use crate::sqlite::{
    Aggregate, Context, Db, Error, FunctionFlags, Result, Value, register_aggregate, register_scalar,
};
use crate::vtab::vector;

/// Registers the functions, but for those that another extension brought first.
///
/// # Errors
/// What SQLite says.
pub fn register(db: Db) -> Result<()> {
    let present = crate::sqlite::functions_with_prefix(db, "vec_")?;
    let add =
        |name: &str, n_args: i32, function: fn(&Context<'_>, &[Value<'_>]) -> Result<()>| -> Result<()> {
            if present.iter().any(|(other, n)| other.eq_ignore_ascii_case(name) && (*n == n_args || *n < 0)) {
                return Ok(());
            }
            register_scalar(db, name, n_args, FunctionFlags::PURE_TYPED, function)
        };
    add("vec_f32", 1, |context, args| give(context, &vector::read("vec_f32", &args[0])?))?;
    add("vec_length", 1, |context, args| {
        context.i64(vector::read("vec_length", &args[0])?.len() as i64);
        Ok(())
    })?;
    add("vec_to_json", 1, |context, args| {
        let vector = vector::read("vec_to_json", &args[0])?;
        context.text(&serde_json::to_string(&vector).map_err(|error| Error::generic(error.to_string()))?);
        Ok(())
    })?;
    add("vec_normalize", 1, |context, args| {
        let mut vector = vector::read("vec_normalize", &args[0])?;
        Metric::Cosine
            .prepare(&mut vector)
            .map_err(|error| Error::generic(format!("vec_normalize: {error}")))?;
        give(context, &vector)
    })?;
    add("vec_distance_l2", 2, |context, args| distance(context, args, "vec_distance_l2", Metric::L2))?;
    add("vec_distance_cosine", 2, |context, args| {
        distance(context, args, "vec_distance_cosine", Metric::Cosine)
    })?;
    add("vec_distance_ip", 2, |context, args| distance(context, args, "vec_distance_ip", Metric::Ip))?;
    add("vec_distance_l1", 2, |context, args| {
        let (a, b) = pair(args, "vec_distance_l1")?;
        context.f64(kernels().l1(&a, &b).into());
        Ok(())
    })?;
    if !present.iter().any(|(name, _)| name == "vec_pack") {
        register_aggregate::<Pack>(db, "vec_pack", 1, FunctionFlags::PURE_TYPED)?;
    }
    register_scalar(db, "ivf_version", 0, FunctionFlags::PURE, |context, _| {
        context.text(concat!("v", env!("CARGO_PKG_VERSION")));
        Ok(())
    })?;
    register_scalar(
        db,
        "ivf_debug",
        0,
        FunctionFlags { innocuous: true, ..FunctionFlags::default() },
        |context, _| {
            let budget = super::table::cache().budget();
            context.text(&format!(
                "sqlite-ivf v{}\nformat: {}\nkernels: {}\nthreads: {}\nresident: {} of {} bytes\nsqlite: {}",
                env!("CARGO_PKG_VERSION"),
                crate::storage::codec::FORMAT,
                kernels().isa,
                crate::device::workers::Workers::all().threads(),
                budget.used(),
                budget.limit(),
                context.db().api().version(),
            ));
            Ok(())
        },
    )
}

/// The subtype that sqlite-vec gives to f32 vectors.
const SUBTYPE_F32: u32 = 223;

fn give(context: &Context<'_>, vector: &[f32]) -> Result<()> {
    context.blob(&crate::storage::codec::f32_bytes(vector));
    context.subtype(SUBTYPE_F32);
    Ok(())
}

fn pair(args: &[Value<'_>], name: &str) -> Result<(Vec<f32>, Vec<f32>)> {
    let (a, b) = (vector::read(name, &args[0])?, vector::read(name, &args[1])?);
    if a.len() != b.len() {
        return Err(Error::generic(format!(
            "{name}: the vectors have {} and {} dimensions",
            a.len(),
            b.len()
        )));
    }
    for vector in [&a, &b] {
        crate::index::metric::check(vector, vector.len())
            .map_err(|error| Error::generic(format!("{name}: {error}")))?;
    }
    Ok((a, b))
}

/// The very distance that a search returns.
fn distance(context: &Context<'_>, args: &[Value<'_>], name: &str, metric: Metric) -> Result<()> {
    let (mut a, mut b) = pair(args, name)?;
    for vector in [&mut a, &mut b] {
        metric.prepare(vector).map_err(|error| Error::generic(format!("{name}: {error}")))?;
    }
    context.f64(metric.distance(metric.key(&a, &b)));
    Ok(())
}

/// `vec_pack(v)`: vectors of one dimension, one after the other, as `batch MATCH` takes them.
#[derive(Default)]
struct Pack {
    dim: Option<usize>,
    bytes: Vec<u8>,
}

impl Aggregate for Pack {
    fn step(&mut self, args: &[Value<'_>]) -> Result<()> {
        let vector = vector::read("vec_pack", &args[0])?;
        if *self.dim.get_or_insert(vector.len()) != vector.len() {
            let text = format!("vec_pack: a vector of {} dimensions after others of another", vector.len());
            return Err(Error::generic(text));
        }
        self.bytes.extend(crate::storage::codec::f32_bytes(&vector));
        Ok(())
    }

    fn finish(self, context: &Context<'_>) -> Result<()> {
        context.blob(&self.bytes);
        Ok(())
    }
}
