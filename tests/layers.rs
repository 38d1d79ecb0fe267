//! The structure of the source: imports only go down, `unsafe` appears in five places only, files stay small,
//! and the functions and files that the docs name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A layer, and what it may use beside itself.
const LAYERS: [(&str, &[&str]); 7] = [
    ("base", &[]),
    ("kernels", &[]),
    ("device", &["base", "kernels"]),
    ("index", &["base", "device", "kernels"]),
    ("sqlite", &["base"]),
    ("storage", &["base", "sqlite", "index", "device", "kernels"]),
    ("vtab", &["base", "storage", "sqlite", "index", "device", "kernels"]),
];
/// The rooms of a layer, from the lowest up: each may use itself and those before it. The tests of a room may use all of them.
const ROOMS: [(&str, &[&str]); 3] = [
    (
        "index",
        &[
            "error",
            "metric",
            "coarse",
            "sketch",
            "list",
            "filter",
            "resident",
            "params",
            "probe",
            "scan",
            "search",
            "calibrate",
        ],
    ),
    (
        "storage",
        &["error", "format", "tables", "ticking", "read", "write", "rebuild", "check", "salvage", "vec0"],
    ),
    (
        "vtab",
        &[
            "values",
            "schema",
            "plan",
            "table_function",
            "table",
            "query",
            "write",
            "functions",
            "inspect",
            "vec0",
            "salvage",
            "hybrid",
            "switch",
            "commands",
        ],
    ),
];
/// Files and folders at the top, that may use everything.
const DOORS: [&str; 4] = ["lib.rs", "loadable.rs", "api", "engine"];
/// Where `unsafe` may stand.
const UNSAFE: [&str; 5] =
    ["sqlite/", "kernels/", "device/fused/cuda.rs", "base/workers/job.rs", "loadable.rs"];
const MOST_LINES: usize = 520;

/// The files of `src`, by their path below it.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())]
}

/// What stands first in each path of a list like `{a::b, c::{d, e}}`, or in a single path.
fn heads(text: &str) -> Vec<&str> {
    let Some(list) = text.strip_prefix('{') else { return vec![word(text)] };
    let mut depth = 0;
    let mut found = Vec::new();
    let mut at_head = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if at_head && !c.is_whitespace() => {
                found.push(word(&list[at..]));
                at_head = false;
            }
            _ => {}
        }
    }
    found
}

/// The modules at the root of the crate that a file names, by `crate::` or by a long enough run of `super::`.
fn names(path: &str, text: &str) -> BTreeSet<String> {
    let text: Vec<&str> = text.lines().map(code).collect();
    let joined = text.join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in joined.match_indices("crate::") {
        // `$crate` of a macro is this crate too; `mycrate` is another word.
        if !joined[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            found.extend(heads(&joined[at + "crate::".len()..]).into_iter().map(str::to_string));
        }
    }
    let depth = path.matches('/').count() + usize::from(!path.ends_with("mod.rs"));
    let tests = joined.find("mod tests {").unwrap_or(joined.len());
    for (at, _) in joined.match_indices("super::") {
        let chain = &joined[at..];
        let mut rest = chain;
        let mut up = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            rest = after;
            up += 1;
        }
        if !joined[..at].ends_with("super::") && up >= depth + usize::from(at > tests) {
            found.extend(heads(rest).into_iter().map(str::to_string));
        }
    }
    found
}

#[test]
fn imports_go_strictly_down() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let (layer, in_folder) =
            path.split_once('/').map_or((path.as_str(), false), |(layer, _)| (layer, true));
        if DOORS.contains(&layer) {
            continue;
        }
        assert!(in_folder, "src/{path} is no door: put it on a floor");
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            panic!("src/{path} is on no floor of the house");
        };
        for name in names(&path, &text) {
            let is_layer = LAYERS.iter().any(|(other, _)| *other == name);
            let is_door =
                DOORS.iter().any(|door| door.trim_end_matches(".rs") == name) || name == "register_all";
            if is_door || (is_layer && name != layer && !below.contains(&name.as_str())) {
                faults.push(format!("src/{path} uses {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The room of each name that `mod.rs` of a layer re-exports.
fn rooms_of_names(text: &str) -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::new();
    for statement in text.split("pub use ").skip(1).map(|rest| rest.split_once(';').unwrap().0) {
        let Some((path, names)) = statement.rsplit_once("::") else { continue };
        let room = path.split("::").next().unwrap().to_string();
        for name in names.trim_matches(['{', '}']).split(',').map(str::trim).filter(|name| !name.is_empty()) {
            rooms.insert(name.to_string(), room.clone());
        }
    }
    rooms
}

/// The rooms that a file of a layer names, by `crate::layer::`, directly or through a name that the layer re-exports.
fn rooms_named(
    layer: &str,
    (is_head, text): (bool, &str),
    rooms: &[&str],
    names: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let text: Vec<&str> = text.lines().map(code).collect();
    let joined = text.join("\n");
    let joined = joined.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut found = BTreeSet::new();
    let prefix = format!("crate::{layer}::");
    let starts = joined.match_indices(&prefix).map(|(at, _)| at + prefix.len());
    // From the head of a room, `super` is the layer.
    let ups = joined.match_indices("super::").map(|(at, _)| at + "super::".len()).filter(|_| is_head);
    for at in starts.chain(ups) {
        for head in heads(&joined[at..]) {
            let room = names.get(head).map_or(head, String::as_str);
            assert!(rooms.contains(&room) || names.contains_key(head), "{layer}: '{head}' is in no room");
            found.extend(rooms.contains(&room).then(|| room.to_string()));
        }
    }
    found
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let mut faults = Vec::new();
    for (layer, rooms) in ROOMS {
        let all = sources();
        let (_, text) = all.iter().find(|(path, _)| *path == format!("{layer}/mod.rs")).unwrap();
        let names = rooms_of_names(text);
        for (path, text) in &all {
            let Some((of, rest)) = path.split_once('/') else { continue };
            let room = rest.split(['/', '.']).next().unwrap();
            if of != layer || rest == "mod.rs" || rest.contains("tests") {
                continue;
            }
            let Some(floor) = rooms.iter().position(|name| *name == room) else {
                panic!("src/{path} is in no room of '{layer}'");
            };
            for name in rooms_named(layer, (rest == format!("{room}/mod.rs"), text), rooms, &names) {
                if !rooms[..=floor].contains(&name.as_str()) {
                    faults.push(format!("src/{path} uses {name}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_reader_of_imports_sees_what_it_should() {
    let see = |path: &str, text: &str| names(path, text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(see("index/a.rs", "use crate::vtab::x;\n// crate::sqlite"), "vtab");
    assert_eq!(see("index/a.rs", "use crate::{storage::{self, vtab}, device};"), "device storage");
    assert_eq!(see("index/a.rs", "let x = crate::sqlite::f(super::b::g());"), "sqlite");
    assert_eq!(see("index/a.rs", "use super::super::vtab::x;"), "vtab");
    assert_eq!(see("index/mod.rs", "use super::vtab::x;"), "vtab");
    assert_eq!(see("index/mod.rs", "mod tests { use super::search; }"), "");
}

#[test]
fn the_reader_of_rooms_sees_what_it_should() {
    let names = rooms_of_names("pub use upper::deep::{A, B};\npub use lower::C;\npub use crate::base::X;");
    let see = |is_head: bool, text: &str| {
        let rooms = rooms_named("layer", (is_head, text), &["lower", "upper"], &names);
        rooms.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(see(false, "use crate::layer::{A, C};"), "lower upper");
    assert_eq!(see(false, "use crate::layer::lower::x;\nlet x = crate::layer::B::new();"), "lower upper");
    assert_eq!(
        (see(false, "use super::upper::x;").as_str(), see(true, "use super::upper::x;").as_str()),
        ("", "upper")
    );
    assert_eq!(
        see(
            false,
            "// crate::layer::A\nuse crate::other::A;\n#[cfg(test)]\nmod tests { use crate::layer::A; }"
        ),
        ""
    );
}

#[test]
fn unsafe_stands_in_five_places_only() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        if UNSAFE.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let words = code(line).split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if words.into_iter().any(|word| word == "unsafe") {
                faults.push(format!("src/{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "src/{path} has {lines} lines, split it along a seam");
    }
}

/// The place of a file in the house, the lower the smaller: its layer, and the room in it.
fn floor(path: &str) -> (usize, usize) {
    let (layer, rest) = path.split_once('/').unwrap();
    let of_layer = LAYERS.iter().position(|(name, _)| *name == layer).unwrap();
    let room = rest.split(['/', '.']).next().unwrap();
    let rooms = ROOMS.iter().find(|(name, _)| *name == layer);
    (of_layer, rooms.and_then(|(_, rooms)| rooms.iter().position(|name| *name == room)).unwrap_or(0))
}

#[test]
fn the_walks_of_the_design_name_functions_that_are_there_and_go_down() {
    let sources: BTreeMap<String, String> = sources().into_iter().collect();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design.md")).unwrap();
    let mut callers: Vec<(usize, (usize, usize))> = Vec::new();
    let mut steps = 0;
    for line in page.lines() {
        let Some((path, rest)) = line.trim_start().strip_prefix("- `").and_then(|step| step.split_once("::"))
        else {
            if line.starts_with("**") {
                callers.clear();
            }
            continue;
        };
        let function = word(rest);
        let text = sources.get(path).unwrap_or_else(|| panic!("{line}: there is no src/{path}"));
        let is_defined =
            [format!("fn {function}("), format!("fn {function}<")].iter().any(|form| text.contains(form));
        assert!(is_defined, "{line}: src/{path} has no such function");
        let indent = line.len() - line.trim_start().len();
        callers.retain(|(of, _)| *of < indent);
        if let Some((_, caller)) = callers.last() {
            assert!(floor(path) <= *caller, "{line}: it is in a higher room than its caller");
        }
        callers.push((indent, floor(path)));
        steps += 1;
    }
    assert!(steps > 40, "{steps} steps");
}

#[test]
fn files_that_the_pages_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        for quoted in fs::read_to_string(&page).unwrap().split('`').skip(1).step_by(2) {
            let path = quoted.split("::").next().unwrap();
            let is_source = path.ends_with(".rs")
                || LAYERS.iter().any(|(layer, _)| path.starts_with(&format!("{layer}/")));
            if is_source && !path.contains([' ', '*', '$', '<', '{']) {
                let exists = [root.join("src").join(path), root.join(path)].iter().any(|path| path.exists());
                assert!(exists, "{}: there is no {path}", page.display());
            }
        }
    }
}
