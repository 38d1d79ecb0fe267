//! `ivf_stats(t)`.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::alloc::try_collect;
use crate::base::workers::Workers;
use crate::index::calibrate::sampled;
use crate::index::{Datum, Snapshot};
use crate::kernels::kernels;
use crate::sqlite::{Db, Error, Result, Value};
use crate::storage::Knobs;
use crate::storage::{Measured, Settings};
use crate::storage::{Sql, State, Targets, is_due};
use crate::vtab::schema::knobs::{Knob, Nprobe};
use crate::vtab::schema::options::TrainAt;
use crate::vtab::table::Table;
use crate::vtab::table::registry::{Connection, cache};
use crate::vtab::table_function::{Cell, Column, TableFunction};

/// One row about a table. Reads the heads of the segments and the lengths of the blobs in the shadow tables,
/// not the blobs.
pub struct IvfStats;

/// The values that the columns are computed from.
pub struct Stats {
    table: Rc<Table>,
    state: State,
    snapshot: Arc<Snapshot>,
    settings: Settings,
    /// The embedding model.
    model: Option<Arc<str>>,
    /// The knobs of a search that sets none itself.
    knobs: Knobs,
    trains_at: Option<u64>,
    /// The target size of lists, 0 if it differs by partition. `long` and `short` are the numbers of lists
    /// that are too long and too short.
    target: u64,
    /// `None` if rows have no partitions.
    partitions: Option<u64>,
    long: u64,
    short: u64,
    /// The bytes of centroids, lists, codes and vectors.
    bytes: [i64; 4],
    /// The live rows of lists: most, fewest, and the coefficient of variation.
    largest: u64,
    smallest: u64,
    imbalance: f64,
}

impl TableFunction for IvfStats {
    type Environment = Rc<Connection>;
    type Row = Stats;

    const NAME: &'static str = "ivf_stats";
    const COLUMNS: &'static [Column<Stats>] = &[
        ("rows", |s| Cell::I64(s.state.rows)),
        ("nlist", |s| Cell::I64(s.state.nlist)),
        ("trained", |s| Cell::I64((s.state.nlist > 0).into())),
        ("trained_rows", |s| Cell::I64(s.settings.trained_rows as i64)),
        ("training", |s| Cell::Text(s.training())),
        ("calibrated", |s| Cell::I64(s.settings.calibration.is_some().into())),
        ("calibrated_by", |s| {
            let by = if s.settings.measured.queries > 0 { "queries" } else { "rows" };
            s.of_calibration(|_| Cell::Text(by.into()))
        }),
        ("calibration_queries", |s| {
            s.of_calibration(|settings| match settings.measured {
                Measured { queries: 0, rows: 0, .. } => Cell::Null,
                Measured { queries: 0, rows, .. } => Cell::I64(sampled(rows) as i64),
                Measured { queries, .. } => Cell::I64(queries as i64),
            })
        }),
        ("calibration_stale", |s| {
            s.of_calibration(|settings| Cell::I64(settings.is_stale(s.state.rows as u64).into()))
        }),
        ("generation", |s| Cell::I64(s.state.generation)),
        ("segments", |s| Cell::I64(s.snapshot.segments().len() as i64)),
        ("tails", |s| s.segments(|head| i64::from(!head.sealed))),
        ("deleted", |s| s.segments(|head| head.dead.into())),
        ("largest_list", |s| Cell::I64(s.largest as i64)),
        ("smallest_list", |s| Cell::I64(s.smallest as i64)),
        ("imbalance", |s| Cell::F64(s.imbalance)),
        ("partitions", |s| s.partitions.map_or(Cell::Null, |n| Cell::I64(n as i64))),
        ("target", |s| Cell::I64(s.target as i64)),
        ("long_lists", |s| Cell::I64(s.long as i64)),
        ("short_lists", |s| Cell::I64(s.short as i64)),
        ("splits", |s| Cell::I64(s.settings.splits as i64)),
        ("joins", |s| Cell::I64(s.settings.joins as i64)),
        ("moved", |s| Cell::I64(s.settings.moved as i64)),
        ("bytes", |s| Cell::I64(s.bytes.iter().fold(0, |sum, of| sum.saturating_add(*of)))),
        ("bytes_centroids", |s| Cell::I64(s.bytes[0])),
        ("bytes_lists", |s| Cell::I64(s.bytes[1])),
        ("bytes_codes", |s| Cell::I64(s.bytes[2])),
        ("bytes_vectors", |s| Cell::I64(s.bytes[3])),
        ("resident_bytes", |s| Cell::I64((s.resident().0 + s.resident().1) as i64)),
        ("resident_codes", |s| Cell::I64(s.resident().0 as i64)),
        ("resident_vectors", |s| Cell::I64(s.resident().1 as i64)),
        ("cache_used", |_| Cell::I64(cache().budget().used() as i64)),
        ("cache_limit", |_| Cell::I64(i64::try_from(cache().budget().limit()).unwrap_or(i64::MAX))),
        ("device", |s| Cell::Text(s.table.device_so_far().0.to_string())),
        ("device_bytes", |s| {
            Cell::I64(s.table.device_so_far().1.map_or(0, |device| s.snapshot.device_bytes(&device)) as i64)
        }),
        ("device_limit", |s| {
            let limit = s.table.device_so_far().1.map_or(0, |device| device.budget().limit());
            Cell::I64(i64::try_from(limit).unwrap_or(i64::MAX))
        }),
        ("ver", |s| hex(&s.state.ver)),
        ("stamp", |s| hex(&s.state.stamp)),
        ("dim", |s| Cell::I64(s.table.layout.dim as i64)),
        ("element", |s| Cell::Text(s.table.layout.element.name().into())),
        ("metric", |s| Cell::Text(s.table.layout.metric.name().into())),
        ("quantizer", |s| Cell::Text(s.table.layout.quantizer.name().into())),
        ("settings", |s| {
            let given = Knob::ALL.iter().filter_map(|&(knob, name)| match s.knobs.get(knob) {
                Datum::Null => None,
                Datum::Integer(value) => Some(format!("{name}={value}")),
                Datum::Float(value) => Some(format!("{name}={value}")),
                Datum::Text(value) => Some(format!("{name}={value}")),
            });
            Cell::Text(given.collect::<Vec<_>>().join(", "))
        }),
        ("default_search", |s| Cell::Text(s.default_search())),
        ("ignored", |s| match s.table.options.ignored.as_slice() {
            [] => Cell::Null,
            ignored => Cell::Text(ignored.join(", ")),
        }),
        ("content", |s| s.table.options.content.clone().map_or(Cell::Null, Cell::Text)),
        ("isa", |_| Cell::Text(kernels().isa.into())),
        ("threads", |_| Cell::I64(Workers::all().threads() as i64)),
        ("model", |s| s.model.as_deref().map_or(Cell::Null, |model| Cell::Text(model.into()))),
    ];
    const ARGUMENTS: &'static [&'static str] = &["t"];
    const REQUIRED: usize = 1;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<Stats>> {
        let table = super::table(db, connection, Self::NAME, arguments)?;
        let (state, snapshot) = table.current()?;
        let settings = if state.nlist > 0 { table.settings(&state)? } else { Settings::default() };
        let (own, model) = table.with_settings(&state, |of| (of.knobs, of.model.clone()))?;
        let knobs = own.over(&table.options.knobs);
        let trains_at = table.trains_at(&state);
        let bytes = read_bytes(&table)?;
        let sizes = try_collect((0..snapshot.nlist()).map(|list_no| snapshot.list_rows(list_no)))?;
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let smallest = sizes.iter().copied().min().unwrap_or(0);
        let imbalance = variation(&sizes);
        let (mut targets, mut long, mut short) = (Targets::default(), 0, 0);
        if let Some(coarse) = snapshot.coarse() {
            targets = table.targets(&settings, &state, coarse, 0..coarse.nlist() as u32)?;
            let solid = settings.solid.iter().copied().collect();
            for (list_no, &rows) in (0..).zip(&sizes) {
                let Some(target) = targets.of(coarse.partition(list_no)) else { continue };
                long += u64::from(is_due(target, list_no, rows, &solid));
                short += u64::from(target.is_short(rows));
            }
        }
        let partitions = snapshot.coarse().map(|coarse| coarse.partitions()).filter(|of| !of.is_empty());
        let partitions = partitions.map(|of| of.iter().copied().collect::<BTreeSet<_>>().len() as u64);
        Ok(vec![Stats {
            table,
            state,
            snapshot,
            settings,
            model,
            knobs,
            trains_at,
            target: targets.all.map_or(0, |target| target.rows()),
            partitions,
            long,
            short,
            bytes,
            largest,
            smallest,
            imbalance,
        }])
    }
}

impl Stats {
    fn segments(&self, of: impl Fn(&crate::index::SegmentHead) -> i64) -> Cell {
        Cell::I64(self.snapshot.segments().iter().map(|segment| of(&segment.head)).sum())
    }

    /// A value of the calibration; NULL if there is none.
    fn of_calibration(&self, of: impl Fn(&Settings) -> Cell) -> Cell {
        self.settings.calibration.map_or(Cell::Null, |_| of(&self.settings))
    }

    fn resident(&self) -> (usize, usize) {
        self.snapshot.resident_bytes()
    }

    /// What a search does that says nothing of recall or lists.
    fn default_search(&self) -> String {
        let calibration = self.settings.calibration.as_ref();
        let target = self.knobs.target(calibration);
        let measured = target.filter(|_| calibration.is_some());
        match (self.state.nlist, self.knobs.nprobe.filter(|nprobe| *nprobe != Nprobe::EXACT), measured) {
            (0, ..) => "exact".into(),
            (_, None, Some(target)) => format!("recall_target={target}"),
            (_, Some(nprobe), Some(target)) => format!("recall_target={target}, nprobe={nprobe}"),
            (_, Some(nprobe), None) => format!("nprobe={nprobe}"),
            (_, None, None) if self.knobs.nprobe.or(target).is_some() => "exact".into(),
            (nlist, None, None) => format!("nprobe={}", Nprobe::Auto.lists(nlist as usize)),
        }
    }

    /// Describes the training, and what comes next.
    fn training(&self) -> String {
        let rows = self.state.rows as u64;
        let options = &self.table.options;
        let now = match (self.state.nlist, self.partitions) {
            (0, _) => format!("exact: {} rows", grouped(rows)),
            (nlist, Some(partitions)) => format!(
                "{} rows in {} lists of {} partitions",
                grouped(rows),
                grouped(nlist as u64),
                grouped(partitions)
            ),
            (nlist, None) => format!(
                "trained at {} rows into {} lists, now {} rows",
                grouped(self.settings.trained_rows),
                grouped(nlist as u64),
                grouped(rows)
            ),
        };
        let next = match (self.trains_at, options.train_at) {
            (Some(at), _) if rows >= at => {
                format!("trains by itself when the next transaction that writes ends, from {}", grouped(at))
            }
            (Some(at), _) => format!("trains by itself at {}", grouped(at)),
            (None, TrainAt::Off) if self.state.nlist == 0 => {
                "trains only by the command 'train' (train_at=off)".into()
            }
            (None, train_at) => {
                let waits = match (train_at, self.long, self.short) {
                    (_, 0, 0) => String::new(),
                    (TrainAt::Off, long, short) => {
                        format!(", {long} too long and {short} too short, for 'optimize' (train_at=off)")
                    }
                    (_, long, short) => format!(
                        ", {long} too long and {short} too short, for the next transaction that writes to them or 'optimize'"
                    ),
                };
                match self.partitions {
                    Some(_) => {
                        format!("the target of each partition is the square root of its rows per list{waits}")
                    }
                    None => format!("the target is {} rows per list{waits}", grouped(self.target)),
                }
            }
        };
        format!("{now}, {next}")
    }
}

/// The bytes of the blobs in the shadow tables: centroids, lists, codes, vectors.
fn read_bytes(table: &Table) -> Result<[i64; 4]> {
    let tables = table.tables();
    let mut statement = tables.statement(Sql::BytesRead)?;
    let mut rows = statement.query(&[])?;
    if !rows.step()? {
        return Err(Error::internal("no row of sums"));
    }
    Ok([0, 1, 2, 3].map(|column| rows.i64(column)))
}

/// The standard deviation as a share of the mean; 0 if all are 0.
fn variation(sizes: &[u64]) -> f64 {
    let n = sizes.len() as f64;
    let mean = sizes.iter().sum::<u64>() as f64 / n;
    let variance = sizes.iter().map(|&size| (size as f64 - mean).powi(2)).sum::<f64>() / n;
    if mean > 0.0 { variance.sqrt() / mean } else { 0.0 }
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

fn hex(bytes: &[u8]) -> Cell {
    Cell::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_variation_of_equal_lists_is_none() {
        assert_eq!(variation(&[5, 5, 5]), 0.0);
        assert_eq!(variation(&[0, 0]), 0.0);
        assert_eq!(variation(&[1, 3]), 0.5);
    }
}
