//! What a table and a training are asked for.

use std::fmt::{self, Display, Write as _};

use super::Result;
use super::settings::{Settings, setting_builders};
use crate::index::{ListOrdering, Metric, Quantizer};
use crate::sqlite::{literal, quoted};
use crate::storage::Element;

/// The type of a column beside the vector. Values that it does not hold are errors, as in a `STRICT` table; NULL it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColumnType {
    /// 8-byte integers.
    Integer,
    /// 8-byte floats.
    Float,
    /// Texts.
    Text,
    /// 0 and 1.
    Boolean,
}

impl Display for ColumnType {
    /// The type's name in SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "INTEGER",
            Self::Float => "FLOAT",
            Self::Text => "TEXT",
            Self::Boolean => "BOOLEAN",
        })
    }
}

/// What a new table is like. Everything but the dimension has a default.
///
/// ```
/// use sqlite_ivf::{ColumnType, Metric, TableOptions};
/// let options = TableOptions::new(384)
///     .metric(Metric::Cosine)
///     .partition_key("user", ColumnType::Integer)
///     .metadata("lang", ColumnType::Text)
///     .auxiliary("title")
///     .nlist(256)
///     .train_at(50_000);
/// assert_eq!(
///     options.to_sql("items")?,
///     r#"CREATE VIRTUAL TABLE "main"."items" USING ivf("vec" float[384] distance_metric=cosine, "user" INTEGER PARTITION KEY, "lang" TEXT, +"title" BLOB, nlist=256, train_at=50000)"#
/// );
/// # Ok::<(), sqlite_ivf::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    dim: usize,
    vector: String,
    element: Element,
    metric: Option<Metric>,
    columns: Vec<String>,
    settings: Settings,
    others: Vec<(&'static str, String)>,
}

impl TableOptions {
    /// A table of vectors of `dim` elements, from 1 to 16,384, in a column `vec`, distance l2.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            vector: "vec".into(),
            element: Element::F32,
            metric: None,
            columns: Vec::new(),
            settings: Settings::new(),
            others: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.others.retain(|(other, _)| *other != name);
        self.others.push((name, value.to_string()));
        self
    }

    /// The name of the vector column, `vec` by default.
    #[must_use]
    pub fn vector_name(mut self, name: impl Into<String>) -> Self {
        self.vector = name.into();
        self
    }

    /// What vectors are stored as; by default 4-byte floats. Bits have the distance hamming, and a dimension that is a
    /// multiple of 8.
    #[must_use]
    pub fn element(mut self, element: Element) -> Self {
        self.element = element;
        self
    }

    /// How distance is defined; by default l2, and hamming for bits.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }

    /// A column that conditions may be about: [`Search::filter`](super::Search::filter) looks at it inside the search.
    #[must_use]
    pub fn metadata(self, name: &str, of: ColumnType) -> Self {
        self.declare(format!("{} {of}", quoted(name)))
    }

    /// Metadata, an integer or a text, that also parts the rows: those of different values never share a list, and a search of some
    /// partitions reads no others.
    #[must_use]
    pub fn partition_key(self, name: &str, of: ColumnType) -> Self {
        self.declare(format!("{} {of} PARTITION KEY", quoted(name)))
    }

    /// A column of any values that is carried along: a condition on it is looked at after the search.
    #[must_use]
    pub fn auxiliary(self, name: &str) -> Self {
        self.declare(format!("+{} BLOB", quoted(name)))
    }

    /// The name of the rowid, if it is an integer; else a text that names the row, beside a rowid of its own.
    #[must_use]
    pub fn primary_key(self, name: &str, of: ColumnType) -> Self {
        self.declare(format!("{} {of} PRIMARY KEY", quoted(name)))
    }

    /// Another column as SQL has it, perhaps a second vector: `body float[3] distance_metric=cosine`.
    #[must_use]
    pub fn declare(mut self, column: impl Into<String>) -> Self {
        self.columns.push(column.into());
        self
    }

    /// How many lists a training makes; by default the square root of the number of rows.
    #[must_use]
    pub fn nlist(self, nlist: usize) -> Self {
        self.with("nlist", nlist)
    }

    /// How a search is made that does not say, see [`Settings`].
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    setting_builders!(settings);

    /// In which order the rows of a list stand; by default as they came. A budget scans the first ones.
    #[must_use]
    pub fn list_ordering(self, ordering: ListOrdering) -> Self {
        self.with("list_ordering", ordering)
    }

    /// How rows are coded for the first pass of a scan; by default int8, and not at all under l1. Answers do not depend on it.
    #[must_use]
    pub fn quantizer(self, quantizer: Quantizer) -> Self {
        self.with("quantizer", quantizer)
    }

    /// Trains on its own when the table reaches that many rows; by default at 10,000. From then on long lists are split
    /// and short ones joined.
    #[must_use]
    pub fn train_at(self, rows: u64) -> Self {
        self.with("train_at", rows)
    }

    /// Makes an index over `table` of the same schema: the vectors stay there, in a column of the vector column's name, and so
    /// do the metadata. `SELECT ivf_triggers(name, 'create')` keeps the index up to date, the command `rebuild` reads all rows
    /// (docs/sql.md, "An index over your table").
    ///
    /// ```
    /// use sqlite_ivf::TableOptions;
    /// let options = TableOptions::new(3).vector_name("embedding").content("docs").content_rowid("id");
    /// assert!(options.to_sql("near")?.ends_with(r#"content="docs", content_rowid="id")"#));
    /// # Ok::<(), sqlite_ivf::Error>(())
    /// ```
    #[must_use]
    pub fn content(self, table: &str) -> Self {
        self.with("content", quoted(table))
    }

    /// The name of the rowid of the [`content`](Self::content); by default `rowid`.
    #[must_use]
    pub fn content_rowid(self, column: &str) -> Self {
        self.with("content_rowid", quoted(column))
    }

    /// Only [`Table::train`](super::Table::train) trains.
    #[must_use]
    pub fn train_off(self) -> Self {
        self.with("train_at", "off")
    }

    /// Decides the training, together with the rows.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.with("seed", seed)
    }

    /// The embedding model that the vectors are of, from 1 to 1024 bytes: [`Search::model`](super::Search::model) checks it.
    #[must_use]
    pub fn model(self, name: &str) -> Self {
        self.with("model", literal(name))
    }

    /// The device by its name in SQL, like `cpu`.
    #[must_use]
    pub fn device(self, name: impl Into<String>) -> Self {
        self.with("device", quoted(&name.into()))
    }

    /// The statement that creates such a table in the schema `main`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for settings out of their range. What else is wrong SQLite says.
    pub fn to_sql(&self, name: &str) -> Result<String> {
        self.to_sql_in("main", name)
    }

    /// [`TableOptions::to_sql`] in another schema: `temp`, or that of an attached database.
    ///
    /// # Errors
    /// As there.
    pub fn to_sql_in(&self, schema: &str, name: &str) -> Result<String> {
        let metric = self.metric.unwrap_or(self.element.metrics()[0]);
        let mut sql = format!(
            "CREATE VIRTUAL TABLE {}.{} USING ivf({} {}[{}] distance_metric={}",
            quoted(schema),
            quoted(name),
            quoted(&self.vector),
            if self.element == Element::F32 { "float" } else { self.element.name() },
            self.dim,
            metric,
        );
        for column in &self.columns {
            let _ = write!(sql, ", {column}");
        }
        for (setting, value) in self.settings.given()? {
            let _ = write!(sql, ", {setting}={value}");
        }
        for (option, value) in &self.others {
            let _ = write!(sql, ", {option}={value}");
        }
        sql.push(')');
        Ok(sql)
    }
}

/// What [`Table::train`](super::Table::train) is asked for. Everything has a default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Train {
    nlist: Option<usize>,
    seed: Option<u64>,
    max_iterations: Option<usize>,
}

impl Train {
    /// As the table's options say.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many lists.
    #[must_use]
    pub fn nlist(mut self, nlist: usize) -> Self {
        self.nlist = Some(nlist);
        self
    }

    /// Same rows in the same order, same seed: same lists.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Iterations of k-means at most.
    #[must_use]
    pub fn max_iterations(mut self, iterations: usize) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    pub(super) fn command(self) -> String {
        let given = [
            self.nlist.map(|n| format!("\"nlist\":{n}")),
            self.seed.map(|n| format!("\"seed\":{n}")),
            self.max_iterations.map(|n| format!("\"max_iterations\":{n}")),
        ];
        format!("train:{{{}}}", given.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}
