//! Shared code of the tests: connections that have loaded the built library, seeded random numbers, and small
//! helpers.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error, LoadExtensionGuard, OpenFlags};

/// The library that cargo built together with this test: beside it, never the copy one level up, which may be older.
pub fn library() -> PathBuf {
    let name = format!("{}sqlite_ivf{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = std::env::current_exe().unwrap().with_file_name(name);
    assert!(path.exists(), "{} is missing: build with --features loadable", path.display());
    path
}

/// Loads the library into a connection.
pub fn load(connection: &Connection) {
    // SAFETY: the library is the one under test.
    unsafe {
        let _guard = LoadExtensionGuard::new(connection).unwrap();
        connection.load_extension(library(), Some("sqlite3_sqliteivf_init")).unwrap();
    }
}

/// A connection to the file, with the library.
pub fn open(path: impl AsRef<Path>) -> Connection {
    let connection = Connection::open(path).unwrap();
    load(&connection);
    connection
}

/// A connection opened by URI or with other flags, with the library.
pub fn open_with(path: impl AsRef<Path>, flags: OpenFlags) -> Connection {
    let connection = Connection::open_with_flags(path, flags).unwrap();
    load(&connection);
    connection
}

/// A database in memory, with the library.
pub fn memory() -> Connection {
    open(":memory:")
}

/// A folder that goes when the test ends, and the path of a database in it.
pub fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    (folder, path)
}

/// A vector as its blob.
pub fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A blob as its vector.
pub fn floats(blob: &[u8]) -> Vec<f32> {
    blob.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Numbers that a seed decides.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// xorshift64*.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.unit()).collect()
    }
}

/// Inserts rows `first..first + n` with vectors of the seed, in one transaction of their own if there is none.
pub fn fill(connection: &Connection, table: &str, first: i64, n: i64, dim: usize, seed: u64) {
    let own = connection.is_autocommit();
    if own {
        connection.execute_batch("BEGIN").unwrap();
    }
    {
        let mut numbers = Numbers::new(seed);
        let mut insert =
            connection.prepare_cached(&format!("INSERT INTO {table}(rowid, vec) VALUES (?1, ?2)")).unwrap();
        for rowid in first..first + n {
            insert.execute((rowid, blob(&numbers.vector(dim)))).unwrap();
        }
    }
    if own {
        connection.execute_batch("COMMIT").unwrap();
    }
}

/// The k nearest rows: rowids and the bits of their distances.
pub fn search(
    connection: &Connection,
    table: &str,
    query: &[f32],
    k: i64,
    nprobe: f64,
) -> Result<Vec<(i64, u64)>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT rowid, distance FROM {table} WHERE vec MATCH ?1 AND k = ?2 AND nprobe = ?3 ORDER BY distance, rowid"
    ))?;
    let rows = statement
        .query_map((blob(query), k, nprobe), |row| Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits())))?;
    rows.collect()
}

/// The same answer without the index: all rows, sorted by the SQL function.
pub fn brute_force(connection: &Connection, table: &str, query: &[f32], k: i64) -> Vec<(i64, u64)> {
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT rowid, vec_distance_l2(vec, ?1) AS d FROM {table} ORDER BY d, rowid LIMIT ?2"
        ))
        .unwrap();
    let rows = statement
        .query_map((blob(query), k), |row| Ok((row.get(0)?, row.get::<_, f64>(1)?.to_bits())))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

/// Asserts that index and rows agree: the search at all lists is the sorted scan, the count is right, and the
/// integrity check is content.
#[track_caller]
pub fn assert_sound(connection: &Connection, table: &str, dim: usize) {
    let mut numbers = Numbers::new(99);
    for _ in 0..3 {
        let query = numbers.vector(dim);
        let found = search(connection, table, &query, 10, -1.0).unwrap();
        assert_eq!(found, brute_force(connection, table, &query, 10), "{table}");
    }
    let faults: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(faults, "ok");
}

/// How many rows a table has.
#[track_caller]
pub fn count(connection: &Connection, table: &str) -> i64 {
    number(connection, &format!("SELECT count(*) FROM {table}"))
}

/// The one number that a query gives.
#[track_caller]
pub fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The one text that a query gives.
#[track_caller]
pub fn text(connection: &Connection, sql: &str) -> String {
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Runs statements.
#[track_caller]
pub fn run(connection: &Connection, sql: &str) {
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The extended code and the message of an error that SQLite reported.
#[track_caller]
pub fn failure<T>(result: Result<T, Error>) -> (i32, String) {
    match result {
        Err(Error::SqliteFailure(error, message)) => (error.extended_code, message.unwrap_or_default()),
        Err(Error::SqlInputError { error, msg, .. }) => (error.extended_code, msg),
        Err(other) => panic!("not an error of SQLite: {other}"),
        Ok(_) => panic!("an error was expected"),
    }
}

/// A program, if it is installed.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    names.iter().find_map(|name| {
        let direct = PathBuf::from(name);
        if direct.is_absolute() {
            return direct.exists().then_some(direct);
        }
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    })
}
