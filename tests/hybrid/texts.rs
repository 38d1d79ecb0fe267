//! Texts that are no queries of FTS5.

use crate::common::{Numbers, memory, run};
use crate::{ask, ids, library};
use rusqlite::{Connection, named_params};

const NASTY: [&str; 72] = [
    "",
    " ",
    "\"",
    "\"\"",
    "\"\"\"",
    "'",
    "''",
    "\"fox",
    "fox\"",
    "\"fox\"",
    "'fox'",
    "`fox`",
    "fo\"x",
    "*",
    "fox*",
    "*fox",
    "f*x",
    "^fox",
    "fox^",
    "(",
    ")",
    "()",
    "(fox",
    "fox)",
    "((fox)",
    "fox)(",
    "NEAR",
    "NEAR(",
    "NEAR(fox whale)",
    "NEAR(fox whale, 2)",
    "AND",
    "OR",
    "NOT",
    "fox AND",
    "AND fox",
    "fox AND whale",
    "fox OR",
    "NOT fox",
    "fox NOT whale",
    "fox NOT NOT",
    "-",
    "--",
    "-fox",
    "quick-fox",
    "fox - whale",
    "title:fox",
    "title : fox",
    ":fox",
    "fox:",
    "{title}: fox",
    "{title body} : fox",
    "+fox",
    "fox+whale",
    "fox + whale",
    ".",
    "...",
    "fox.",
    "what about a fox?",
    "fox; DROP TABLE texts; --",
    "fox/whale\\sea",
    "\\",
    "%",
    "fox%",
    "_",
    "fox_whale",
    "\u{1f600} fox",
    "\u{1f600}",
    "fox\u{0}whale",
    "\u{0}",
    "\u{feff}fox",
    "fox\nwhale\tsea",
    "\u{201c}fox\u{201d} \u{2014} whale",
];

/// The words of a text, as the tokenizer unicode61 sees them where they are ASCII.
fn tokens(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

struct Shelf {
    rows: Vec<(i64, Vec<String>, Vec<String>)>,
}

impl Shelf {
    fn of(db: &Connection) -> Self {
        let mut statement = db.prepare("SELECT rowid, title, body FROM texts").unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, tokens(&row.get::<_, String>(1)?), tokens(&row.get::<_, String>(2)?)))
        };
        Self { rows: statement.query_map([], row).unwrap().map(Result::unwrap).collect() }
    }

    fn any(&self, text: &str) -> Vec<i64> {
        let words = tokens(text);
        let has = |row: &&(i64, Vec<String>, Vec<String>)| {
            words.iter().any(|word| row.1.contains(word) || row.2.contains(word))
        };
        self.rows.iter().filter(has).map(|row| row.0).collect()
    }

    /// Each word between spaces: its tokens side by side in one column.
    fn all(&self, text: &str) -> Vec<i64> {
        let chunks: Vec<Vec<String>> = text
            .split(|c: char| c.is_whitespace() || c == '\0')
            .map(tokens)
            .filter(|chunk| !chunk.is_empty())
            .collect();
        if chunks.is_empty() {
            return Vec::new();
        }
        let is_in = |column: &[String], chunk: &[String]| column.windows(chunk.len()).any(|of| of == chunk);
        let has = |row: &&(i64, Vec<String>, Vec<String>)| {
            chunks.iter().all(|chunk| is_in(&row.1, chunk) || is_in(&row.2, chunk))
        };
        self.rows.iter().filter(has).map(|row| row.0).collect()
    }
}

fn found(db: &Connection, text: &str, mode: &str) -> Vec<i64> {
    let sql = "('items', 'texts', NULL, :text, 100000) WHERE fts_mode = :mode";
    let mut rows = ids(&ask(db, sql, named_params! {":text": text, ":mode": mode}));
    rows.sort_unstable();
    rows
}

#[test]
fn a_text_is_words_whatever_is_in_it() {
    let db = library(300, 20);
    let shelf = Shelf::of(&db);
    let mut hits = 0;
    for text in NASTY {
        let rows = found(&db, text, "any");
        assert_eq!(rows, shelf.any(text), "{text:?}");
        assert_eq!(found(&db, text, "all"), shelf.all(text), "all of {text:?}");
        hits += usize::from(!rows.is_empty());
        // In a sentence too, and beside vectors.
        let longer = format!("{text} sea {text}");
        assert_eq!(found(&db, &longer, "any"), shelf.any(&longer), "{longer:?}");
        let sql = "('items', 'texts', '[1, 1, 1, 1]', :text, 5) WHERE fts_columns = 'body, title'";
        assert_eq!(ask(&db, sql, named_params! {":text": longer}).len(), 5, "{longer:?}");
    }
    assert!(hits > 40, "{hits}");
}

#[test]
fn texts_of_random_characters_are_words() {
    let db = library(200, 21);
    let shelf = Shelf::of(&db);
    let mut numbers = Numbers::new(22);
    const PIECES: [&str; 24] = [
        "fox",
        "whale",
        "NOT",
        "AND",
        "OR",
        "NEAR",
        "title",
        "sea",
        "\"",
        "'",
        "(",
        ")",
        "*",
        "-",
        ":",
        "^",
        "+",
        "{",
        "}",
        " ",
        " ",
        ",",
        "\u{1f600}",
        "\u{0}",
    ];
    for _ in 0..500 {
        let text: String = (0..numbers.below(9)).map(|_| PIECES[numbers.below(24) as usize]).collect();
        assert_eq!(found(&db, &text, "any"), shelf.any(&text), "{text:?}");
        assert_eq!(found(&db, &text, "all"), shelf.all(&text), "all of {text:?}");
    }
}

#[test]
fn a_raw_query_is_fts5s_own() {
    let db = library(300, 23);
    for query in [
        "fox AND whale",
        "title : fox",
        "fox NOT whale",
        "NEAR(fox whale, 2)",
        "fo*",
        "^fox",
        "\"quick fox\"",
    ] {
        let sql = "SELECT rowid FROM texts WHERE texts MATCH ?1 ORDER BY rowid";
        let mut statement = db.prepare(sql).unwrap();
        let expected: Vec<i64> =
            statement.query_map([query], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(found(&db, query, "fts5"), expected, "{query}");
    }
}

#[test]
fn a_long_text_is_answered() {
    let db = library(200, 24);
    let text: String = (0..20_000).map(|i| format!("word{i} ")).collect();
    assert_eq!(found(&db, &format!("fox {text}"), "any"), Shelf::of(&db).any("fox"));
    // One word of many bytes, cut inside of a character.
    assert_eq!(found(&db, &format!("fox x{}", "\u{e9}".repeat(2_000_000)), "any"), Shelf::of(&db).any("fox"));
}

#[test]
fn words_that_one_tokenizer_keeps_together_are_found_whole() {
    let db = memory();
    run(
        &db,
        "CREATE VIRTUAL TABLE items USING ivf(vec float[1]);
         CREATE VIRTUAL TABLE texts USING fts5(body, tokenize = \"unicode61 tokenchars '-#+'\");
         INSERT INTO texts(rowid, body) VALUES (1, 'part AB-123 of it'), (2, 'AB and 123'), (3, 'written in C++'), (4, 'written in C#')",
    );
    assert_eq!(found(&db, "where is AB-123?", "all"), [] as [i64; 0]);
    assert_eq!(found(&db, "AB-123", "all"), [1]);
    // The parts too.
    assert_eq!(found(&db, "AB-123", "any"), [1, 2]);
    assert_eq!(found(&db, "C++", "any"), [3]);
    assert_eq!(found(&db, "C#", "any"), [4]);
}
