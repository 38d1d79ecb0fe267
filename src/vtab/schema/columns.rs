//! The columns of a table: those of the CREATE statement, and the hidden ones after them.
//!
//! This is one file because column numbers, names and roles depend on each other.

use crate::index::{Metric, ValueKind};
use crate::sqlite::{Error, Result, quoted};
use crate::storage::Element;
pub use crate::vtab::schema::hidden::Hidden;
use crate::vtab::schema::hidden::{HIDDEN, HiddenColumn, IVF_ONLY};
use crate::vtab::schema::model;
use crate::vtab::schema::options::OPTION_NAMES;
use crate::vtab::schema::vec0::Dialect;
use crate::vtab::schema::words::{self, identifier, unquoted};

/// A vector column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// The dimension of its vectors.
    pub dim: usize,
    /// The metric of its distances.
    pub metric: Metric,
    /// The embedding model that its vectors are from, if the CREATE statement says so.
    pub model: Option<String>,
}

/// The role of a value column (one without vectors).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `PRIMARY KEY`: the rowid if it is an INTEGER, else a text key.
    Key,
    /// `PARTITION KEY`: rows with different values never share a list.
    Partition,
    /// Tested by filters while lists are scanned.
    Metadata,
    /// `+name`: stored, but not used by searches.
    Auxiliary,
}

/// A column without vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueColumn {
    /// Its name.
    pub name: String,
    /// The type of its values. An auxiliary column accepts any value.
    pub kind: ValueKind,
    /// Its role.
    pub role: Role,
    /// Its index among the columns of this role. Metadata and partition columns are counted together.
    pub slot: usize,
    /// The type in the declaration for SQLite.
    pub declared: &'static str,
}

impl ValueColumn {
    /// Whether its values are packed beside the vectors.
    pub fn is_packed(&self) -> bool {
        matches!(self.role, Role::Metadata | Role::Partition)
    }
}

/// What a column number of SQLite refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The rowid, also under the name of an INTEGER PRIMARY KEY.
    Rowid,
    /// A vector column, by its number.
    Vector(usize),
    /// A value column, by its index in [`Columns::values`].
    Value(usize),
    Hidden(Hidden),
}

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// In the order of the CREATE statement.
    declared: Vec<At>,
    values: Vec<ValueColumn>,
    /// The names of the vector columns.
    vectors: Vec<String>,
    /// Those of [`HIDDEN`] whose names no declared column has.
    hidden: Vec<HiddenColumn>,
    /// The dialect of the module that the table was made by.
    pub dialect: Dialect,
}

/// The most value columns: SQLite reports the use of a column only for the first 63.
const MAX_VALUES: usize = 40;
const MAX_VECTORS: usize = 16;
const MAX_DIM: usize = 16_384;
const KINDS: &str = "INTEGER, FLOAT, TEXT or BOOLEAN";

impl Columns {
    /// Only the hidden columns.
    pub fn new(dialect: Dialect) -> Self {
        let mut hidden = HIDDEN.to_vec();
        hidden.retain(|(of, ..)| dialect == Dialect::Ivf || !IVF_ONLY.contains(of));
        Self { declared: Vec::new(), values: Vec::new(), vectors: Vec::new(), hidden, dialect }
    }

    /// The value columns, in the order of the CREATE statement.
    pub fn values(&self) -> &[ValueColumn] {
        &self.values
    }

    /// The columns of a role, in the order of their slots.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &ValueColumn> {
        self.values.iter().filter(move |column| column.role == role)
    }

    /// The metadata and partition columns, whose values are packed beside the vectors, in the order of their
    /// slots.
    pub fn packed(&self) -> impl Iterator<Item = &ValueColumn> {
        self.values.iter().filter(|column| column.is_packed())
    }

    /// The metadata or partition column of a name (any case).
    pub fn packed_called(&self, name: &str) -> Option<&ValueColumn> {
        self.packed().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The names of the metadata and partition columns, as messages list them.
    pub fn packed_names(&self) -> String {
        let names: Vec<&str> = self.packed().map(|column| column.name.as_str()).collect();
        if names.is_empty() { "the table has none".into() } else { names.join(", ") }
    }

    /// The text key, if the table has one.
    pub fn text_key(&self) -> Option<&ValueColumn> {
        self.of(Role::Key).find(|column| column.kind == ValueKind::Text)
    }

    /// Whether SQLite identifies rows by their text key, as in sqlite-vec, and not by their rowids.
    pub fn is_without_rowid(&self) -> bool {
        self.dialect == Dialect::Vec0 && self.text_key().is_some()
    }

    /// The index of a text key or auxiliary column among the columns of `t_auxiliary`.
    pub fn auxiliary_slot(&self, column: &ValueColumn) -> usize {
        match column.role {
            Role::Key => 0,
            _ => usize::from(self.text_key().is_some()) + column.slot,
        }
    }

    /// The columns stored in `t_auxiliary`, in the order of their slots, with their indexes in
    /// [`Columns::values`].
    pub fn auxiliary(&self) -> impl Iterator<Item = (usize, &ValueColumn)> {
        let stored = |column: &ValueColumn| match column.role {
            Role::Key => column.kind == ValueKind::Text,
            role => role == Role::Auxiliary,
        };
        let mut columns: Vec<_> =
            self.values.iter().enumerate().filter(|(_, column)| stored(column)).collect();
        columns.sort_by_key(|(_, column)| self.auxiliary_slot(column));
        columns.into_iter()
    }

    /// What column number `column` refers to; -1 is the rowid.
    pub fn at(&self, column: i32) -> At {
        let Ok(column) = usize::try_from(column) else { return At::Rowid };
        match self.declared.get(column) {
            Some(&At::Value(i)) if self.is_rowid(i) => At::Rowid,
            Some(&at) => at,
            None => At::Hidden(self.hidden[(column - self.declared.len()).min(self.hidden.len() - 1)].0),
        }
    }

    /// Whether `IN (...)` of a column asks for k rows of each value. In sqlite-vec it does for partition
    /// columns.
    pub fn searches_each(&self, at: At) -> bool {
        let is_partition = |value: usize| self.values[value].role == Role::Partition;
        self.dialect == Dialect::Vec0 && matches!(at, At::Value(value) if is_partition(value))
    }

    fn is_rowid(&self, value: usize) -> bool {
        self.values[value].role == Role::Key && self.values[value].kind == ValueKind::Integer
    }

    /// The column number of a vector column.
    pub fn vector_at(&self, vector: usize) -> usize {
        self.declared.iter().position(|at| *at == At::Vector(vector)).unwrap_or(0)
    }

    /// The column number of the INTEGER PRIMARY KEY, if there is one.
    pub fn rowid_at(&self) -> Option<usize> {
        self.declared.iter().position(|at| matches!(at, At::Value(i) if self.is_rowid(*i)))
    }

    /// The column number of a value column.
    pub fn value_at(&self, value: usize) -> usize {
        self.declared.iter().position(|at| *at == At::Value(value)).unwrap_or(0)
    }

    /// The column number of the command.
    pub fn command_at(&self) -> usize {
        self.declared.len()
    }

    /// The column number of the batch, if the table has this column.
    pub fn batch_at(&self) -> Option<usize> {
        self.hidden_at(Hidden::Batch)
    }

    /// The column number of a hidden column, if the table has it.
    pub fn hidden_at(&self, wanted: Hidden) -> Option<usize> {
        let at = self.hidden.iter().position(|(hidden, ..)| *hidden == wanted)?;
        Some(self.declared.len() + at)
    }

    /// The name of the hidden column with this number; empty for the command and declared columns.
    pub fn hidden_name(&self, column: usize) -> &'static str {
        column
            .checked_sub(self.declared.len())
            .and_then(|at| self.hidden.get(at))
            .map_or("", |(_, name, _)| name)
    }

    /// Whether the table has a hidden column of this name, not counting the command.
    pub fn has_hidden(&self, name: &str) -> bool {
        self.hidden.iter().skip(1).any(|(_, hidden, _)| *hidden == name)
    }

    /// The name of the command column: that of the table, with `_command` appended if another column has the
    /// name.
    pub fn command_name(&self, table: &str) -> String {
        let mut name = table.to_string();
        while self.is_declared(&name)
            || self.hidden.iter().skip(1).any(|(_, hidden, _)| name.eq_ignore_ascii_case(hidden))
            || name.eq_ignore_ascii_case("rowid")
        {
            name.push_str("_command");
        }
        name
    }

    /// The declaration of the table for SQLite.
    pub fn declaration(&self, table: &str) -> String {
        let declared = self.declared.iter().map(|at| match at {
            At::Value(i) => {
                let ValueColumn { name, declared, role, .. } = &self.values[*i];
                // For programs that read the schema. (With rowids, SQLite would take a TEXT PRIMARY KEY for
                // an index, and look for its pages.)
                let is_key = match role {
                    Role::Key if self.is_rowid(*i) => !name.eq_ignore_ascii_case("rowid"),
                    Role::Key => self.is_without_rowid(),
                    _ => false,
                };
                format!("{} {declared}{}", quoted(name), if is_key { " PRIMARY KEY NOT NULL" } else { "" })
            }
            At::Vector(vector) => format!("{} BLOB", quoted(&self.vectors[*vector])),
            At::Rowid | At::Hidden(_) => unreachable!("columns are declared as vectors and values"),
        });
        let command = self.command_name(table);
        let hidden = self.hidden.iter().map(|(column, name, of)| {
            let name = if *column == Hidden::Command { command.as_str() } else { name };
            format!("{} {of} HIDDEN", quoted(name))
        });
        let end = if self.is_without_rowid() { " WITHOUT ROWID" } else { "" };
        format!("CREATE TABLE x({}){end}", declared.chain(hidden).collect::<Vec<_>>().join(", "))
    }

    fn is_declared(&self, name: &str) -> bool {
        let mut names = self.values.iter().map(|column| &column.name).chain(&self.vectors);
        names.any(|other| other.eq_ignore_ascii_case(name))
    }

    /// Reserves a name for a declared column. A hidden column of this name is then left out.
    fn claim(&mut self, name: &str, is_rowid: bool) -> Result<()> {
        let refused = |why: &str| Err(Error::generic(format!("a column cannot be named '{name}': {why}")));
        if name.eq_ignore_ascii_case("rowid") && !is_rowid {
            return refused(
                "every row has a number of that name, which is an INTEGER PRIMARY KEY if it is declared",
            );
        }
        if ["k", "distance"].iter().any(|needed| name.eq_ignore_ascii_case(needed)) {
            return refused("k and distance are columns of every ivf table, which searches need");
        }
        if self.is_declared(name) {
            return Err(Error::generic(format!("column '{name}' is declared twice")));
        }
        self.hidden.retain(|(of, hidden, _)| *of == Hidden::Command || !hidden.eq_ignore_ascii_case(name));
        Ok(())
    }

    /// Adds a vector column.
    ///
    /// # Errors
    /// If the name is taken or reserved, or if there are too many vector columns.
    pub fn push_vector(&mut self, name: &str) -> Result<()> {
        self.claim(name, false)?;
        if self.vectors.len() == MAX_VECTORS {
            let text = format!("at most {MAX_VECTORS} vector columns, '{name}' is one too many");
            return Err(Error::generic(text));
        }
        self.declared.push(At::Vector(self.vectors.len()));
        self.vectors.push(name.to_string());
        Ok(())
    }

    fn push(&mut self, name: String, kind: ValueKind, role: Role, declared: &'static str) -> Result<()> {
        self.claim(&name, role == Role::Key && kind == ValueKind::Integer)?;
        if self.values.len() == MAX_VALUES {
            let text = format!("at most {MAX_VALUES} columns beside the vector, '{name}' is one too many");
            return Err(Error::generic(text));
        }
        let slot = match role {
            Role::Metadata | Role::Partition => self.packed().count(),
            role => self.of(role).count(),
        };
        self.declared.push(At::Value(self.values.len()));
        self.values.push(ValueColumn { name, kind, role, slot, declared });
        Ok(())
    }

    /// Adds a column written as `+name TYPE`.
    ///
    /// # Errors
    /// If the type is unknown, the name is taken or reserved, or there are too many columns.
    pub fn push_auxiliary(&mut self, name: String, rest: &str) -> Result<()> {
        let (kind, declared) = match kind_of(rest) {
            Some(kind) => kind,
            None if rest.is_empty() || rest.eq_ignore_ascii_case("blob") => (ValueKind::Text, "BLOB"),
            None => {
                return Err(Error::generic(format!(
                    "auxiliary column '{name}': expected +{name} {KINDS}, or BLOB, got '{rest}'"
                )));
            }
        };
        self.push(name, kind, Role::Auxiliary, declared)
    }

    /// Adds a column written as `name TYPE [PRIMARY KEY | PARTITION KEY]`.
    ///
    /// # Errors
    /// If the text has another form, the name is taken or reserved, or there are too many columns. The
    /// message states the valid form.
    pub fn push_value(&mut self, name: String, rest: &str) -> Result<()> {
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word));
        let keyed = words.len() == 3 && is(2, "key");
        let role = match words.len() {
            1 => Some(Role::Metadata),
            3 if keyed && is(1, "primary") => Some(Role::Key),
            3 if keyed && is(1, "partition") => Some(Role::Partition),
            _ => None,
        };
        let kind = words.first().and_then(|word| kind_of(word));
        let (Some(role), Some((kind, declared))) = (role, kind) else {
            return Err(Error::generic(format!(
                "column '{name}': '{rest}' is not understood; expected a vector ({name} float[N]), metadata ({name} {KINDS}), \
                 a key ({name} INTEGER or TEXT, then PRIMARY KEY or PARTITION KEY), or an option ({OPTION_NAMES})"
            )));
        };
        let is_key = role != Role::Metadata;
        if is_key && !matches!(kind, ValueKind::Integer | ValueKind::Text) {
            return Err(Error::generic(format!(
                "column '{name}': a key is INTEGER or TEXT, got '{}'",
                words[0]
            )));
        }
        if role == Role::Key && self.of(Role::Key).next().is_some() {
            return Err(Error::generic(format!("column '{name}': a table has one primary key")));
        }
        self.push(name, kind, role, declared)
    }
}

/// The type of values for a type name, and its declaration for SQLite.
fn kind_of(name: &str) -> Option<(ValueKind, &'static str)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "integer" | "int" | "bigint" | "int64" => (ValueKind::Integer, "INTEGER"),
        "float" | "real" | "double" | "float64" | "f64" => (ValueKind::Float, "FLOAT"),
        "text" | "varchar" => (ValueKind::Text, "TEXT"),
        "boolean" | "bool" => (ValueKind::Boolean, "BOOLEAN"),
        _ => return None,
    })
}

/// Whether the text after a name is a vector type: it has a number of elements in brackets.
pub fn is_vector(rest: &str) -> bool {
    let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
    rest.find('[').is_some_and(|bracket| rest[..bracket].trim_end().len() <= word)
}

impl Column {
    /// Reads the text after the name: `float[384] distance_metric=cosine`. Also returns the settings of an
    /// `INDEXED BY ivf(...)` after it.
    ///
    /// # Errors
    /// If the text has another form. The message states the valid form.
    pub fn parse(name: String, rest: &str) -> Result<(Self, Vec<&str>)> {
        let expected = format!(
            "expected {name} float[N] (or {}), N from 1 to {MAX_DIM}, and perhaps distance_metric=l2|cosine|ip|l1 \
             (of bit: hamming), model='name'",
            Element::NAMES[1..].join(", ")
        );
        let wrong = |what: String| Error::generic(format!("column '{name}': {what}; {expected}"));
        let end = rest.find(']').map_or(rest.len(), |end| end + 1);
        let (kind, mut settings) = rest.split_at(end);
        let Some((element, dim)) = kind.trim().strip_suffix(']').and_then(|kind| kind.split_once('[')) else {
            return Err(wrong(format!("'{}' is not a vector type", rest.trim())));
        };
        let element = element.trim();
        let element = Element::from_name(element)
            .ok_or_else(|| wrong(format!("element type '{element}' is not supported")))?;
        let dim = match dim.trim().parse::<usize>() {
            Ok(dim) if (1..=MAX_DIM).contains(&dim) => dim,
            _ => return Err(wrong(format!("'{}' is not a number of dimensions", dim.trim()))),
        };
        if !dim.is_multiple_of(element.group()) {
            return Err(wrong(format!("{dim} bits are not whole bytes: a multiple of 8 is expected")));
        }
        let mut metric = element.metrics()[0];
        let mut model = None;
        let mut index = Vec::new();
        settings = settings.trim();
        while !settings.is_empty() {
            if let Some(found) = indexed_by(settings) {
                index = found.map_err(wrong)?;
                break;
            }
            let (key, after) = identifier(settings)?;
            let Some(value) = after.strip_prefix('=') else {
                return Err(wrong(format!("'{settings}' is not understood")));
            };
            let value = value.trim_start();
            if key.eq_ignore_ascii_case("model") {
                let (name, after) = words::value(value, char::is_whitespace)?;
                if model.is_some() {
                    return Err(wrong("model is given twice".into()));
                }
                model = Some(model::valid(name)?);
                settings = after;
                continue;
            }
            let end = value.find(char::is_whitespace).unwrap_or(value.len());
            let (value, after) = value.split_at(end);
            if !key.eq_ignore_ascii_case("distance_metric") {
                return Err(wrong(format!("'{key}' is not a setting of a column")));
            }
            let known =
                Metric::from_name(unquoted(value)).filter(|metric| element.metrics().contains(metric));
            metric = known.ok_or_else(|| {
                let names: Vec<&str> = element.metrics().iter().map(|metric| metric.name()).collect();
                Error::generic(format!(
                    "distance_metric must be one of {} for {}, got '{value}'",
                    names.join(", "),
                    element.name()
                ))
            })?;
            settings = after.trim();
        }
        Ok((Self { name, element, dim, metric, model }, index))
    }
}

/// The settings in `INDEXED BY ivf(a=1, b=2)`, or those that `INDEXED BY flat()` stands for, which never
/// trains. `None` if the text is something else.
fn indexed_by(text: &str) -> Option<std::result::Result<Vec<&str>, String>> {
    let word = |text: &'_ str, word: &str| -> Option<usize> {
        let head = text.get(..word.len())?;
        head.eq_ignore_ascii_case(word).then_some(word.len())
    };
    let rest = text[word(text, "indexed")?..].trim_start();
    let rest = rest[word(rest, "by")?..].trim_start();
    let not_understood =
        || Some(Err(format!("'{text}' is not understood, expected INDEXED BY ivf(...) or flat()")));
    let Some((kind, settings)) = rest.split_once('(') else { return not_understood() };
    let Some(settings) = settings.trim_end().strip_suffix(')') else { return not_understood() };
    let given = settings.split(',').map(str::trim).filter(|setting| !setting.is_empty());
    match kind.trim().to_ascii_lowercase().as_str() {
        "ivf" => Some(Ok(given.collect())),
        "flat" => Some(Ok(vec!["train_at=off"])),
        _ => not_understood(),
    }
}
