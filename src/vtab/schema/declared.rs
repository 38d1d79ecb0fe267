//! What the CREATE statement of a table says.

use crate::vtab::schema::tokens::{Kind, tokens};

/// The arguments of `CREATE VIRTUAL TABLE ... USING module(...)`, as SQLite hands them to the module; none if the
/// statement is about something else.
#[cfg(feature = "rusqlite")]
pub fn module_arguments(sql: &str, module: &str) -> Option<Vec<String>> {
    let mut arguments = vec![String::new()];
    let mut depth = 0;
    let mut words = Vec::new();
    for token in tokens(sql) {
        let (kind, token) = token.ok()?;
        if kind == Kind::Comment {
            continue;
        }
        match (token, depth) {
            ("(", _) => depth += 1,
            (")", _) => depth -= 1,
            _ => {}
        }
        match depth {
            0 if token == ")" => break,
            0 if !token.trim().is_empty() => words.push(token.to_string()),
            0 => {}
            1 if token == "(" => {}
            1 if token == "," => arguments.push(String::new()),
            _ => arguments.last_mut()?.push_str(token),
        }
    }
    let [.., using, name] = words.as_slice() else { return None };
    let name = name.trim_matches(['"', '`', '[', ']', '\'']);
    (using.eq_ignore_ascii_case("using") && name.eq_ignore_ascii_case(module)).then_some(arguments)
}

/// What follows USING in a CREATE statement of one of our modules.
pub fn module_of(sql: &str) -> Option<&str> {
    let (mut at, mut words, mut is_next) = (0, 0, false);
    for token in tokens(sql) {
        let (kind, token) = token.ok()?;
        let start = at;
        at += token.len();
        if kind == Kind::Comment || token.trim_ascii().is_empty() {
            continue;
        }
        if is_next {
            let name = token.trim_matches(['"', '`', '[', ']', '\'']);
            let is_ours = ["ivf", "vec0"].iter().any(|ours| name.eq_ignore_ascii_case(ours));
            return is_ours.then_some(&sql[start..]);
        }
        match ["CREATE", "VIRTUAL", "TABLE"].get(words) {
            Some(expected) if !token.eq_ignore_ascii_case(expected) => return None,
            Some(_) => {}
            // The table's name comes before it; where it is this word, it is quoted.
            None => is_next = words > 3 && kind == Kind::Word && token.eq_ignore_ascii_case("USING"),
        }
        words += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_cut_as_sqlite_cuts_them() {
        let sql =
            "CREATE VIRTUAL TABLE \"a(b\" USING \"ivf\" ( \"x,\"\"y)\" float[3] -- so, (\n, nlist=/* ,( */5)";
        let arguments = module_arguments(sql, "ivf").unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.trim()).collect();
        assert_eq!(arguments, ["\"x,\"\"y)\" float[3]", "nlist=5"]);
        assert_eq!(module_arguments("CREATE TABLE ivf(x)", "ivf"), None);
        assert_eq!(module_arguments("CREATE VIRTUAL TABLE t USING fts5(x)", "ivf"), None);
    }

    #[test]
    fn a_module_is_found_behind_any_name() {
        for (sql, module) in [
            ("CREATE VIRTUAL TABLE t USING ivf(vec float[2])", Some("ivf(vec float[2])")),
            ("CREATE VIRTUAL TABLE \"a \"\" USING b\" using IVF(v float[2], x)", Some("IVF(v float[2], x)")),
            ("CREATE VIRTUAL TABLE [using]\n USING\tvec0(v float[2])", Some("vec0(v float[2])")),
            ("CREATE VIRTUAL TABLE t/* USING x */ -- y\n USING ivf(v float[2])", Some("ivf(v float[2])")),
            ("CREATE VIRTUAL TABLE t USING fts5(x)", None),
            ("CREATE TABLE t(x)", None),
            ("CREATE VIRTUAL TABLE t", None),
            ("", None),
        ] {
            assert_eq!(module_of(sql), module, "{sql}");
        }
    }
}
