//! What is fuzzed: each body takes any bytes, and panics where it finds a fault. Run by cargo-fuzz and by tests/fuzz.rs.

#[allow(dead_code)]
mod forge;
pub mod options;
pub mod shadow;
pub mod sql;
pub mod vectors;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Params};

/// An answer: its rows.
type Rows = Vec<Vec<Value>>;

/// A database in memory that knows the module.
fn open() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.set_prepared_statement_cache_capacity(256);
    sqlite_ivf::register(&connection).unwrap();
    connection
}

/// The rows of a statement, or the text of an error that is fit to be one.
#[track_caller]
fn ask(connection: &Connection, sql: &str, params: impl Params) -> Result<Rows, String> {
    let answer = connection.prepare_cached(sql).and_then(|mut statement| {
        let columns = statement.column_count();
        let mut rows = statement.query(params)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push((0..columns).map(|i| row.get(i)).collect::<Result<_, _>>()?);
        }
        Ok(all)
    });
    answer.map_err(|error| {
        let text = error.to_string();
        // A panic that was caught.
        assert_ne!(error.sqlite_error_code(), Some(ErrorCode::InternalMalfunction), "{sql}: {text}");
        assert!(!text.contains("internal panic"), "{sql}: {text}");
        text
    })
}

/// The one integer of an answer.
#[track_caller]
fn integer(connection: &Connection, sql: &str) -> i64 {
    match ask(connection, sql, []).as_deref().map(|rows| &rows[0][0]) {
        Ok(Value::Integer(n)) => *n,
        other => panic!("{sql}: {other:?}"),
    }
}

/// The input, taken from its front. At its end everything is zero.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn some(&mut self, n: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        some
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.some(bytes).iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
    }

    fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    fn below(&mut self, n: usize) -> usize {
        self.number(2) as usize % n.max(1)
    }

    fn pick<'b, T>(&mut self, of: &'b [T]) -> &'b T {
        &of[self.byte() as usize % of.len()]
    }

    /// A number that a bound may be near to, or any.
    fn integer(&mut self) -> i64 {
        match self.byte() {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => i64::from(u32::MAX),
            3 => -1,
            4 => 1 << 44,
            5..64 => self.number(8) as i64,
            64..128 => self.number(4) as i64,
            _ => self.number(1) as i64,
        }
    }

    /// A value of any type.
    fn value(&mut self) -> Value {
        let kind = self.byte();
        let length = match kind % 4 {
            0 => self.0.len(),
            _ => self.byte() as usize,
        };
        match kind / 4 % 16 {
            0 => Value::Null,
            1 => Value::Integer(self.integer()),
            2 => Value::Real(f64::from_bits(self.number(8))),
            3..8 => Value::Blob(self.some(length).to_vec()),
            // Whole vectors of three.
            8..10 => Value::Blob(self.some(length / 12 * 12).to_vec()),
            _ => Value::Text(String::from_utf8_lossy(self.some(length)).into_owned()),
        }
    }
}

/// A vector as its blob.
fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|v| v.to_le_bytes()).collect()
}
