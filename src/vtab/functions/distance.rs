//! The distance functions of two vectors.

use super::Call;
use crate::index::Metric;
use crate::index::metric::{Distances, check};
use crate::sqlite::Result;
use crate::vtab::schema::vec0::Dialect;
use crate::vtab::values::element::Vector;

/// The distance of two vectors: exactly the number that a search of a column of their type returns.
pub fn distance(call: &Call<'_>, metric: Metric) -> Result<()> {
    let (mut a, mut b) = match (metric, call.pair()?) {
        (Metric::Hamming, (Vector::Bits(a), Vector::Bits(b))) => {
            call.context.f64(a.iter().zip(&b).map(|(a, b)| f64::from((a ^ b).count_ones())).sum());
            return Ok(());
        }
        (Metric::Hamming, (other, _)) => {
            return Err(call.wrong(format!("takes bit vectors, got {}", other.element().name())));
        }
        (_, (Vector::Bits(_), _)) => {
            return Err(call.wrong("of bit vectors there is vec_distance_hamming only"));
        }
        // For every dimension that a column may have, the f32 sum is this integer too.
        (Metric::L1, (Vector::Int8(a), Vector::Int8(b))) => {
            let sum = a.iter().zip(&b).map(|(&a, &b)| i64::from(a.abs_diff(b))).sum();
            call.context.i64(sum);
            return Ok(());
        }
        (_, (a, b)) => (call.widened(a)?, call.widened(b)?),
    };
    for vector in [&mut a, &mut b] {
        check(vector, vector.len()).map_err(|error| call.wrong(error))?;
    }
    metric.prepare_query(&mut a);
    metric.prepare(&mut b);
    let key = metric.key(&a, &b);
    if metric == Metric::L1 && !key.is_finite() {
        // No column can store such vectors, so no search returns another number.
        let sum = a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).sum();
        call.context.f64(sum);
        return Ok(());
    }
    if !key.is_finite() {
        let sum = if metric == Metric::L2 { "the squared distance" } else { "the distance" };
        return Err(call.wrong(format!("{sum} of the vectors is beyond the largest float32, {:e}", f32::MAX)));
    }
    let is_single = call.dialect == Dialect::Vec0;
    call.context.f64(Distances { metric, is_single }.of(key));
    Ok(())
}
