//! Distances of two vectors.

use super::Call;
use crate::index::Metric;
use crate::index::metric::check;
use crate::kernels::kernels;
use crate::sqlite::Result;
use crate::vtab::element::Vector;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    L2,
    Cosine,
    Ip,
    L1,
    Hamming,
}

/// The distance of two vectors: of floats the very number that a search returns, of int8 from exact sums.
pub fn distance(call: &Call<'_>, distance: Distance) -> Result<()> {
    let (a, b) = call.pair()?;
    if distance == Distance::Hamming && !matches!(a, Vector::Bits(_)) {
        return Err(call.wrong(format!("takes bit vectors, got {}", a.element().name())));
    }
    match (a, b) {
        (Vector::Floats(_, a), Vector::Floats(_, b)) => call.context.f64(of_floats(call, distance, a, b)?),
        (Vector::Int8(a), Vector::Int8(b)) => {
            let sum = |term: fn(i64, i64) -> i64| -> i64 {
                a.iter().zip(&b).map(|(&a, &b)| term(a.into(), b.into())).sum()
            };
            let dot = || sum(|a, b| a * b) as f64;
            match distance {
                Distance::L1 => call.context.i64(sum(|a, b| (a - b).abs())),
                Distance::Ip => call.context.f64(0.0 - dot()),
                Distance::Cosine => {
                    let lengths = (sum(|a, _| a * a) as f64).sqrt() * (sum(|_, b| b * b) as f64).sqrt();
                    if lengths == 0.0 {
                        return Err(call.wrong("a zero vector has no direction"));
                    }
                    call.context.f64((1.0 - dot() / lengths).max(0.0));
                }
                _ => call.context.f64((sum(|a, b| (a - b).pow(2)) as f64).sqrt()),
            }
        }
        (Vector::Bits(a), Vector::Bits(b)) if distance == Distance::Hamming => {
            call.context.f64(a.iter().zip(&b).map(|(a, b)| f64::from((a ^ b).count_ones())).sum());
        }
        _ => return Err(call.wrong("of bit vectors there is vec_distance_hamming only")),
    }
    Ok(())
}

fn of_floats(call: &Call<'_>, distance: Distance, mut a: Vec<f32>, mut b: Vec<f32>) -> Result<f64> {
    let metric = match distance {
        Distance::L2 => Some(Metric::L2),
        Distance::Cosine => Some(Metric::Cosine),
        Distance::Ip => Some(Metric::Ip),
        Distance::L1 | Distance::Hamming => None,
    };
    for vector in [&mut a, &mut b] {
        check(vector, vector.len()).map_err(|error| call.wrong(error))?;
        if let Some(metric) = metric {
            metric.prepare(vector).map_err(|error| call.wrong(error))?;
        }
    }
    Ok(match metric {
        Some(metric) => metric.distance(metric.key(&a, &b)),
        None => kernels().l1(&a, &b).into(),
    })
}
