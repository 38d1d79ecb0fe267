//! Random tables: an `ivf` table, an ordinary table with the same columns, and two tables to join with.

use super::values::{Column, Kind, Role, Space, Vector, chance, perhaps, pick};
use crate::common::Numbers;

#[derive(Clone, Debug)]
pub struct Schema {
    /// Run once on connection 0.
    pub setup: Vec<String>,
    pub columns: Vec<Column>,
    pub spaces: Vec<Space>,
    pub connections: usize,
    /// Whether a search has to say that it wants all lists.
    pub trains: bool,
}

/// A check that fails as a typed column of the index does: with an error that no OR IGNORE skips.
fn check(column: &Column) -> String {
    let name = &column.name;
    let fits = match column.kind {
        Kind::Integer => format!("typeof({name}) = 'integer'"),
        Kind::Float => format!("typeof({name}) = 'real'"),
        Kind::Text => format!("typeof({name}) = 'text'"),
        Kind::Boolean => format!("{name} IN (0, 1)"),
        Kind::Blob => "1".into(),
    };
    format!("CHECK({name} IS NULL OR {fits} OR json('type of {name}'))")
}

impl Schema {
    pub fn new(numbers: &mut Numbers) -> Self {
        let spaces = spaces(numbers);
        let columns = columns(numbers);
        let connections = if chance(numbers, 25) { 2 + numbers.below(2) as usize } else { 1 };
        let mut setup = Vec::new();
        if perhaps(numbers, "utf-16", 20) {
            setup.push("PRAGMA encoding = 'UTF-16le'".into());
        }
        if connections > 1 {
            let mode = pick(numbers, &["WAL", "DELETE"]);
            setup.push(format!("PRAGMA journal_mode = {mode}"));
        }
        let mut index = Vec::new();
        let mut plain = Vec::new();
        for column in &columns {
            let (name, kind) = (&column.name, column.kind.declared());
            match column.role {
                Role::Metadata => {
                    index.push(format!("{name} {kind}"));
                    plain.push(format!("{name} {kind} {}", check(column)));
                }
                Role::Partition => {
                    index.push(format!("{name} {kind} PARTITION KEY"));
                    plain.push(format!("{name} {kind} {}", check(column)));
                }
                Role::Auxiliary => {
                    index.push(format!("+{name} {kind}"));
                    plain.push(format!("{name} {kind}"));
                }
                Role::Rowid => {
                    index.insert(0, format!("{name} INTEGER PRIMARY KEY"));
                    plain.insert(0, format!("{name} INTEGER PRIMARY KEY"));
                }
                Role::Key => {
                    index.insert(0, format!("{name} TEXT PRIMARY KEY"));
                    plain.insert(0, format!("{name} TEXT UNIQUE NOT NULL {}", check(column)));
                }
            }
        }
        // A batch asks the vector column that is declared first.
        let mut at = numbers.below(index.len() as u64 + 1) as usize;
        for space in &spaces {
            index.insert(at, space.declared());
            plain.insert(at, format!("{} BLOB NOT NULL", space.name));
            at = at + 1 + numbers.below((index.len() - at) as u64) as usize;
        }
        // VACUUM gives new rowids where no column is the rowid.
        if !columns.iter().any(|column| column.role == Role::Rowid) {
            plain.push("lasting INTEGER PRIMARY KEY".into());
        }
        let train_at = pick(numbers, &["off", "off", "10", "25", "auto"]);
        let commands = chance(numbers, 60);
        let mut options = vec![format!("train_at={train_at}")];
        if chance(numbers, 50) {
            options.push(format!("nlist={}", 1 + numbers.below(5)));
        }
        if chance(numbers, 20) {
            options.push("quantizer=none".into());
        }
        index.extend(options);
        setup.push(format!("CREATE VIRTUAL TABLE t USING ivf({})", index.join(", ")));
        setup.push(format!("CREATE TABLE p({})", plain.join(", ")));
        setup.extend(beside(numbers, &spaces[0]));
        let trains = commands || ["10", "25"].contains(&train_at);
        Self { setup, columns, spaces, connections, trains }
    }

    /// The columns that a search is given conditions on before it counts its k rows.
    pub fn typed(&self) -> Vec<Column> {
        let typed = |column: &&Column| matches!(column.role, Role::Metadata | Role::Partition);
        self.columns.iter().filter(typed).cloned().collect()
    }

    pub fn names(&self) -> Vec<String> {
        let columns = self.columns.iter().filter(|column| column.role != Role::Rowid);
        columns.map(|column| column.name.clone()).chain(self.spaces.iter().map(|s| s.name.clone())).collect()
    }

    pub fn has(&self, role: Role) -> bool {
        self.columns.iter().any(|column| column.role == role)
    }
}

fn spaces(numbers: &mut Numbers) -> Vec<Space> {
    let count = if perhaps(numbers, "two-vectors", 20) { 2 } else { 1 };
    let elements = ["float", "float", "float", "float16", "bfloat16", "int8", "bit"];
    (0..count)
        .map(|i| {
            let element = pick(numbers, &elements);
            let bits = element == "bit";
            Space {
                name: ["vec", "body"][i].into(),
                element,
                dim: if bits { 8 } else { 1 + numbers.below(8) as usize },
                metric: if bits { "hamming" } else { pick(numbers, &["l2", "l2", "cosine", "ip", "l1"]) },
            }
        })
        .collect()
}

fn columns(numbers: &mut Numbers) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add = |name: &str, kind, role| columns.push(Column { name: name.into(), kind, role });
    match numbers.below(4) {
        0 => add("id", Kind::Integer, Role::Rowid),
        1 if perhaps(numbers, "text-key", 100) => add("id", Kind::Text, Role::Key),
        _ => {}
    }
    for (name, kind) in [
        ("mi", Kind::Integer),
        ("mf", Kind::Float),
        ("mt", Kind::Text),
        ("mb", Kind::Boolean),
        ("m2", Kind::Text),
    ] {
        if chance(numbers, 45) {
            add(name, kind, Role::Metadata);
        }
    }
    for (name, kind) in [("pi", Kind::Integer), ("pt", Kind::Text)] {
        if chance(numbers, 20) {
            add(name, kind, Role::Partition);
        }
    }
    for (name, kind) in [("ai", Kind::Integer), ("at", Kind::Text), ("ab", Kind::Blob)] {
        if chance(numbers, 20) {
            add(name, kind, Role::Auxiliary);
        }
    }
    columns
}

/// Ordinary tables to join with: `d` of rows that share rowids with the index, `q` of queries.
fn beside(numbers: &mut Numbers, space: &Space) -> Vec<String> {
    let mut setup = vec![
        "CREATE TABLE d(id INTEGER PRIMARY KEY, x INTEGER, s TEXT, r REAL, n, u)".to_string(),
        "CREATE TABLE q(id INTEGER PRIMARY KEY, v, x INTEGER, s TEXT)".to_string(),
    ];
    let cell = |numbers: &mut Numbers, kind| {
        if chance(numbers, 12) { "NULL".to_string() } else { super::values::fitting(numbers, kind) }
    };
    let rows: Vec<String> = (1..=9)
        .map(|id| {
            let any = pick(numbers, &[Kind::Integer, Kind::Text, Kind::Float]);
            format!(
                "({id}, {}, {}, {}, {}, {})",
                cell(numbers, Kind::Integer),
                cell(numbers, Kind::Text),
                cell(numbers, Kind::Float),
                cell(numbers, any),
                1 + numbers.below(12)
            )
        })
        .collect();
    setup.push(format!("INSERT INTO d VALUES {}", rows.join(", ")));
    let rows: Vec<String> = (1..=3)
        .map(|id| {
            let Vector { index, .. } = space.vector(numbers);
            format!("({id}, {index}, {}, {})", cell(numbers, Kind::Integer), cell(numbers, Kind::Text))
        })
        .collect();
    setup.push(format!("INSERT INTO q VALUES {}", rows.join(", ")));
    if perhaps(numbers, "null-query", 25) {
        setup.push("INSERT INTO q VALUES (4, NULL, 1, 'a')".into());
    }
    setup
}

impl Schema {
    /// Sometimes a trigger that writes both tables when a row of `d` is updated.
    pub fn trigger(&self, numbers: &mut Numbers) -> Option<String> {
        if !chance(numbers, 25) {
            return None;
        }
        let mut columns = vec!["rowid".to_string()];
        let mut values = vec![Vector { index: "new.id".into(), plain: "new.id".into() }];
        for space in &self.spaces {
            columns.push(space.name.clone());
            values.push(space.vector(numbers));
        }
        if self.has(Role::Key) {
            columns.push("id".into());
            values.push(Vector { index: "'k' || new.id".into(), plain: "'k' || new.id".into() });
        }
        let verb = pick(numbers, &["INSERT OR REPLACE", "INSERT OR IGNORE", "INSERT"]);
        let side = |table: &str, of: fn(&Vector) -> &str| {
            let values: Vec<&str> = values.iter().map(of).collect();
            format!(
                "{verb} INTO {table}({}) VALUES ({}); DELETE FROM {table} WHERE rowid = new.u;",
                columns.join(", "),
                values.join(", ")
            )
        };
        Some(format!(
            "CREATE TRIGGER td AFTER UPDATE ON d BEGIN {} {} END",
            side("t", |v| &v.index),
            side("p", |v| &v.plain)
        ))
    }
}
