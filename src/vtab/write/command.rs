//! Commands: `INSERT INTO t(t) VALUES ('train')`.

use std::borrow::Cow;

use serde::Deserialize;

use crate::device::DeviceName;
use crate::index::{InvertedLists, SegmentId};
use crate::sqlite::{Error, Result, Value};
use crate::storage::{SALVAGE, TableLists, Training};
use crate::vtab::schema::knobs::Knob;
use crate::vtab::schema::model;
use crate::vtab::schema::vec0::{self, Dialect};
use crate::vtab::table::Table;
use crate::vtab::table::registry::cache;
use crate::vtab::values::number::beginning;
use crate::vtab::values::vector;

const COMMANDS: &str = "train, train:{\"nlist\":N,\"seed\":N,\"max_iterations\":N}, rebuild, optimize, calibrate, integrity-check, \
                        delete-all, nprobe=N, max_codes=N, candidate_budget=N, budget_strategy=NAME, min_rows_per_list=N, \
                        max_rows_per_list=N, profile=NAME, recall_target=N, search_mode=NAME, preload, unload, device=NAME, \
                        cache_bytes=N, device_bytes=N, model=NAME, model:{\"name\":NAME,\"column\":NAME,\"instead_of\":NAME}, \
                        switch=TABLE, switch:{\"next\":TABLE,\"accept\":NAMES}, salvage=TABLE, import_vec0=TABLE, triggers=create, triggers=drop";

/// The fewest queries that a recall can be measured by.
const LEAST_QUERIES: usize = 10;
/// The most queries that are kept of a batch: as many as a calibration by rows uses.
const MOST_QUERIES: usize = 512;
/// The commands that write nothing to the database.
pub const WRITE_NOTHING: [&str; 6] =
    ["preload", "unload", "device=NAME", "cache_bytes=N", "device_bytes=N", "integrity-check"];

/// Whether a command writes nothing to the database.
pub fn writes_nothing(text: &str) -> bool {
    let name_of = |text: &str| text.split([':', '=']).next().unwrap_or("").trim().to_ascii_lowercase();
    WRITE_NOTHING.iter().any(|command| name_of(command) == name_of(text))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TrainArguments {
    nlist: Option<u64>,
    seed: Option<u64>,
    max_iterations: Option<usize>,
}

/// Runs a command.
///
/// # Errors
/// If the command is unknown, if its argument is invalid, or if the command fails.
pub fn run(table: &Table, text: &str) -> Result<()> {
    let text = match table.options.columns.dialect {
        Dialect::Ivf => Cow::Borrowed(text),
        Dialect::Vec0 => match vec0::command(text)? {
            Some(ours) => ours,
            None => return Ok(()),
        },
    };
    let text = text.as_ref();
    let (name, argument) = match text.find([':', '=']) {
        Some(at) => (text[..at].trim(), Some(text[at + 1..].trim())),
        None => (text.trim(), None),
    };
    if let (Some(knob), Some(value)) = (Knob::from_name(name), argument) {
        let (state, _) = table.current()?;
        let mut settings = table.settings(&state)?;
        settings.knobs.set_text(knob, value)?;
        return table.write_settings(&settings);
    }
    let lower = name.to_ascii_lowercase();
    if ["train", "rebuild", "optimize", "calibrate"].contains(&lower.as_str()) {
        table.tables().check_content()?;
    }
    match (lower.as_str(), argument) {
        ("train", argument) => train(table, "train", argument),
        ("rebuild", argument) => train(table, "rebuild", argument),
        ("optimize", None) => table.optimize(),
        ("calibrate", None) => table.calibrate_by(&[]),
        ("delete-all", None) => table.delete_all(),
        ("integrity-check", None) => {
            let faults = table.check(true)?;
            if faults.is_empty() {
                return Ok(());
            }
            if table.is_over_content() {
                return Err(Error::corrupt(format!("{}; 'rebuild' reads content anew", faults.join("\n"))));
            }
            Err(Error::corrupt(format!("{}; {SALVAGE}", faults.join("\n"))))
        }
        ("model", Some(argument)) => give_model(table, &text.trim_start()["model".len()..], argument),
        ("preload", None) => preload(table),
        ("unload", None) => table.unload(),
        ("device", Some(value)) => {
            let device = DeviceName::from_name(value).ok_or_else(|| {
                let (names, value) = (DeviceName::NAMES, beginning(value));
                Error::generic(format!("device must be one of {names}, got '{value}'"))
            })?;
            table.use_device(device)
        }
        (name @ ("cache_bytes" | "device_bytes"), Some(value)) => {
            let bytes = value.parse().map_err(|_| {
                Error::generic(format!("{name} must be a number of bytes, got '{}'", beginning(value)))
            })?;
            if name == "cache_bytes" {
                cache().set_limit(bytes);
            } else if let Some(device) = table.device() {
                cache().set_device_limit(&device, bytes);
            }
            Ok(())
        }
        _ => {
            Err(Error::generic(format!("unknown command '{}', expected one of {COMMANDS}", beginning(text))))
        }
    }
}

/// Runs a command that comes with a batch of queries: `calibrate`.
///
/// # Errors
/// If the command is not `calibrate`, if the queries are invalid, or if the command fails.
pub fn run_with(table: &Table, text: &str, batch: &Value<'_>) -> Result<()> {
    if !text.trim().eq_ignore_ascii_case("calibrate") {
        let (name, text) = (table.name(), beginning(text));
        return Err(Error::generic(format!(
            "batch goes with the command 'calibrate' only, got '{text}': INSERT INTO {name}({name}, batch) VALUES ('calibrate', ...)"
        )));
    }
    let mut queries = vector::read_batch("batch", batch, table.layout.element, table.layout.dim)?;
    let given = queries.len() / table.layout.dim;
    if given < LEAST_QUERIES {
        return Err(Error::generic(format!(
            "calibrate takes {LEAST_QUERIES} queries or more in batch, got {given}"
        )));
    }
    if given > MOST_QUERIES {
        // Keep this many, evenly spread.
        let dim = table.layout.dim;
        for i in 0..MOST_QUERIES {
            let from = i * given / MOST_QUERIES * dim;
            queries.copy_within(from..from + dim, i * dim);
        }
        queries.truncate(MOST_QUERIES * dim);
    }
    table.prepare(&mut queries)?;
    table.calibrate_by(&queries)
}

/// The argument of `model:{...}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelArguments {
    /// None takes the model away.
    name: Option<String>,
    column: Option<String>,
    instead_of: Option<String>,
}

/// `model=NAME` and `model:{...}`. `rest` is the command from its sign on.
fn give_model(table: &Table, rest: &str, argument: &str) -> Result<()> {
    // The first vector column stands for all, so that either all are given the model or none is.
    if table.options.number > 0 {
        return Ok(());
    }
    if rest.trim_start().starts_with('=') {
        return table.give_model(None, Some(model::valid(argument.into())?), None);
    }
    let given: ModelArguments = serde_json::from_str(argument).map_err(|error| {
        let argument = beginning(argument);
        Error::generic(format!(
            "model takes {{\"name\":NAME,\"column\":NAME,\"instead_of\":NAME}}, got {argument}: {error}"
        ))
    })?;
    let name = given.name.map(model::valid).transpose()?;
    table.give_model(given.column.as_deref(), name, given.instead_of.as_deref())
}

fn train(table: &Table, name: &'static str, argument: Option<&str>) -> Result<()> {
    let given: TrainArguments = match argument {
        None | Some("") => TrainArguments::default(),
        Some(json) => serde_json::from_str(json).map_err(|error| {
            Error::generic(format!(
                "train takes {{\"nlist\":N,\"seed\":N,\"max_iterations\":N}}, got {json}: {error}"
            ))
        })?,
    };
    if given.nlist.is_some_and(|nlist| !(1..=SegmentId::MAX_LISTS as u64).contains(&nlist)) {
        let nlist = given.nlist.unwrap_or(0);
        return Err(Error::generic(format!(
            "nlist must be between 1 and {}, got {nlist}",
            SegmentId::MAX_LISTS
        )));
    }
    if given.max_iterations == Some(0) {
        return Err(Error::generic("max_iterations must be 1 or more, got 0"));
    }
    let _watched = table.watched(name)?;
    table.flush()?;
    let rows = table.tables().read_state()?.rows as u64;
    let default = table.training(rows);
    table.train(Training {
        nlist: given.nlist.map_or(default.nlist, |nlist| nlist as usize),
        explicit: given.nlist.is_some(),
        seed: given.seed.unwrap_or(default.seed),
        max_iterations: given.max_iterations,
        ..default
    })?;
    Ok(())
}

/// Loads as much as the budgets allow: codes first, then the copies on a device, then vectors.
fn preload(table: &Table) -> Result<()> {
    let _watched = table.watched("preload")?;
    let (state, snapshot) = table.current()?;
    table.reading(|tables, ticker| {
        let mut lists = TableLists::new(tables, &state, &table.layout, ticker);
        let rows = snapshot.segments().iter().map(|segment| u64::from(segment.head.rows)).sum();
        lists.stage("codes", rows)?;
        for at in 0..snapshot.segments().len() {
            snapshot.codes(at, cache(), &mut lists)?;
            lists.advance(snapshot.segments()[at].head.rows.into());
            lists.tick()?;
        }
        if let Some(device) = table.device().filter(|_| lists.keeps_vectors()) {
            lists.stage("device", rows)?;
            for at in 0..snapshot.segments().len() {
                if !snapshot.copy_to(&device, at, cache(), &mut lists)? {
                    break;
                }
                lists.advance(snapshot.segments()[at].head.rows.into());
                lists.tick()?;
            }
        }
        if !lists.keeps_vectors() {
            return Ok(());
        }
        lists.stage("vectors", rows)?;
        for at in 0..snapshot.segments().len() {
            let codes = snapshot.codes(at, cache(), &mut lists)?;
            if !snapshot.fits(at, cache()) {
                break;
            }
            snapshot.vectors(at, &codes.rowids, cache(), &mut lists)?;
            snapshot.make_sketch(at, cache(), &mut lists)?;
            lists.advance(snapshot.segments()[at].head.rows.into());
            lists.tick()?;
        }
        Ok(())
    })
}
