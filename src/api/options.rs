//! What a table, a training and a search are asked for.

use std::borrow::Cow;
use std::fmt::{Display, Formatter, Write as _};

use rusqlite::types::Value;

use crate::index::{BudgetStrategy, ListOrdering, Metric, Quantizer, SearchMode, SearchProfile};
use crate::sqlite::quoted;
use crate::storage::Element;

/// What a new table is like. Everything but the dimension has a default.
///
/// ```
/// use sqlite_ivf::{Metric, TableOptions};
/// let options = TableOptions::new(384).metric(Metric::Cosine).nlist(256).train_at(50_000);
/// assert_eq!(
///     options.to_sql("items"),
///     r#"CREATE VIRTUAL TABLE main."items" USING ivf("vec" float[384] distance_metric=cosine, nlist=256, train_at=50000)"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    pub(super) dim: usize,
    pub(super) column: String,
    pub(super) element: Element,
    metric: Option<Metric>,
    pub(super) columns: Vec<String>,
    pub(super) others: Vec<(&'static str, String)>,
}

impl TableOptions {
    /// A table of vectors of `dim` floats in a column `vec`, distance l2.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            column: "vec".into(),
            element: Element::F32,
            metric: None,
            columns: Vec::new(),
            others: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.others.retain(|(other, _)| *other != name);
        self.others.push((name, value.to_string()));
        self
    }

    /// The name of the vector column.
    #[must_use]
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.column = name.into();
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

    pub(super) fn chosen_metric(&self) -> Metric {
        self.metric.unwrap_or(self.element.metrics()[0])
    }

    /// Another column, as in SQL: `year INTEGER`, `user INTEGER PARTITION KEY`, `+title TEXT`. Rows with values for it are inserted
    /// by SQL, and [`Search::filter`] asks for them.
    #[must_use]
    pub fn with_column(mut self, declaration: impl Into<String>) -> Self {
        self.columns.push(declaration.into());
        self
    }

    /// How many lists a training makes; by default the square root of the number of rows.
    #[must_use]
    pub fn nlist(self, nlist: usize) -> Self {
        self.with("nlist", nlist)
    }

    /// How many lists a query probes that does not say; by default twice the square root of nlist.
    #[must_use]
    pub fn nprobe(self, lists: u64) -> Self {
        self.with("nprobe", lists)
    }

    /// How many rows a query scans at most that does not say; by default there is no limit.
    #[must_use]
    pub fn max_codes(self, rows: u64) -> Self {
        self.with("max_codes", rows)
    }

    /// For which recall a query chooses its lists that does not say, above 0 and at most 1.
    #[must_use]
    pub fn recall_target(self, recall: f64) -> Self {
        self.with("recall_target", recall)
    }

    /// How many rows a query scans that does not say, under one name; by default all of the lists that it probes.
    #[must_use]
    pub fn profile(self, profile: SearchProfile) -> Self {
        self.with("profile", profile.name())
    }

    /// How many rows a query scans that does not say, shared out among its lists; 0 for no limit.
    #[must_use]
    pub fn candidate_budget(self, rows: u64) -> Self {
        self.with("candidate_budget", rows)
    }

    /// How a budget is shared out; by default nearer lists get more.
    #[must_use]
    pub fn budget_strategy(self, strategy: BudgetStrategy) -> Self {
        self.with("budget_strategy", strategy.name())
    }

    /// In which order the rows of a list stand; by default as they came. A budget scans the first ones.
    #[must_use]
    pub fn list_ordering(self, ordering: ListOrdering) -> Self {
        self.with("list_ordering", ordering.name())
    }

    /// How rows are coded for the first pass of a scan; by default int8, and not at all under l1. Answers do not depend on it.
    #[must_use]
    pub fn quantizer(self, quantizer: Quantizer) -> Self {
        let name = match quantizer {
            Quantizer::None => "none",
            Quantizer::Int8 => "int8",
        };
        self.with("quantizer", name)
    }

    /// Trains on its own when the table reaches that many rows; by default at 10,000. From then on long lists are split
    /// and short ones joined.
    #[must_use]
    pub fn train_at(self, rows: u64) -> Self {
        self.with("train_at", rows)
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

    /// The device by its name in SQL, like `cpu`.
    #[must_use]
    pub fn device(self, name: impl Into<String>) -> Self {
        self.with("device", quoted(&name.into()))
    }

    /// The statement that creates such a table.
    pub fn to_sql(&self, name: &str) -> String {
        let mut sql = format!(
            "CREATE VIRTUAL TABLE main.{} USING ivf({} {}[{}] distance_metric={}",
            quoted(name),
            quoted(&self.column),
            Element::NAMES[self.element as usize],
            self.dim,
            self.chosen_metric().name(),
        );
        for column in &self.columns {
            let _ = write!(sql, ", {column}");
        }
        for (option, value) in &self.others {
            let _ = write!(sql, ", {option}={value}");
        }
        sql.push(')');
        sql
    }
}

/// What [`Table::train`](super::Table::train) is asked for. Everything has a default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Train {
    pub(super) nlist: Option<usize>,
    pub(super) seed: Option<u64>,
    pub(super) max_iterations: Option<usize>,
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

/// The value of a knob.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Knob {
    Rows(u64),
    Share(f64),
    Name(&'static str),
}

impl Display for Knob {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows(rows) => rows.fmt(f),
            Self::Share(share) => share.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// What a search is asked for.
///
/// ```
/// use sqlite_ivf::Search;
/// let nearest = Search::new(10);
/// let careful = Search::new(10).nprobe(64);
/// let as_good_as_asked = Search::new(10).recall_target(0.95);
/// let near_ones = Search::all_within(0.25).rowids(&[3, 5, 8]);
/// # let _ = (nearest, careful, as_good_as_asked, near_ones);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Search<'a> {
    pub(super) k: Option<u64>,
    pub(super) nprobe: Option<f64>,
    /// The other knobs, by name.
    pub(super) knobs: Vec<(&'static str, Knob)>,
    pub(super) within: Option<f64>,
    pub(super) rowids: Option<Cow<'a, [i64]>>,
    pub(super) without: Option<i64>,
    pub(super) filters: Vec<(Cow<'a, str>, Value)>,
}

impl<'a> Search<'a> {
    /// The `k` nearest rows.
    pub fn new(k: usize) -> Self {
        Self { k: Some(k as u64), ..Self::all_within(f64::INFINITY) }
    }

    /// All rows at `distance` or nearer.
    pub fn all_within(distance: f64) -> Self {
        let within = (distance != f64::INFINITY).then_some(distance);
        Self {
            k: None,
            nprobe: None,
            knobs: Vec::new(),
            within,
            rowids: None,
            without: None,
            filters: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, value: Knob) -> Self {
        self.knobs.retain(|(other, _)| *other != name);
        self.knobs.push((name, value));
        self
    }

    /// How many lists are probed; nlist or more is the exact search.
    #[must_use]
    pub fn nprobe(mut self, lists: u64) -> Self {
        self.nprobe = Some(lists as f64);
        self
    }

    /// Which share of the lists is probed, between 0 and 1.
    #[must_use]
    pub fn nprobe_share(mut self, share: f64) -> Self {
        self.nprobe = Some(share);
        self
    }

    /// Every list is probed: the exact search.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.nprobe = Some(-1.0);
        self
    }

    /// How many rows are scanned per query at most; 0 for no limit.
    #[must_use]
    pub fn max_codes(self, rows: u64) -> Self {
        self.with("max_codes", Knob::Rows(rows))
    }

    /// Which share of the nearest rows is to be found on average, above 0 and at most 1: the query then probes as many lists as
    /// it needs for that, and no more than `nprobe` if that is given. It goes by what was measured on the table's own rows when
    /// it was trained.
    #[must_use]
    pub fn recall_target(self, recall: f64) -> Self {
        self.with("recall_target", Knob::Share(recall))
    }

    /// How many rows are scanned, under one name.
    #[must_use]
    pub fn profile(self, profile: SearchProfile) -> Self {
        self.with("profile", Knob::Name(profile.name()))
    }

    /// How many rows are scanned per query at most, shared out among its lists; 0 for no limit.
    #[must_use]
    pub fn candidate_budget(self, rows: u64) -> Self {
        self.with("candidate_budget", Knob::Rows(rows))
    }

    /// How the budget is shared out; by default nearer lists get more.
    #[must_use]
    pub fn budget_strategy(self, strategy: BudgetStrategy) -> Self {
        self.with("budget_strategy", Knob::Name(strategy.name()))
    }

    /// How many rows of each list the budget pays for before the rest is shared out.
    #[must_use]
    pub fn min_rows_per_list(self, rows: u64) -> Self {
        self.with("min_rows_per_list", Knob::Rows(rows))
    }

    /// How many rows of a list are scanned at most; 0 for no limit.
    #[must_use]
    pub fn max_rows_per_list(self, rows: u64) -> Self {
        self.with("max_rows_per_list", Knob::Rows(rows))
    }

    /// How the work is cut. The answer does not depend on it.
    #[must_use]
    pub fn search_mode(self, mode: SearchMode) -> Self {
        self.with("search_mode", Knob::Name(mode.name()))
    }

    /// Only rows at `distance` or nearer.
    #[must_use]
    pub fn within(mut self, distance: f64) -> Self {
        self.within = Some(distance);
        self
    }

    /// Only these rows.
    #[must_use]
    pub fn rowids(mut self, rowids: &'a [i64]) -> Self {
        self.rowids = Some(Cow::Borrowed(rowids));
        self
    }

    /// Only rows that meet a condition, with a value in the place of its `?`. It is SQL, put in parentheses: `a = ? OR b = 1` is one
    /// condition beside the others. Conditions on metadata and partition columns are part of the search.
    ///
    /// ```
    /// use sqlite_ivf::{Search, Table, TableOptions};
    /// let db = rusqlite::Connection::open_in_memory()?;
    /// sqlite_ivf::register(&db)?;
    /// let options = TableOptions::new(2).with_column("user INTEGER PARTITION KEY").with_column("lang TEXT");
    /// let notes = Table::create(&db, "notes", &options)?;
    /// db.execute_batch("INSERT INTO notes(vec, user, lang) VALUES ('[1,0]', 7, 'de'), ('[2,0]', 7, 'en'), ('[1,0]', 8, 'en')")?;
    /// let search = Search::new(5).filter("user = ?", 7).filter("lang != ?", "de".to_string());
    /// assert_eq!(notes.search(&[0.0, 0.0], &search)?[0].rowid, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter(mut self, condition: impl Into<Cow<'a, str>>, value: impl Into<Value>) -> Self {
        self.filters.push((condition.into(), value.into()));
        self
    }

    /// Any row but this one: for a query that is itself a row of the table.
    #[must_use]
    pub fn without(mut self, rowid: i64) -> Self {
        self.without = Some(rowid);
        self
    }
}
