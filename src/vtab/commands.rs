//! Commands that write as a function does: `INSERT INTO t(t) VALUES ('switch=next')` as `ivf_switch('t', 'next')`.
//!
//! A SELECT that writes is not sent on by what replicates statements; an INSERT is. It has no savepoint of its own,
//! because SQLite opens none within a statement that writes, and it cannot DROP a table, because SQLite drops none
//! while a statement reads. As the functions, such a command is not for triggers: an untrusted schema could read other
//! schemas by it, and statements on ordinary tables do not outlive a rename within them.

use std::rc::Rc;

use crate::sqlite::{Error, Result};
use crate::vtab::schema::tokens::{Kind, tokens};
use crate::vtab::schema::words::identifier;
use crate::vtab::table::Table;
use crate::vtab::table::registry::Connection;
use crate::vtab::{inspect, salvage, switch};

/// Runs a command of this kind; `None` if it is another one.
pub fn run(table: &Rc<Table>, connection: &Connection, text: &str) -> Option<Result<()>> {
    let at = text.find([':', '='])?;
    let (name, sign, argument) = (text[..at].trim(), &text[at..=at], text[at + 1..].trim());
    let name = name.to_ascii_lowercase();
    if !["switch", "triggers", "salvage", "import_vec0"].contains(&name.as_str()) {
        return None;
    }
    let of = table.name();
    if !table.tables().db().under_way().iter().any(|sql| inserts_into(sql, &of)) {
        return Some(Err(Error::generic(format!(
            "the command '{name}' is not for triggers: INSERT it into {of}"
        ))));
    }
    match (name.as_str(), sign) {
        ("switch", "=") => Some(switch::by_name(table, connection, argument)),
        ("switch", _) => Some(switch::by_json(table, connection, argument)),
        ("triggers", "=") => Some(inspect::triggers::by_command(table, argument)),
        ("salvage", "=") => Some(salvage::by_command(table, argument)),
        #[cfg(feature = "vec0")]
        ("import_vec0", "=") => Some(super::vec0::import::by_command(table, connection, argument)),
        #[cfg(not(feature = "vec0"))]
        ("import_vec0", "=") => Some(Err(Error::generic("import_vec0: this library was built without vec0"))),
        _ => None,
    }
}

/// Whether a statement is an INSERT into a table of that name.
fn inserts_into(sql: &str, table: &str) -> bool {
    let mut words: Vec<String> = Vec::new();
    let mut was_quoted = false;
    for token in tokens(sql) {
        let Ok((kind, token)) = token else { return false };
        let is_quoted = kind == Kind::Quoted;
        match words.last_mut() {
            // A doubled quote ends one token and begins another.
            Some(last) if is_quoted && was_quoted => last.push_str(token),
            _ if kind == Kind::Comment || token.trim_ascii().is_empty() => {}
            _ => words.push(token.into()),
        }
        was_quoted = is_quoted;
    }
    words.iter().enumerate().filter(|(_, word)| word.eq_ignore_ascii_case("INTO")).any(|(at, _)| {
        let named = if words.get(at + 2).is_some_and(|dot| dot == ".") { at + 3 } else { at + 1 };
        words
            .get(named)
            .and_then(|word| identifier(word).ok())
            .is_some_and(|(name, _)| name.eq_ignore_ascii_case(table))
    })
}

#[cfg(test)]
mod tests {
    use super::inserts_into;

    #[test]
    fn the_table_of_an_insert_is_found_in_any_quotes() {
        for sql in [
            "INSERT INTO t(t) VALUES ('x')",
            "insert or replace into/* */[T](t) select 1",
            "WITH c AS (SELECT 'INTO') INSERT INTO \"ma\"\"in\" . 't' DEFAULT VALUES",
            "REPLACE INTO main.`t` VALUES (1)",
        ] {
            assert!(inserts_into(sql, "t"), "{sql}");
        }
        for sql in [
            "INSERT INTO docs VALUES ('INTO t')",
            "DELETE FROM t",
            "INSERT INTO t.x VALUES (1)",
            "INSERT INTO",
        ] {
            assert!(!inserts_into(sql, "t"), "{sql}");
        }
        assert!(inserts_into("INSERT INTO \"a \"\"b\" VALUES (1)", "a \"b"));
    }
}
