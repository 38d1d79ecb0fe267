//! What is known of a table.

use std::str::FromStr;

use rusqlite::types::FromSql;
use serde::{Deserialize, Serialize};

use super::{Error, Result, Settings};
use crate::index::{Metric, Quantizer};
use crate::storage::Element;

/// What `ivf_stats` tells of a table, as [`Table::stats`](super::Table::stats) reads it. Bytes are of blobs, not of pages.
///
/// ```
/// use sqlite_ivf::{Metric, Table, TableOptions, Train};
/// let db = rusqlite::Connection::open_in_memory()?;
/// sqlite_ivf::register(&db)?;
/// let items = Table::create(&db, "items", &TableOptions::new(2).train_off())?;
/// items.insert_many((0..100).map(|i| (i, [i as f32, 1.0])))?;
/// items.train(&Train::new().nlist(4))?;
/// let stats = items.stats()?;
/// assert_eq!((stats.rows, stats.nlist, stats.trained, stats.metric), (100, 4, true, Metric::L2));
/// println!("{}", stats.training);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Live rows.
    pub rows: u64,
    /// Lists; 0 before a training.
    pub nlist: u64,
    /// Whether it was trained.
    pub trained: bool,
    /// Rows at the last training.
    pub trained_rows: u64,
    /// What the training is, what will be done next, and why; for people to read.
    pub training: String,
    /// Whether limits for `recall_target` were measured.
    pub calibrated: bool,
    /// What they were measured by; none where nothing was measured.
    pub calibrated_by: Option<CalibratedBy>,
    /// By how many of them; none also where an earlier version measured.
    pub calibration_queries: Option<u64>,
    /// Whether since then more than half of the rows have moved to other lists, have come or are gone.
    pub calibration_stale: Option<bool>,
    /// Trainings and packings so far.
    pub generation: u64,
    /// Runs of rows that the lists are made of.
    pub segments: u64,
    /// Those of them that still grow.
    pub tails: u64,
    /// Dead rows that are still stored.
    pub deleted: u64,
    /// Live rows of the largest list.
    pub largest_list: u64,
    /// Live rows of the smallest list.
    pub smallest_list: u64,
    /// The standard deviation of the lists' rows as a share of their mean.
    pub imbalance: f64,
    /// How many partitions; none without partition keys.
    pub partitions: Option<u64>,
    /// Rows that lists are kept near; 0 where that differs by partition.
    pub target: u64,
    /// Lists that are to be split.
    pub long_lists: u64,
    /// Lists that are to join their neighbours.
    pub short_lists: u64,
    /// Lists split since the last training.
    pub splits: u64,
    /// Lists joined since the last training.
    pub joins: u64,
    /// Rows that changed their list by that.
    pub moved: u64,
    /// Bytes in all shadow tables.
    pub bytes: u64,
    /// Bytes of the centroids.
    pub bytes_centroids: u64,
    /// Bytes of the heads of the lists.
    pub bytes_lists: u64,
    /// Bytes of rowids and codes.
    pub bytes_codes: u64,
    /// Bytes of the vectors.
    pub bytes_vectors: u64,
    /// Bytes in memory that this version of the table holds.
    pub resident_bytes: u64,
    /// Those of codes and metadata.
    pub resident_codes: u64,
    /// Those of vectors.
    pub resident_vectors: u64,
    /// Bytes in memory that all tables of the process hold.
    pub cache_used: u64,
    /// Bytes that they may hold.
    pub cache_limit: u64,
    /// Where searches compute on this connection, by its name in SQL.
    pub device: String,
    /// Bytes in that device's memory that this version of the table holds.
    pub device_bytes: u64,
    /// Bytes there that all tables of the process may hold.
    pub device_limit: u64,
    /// Which content this is, in hexadecimal: equal wherever the same statements ran.
    pub ver: String,
    /// Which lists these are, in hexadecimal.
    pub stamp: String,
    /// Elements of a vector.
    pub dim: u64,
    /// What vectors are stored as.
    pub element: Element,
    /// How distance is defined.
    pub metric: Metric,
    /// How rows are coded.
    pub quantizer: Quantizer,
    /// How a search is made that does not say.
    pub settings: Settings,
    /// What the declaration of a `vec0` table says that has no meaning here.
    pub ignored: Option<String>,
    /// The table that this is an index over, if it is.
    pub content: Option<String>,
    /// What a search does that says nothing of recall or lists: `recall_target=0.95`, `nprobe=32` or `exact`.
    pub default_search: String,
    /// The instructions that this machine computes with.
    pub isa: String,
    /// The threads that it computes with.
    pub threads: u64,
    /// The embedding model of the first vector column; none if it names none.
    pub model: Option<String>,
}

/// What limits for `recall_target` were measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CalibratedBy {
    /// The table's own rows.
    Rows,
    /// Queries that [`Table::calibrate`](super::Table::calibrate) was given.
    Queries,
}

impl Stats {
    /// Reads a row of all columns of `ivf_stats`.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> Result<Self> {
        fn get<T: FromSql>(row: &rusqlite::Row<'_>, name: &str) -> Result<T> {
            Ok(row.get(name)?)
        }
        fn named<T: FromStr<Err: std::fmt::Display>>(row: &rusqlite::Row<'_>, name: &str) -> Result<T> {
            let text: String = get(row, name)?;
            text.parse().map_err(|error| Error::invalid(format!("{name} of ivf_stats: {error}")))
        }
        // No count of these is negative.
        let count = |name: &str| get::<i64>(row, name).map(i64::cast_unsigned);
        let by: Option<String> = get(row, "calibrated_by")?;
        Ok(Self {
            rows: count("rows")?,
            nlist: count("nlist")?,
            trained: get(row, "trained")?,
            trained_rows: count("trained_rows")?,
            training: get(row, "training")?,
            calibrated: get(row, "calibrated")?,
            calibrated_by: by
                .map(|by| if by == "queries" { CalibratedBy::Queries } else { CalibratedBy::Rows }),
            calibration_queries: get::<Option<i64>>(row, "calibration_queries")?.map(i64::cast_unsigned),
            calibration_stale: get(row, "calibration_stale")?,
            generation: count("generation")?,
            segments: count("segments")?,
            tails: count("tails")?,
            deleted: count("deleted")?,
            largest_list: count("largest_list")?,
            smallest_list: count("smallest_list")?,
            imbalance: get(row, "imbalance")?,
            partitions: get::<Option<i64>>(row, "partitions")?.map(i64::cast_unsigned),
            target: count("target")?,
            long_lists: count("long_lists")?,
            short_lists: count("short_lists")?,
            splits: count("splits")?,
            joins: count("joins")?,
            moved: count("moved")?,
            bytes: count("bytes")?,
            bytes_centroids: count("bytes_centroids")?,
            bytes_lists: count("bytes_lists")?,
            bytes_codes: count("bytes_codes")?,
            bytes_vectors: count("bytes_vectors")?,
            resident_bytes: count("resident_bytes")?,
            resident_codes: count("resident_codes")?,
            resident_vectors: count("resident_vectors")?,
            cache_used: count("cache_used")?,
            cache_limit: count("cache_limit")?,
            device: get(row, "device")?,
            device_bytes: count("device_bytes")?,
            device_limit: count("device_limit")?,
            ver: get(row, "ver")?,
            stamp: get(row, "stamp")?,
            dim: count("dim")?,
            element: named(row, "element")?,
            metric: named(row, "metric")?,
            quantizer: named(row, "quantizer")?,
            settings: Settings::read(&get::<String>(row, "settings")?)?,
            ignored: get(row, "ignored")?,
            content: get(row, "content")?,
            default_search: get(row, "default_search")?,
            isa: get(row, "isa")?,
            threads: count("threads")?,
            model: get(row, "model")?,
        })
    }
}
