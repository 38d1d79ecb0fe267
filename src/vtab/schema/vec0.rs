//! Rewrites sqlite-vec's grammar of CREATE VIRTUAL TABLE to that of `ivf`.
//!
//! sqlite-vec reads as many words of an argument as it knows, matches words by their beginnings, and ignores
//! the rest: `slug TEXT NOT NULL DEFAULT ''` is just a TEXT. Its key is the first column, wherever it was
//! written; a table without a key has a column `rowid` there.

use std::borrow::Cow;

use crate::sqlite::{Error, Result};
use crate::vtab::schema::columns::is_vector;
use crate::vtab::schema::words::{identifier, unquoted};

/// The name of sqlite-vec's module.
pub const MODULE: &str = "vec0";

/// The module that a table was made by, which decides its behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Ivf,
    Vec0,
}

impl Dialect {
    /// The dialect of a module.
    pub fn of_module(module: &str) -> Self {
        if module.eq_ignore_ascii_case(MODULE) { Self::Vec0 } else { Self::Ivf }
    }
}

/// Translates a command of sqlite-vec; `None` if nothing is to be done for it.
///
/// # Errors
/// If the command has no counterpart here, or has a number that sqlite-vec would refuse.
pub fn command(text: &str) -> Result<Option<Cow<'_, str>>> {
    let (name, argument) = match text.find([':', '=']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    Ok(Some(match name {
        "compute-centroids" if argument.is_empty() => "train".into(),
        "compute-centroids" => format!("train:{argument}").into(),
        // With one list, every search reads all rows.
        "clear-centroids" => "train:{\"nlist\":1}".into(),
        // Training has assigned them.
        "assign-vectors" => return Ok(None),
        "set-centroid" => {
            let text =
                "set-centroid: centroids are computed here, by the command 'train' (or compute-centroids)";
            return Err(Error::generic(text));
        }
        // How far sqlite-vec's approximate searches look. The rows found here are at least as near.
        "oversample" | "search_list_size" | "search_list_size_search" | "search_list_size_insert" => {
            return match argument.trim_ascii().parse::<u32>() {
                Ok(1..) => Ok(None),
                _ => Err(Error::generic(format!("{name} must be 1 or more, got '{argument}'"))),
            };
        }
        _ => text.into(),
    }))
}

/// The arguments for `ivf`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The arguments.
    pub arguments: Vec<String>,
    /// Settings of sqlite-vec without a meaning here.
    pub ignored: Vec<String>,
}

/// Rewrites the arguments of a CREATE statement.
///
/// # Errors
/// Settings that sqlite-vec would refuse.
pub fn rewrite(arguments: &[&str]) -> Result<Rewritten> {
    let mut rewritten = Rewritten::default();
    let mut key = None;
    for argument in arguments.iter().map(|argument| argument.trim_ascii()) {
        if let Some(auxiliary) = argument.strip_prefix('+') {
            let (name, rest) = split(auxiliary)?;
            let kind = first_word(rest);
            rewritten.arguments.push(format!("+{name} {}", type_of(kind).unwrap_or(kind)));
            continue;
        }
        let (name, rest) = split(argument)?;
        if let Some(value) = rest.strip_prefix('=') {
            option(argument, name, value, &mut rewritten)?;
        } else if is_vector(rest) {
            let vector = vector(name, rest, &mut rewritten.ignored)?;
            rewritten.arguments.push(vector);
        } else {
            match value(name, rest) {
                (column, true) if key.is_none() => key = Some(column),
                // `ivf` refuses a second key.
                (column, _) => rewritten.arguments.push(column),
            }
        }
    }
    rewritten.arguments.insert(0, key.unwrap_or_else(|| "rowid INTEGER PRIMARY KEY".into()));
    Ok(rewritten)
}

/// Splits the name at the start of an argument, as written, from the rest.
fn split(argument: &str) -> Result<(&str, &str)> {
    let argument = argument.trim_ascii_start();
    let (_, rest) = identifier(argument)?;
    let end = argument.len() - rest.len();
    Ok((argument[..end].trim_ascii_end(), rest))
}

/// The word at the start of a text.
fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// Whether `word` is a beginning of `of`.
fn begins(word: &str, of: &str) -> bool {
    !word.is_empty() && of.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// The type of a value column, by the beginning of its name.
fn type_of(word: &str) -> Option<&'static str> {
    const TYPES: [(&[&str], &str); 5] = [
        (&["boolean"], "BOOLEAN"),
        (&["integer", "int64", "integer64"], "INTEGER"),
        (&["float64", "double", "f64"], "FLOAT"),
        (&["text"], "TEXT"),
        (&["blob"], "BLOB"),
    ];
    // The order matters: `b` is a boolean, not a blob.
    TYPES.iter().find(|(names, _)| names.iter().any(|name| begins(word, name))).map(|(_, kind)| *kind)
}

/// Rewrites a value column. Also returns whether it is the primary key.
fn value(name: &str, rest: &str) -> (String, bool) {
    let mut words = rest.split(|c: char| c.is_ascii_whitespace() || c == '(').filter(|word| !word.is_empty());
    let [first, second, third] = [(); 3].map(|()| words.next().unwrap_or_default());
    let Some(kind) = type_of(first).filter(|kind| *kind != "BLOB") else {
        // Left as it is, for an error that names it.
        return (format!("{name} {rest}"), false);
    };
    let may_be_key = matches!(kind, "INTEGER" | "TEXT") && begins(third, "key");
    if may_be_key && begins(second, "primary") {
        (format!("{name} {kind} PRIMARY KEY"), true)
    } else if may_be_key && begins(second, "partition") {
        (format!("{name} {kind} PARTITION KEY"), false)
    } else {
        (format!("{name} {kind}"), false)
    }
}

/// Rewrites a vector column.
fn vector(name: &str, rest: &str, ignored: &mut Vec<String>) -> Result<String> {
    let (kind, mut settings) = rest.split_at(rest.find(']').map_or(rest.len(), |end| end + 1));
    let (element, dim) = kind.split_once('[').unwrap_or((kind, ""));
    let begins_with = |word: &str| element.get(..word.len()).is_some_and(|e| e.eq_ignore_ascii_case(word));
    // `float16` and `float64` name other types.
    let element = match element.trim_ascii() {
        other if ["float16", "float64"].iter().any(|name| other.eq_ignore_ascii_case(name)) => other,
        _ if begins_with("float") || begins_with("f32") => "float",
        _ if begins_with("int8") || begins_with("i8") => "int8",
        other => other,
    };
    let mut column = format!("{name} {element}[{dim}");
    loop {
        settings = settings.trim_ascii();
        let word = first_word(settings);
        if word.is_empty() {
            // Anything not understood is left as it is, for an error that names it.
            column.extend([" ", settings]);
            return Ok(column.trim_ascii_end().to_string());
        }
        let after = settings[word.len()..].trim_ascii_start();
        if begins(word, "indexed") && begins(first_word(after), "by") {
            let index = after[first_word(after).len()..].trim_ascii();
            let end = index.find(')').map_or(index.len(), |end| end + 1);
            let dim = dim.trim_end_matches(']').trim_ascii().parse().unwrap_or(0);
            column.extend(indexed_by(&index[..end], element, dim, ignored)?);
            settings = &index[end..];
        } else if let Some(value) = after.strip_prefix('=')
            && begins(word, "distance_metric")
        {
            let value = value.trim_ascii_start();
            let end = value.find(char::is_whitespace).unwrap_or(value.len());
            column.push_str(&format!(" distance_metric={}", &value[..end]));
            settings = &value[end..];
        } else {
            column.extend([" ", settings]);
            return Ok(column);
        }
    }
}

/// Rewrites `INDEXED BY`. Searches of a `vec0` table are exact, so an index for approximate answers is left
/// out, except `ivf(...)`, which says how lists are made.
fn indexed_by(index: &str, element: &str, dim: usize, ignored: &mut Vec<String>) -> Result<Option<String>> {
    let fault = |what: String| Error::generic(format!("INDEXED BY {index}: {what}"));
    let wrong = |what: String| Err(fault(what));
    let parts = index.split_once('(').and_then(|(name, of)| Some((name.trim_ascii(), of.strip_suffix(')')?)));
    let Some((name, of)) = parts else {
        return wrong("expected flat(), rescore(...), diskann(...) or ivf(...)".into());
    };
    let name = name.to_ascii_lowercase();
    let known: &[&str] = match name.as_str() {
        "flat" => &[],
        "rescore" => &["quantizer", "oversample"],
        "diskann" => &[
            "neighbor_quantizer",
            "n_neighbors",
            "search_list_size",
            "search_list_size_search",
            "search_list_size_insert",
            "buffer_threshold",
        ],
        "ivf" => &["nlist", "nprobe", "quantizer", "oversample"],
        _ => return wrong("expected flat(), rescore(...), diskann(...) or ivf(...)".into()),
    };
    let mut given = Vec::new();
    for setting in of.split(',').map(str::trim_ascii).filter(|setting| !setting.is_empty()) {
        let pair = setting.split_once('=').map(|(name, value)| (name.trim_ascii(), value.trim_ascii()));
        let found = pair.and_then(|(word, value)| Some((known.iter().find(|of| begins(word, of))?, value)));
        let Some((setting, value)) = found else {
            return wrong(format!("'{setting}' is not one of its settings ({})", known.join(", ")));
        };
        given.push((*setting, value));
    }
    let number = |of: &str| {
        given.iter().find(|(name, _)| *name == of).map(|(_, value)| value.parse::<u32>().unwrap_or(u32::MAX))
    };
    let text = |of: &str| given.iter().find(|(name, _)| *name == of).map(|(_, value)| *value);
    let within = |of: &str, least: u32, most: u32| {
        number(of).is_none_or(|number| (least..=most).contains(&number)).then_some(()).ok_or_else(|| {
            fault(format!("{of} must be between {least} and {most}, got {}", text(of).unwrap_or_default()))
        })
    };
    let quantizer = |of: &str, names: &[&str], needed: bool| match text(of) {
        Some(value) if !names.iter().any(|name| begins(value, name)) => {
            Err(fault(format!("{of} must be one of {}, got '{value}'", names.join(", "))))
        }
        None if needed => Err(fault(format!("{of} is needed, one of {}", names.join(", ")))),
        _ => Ok(()),
    };
    let is_binary = ["quantizer", "neighbor_quantizer"]
        .iter()
        .any(|of| text(of).is_some_and(|value| ["bit", "binary"].iter().any(|name| begins(value, name))));
    if (name == "rescore" && element != "float") || (name == "diskann" && element == "bit") {
        return wrong(format!("it is not for {element} vectors"));
    }
    if is_binary && !dim.is_multiple_of(8) {
        return wrong(format!("a binary quantizer needs a multiple of 8 dimensions, got {dim}"));
    }
    match name.as_str() {
        "flat" => return Ok(Some(" INDEXED BY flat()".into())),
        "rescore" => {
            quantizer("quantizer", &["bit", "int8"], true)?;
            within("oversample", 1, 128)?;
        }
        "diskann" => {
            quantizer("neighbor_quantizer", &["binary", "int8"], true)?;
            within("n_neighbors", 8, 256)?;
            if number("n_neighbors").is_some_and(|neighbors| neighbors % 8 != 0) {
                return wrong("n_neighbors must be a multiple of 8".into());
            }
            let sizes = ["search_list_size", "search_list_size_search", "search_list_size_insert"];
            sizes.iter().try_for_each(|size| within(size, 1, 1 << 30))?;
            within("buffer_threshold", 0, 1 << 30)?;
            if number(sizes[0]).is_some() && sizes[1..].iter().any(|size| number(size).is_some()) {
                return wrong("search_list_size stands for both of the other two".into());
            }
        }
        _ => {
            quantizer("quantizer", &["none", "int8", "binary"], false)?;
            within("nlist", 0, 65_536)?;
            within("nprobe", 1, 65_536)?;
            within("oversample", 1, 1 << 30)?;
            let (nlist, nprobe) = (number("nlist").unwrap_or(0), number("nprobe"));
            if let Some(nprobe) = nprobe.filter(|nprobe| nlist > 0 && *nprobe > nlist) {
                return wrong(format!("nprobe must be between 1 and {nlist} (nlist), got {nprobe}"));
            }
            let exact = text("quantizer").is_none_or(|quantizer| begins(quantizer, "none"));
            if exact && number("oversample").is_some_and(|oversample| oversample > 1) {
                return wrong("oversample needs a quantizer, int8 or binary".into());
            }
            let mut settings: Vec<String> = Vec::new();
            settings.extend((nlist > 0).then(|| format!("nlist={nlist}")));
            // The default nprobe of sqlite-vec's index.
            let nprobe = nprobe.unwrap_or(if nlist == 0 { 10 } else { 10.min(nlist) });
            settings.push(format!("nprobe={nprobe}"));
            if text("quantizer").is_some_and(|quantizer| begins(quantizer, "none")) {
                settings.push("quantizer=none".into());
            }
            given.retain(|(name, value)| {
                *name == "oversample" || (*name == "quantizer" && begins(value, "binary"))
            });
            ignored.extend(given.iter().map(|(name, value)| format!("ivf({name}={value})")));
            return Ok(Some(format!(" INDEXED BY ivf({})", settings.join(", "))));
        }
    }
    ignored.push(format!("INDEXED BY {index}"));
    Ok(None)
}

/// Rewrites an option of the table.
fn option(argument: &str, name: &str, value: &str, rewritten: &mut Rewritten) -> Result<()> {
    if !begins(name, "chunk_size") {
        rewritten.arguments.push(argument.into());
        return Ok(());
    }
    let value = unquoted(value.trim_ascii());
    match value.parse() {
        Ok(size) if (8..=4096).contains(&size) && size % 8 == 0 => {
            // Segments have sizes of their own.
            rewritten.ignored.push(format!("chunk_size={size}"));
            Ok(())
        }
        Ok(_) | Err(_) => Err(Error::generic(format!(
            "chunk_size must be a multiple of 8 between 8 and 4096, got '{value}'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> String {
        rewrite(arguments).unwrap().arguments.join(" | ")
    }

    #[test]
    fn words_after_a_type_are_ignored_and_types_are_known_by_their_beginnings() {
        for (theirs, ours) in [
            ("slug TEXT NOT NULL DEFAULT ''", "slug TEXT"),
            ("n float(4)", "n FLOAT"),
            ("n int", "n INTEGER"),
            ("n integer64 UNIQUE", "n INTEGER"),
            ("n double", "n FLOAT"),
            ("ok bool PARTITION KEY", "ok BOOLEAN"),
            ("user_id text partition key", "user_id TEXT PARTITION KEY"),
            ("a text auxiliary", "a TEXT"),
            ("\"a b\" text", "\"a b\" TEXT"),
            ("+a text NOT NULL", "+a TEXT"),
            ("+ a blob", "+a BLOB"),
            ("v float[4]", "v float[4]"),
            ("v FLOAT32[4] distance=cosine", "v float[4] distance_metric=cosine"),
            ("v f32 [4] distance_metric = L1", "v float[4] distance_metric=L1"),
            ("v int8[4]", "v int8[4]"),
            ("v bit[8]", "v bit[8]"),
            ("v float16[4]", "v float16[4]"),
            ("v float[4] metric=l2", "v float[4] metric=l2"),
            ("nlist=4", "nlist=4"),
        ] {
            assert_eq!(of(&[theirs]), format!("rowid INTEGER PRIMARY KEY | {ours}"), "{theirs}");
        }
    }

    #[test]
    fn the_key_comes_first() {
        assert_eq!(
            of(&["v float[2]", "id INTEGER PRIMARY KEY AUTOINCREMENT"]),
            "id INTEGER PRIMARY KEY | v float[2]"
        );
        assert_eq!(
            of(&["v float[2]", "rowid INTEGER PRIMARY KEY"]),
            "rowid INTEGER PRIMARY KEY | v float[2]"
        );
        assert_eq!(of(&["a text primary key NOT NULL", "v float[2]"]), "a TEXT PRIMARY KEY | v float[2]");
        assert_eq!(
            of(&["a text primary key", "b int primary key"]),
            "a TEXT PRIMARY KEY | b INTEGER PRIMARY KEY"
        );
    }

    #[test]
    fn indexes_are_what_is_nearest_here_and_what_is_ignored_is_told() {
        let column = |index: &str| {
            let argument = format!("v float[8] distance_metric=cosine INDEXED BY {index}");
            let Rewritten { arguments, ignored } = rewrite(&[&argument]).unwrap();
            (arguments[1].replace("v float[8] distance_metric=cosine", "").trim_start().to_string(), ignored)
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(column("flat()"), ("INDEXED BY flat()".into(), none.clone()));
        assert_eq!(
            column("rescore(quantizer=bit)"),
            (String::new(), vec!["INDEXED BY rescore(quantizer=bit)".into()])
        );
        let diskann = "diskann(neighbor_quantizer=binary, n_neighbors=16)";
        assert_eq!(column(diskann), (String::new(), vec![format!("INDEXED BY {diskann}")]));
        assert_eq!(
            column("ivf(nlist=4, nprobe=2)"),
            ("INDEXED BY ivf(nlist=4, nprobe=2)".into(), none.clone())
        );
        assert_eq!(column("ivf()"), ("INDEXED BY ivf(nprobe=10)".into(), none));
        let (binary, ignored) = column("ivf(nlist=4, quantizer=binary, oversample=4)");
        assert_eq!(binary, "INDEXED BY ivf(nlist=4, nprobe=4)");
        assert_eq!(ignored, ["ivf(quantizer=binary)", "ivf(oversample=4)"]);
        assert_eq!(rewrite(&["v float[8]", "chunk_size=8"]).unwrap().ignored, ["chunk_size=8"]);
    }

    #[test]
    fn what_sqlite_vec_refuses_is_refused_with_what_would_be_right() {
        for (argument, words) in [
            ("chunk_size=7", "chunk_size must be a multiple of 8 between 8 and 4096, got '7'"),
            ("chunk_size=8192", "got '8192'"),
            ("v float[8] INDEXED BY hnsw()", "expected flat(), rescore(...), diskann(...) or ivf(...)"),
            ("v float[8] INDEXED BY rescore()", "quantizer is needed, one of bit, int8"),
            ("v float[8] INDEXED BY rescore(quantizer=pq)", "got 'pq'"),
            ("v float[8] INDEXED BY rescore(quantizer=bit, oversample=0)", "between 1 and 128, got 0"),
            ("v float[8] INDEXED BY diskann()", "neighbor_quantizer is needed"),
            ("v float[8] INDEXED BY diskann(neighbor_quantizer=int8, n_neighbors=12)", "multiple of 8"),
            ("v int8[8] INDEXED BY rescore(quantizer=bit)", "it is not for int8 vectors"),
            ("v float[12] INDEXED BY ivf(quantizer=binary)", "multiple of 8 dimensions, got 12"),
            ("v float[8] INDEXED BY ivf(nlist=2, nprobe=3)", "between 1 and 2 (nlist), got 3"),
            ("v float[8] INDEXED BY ivf(oversample=4)", "oversample needs a quantizer"),
            ("v float[8] INDEXED BY ivf(lists=4)", "'lists=4' is not one of its settings (nlist"),
        ] {
            let error = rewrite(&[argument]).unwrap_err().message;
            assert!(error.contains(words), "{argument}: {error}");
        }
    }
}
