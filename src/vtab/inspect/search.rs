//! `ivf_profile(t)` and `ivf_recall(t, of_queries, of_k, of_nprobe, of_knobs)`.

use std::rc::Rc;

use crate::base::alloc::try_collect;
use crate::index::SearchParams;
use crate::sqlite::{Db, Error, Result, Value};
use crate::storage::Knobs;
use crate::vtab::schema::knobs::Knob;
use crate::vtab::schema::model;
use crate::vtab::table::profile::Profile;
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::{Cell, Column, TableFunction};
use crate::vtab::values::number::{number, shown};
use crate::vtab::values::vector;

/// The last search of a table on this connection, stage by stage. Reads only the name of the table.
pub struct IvfProfile;

/// A stage: its name, how many items it processed, what these are, and its microseconds.
pub struct Stage(&'static str, Option<u64>, &'static str, u64);

impl TableFunction for IvfProfile {
    type Environment = Rc<Connection>;
    type Row = Stage;

    const NAME: &'static str = "ivf_profile";
    const COLUMNS: &'static [Column<Stage>] = &[
        ("stage", |stage| Cell::Text(stage.0.into())),
        ("n", |stage| stage.1.map_or(Cell::Null, |n| Cell::I64(n as i64))),
        ("what", |stage| Cell::Text(stage.2.into())),
        ("us", |stage| Cell::I64(stage.3 as i64)),
    ];
    const ARGUMENTS: &'static [&'static str] = &["t"];
    const REQUIRED: usize = 1;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<Stage>> {
        let table = super::table(db, connection, Self::NAME, arguments)?;
        let Some(Profile { queries, answers, plan_us, total_us, stats }) = table.searching.profile.get()
        else {
            return Ok(Vec::new());
        };
        let mut stages = vec![
            Stage("plan", Some(queries), "queries", plan_us),
            Stage("probe", Some(stats.lists_probed), "lists probed", stats.probe_us),
            Stage("load", Some(stats.segments_read), "segments read", stats.load_us),
            Stage("scan", Some(stats.rows_scanned), "rows scanned", stats.scan_us),
            Stage("device", Some(stats.rows_on_device), "rows scanned on a device", stats.device_us),
            Stage("rescore", Some(stats.rows_rescored), "rows re-scored", stats.rescore_us),
        ];
        if table.is_over_content() {
            stages.push(Stage("skipped", Some(stats.rows_skipped), "rows missing or changed in content", 0));
        }
        if stats.rows_diversified > 0 {
            let (rows, us) = (stats.rows_diversified, stats.diversify_us);
            stages.push(Stage("diversify", Some(rows), "candidates to choose among", us));
        }
        stages.push(Stage("total", Some(answers), "answers", total_us));
        Ok(stages)
    }
}

/// The recall of a search: the share of the exact answers that it finds. Runs the search and the exact search
/// of every query.
pub struct IvfRecall;

pub struct Recall {
    recall: Option<f64>,
    queries: usize,
    k: usize,
    nprobe: usize,
    rows_scanned: Option<f64>,
    lists_probed: Option<f64>,
}

impl TableFunction for IvfRecall {
    type Environment = Rc<Connection>;
    type Row = Recall;

    const NAME: &'static str = "ivf_recall";
    const COLUMNS: &'static [Column<Recall>] = &[
        ("recall", |row| row.recall.map_or(Cell::Null, Cell::F64)),
        ("queries", |row| Cell::I64(row.queries as i64)),
        ("k", |row| Cell::I64(row.k as i64)),
        ("nprobe", |row| Cell::I64(row.nprobe as i64)),
        ("rows_scanned", |row| row.rows_scanned.map_or(Cell::Null, Cell::F64)),
        ("lists_probed", |row| row.lists_probed.map_or(Cell::Null, Cell::F64)),
    ];
    const ARGUMENTS: &'static [&'static str] = &["t", "of_queries", "of_k", "of_nprobe", "of_knobs"];
    const REQUIRED: usize = 3;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<Recall>> {
        let table = super::table(db, connection, Self::NAME, arguments)?;
        let [_, Some(queries), Some(k), nprobe, knobs] = arguments else {
            return Err(Error::internal("an argument is missing"));
        };
        let mut queries = vector::read_batch(Self::NAME, queries, table.layout.element, table.layout.dim)?;
        table.prepare(&mut queries)?;
        let wrong = |what: String| Error::generic(format!("{}: {what}", Self::NAME));
        let whole = number(k).filter(|k| *k >= 1.0 && k.fract() == 0.0);
        let whole =
            whole.ok_or_else(|| wrong(format!("of_k must be a whole number from 1, got {}", shown(k))))?;
        // Never `usize::MAX`, which means a search without k.
        let k = whole as i64 as usize;
        let (state, snapshot) = table.current()?;
        let nlist = snapshot.nlist();
        let mut asked = Knobs::default();
        if let Some(texts) = knobs.as_ref().filter(|value| !value.is_null()) {
            let (model, texts) = model::out_of(texts.text()?).map_err(|error| wrong(error.message))?;
            asked.set_texts(&texts).map_err(|error| wrong(error.message))?;
            if let Some(model) = model {
                table.check_model(&state, &model)?;
            }
        }
        if let Some(nprobe) = nprobe.as_ref().filter(|value| !value.is_null()) {
            asked
                .set_value(Knob::Nprobe, nprobe, nlist)
                .map_err(|error| wrong(format!("of_{}", error.message)))?;
        }
        let mut params = SearchParams::new(k, nlist);
        table.turn(&state, &asked, &mut params, nlist)?;
        let (nprobe, mode) = (params.nprobe, params.mode);
        let found = table.search(&state, &snapshot, &queries, params)?;
        let exact = SearchParams { mode, ..SearchParams::new(k, nlist) };
        let exact = table.search(&state, &snapshot, &queries, exact)?;
        let mut hits = 0;
        for i in 0..exact.queries() {
            let mut of_query = try_collect(exact.of(i).iter().map(|row| row.rowid))?;
            of_query.sort_unstable();
            hits += found.of(i).iter().filter(|row| of_query.binary_search(&row.rowid).is_ok()).count();
        }
        let share = |part: f64, of: usize| (of > 0).then(|| part / of as f64);
        Ok(vec![Recall {
            recall: share(hits as f64, exact.neighbors.len()),
            queries: exact.queries(),
            k,
            nprobe: nprobe.min(nlist),
            rows_scanned: share(found.stats.rows_scanned as f64, exact.queries()),
            lists_probed: share(found.stats.lists_probed as f64, exact.queries()),
        }])
    }
}
