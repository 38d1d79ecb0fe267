//! Damage at random.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

use crate::common::{Numbers, failure, memory, open, run, scratch};
use crate::salvage;
use crate::tables::{
    Blobs, KINDS, Kind, Rows, blob, blobs, has_metadata, live, make, names_of_sets, plain, rows,
};

/// The rows whose blobs are as they were.
fn whole(before: &Blobs, after: &Connection, kind: &Kind, all: &Rows) -> BTreeSet<i64> {
    let mut whole: BTreeSet<i64> = all.keys().copied().collect();
    for set in names_of_sets(kind) {
        let mut of_set = BTreeSet::new();
        for ((table, key), head) in before.iter().filter(|((table, _), _)| *table == format!("t_lists{set}"))
        {
            let is_same = |of: &str| {
                let name = table.replace("lists", of);
                before
                    .get(&(name.clone(), *key))
                    .is_none_or(|bytes| blob(after, &name, *key).as_ref() == Some(bytes))
            };
            if ["lists", "codes", "vectors", "metadata"].iter().all(|of| is_same(of)) {
                of_set.extend(live(head, &before[&(table.replace("lists", "codes"), *key)]));
            }
        }
        whole.retain(|rowid| of_set.contains(rowid));
    }
    if kind.columns.iter().any(|(name, _)| ["id", "note", "more"].contains(name)) {
        whole.retain(|rowid| {
            after.query_row("SELECT 1 FROM t_auxiliary WHERE rowid = ?1", [rowid], |_| Ok(())).is_ok()
        });
    }
    whole
}

/// The shadow tables whose rows are a blob, and those of one row or without blobs.
const DAMAGED: [&str; 8] =
    ["lists", "codes", "vectors", "metadata", "centroids", "rowids", "config", "state"];

/// Damages a row of a shadow table; what was done.
fn damage_row(
    connection: &Connection,
    table: &str,
    numbers: &mut Numbers,
) -> Result<String, rusqlite::Error> {
    let column = if table.starts_with("t_lists") {
        "head"
    } else if table.starts_with("t_config") {
        "value"
    } else {
        "data"
    };
    let n: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    if n == 0 {
        return Ok(format!("{table} is empty"));
    }
    let sql = format!("SELECT rowid FROM {table} LIMIT 1 OFFSET {}", numbers.below(n as u64));
    let key: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    if table.starts_with("t_rowids") {
        let sql = match numbers.below(3) {
            0 => format!("DELETE FROM {table} WHERE rowid = {key}"),
            1 => format!("UPDATE {table} SET list_no = list_no + 1 WHERE rowid = {key}"),
            _ => format!("DELETE FROM {table}"),
        };
        connection.execute_batch(&sql)?;
        return Ok(sql);
    }
    if table.starts_with("t_state") {
        let sql = match numbers.below(4) {
            0 => format!("UPDATE {table} SET rows = rows + 1"),
            1 => format!("UPDATE {table} SET generation = NULL"),
            2 => format!(
                "UPDATE {table} SET uuid = unhex(substr('00' || hex(uuid), 1, 2) || substr(hex(uuid), 3))"
            ),
            _ => format!("UPDATE {table} SET nlist = 9, checksum = 1"),
        };
        connection.execute_batch(&sql)?;
        return Ok(sql);
    }
    let sql = format!("SELECT {column} FROM {table} WHERE rowid = {key}");
    let value: Value = connection.query_row(&sql, [], |row| row.get(0))?;
    let Value::Blob(mut bytes) = value else {
        let sql = format!("UPDATE {table} SET {column} = NULL WHERE rowid = {key}");
        connection.execute_batch(&sql)?;
        return Ok(sql);
    };
    let at = numbers.below(bytes.len() as u64) as usize;
    let what = match numbers.below(6) {
        0 | 1 => {
            bytes[at] ^= 1 << numbers.below(8);
            format!("byte {at} flipped")
        }
        2 => {
            bytes[at.min(40)] ^= 1 << numbers.below(8);
            format!("byte {} flipped", at.min(40))
        }
        3 => {
            let end = (at + 1024).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeros from {at}")
        }
        4 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        _ => {
            connection.execute(&format!("DELETE FROM {table} WHERE rowid = {key}"), [])?;
            return Ok(format!("{table} {key} deleted"));
        }
    };
    connection.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE rowid = {key}"), [bytes])?;
    Ok(format!("{table} {key}: {what}"))
}

/// The pages of each table of a file that is whole.
fn pages(path: &Path) -> BTreeMap<String, Vec<i64>> {
    let connection = plain(path);
    let mut statement = connection.prepare("SELECT name, pageno FROM dbstat").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut pages = BTreeMap::<String, Vec<i64>>::new();
    while let Some(row) = rows.next().unwrap() {
        pages.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
    }
    pages
}

/// Damages a page of a shadow table in the file.
fn damage_pages(path: &Path, table: &str, pages: &[i64], numbers: &mut Numbers) -> String {
    let page = pages[numbers.below(pages.len() as u64) as usize] as usize;
    let mut file = std::fs::read(path).unwrap();
    let bytes = &mut file[(page - 1) * 1024..page * 1024];
    let what = match numbers.below(3) {
        0 => {
            bytes.fill(0);
            "zeros"
        }
        1 => {
            bytes.iter_mut().for_each(|byte| *byte = numbers.next() as u8);
            "noise"
        }
        _ => {
            bytes[numbers.below(1024) as usize] ^= 1 << numbers.below(8);
            "a bit"
        }
    };
    std::fs::write(path, file).unwrap();
    format!("{table}, page {page}: {what}")
}

#[test]
fn every_row_that_is_given_is_the_row_that_was_there_and_no_whole_row_is_missing() {
    let cases = std::env::var("SQLITE_IVF_SALVAGE").ok().and_then(|n| n.parse().ok()).unwrap_or(120_u64);
    let (folder, path) = scratch();
    let (mut given, mut lost, mut refused) = (0, 0, 0);
    for case in 0..cases {
        let mut numbers = Numbers::new(case + 1);
        let kind = &KINDS[case as usize % KINDS.len()];
        let is_trained = numbers.below(3) > 0;
        let _ = std::fs::remove_file(&path);
        let before = make(&path, kind, is_trained, case);
        let old = blobs(&plain(&path), kind);
        let (sets, of_tables) = (names_of_sets(kind), pages(&path));
        let mut what = vec![format!("case {case}, {}", kind.declared)];
        for _ in 0..1 + numbers.below(3) {
            let table = DAMAGED[numbers.below(DAMAGED.len() as u64) as usize];
            let set = sets[numbers.below(sets.len() as u64) as usize];
            if table == "metadata" && !has_metadata(kind) {
                continue;
            }
            let table = format!("t_{table}{set}");
            what.push(if numbers.below(2) == 0 {
                // What an earlier damage has done may keep the statement from its row.
                damage_row(&plain(&path), &table, &mut numbers)
                    .unwrap_or_else(|error| format!("{table}: {error}"))
            } else if numbers.below(8) > 0 || !table.starts_with("t_state") {
                damage_pages(&path, &table, &of_tables[&table], &mut numbers)
            } else {
                continue;
            });
        }
        let what = what.join("; ");
        let damaged = std::fs::read(&path).unwrap();
        let whole = whole(&old, &plain(&path), kind, &before);
        let (connection, of, new) = if numbers.below(2) == 0 {
            let connection = memory();
            run(&connection, &format!("ATTACH 'file:{}?mode=ro' AS old", path.display()));
            (connection, "old.t", "main.s")
        } else {
            let copy = folder.path().join("copy.db");
            std::fs::copy(&path, &copy).unwrap();
            (open(&copy), "t", "s")
        };
        match salvage(&connection, of, new) {
            Ok(told) => {
                let after = rows(&connection, "s");
                for (rowid, row) in &after {
                    assert_eq!(before.get(rowid), Some(row), "{what}: row {rowid}: {told}");
                }
                for rowid in &whole {
                    assert!(after.contains_key(rowid), "{what}: row {rowid} is missing: {told}");
                }
                assert_eq!(told["copied"], after.len(), "{what}");
                if !told["rows"].is_null() {
                    assert_eq!(told["lost"], before.len() - after.len(), "{what}: {told}");
                }
                run(&connection, "INSERT INTO s(s) VALUES ('integrity-check')");
                given += after.len();
                lost += before.len() - after.len();
            }
            Err(error) => {
                // All is lost with the uuid, and some of these files take no more writes.
                std::fs::copy(&path, "/tmp/fail.db").unwrap();
                let (code, said) = failure::<()>(Err(error));
                let is_expected =
                    said.contains("the uuid is lost") || (new == "s" && said.contains("malformed"));
                assert!(is_expected && code & 0xff == ffi::SQLITE_CORRUPT, "{what}: {new}: {code}: {said}");
                refused += 1;
            }
        }
        drop(connection);
        assert!(std::fs::read(&path).unwrap() == damaged, "{what}: the damaged file was changed");
    }
    println!("{given} rows given, {lost} lost, {refused} files refused");
    assert!(given > 20 * cases as usize, "{given} rows given, {lost} lost, {refused} files refused");
}
