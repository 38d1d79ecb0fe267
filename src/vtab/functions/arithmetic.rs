//! Functions from vectors to vectors, and to JSON.

use super::Call;
use crate::base::alloc::{try_collect, try_copy};
use crate::index::Metric;
use crate::sqlite::{Error, Kind, Result};
use crate::vtab::schema::vec0::Dialect;
use crate::vtab::values::element::{Element, Vector};
use crate::vtab::values::vector;

/// The subtype that marks a text as JSON for SQLite's JSON functions.
const SUBTYPE_JSON: u32 = 74;

/// `vec_to_json(v)`.
pub fn to_json(call: &Call<'_>) -> Result<()> {
    let text = match call.vector(0)? {
        Vector::Floats(_, values) if call.dialect == Dialect::Vec0 => with_six_decimals(&values)?,
        Vector::Floats(_, values) => vector::to_json(&values)?,
        Vector::Int8(values) => vector::to_json(&values)?,
        Vector::Bits(bytes) => {
            vector::to_json(&try_collect((0..bytes.len() * 8).map(|i| Vector::bit(&bytes, i)))?)?
        }
    };
    call.context.text(&text);
    call.context.subtype(SUBTYPE_JSON);
    Ok(())
}

/// Formats numbers as sqlite-vec does, with more decimals if six are not exact.
fn with_six_decimals(values: &[f32]) -> Result<String> {
    let mut text = String::new();
    for (i, value) in values.iter().enumerate() {
        let six = format!("{value:.6}");
        let is_whole = six.parse() == Ok(*value);
        text.try_reserve(64).map_err(|_| Error::nomem())?;
        text.push(if i == 0 { '[' } else { ',' });
        text.push_str(&if is_whole { six } else { value.to_string() });
    }
    text.push(']');
    Ok(text)
}

/// `vec_add(a, b)`, `vec_sub(a, b)`.
pub fn combine(call: &Call<'_>, floats: fn(f32, f32) -> f32, bytes: fn(i8, i8) -> i8) -> Result<()> {
    let combined = match call.pair()? {
        (Vector::Floats(element, a), Vector::Floats(_, b)) => {
            // If both operands are NaN, a processor returns the bits of one of them, and the compiler chooses
            // which.
            let one = |value: f32| if value.is_nan() { f32::NAN } else { value };
            let values = try_collect(a.iter().zip(&b).map(|(&a, &b)| one(floats(a, b))))?;
            Vector::floats(element, values).map_err(|fault| call.wrong(fault))?
        }
        (Vector::Int8(a), Vector::Int8(b)) => {
            Vector::Int8(try_collect(a.iter().zip(&b).map(|(&a, &b)| bytes(a, b)))?)
        }
        _ => return Err(call.wrong("bit vectors have no sum and no difference")),
    };
    call.give(&combined)
}

/// `vec_slice(v, start, end)`: the elements from `start` up to, but not including, `end`.
pub fn slice(call: &Call<'_>) -> Result<()> {
    let vector = call.vector(0)?;
    let (start, end, dims) = (call.args[1].i64(), call.args[2].i64(), vector.len() as i64);
    if !(0 <= start && start < end && end <= dims) {
        return Err(call.wrong(format!(
            "start and end must be 0 <= start < end <= {dims} (the number of elements), got {start} and {end}"
        )));
    }
    let range = start as usize..end as usize;
    call.give(&match vector {
        Vector::Floats(element, values) => Vector::Floats(element, try_copy(&values[range])?),
        Vector::Int8(values) => Vector::Int8(try_copy(&values[range])?),
        Vector::Bits(bytes) => {
            if start % 8 != 0 || end % 8 != 0 {
                return Err(call.wrong("start and end of a bit vector must be divisible by 8"));
            }
            Vector::Bits(try_copy(&bytes[range.start / 8..range.end / 8])?)
        }
    })
}

/// `vec_normalize(v)`.
pub fn normalize(call: &Call<'_>) -> Result<()> {
    let (element, mut values) = floats(call)?;
    Metric::Cosine.check_direction(&values).map_err(|error| call.wrong(error))?;
    Metric::Cosine.prepare(&mut values);
    call.give(&Vector::floats(element, values).map_err(|fault| call.wrong(fault))?)
}

/// `vec_quantize_int8(v, 'unit')`: -1 to 1 in steps of 2/255. Values beyond are clamped.
pub fn quantize_int8(call: &Call<'_>) -> Result<()> {
    let (_, values) = floats(call)?;
    if call.args[1].kind() != Kind::Text || !call.args[1].text()?.eq_ignore_ascii_case("unit") {
        return Err(call.wrong("the 2nd argument must be 'unit'"));
    }
    // The cast truncates towards zero and saturates. The step is an f32, the rest f64, as in sqlite-vec.
    let step = f64::from(2.0_f32 / 255.0);
    let quantized = values.iter().map(|&v| ((f64::from(v) + 1.0) / step - 128.0) as i8);
    call.give(&Vector::Int8(try_collect(quantized)?))
}

/// `vec_quantize_binary(v)`: a bit per element, set if the element is above zero.
pub fn quantize_binary(call: &Call<'_>) -> Result<()> {
    let above: Vec<bool> = match call.vector(0)? {
        Vector::Floats(_, values) => try_collect(values.iter().map(|&v| v > 0.0))?,
        Vector::Int8(values) => try_collect(values.iter().map(|&v| v > 0))?,
        Vector::Bits(_) => return Err(call.wrong("takes floats or int8, got bit")),
    };
    match above.as_chunks::<8>() {
        (eights, []) => {
            let byte = |eight: &[bool; 8]| (0..8).fold(0, |byte, i| byte | u8::from(eight[i]) << i);
            call.give(&Vector::Bits(try_collect(eights.iter().map(byte))?))
        }
        _ => Err(call.wrong(format!("the number of elements must be divisible by 8, got {}", above.len()))),
    }
}

fn floats(call: &Call<'_>) -> Result<(Element, Vec<f32>)> {
    match call.vector(0)? {
        Vector::Floats(element, values) => Ok((element, values)),
        other => Err(call.wrong(format!("takes floats, got {}", other.element().name()))),
    }
}
