//! What the CREATE statement of a table says.

use super::tokens::{Kind, tokens};

/// The arguments of `CREATE VIRTUAL TABLE ... USING module(...)`, as SQLite hands them to the module; none if the
/// statement is about something else.
pub(super) fn module_arguments(sql: &str, module: &str) -> Option<Vec<String>> {
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
}
