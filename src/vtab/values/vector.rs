//! Reads vectors and batches from the values of users: blobs of the column's elements, or JSON.

use std::io;

use serde::Serialize;

use crate::base::alloc::{TryExtend, TryGrow};
use crate::index::metric::check;
use crate::sqlite::{Error, Kind, Result, Value};
use crate::vtab::values::element::{Element, Vector, element_of};
use crate::vtab::values::json::{self, NO_ROOM};

fn wrong(name: &str, what: String) -> Error {
    if what == NO_ROOM { Error::nomem() } else { Error::generic(format!("{name}: {what}")) }
}

/// Reads a vector of `dim` elements, a blob or a JSON array, and widens it.
///
/// # Errors
/// `SQLITE_ERROR` if the value is not a vector of this element type and dimension, or `SQLITE_NOMEM`.
pub fn read_checked(name: &str, value: &Value<'_>, element: Element, dim: usize) -> Result<Vec<f32>> {
    let mut vector = Vec::new();
    read_checked_into(name, value, element, dim, &mut vector)?;
    Ok(vector)
}

/// A hint for a blob that is not a vector of `dim` 4-byte floats: what its length suggests.
fn other_width(bytes: usize, dim: usize) -> &'static str {
    match bytes.checked_div(dim).filter(|each| each * dim == bytes) {
        Some(8) => " (8-byte floats? Elements are 4-byte floats, float32)",
        Some(2) => " (2-byte floats? vec_f16(v) or vec_bf16(v) says so)",
        Some(1) => " (1-byte integers? vec_int8(v) says so)",
        _ => "",
    }
}

/// [`read_checked`] into an existing vector.
///
/// # Errors
/// Same as [`read_checked`].
pub fn read_checked_into(
    name: &str,
    value: &Value<'_>,
    element: Element,
    dim: usize,
    out: &mut Vec<f32>,
) -> Result<()> {
    let bytes = if value.kind() == Kind::Blob { value.blob()? } else { &[] };
    let known = element_of(value);
    if bytes.len() == element.bytes(dim) && known.is_none_or(|known| known == element) {
        out.clear();
        out.try_room(dim)?;
        element.widen(bytes, out);
    } else {
        let vector = Vector::read_as(value, element).and_then(Vector::widened);
        *out = vector.map_err(|what| wrong(name, what))?;
    }
    check(out, dim).map_err(|error| {
        // SQLite drops the subtype of a blob in some cases, for example in an UPDATE or a subquery, so the user
        // may have given the right type. `vec_f16(v)` may then have read 4-byte floats as 2-byte floats.
        let hint = match known.unwrap_or(element) {
            Element::F32 if known.is_none() => other_width(bytes.len(), dim),
            _ if bytes.len() != Element::F32.bytes(dim) => "",
            Element::F32 => "",
            Element::F16 => ": vec_f16(vec_f32(v)) makes one of 4-byte floats",
            Element::Bf16 => ": vec_bf16(vec_f32(v)) makes one of 4-byte floats",
            Element::Int8 => ": vec_quantize_int8(v, 'unit') makes one of 4-byte floats",
            Element::Bit => ": vec_quantize_binary(v) makes one of 4-byte floats",
        };
        wrong(name, format!("{error}{hint}"))
    })
}

/// Reads any number of vectors of `dim` elements, a blob or a JSON array of arrays, and widens them.
///
/// # Errors
/// `SQLITE_ERROR` if the value is not a batch of such vectors, or `SQLITE_NOMEM`.
pub fn read_batch(name: &str, value: &Value<'_>, element: Element, dim: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| wrong(name, what);
    let vectors = match (value.kind(), element) {
        (Kind::Blob, _) => Vector::read_as(value, element),
        (Kind::Text, Element::Int8) => {
            let (text, what) = (value.text()?, "a JSON array of arrays of whole numbers from -128 to 127");
            json::rows(text, dim, json::int8).map(Vector::Int8).map_err(|fault| json_error(what, text, fault))
        }
        (Kind::Text, Element::F32 | Element::F16 | Element::Bf16) => {
            let (text, what) = (value.text()?, "a JSON array of arrays of numbers");
            let rows = json::rows(text, dim, json::float).map_err(|fault| json_error(what, text, fault));
            rows.and_then(|rows| Vector::floats(element, rows))
        }
        (other, _) => {
            let json = if element == Element::Bit { "" } else { " or a JSON array of arrays" };
            Err(format!("a batch is a blob of packed vectors{json}, got {}", other.name()))
        }
    };
    let vectors = vectors.and_then(Vector::widened).map_err(wrong)?;
    if !vectors.len().is_multiple_of(dim) {
        return Err(wrong(format!("{} numbers are not whole vectors of {dim} dimensions", vectors.len())));
    }
    for vector in vectors.chunks_exact(dim) {
        check(vector, dim).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(vectors)
}

/// Reads a JSON array of numbers.
///
/// # Errors
/// A message if the text is not a JSON array of numbers, or [`NO_ROOM`].
pub(super) fn from_json(text: &str) -> std::result::Result<Vec<f32>, String> {
    json::array(text, json::float).map_err(|fault| json_error("a JSON array of numbers", text, fault))
}

/// As [`from_json`], for int8.
pub(super) fn int8_from_json(text: &str) -> std::result::Result<Vec<i8>, String> {
    let expected =
        "a JSON array of whole numbers from -128 to 127 (vec_quantize_int8(v, 'unit') makes one of floats)";
    json::array(text, json::int8).map_err(|fault| json_error(expected, text, fault))
}

fn json_error(expected: &str, text: &str, fault: String) -> String {
    if fault == NO_ROOM || fault.starts_with("Dimension mismatch") {
        return fault;
    }
    let mut begins = text.trim_ascii_start().bytes();
    let hint = match (begins.next(), begins.find(|byte| !byte.is_ascii_whitespace())) {
        (Some(b'['), Some(b'[')) if fault.contains("found '['") => {
            " (one vector is asked for; batch MATCH takes an array of arrays, an INSERT one row for each)"
        }
        (Some(first), _) if first != b'[' => " (bytes are bound as a blob, not as a text)",
        _ => "",
    };
    format!("not {expected}: {fault}{hint}")
}

/// A vector as JSON.
///
/// # Errors
/// `SQLITE_NOMEM`.
pub fn to_json<T: Serialize>(vector: &[T]) -> Result<String> {
    struct Text(Vec<u8>);
    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.try_append(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut text = Text(Vec::new());
    serde_json::to_writer(&mut text, vector).map_err(|_| Error::nomem())?;
    String::from_utf8(text.0).map_err(|error| Error::internal(error.to_string()))
}
