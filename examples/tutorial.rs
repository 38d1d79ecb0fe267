//! The Rust of docs/tutorial.md, which makes its files: `cargo run --release --example tutorial` in their folder.
//! A test compares the two.

use rusqlite::{Connection, params};
use serde_json::Value;
use sqlite_ivf::{ColumnType, Hybrid, Metric, Row, Search, Table, TableOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open("notes.db")?;
    sqlite_ivf::register(&db)?;
    let options = TableOptions::new(256)
        .metric(Metric::Cosine)
        .metadata("folder", ColumnType::Text)
        .metadata("file", ColumnType::Text)
        .metadata("part", ColumnType::Integer)
        .auxiliary("text");
    let notes = Table::create(&db, "notes", &options)?;
    let pieces: Vec<Value> = serde_json::from_str(&std::fs::read_to_string("pieces.json")?)?;
    notes.insert_rows(pieces.iter().map(|piece| {
        let vector: Vec<f32> = serde_json::from_value(piece["vec"].clone()).expect("numbers");
        let row = Row::new(None).vector(vector).set("part", piece["part"].as_i64());
        ["folder", "file", "text"].iter().fold(row, |row, name| row.set(*name, piece[name].as_str()))
    }))?;
    println!("{} pieces", notes.len()?);
    let read = |name| -> std::io::Result<Vec<f32>> {
        let bytes = std::fs::read(name)?;
        Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect())
    };
    let question = read("question.vec")?;
    for (hit, row) in notes.search_rows(&question, &Search::new(2), &["file", "text"])? {
        println!("{:.3} {}: {}", hit.distance, row.get::<String>("file")?, row.get::<String>("text")?);
    }
    for folder in ["kitchen", "sky"] {
        let search = Search::new(2).filter("folder = ?", params![folder]);
        for (_, row) in notes.search_rows(&read("bread.vec")?, &search, &["file", "part"])? {
            println!("{} {}", row.get::<String>("file")?, row.get::<i64>("part")?);
        }
    }
    db.execute_batch(
        "CREATE VIRTUAL TABLE words USING fts5(text);
         INSERT INTO words(rowid, text) SELECT rowid, text FROM notes",
    )?;
    for hit in notes.hybrid("words", &read("code.vec")?, "What is E-42?", &Hybrid::new(2))? {
        if let Some(row) = notes.get(hit.rowid)? {
            println!("{} {}", row.get::<String>("file")?, row.get::<i64>("part")?);
        }
    }
    db.execute_batch("BEGIN")?;
    db.execute("DELETE FROM words WHERE rowid IN (SELECT rowid FROM notes WHERE file = ?)", ["soup.txt"])?;
    db.execute("DELETE FROM notes WHERE file = ?", ["soup.txt"])?;
    db.execute("UPDATE notes SET folder = 'moon' WHERE file = ?", ["eclipse.txt"])?;
    db.execute_batch("COMMIT")?;
    println!("{} pieces", notes.len()?);
    let stats = notes.stats()?;
    println!("{} rows, {} deleted, {} bytes", stats.rows, stats.deleted, stats.bytes);
    let precise = Search::new(2).recall_target(0.99);
    println!("{}", notes.search(&question, &precise)?.len());
    Ok(())
}
