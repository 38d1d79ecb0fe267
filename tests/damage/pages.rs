//! Whole pages of the file exchanged, zeroed or cut off, so that SQLite reads rows in any order.

use std::path::Path;

use rusqlite::Connection;

use crate::battery::{Battery, KEYED, PARTED, chosen, fill, peak};
use crate::common::{open, run, scratch};

const PAGE: usize = 512;

#[derive(Debug, Clone, Copy)]
enum Damage {
    Exchanged(usize, usize),
    Zeroed(usize),
    Truncated(usize),
}

/// A damage, and whose pages it is of.
type Named = (String, Damage);

impl Damage {
    fn of(self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Exchanged(a, b) => {
                for i in 0..PAGE {
                    bytes.swap(a * PAGE + i, b * PAGE + i);
                }
            }
            Self::Zeroed(page) => bytes[page * PAGE..][..PAGE].fill(0),
            Self::Truncated(page) => bytes.truncate(page * PAGE),
        }
        bytes
    }
}

fn made(path: &Path, schema: &str, rows: i64) -> Vec<u8> {
    let connection = open(path);
    run(&connection, &format!("PRAGMA page_size = {PAGE}"));
    fill(&connection, schema, rows);
    drop(connection);
    std::fs::read(path).unwrap()
}

/// The pages of each shadow table, from 0.
fn pages(path: &Path) -> Vec<(String, Vec<usize>)> {
    let plain = Connection::open(path).unwrap();
    let sql = "SELECT name, pageno - 1 FROM dbstat WHERE name GLOB 't_*' ORDER BY name, pageno";
    let mut statement = plain.prepare(sql).unwrap();
    let mut tables: Vec<(String, Vec<usize>)> = Vec::new();
    for row in statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, isize>(1)? as usize)))
        .unwrap()
    {
        let (name, page) = row.unwrap();
        match tables.last_mut().filter(|(of, _)| *of == name) {
            Some((_, pages)) => pages.push(page),
            None => tables.push((name, vec![page])),
        }
    }
    tables
}

/// Every damage of a file: those of the map, and the others. As many of each are tried.
fn damages(path: &Path, len: usize) -> (Vec<Named>, Vec<Named>) {
    let (mut of_map, mut of_others) = (Vec::new(), Vec::new());
    for (name, pages) in pages(path) {
        let all = if name.starts_with("t_rowids") { &mut of_map } else { &mut of_others };
        for (i, &a) in pages.iter().enumerate() {
            all.push((name.clone(), Damage::Zeroed(a)));
            all.extend(pages[..i].iter().map(|&b| (name.clone(), Damage::Exchanged(b, a))));
        }
    }
    of_others.extend((1..len / PAGE).map(|page| ("the file".to_string(), Damage::Truncated(page))));
    (of_map, of_others)
}

fn sweep(each: impl Fn(&mut Battery, &Connection, &str, bool), of_each: usize) {
    let before = peak();
    let mut battery = Battery::new();
    for (schema, keyed) in [(PARTED, false), (KEYED, true)] {
        let (folder, path) = scratch();
        let bytes = made(&path, schema, 400);
        let (of_map, of_others) = damages(&path, bytes.len());
        println!("{} damages of the map, {} of the rest", of_map.len(), of_others.len());
        assert!(of_map.len() > 20 && of_others.len() > 100, "{} and {}", of_map.len(), of_others.len());
        for (n, (name, damage)) in
            chosen(of_map, of_each).into_iter().chain(chosen(of_others, of_each)).enumerate()
        {
            // A name for each: the inode of a file that is gone must not come back with other damage.
            let copy = folder.path().join(format!("{n}.db"));
            std::fs::write(&copy, damage.of(bytes.clone())).unwrap();
            let mut connection = open(&copy);
            battery.guard(&mut connection);
            let _ = connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY");
            each(&mut battery, &connection, &format!("{name}: {damage:?}"), keyed);
            drop(connection);
            std::fs::write(&copy, []).unwrap();
        }
    }
    battery.end();
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after < before + 400, "{after} MiB, {before} before");
    }
}

#[test]
fn pages_in_wrong_places_end_every_statement_in_rows_or_an_error() {
    let each = |battery: &mut Battery, connection: &Connection, what: &str, keyed: bool| {
        battery.read(connection, what, keyed, false);
        battery.write(connection, what, keyed);
    };
    sweep(each, 16);
}

#[test]
fn pages_in_wrong_places_end_every_scan_of_the_map_in_rows_or_an_error() {
    sweep(|battery, connection, what, _| battery.by_map(connection, what), 60);
}
