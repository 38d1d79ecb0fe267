//! Values, columns and vectors of scripts, as SQL text.

use crate::common::Numbers;

/// Features of `ivf` that a run may leave out, by `SQLITE_IVF_DIFFERENTIAL_SKIP=name,name`.
pub fn skipped(feature: &str) -> bool {
    static NAMES: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let names = NAMES.get_or_init(|| std::env::var("SQLITE_IVF_DIFFERENTIAL_SKIP").unwrap_or_default());
    names.split(',').any(|name| name == feature)
}

/// True so many times in a hundred.
pub fn chance(numbers: &mut Numbers, percent: u64) -> bool {
    numbers.below(100) < percent
}

/// True so many times in a hundred, and never where the run leaves the feature out.
pub fn perhaps(numbers: &mut Numbers, feature: &str, percent: u64) -> bool {
    chance(numbers, percent) && !skipped(feature)
}

pub fn pick<T: Clone>(numbers: &mut Numbers, of: &[T]) -> T {
    of[numbers.below(of.len() as u64) as usize].clone()
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Float,
    Text,
    Boolean,
    Blob,
}

impl Kind {
    pub fn declared(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Float => "FLOAT",
            Self::Text => "TEXT",
            Self::Boolean => "BOOLEAN",
            Self::Blob => "BLOB",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Metadata,
    Partition,
    Auxiliary,
    /// `INTEGER PRIMARY KEY`.
    Rowid,
    /// `TEXT PRIMARY KEY`.
    Key,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub role: Role,
}

const INTEGERS: [&str; 12] = [
    "0",
    "1",
    "2",
    "3",
    "5",
    "-1",
    "7",
    "10",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "4",
];
const FLOATS: [&str; 12] = [
    "0.0",
    "0.5",
    "1.0",
    "1.5",
    "-2.25",
    "5.0",
    "1e300",
    "-1e300",
    "9007199254740992.0",
    "1e-300",
    "3.0",
    "2.0",
];
const TEXTS: [&str; 18] = [
    "''", "'a'", "'A'", "'ab'", "'abc'", "'b'", "'5'", "'5.0'", "' 5'", "'1'", "'é'", "'É'", "'ﬀ'", "'😀'",
    "'it''s'", "'%'", "'a_'", "'1e0'",
];
const BLOBS: [&str; 4] = ["x''", "x'00'", "x'61'", "x'ff00'"];

/// A value that a column of the kind takes as it is.
pub fn fitting(numbers: &mut Numbers, kind: Kind) -> String {
    match kind {
        Kind::Integer => pick(numbers, &INTEGERS).into(),
        Kind::Float => pick(numbers, &FLOATS).into(),
        Kind::Text => pick(numbers, &TEXTS).into(),
        Kind::Boolean => pick(numbers, &["0", "1"]).into(),
        Kind::Blob => pick(numbers, &BLOBS).into(),
    }
}

/// A value that SQLite's affinity makes fit.
fn converted(numbers: &mut Numbers, kind: Kind) -> String {
    match kind {
        Kind::Integer => pick(numbers, &["'5'", "5.0", "' 7 '", "'3.0'", "'1e1'", "TRUE"]).into(),
        Kind::Float => pick(numbers, &["5", "'1.5'", "'3'", "9007199254740993", "TRUE"]).into(),
        Kind::Text => pick(numbers, &["5", "1.5", "-0.0", "1e20"]).into(),
        Kind::Boolean => pick(numbers, &["1.0", "'1'", "'0'", "TRUE", "0.0"]).into(),
        Kind::Blob => "'text'".into(),
    }
}

/// A value that a typed column refuses.
pub fn refused(numbers: &mut Numbers, kind: Kind) -> String {
    match kind {
        Kind::Integer => pick(numbers, &["'abc'", "1.5", "x'31'", "'5x'", "1e300"]).into(),
        Kind::Float => pick(numbers, &["'abc'", "x'31'", "''"]).into(),
        Kind::Text | Kind::Blob => "x'61'".into(),
        Kind::Boolean => pick(numbers, &["2", "'x'", "0.5", "-1"]).into(),
    }
}

/// What is written into a column.
pub fn written(numbers: &mut Numbers, column: &Column) -> String {
    if column.role == Role::Auxiliary {
        // As an ordinary column: everything, by affinity.
        let kind = pick(numbers, &[column.kind, column.kind, Kind::Text, Kind::Integer, Kind::Blob]);
        return if chance(numbers, 15) { "NULL".into() } else { fitting(numbers, kind) };
    }
    if column.role != Role::Key && chance(numbers, 15) {
        return "NULL".into();
    }
    if perhaps(numbers, "affinity", 8) {
        return converted(numbers, column.kind);
    }
    fitting(numbers, column.kind)
}

/// Something to compare a column with: any type, and any affinity.
pub fn compared(numbers: &mut Numbers, kind: Kind) -> String {
    let plain = match numbers.below(10) {
        0..6 => fitting(numbers, kind),
        6 => fitting(numbers, Kind::Integer),
        7 => fitting(numbers, Kind::Text),
        8 => fitting(numbers, Kind::Float),
        _ => pick(numbers, &["NULL", "x'61'", "1 + 1", "'a' || 'b'", "5", "'5'"]).into(),
    };
    if !perhaps(numbers, "compare-affinity", 25) {
        return plain;
    }
    // A number of another affinity beside a TEXT column: a few rows more than k may come (docs/sql.md, "Conditions").
    if kind == Kind::Text {
        return format!("(SELECT s FROM d WHERE id = {})", numbers.below(12));
    }
    match numbers.below(4) {
        0 => format!("CAST({plain} AS {})", pick(numbers, &["INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC"])),
        _ => format!(
            "(SELECT {} FROM d WHERE id = {})",
            pick(numbers, &["x", "s", "r", "n"]),
            numbers.below(9) + 1
        ),
    }
}

/// A vector column.
#[derive(Clone, Debug)]
pub struct Space {
    pub name: String,
    pub element: &'static str,
    pub dim: usize,
    pub metric: &'static str,
}

/// A vector as the index is given it, and as the ordinary table is.
#[derive(Clone, Debug)]
pub struct Vector {
    pub index: String,
    pub plain: String,
}

impl Space {
    pub fn declared(&self) -> String {
        format!("{} {}[{}] distance_metric={}", self.name, self.element, self.dim, self.metric)
    }

    /// The function that makes a blob of the column's elements.
    pub fn function(&self) -> &'static str {
        match self.element {
            "float" => "vec_f32",
            "float16" => "vec_f16",
            "bfloat16" => "vec_bf16",
            "int8" => "vec_int8",
            _ => "vec_bit",
        }
    }

    /// The distance of two expressions, NULL where one is.
    pub fn distance(&self, a: &str, b: &str) -> String {
        let function = self.function();
        format!(
            "CAST(CASE WHEN {b} IS NOT NULL THEN vec_distance_{}({function}({a}), {function}({b})) END AS REAL)",
            self.metric
        )
    }

    pub fn json(&self, numbers: &mut Numbers) -> String {
        let values: &[&str] = match self.element {
            "int8" => &["0", "1", "-1", "2", "3", "-128", "127"],
            _ => &["0", "1", "-1", "0.5", "2", "3", "-0.25"],
        };
        let mut elements: Vec<&str> = (0..self.dim).map(|_| pick(numbers, values)).collect();
        if self.metric == "cosine" && elements.iter().all(|e| *e == "0") {
            elements[0] = "1";
        }
        format!("[{}]", elements.join(","))
    }

    pub fn vector(&self, numbers: &mut Numbers) -> Vector {
        if self.element == "bit" {
            let blob = format!("x'{}'", pick(numbers, &["00", "01", "0f", "ff", "80", "81", "3c"]));
            return Vector { index: blob.clone(), plain: blob };
        }
        let json = self.json(numbers);
        let blob = format!("{}('{json}')", self.function());
        let index = if chance(numbers, 60) { format!("'{json}'") } else { blob.clone() };
        Vector { index, plain: blob }
    }

    /// What is no vector of this column: wrong length, wrong elements, no JSON.
    pub fn no_vector(&self, numbers: &mut Numbers) -> Vector {
        let index = match numbers.below(6) {
            5 if self.element == "float" => format!("x'{}'", "0000c07f".repeat(self.dim)),
            0 => format!("zeroblob({})", 4 * self.dim + 4),
            1 => "'[1, 2'".into(),
            2 => "5".into(),
            3 => "'[]'".into(),
            _ => "'abc'".to_string(),
        };
        // An error that OR IGNORE does not skip.
        Vector { index, plain: "json('no vector')".into() }
    }
}
