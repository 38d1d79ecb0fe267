//! The integrity check: everything that the tables say of each other.

use std::collections::HashMap;

use crate::index::{InvertedLists, TryGrow, try_filled};
use crate::kernels::codes::read_row;
use crate::sqlite::{Kind, Ticker};
use crate::storage::reader::{TableLists, read_coarse, read_heads};
use crate::storage::{Layout, Sql, StorageError, Tables};

/// Findings that one check reports, at most.
const MOST: usize = 100;

/// What is wrong with the tables, a line each; nothing if all is well.
///
/// Reads everything: checksums, and that state, lists, codes, vectors and rowids agree.
///
/// # Errors
/// What keeps the check from being done: an interrupt, an I/O error. Damage is not an error.
pub fn check(tables: &Tables, layout: &Layout, ticker: &mut Ticker) -> Result<Vec<String>, StorageError> {
    let mut faults = Vec::new();
    match check_into(tables, layout, ticker, &mut faults) {
        Ok(()) => {}
        Err(error @ (StorageError::Corrupt { .. } | StorageError::UnsupportedFormat { .. })) => {
            faults.push(error.to_string());
        }
        Err(error) => return Err(error),
    }
    faults.truncate(MOST);
    Ok(faults)
}

fn check_into(
    tables: &Tables,
    layout: &Layout,
    ticker: &mut Ticker,
    faults: &mut Vec<String>,
) -> Result<(), StorageError> {
    tables.check_format()?;
    let state = tables.read_state()?;
    tables.read_settings(state.seal())?;
    let coarse = read_coarse(tables, &state, layout.metric, layout.dim, None)?;
    let heads = read_heads(tables, state.seal(), i64::MIN, i64::MAX)?;
    let (first, last) = state.segments();
    let mut place: HashMap<i64, u32> = HashMap::new();
    let origin = try_filled(0.0, layout.dim)?;
    let mut code = try_filled(0, layout.dim)?;
    for head in &heads {
        let id = head.id;
        let mut fault =
            |table: &str, detail: String| faults.push(tables.corrupt(table, id.raw(), detail).to_string());
        if !(first..=last).contains(&id.raw()) || i64::from(id.list_no()) >= state.nlist.max(1) {
            fault("lists", "a segment of another generation, or of a list that is not there".into());
            continue;
        }
        let mut lists = TableLists::new(tables, &state, layout.metric, layout.dim, ticker);
        let codes = match lists.codes(head) {
            Ok(codes) => codes,
            Err(StorageError::Corrupt { detail, .. }) => {
                fault("codes", detail);
                continue;
            }
            Err(error) => return Err(error),
        };
        let rows = match lists.vectors(head, &codes.rowids) {
            Ok(rows) => rows,
            Err(StorageError::Corrupt { detail, .. }) => {
                fault("vectors", detail);
                continue;
            }
            Err(error) => return Err(error),
        };
        let bounds = (codes.rowids.iter().min(), codes.rowids.iter().max());
        if bounds != (Some(&head.min_rowid), Some(&head.max_rowid)) {
            fault(
                "lists",
                format!("rowids {} to {} are not those of the codes", head.min_rowid, head.max_rowid),
            );
        }
        let centroid = coarse.as_ref().map_or(&*origin, |coarse| coarse.centroid(id.list_no() as usize));
        place.try_room(head.live() as usize)?;
        for ((slot, &rowid), row) in (0_u32..).zip(&codes.rowids).zip(rows.chunks_exact(layout.dim)) {
            let distance = |scale: f64, code: &[i8]| -> f64 {
                let of =
                    |((&x, &c), &e): ((&f32, &f32), &i8)| f64::from(x) - f64::from(c) - scale * f64::from(e);
                row.iter().zip(centroid).zip(code).map(of).map(|d| d * d).sum::<f64>().sqrt()
            };
            code.fill(0);
            if distance(0.0, &code) > f64::from(head.radius) * (1.0 + 1e-6) {
                fault("lists", format!("row {rowid} is farther from the centroid than the radius says"));
            }
            if !codes.blocks.is_empty() {
                read_row(&codes.blocks, layout.dim, slot as usize, &mut code);
                let apart = distance(f64::from(codes.scale[slot as usize]), &code);
                if apart > f64::from(codes.error[slot as usize]) {
                    fault("codes", format!("the code of row {rowid} is off by {apart}, more than its bound"));
                }
            }
            if head.alive(slot) && place.insert(rowid, id.list_no()).is_some() {
                fault("lists", format!("row {rowid} is there twice"));
            }
        }
        ticker.tick()?;
        if faults.len() >= MOST {
            return Ok(());
        }
    }
    let mut statement = tables.statement(Sql::RowidsScan)?;
    let mut rows = statement.query(&[i64::MIN.into(), i64::MAX.into(), (-1).into()])?;
    let mut mapped = 0_i64;
    while rows.step()? {
        let (rowid, list_no) = (rows.i64(0), rows.i64(1));
        mapped += 1;
        if rows.kind(1) != Kind::Integer || place.get(&rowid).is_none_or(|&list| i64::from(list) != list_no) {
            faults.push(
                tables.corrupt("rowids", rowid, format!("the row is not in list {list_no}")).to_string(),
            );
        }
        if faults.len() >= MOST {
            return Ok(());
        }
    }
    let live = place.len() as i64;
    if live != state.rows {
        faults.push(
            tables.corrupt("state", 1, format!("{} rows, the lists hold {live}", state.rows)).to_string(),
        );
    }
    if mapped != live {
        faults.push(tables.corrupt("rowids", 0, format!("{mapped} rows, the lists hold {live}")).to_string());
    }
    for (table, which) in [("codes", "codes"), ("vectors", "vectors")] {
        let sql = format!(
            "SELECT count(*) FROM \"{}\".\"{}\"",
            tables.schema().replace('"', "\"\""),
            tables.shadow(which).replace('"', "\"\"")
        );
        let segments = tables.db().query_i64(&sql, &[])?.unwrap_or(0);
        if segments != heads.len() as i64 {
            let detail = format!("{segments} segments, the directory has {}", heads.len());
            faults.push(tables.corrupt(table, 0, detail).to_string());
        }
    }
    Ok(())
}
