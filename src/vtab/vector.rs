//! Vectors as users give them: blobs of little-endian f32, or JSON.

use crate::index::metric::check;
use crate::sqlite::{Error, Kind, Result, Value};
use crate::storage::codec::read_f32;
use crate::vtab::element::Vector;

/// The vector in a value, as f32: a blob or a JSON array of numbers. Any dimension.
///
/// # Errors
/// What is wrong with the value.
pub fn read(name: &str, value: &Value<'_>) -> Result<Vec<f32>> {
    let vector = Vector::read(value).and_then(Vector::into_f32);
    vector.map_err(|what| Error::constraint(format!("{name}: {what}")))
}

/// The vector of `dim` elements in a value.
///
/// # Errors
/// What is wrong with the value.
pub fn read_checked(name: &str, value: &Value<'_>, dim: usize) -> Result<Vec<f32>> {
    let vector = read(name, value)?;
    check(&vector, dim).map_err(|error| Error::constraint(format!("{name}: {error}")))?;
    Ok(vector)
}

/// [`read_checked`] into a vector that is kept.
///
/// # Errors
/// What is wrong with the value.
pub fn read_checked_into(name: &str, value: &Value<'_>, dim: usize, out: &mut Vec<f32>) -> Result<()> {
    if value.kind() != Kind::Blob || value.blob()?.len() != dim * 4 {
        *out = read_checked(name, value, dim)?;
        return Ok(());
    }
    out.clear();
    read_f32(value.blob()?, out);
    check(out, dim).map_err(|error| Error::constraint(format!("{name}: {error}")))
}

/// The vectors of `dim` elements in a value: a blob of any number of them, or a JSON array of arrays.
///
/// # Errors
/// What is wrong with the value.
pub fn read_batch(name: &str, value: &Value<'_>, dim: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| Error::constraint(format!("{name}: {what}"));
    let vectors = match value.kind() {
        Kind::Blob => from_blob(value.blob()?).map_err(wrong)?,
        Kind::Text => {
            let rows: Vec<Vec<f32>> = serde_json::from_str(value.text()?)
                .map_err(|error| wrong(format!("not a JSON array of arrays of numbers: {error}")))?;
            if let Some(row) = rows.iter().find(|row| row.len() != dim) {
                return Err(wrong(format!("a vector of {} dimensions, expected {dim}", row.len())));
            }
            rows.concat()
        }
        other => {
            let text = format!(
                "a batch is a blob of packed vectors or a JSON array of arrays, got {}",
                other.name()
            );
            return Err(wrong(text));
        }
    };
    if !vectors.len().is_multiple_of(dim) {
        return Err(wrong(format!("{} numbers are not whole vectors of {dim} dimensions", vectors.len())));
    }
    for vector in vectors.chunks_exact(dim) {
        check(vector, dim).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(vectors)
}

/// The f32 in a blob, which need not be aligned.
///
/// # Errors
/// What is wrong with the blob.
pub(super) fn from_blob(blob: &[u8]) -> std::result::Result<Vec<f32>, String> {
    if !blob.len().is_multiple_of(4) {
        return Err(format!("a blob of {} bytes is not a vector of 4-byte floats", blob.len()));
    }
    let mut vector = Vec::with_capacity(blob.len() / 4);
    read_f32(blob, &mut vector);
    Ok(vector)
}

/// The numbers of a JSON array.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn from_json(text: &str) -> std::result::Result<Vec<f32>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON array of numbers: {error}"))
}
