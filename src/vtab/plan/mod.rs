//! Plans: which constraints xFilter gets, and how they are written.
//!
//! The text of a plan lists its arguments in their order, separated by commas. EXPLAIN QUERY PLAN shows it:
//! `3:match,k,nprobe,year>=`.

mod best_index;
mod terms;

use std::borrow::Cow;

use crate::sqlite::{Error, Value};
use crate::vtab::schema::columns::Columns;
use crate::vtab::schema::knobs::Knob;
pub use best_index::best_index;

/// All rows, in the order of their rowids.
pub const SCAN: i32 = 0;
/// All rows, list by list: the fastest way to read every vector.
pub const SCAN_LISTS: i32 = 1;
/// One row.
pub const POINT: i32 = 2;
/// The nearest rows of one query.
pub const KNN: i32 = 3;
/// The nearest rows of each query of a batch.
pub const BATCHED: i32 = 4;
/// All rows, list by list, without their vectors.
pub const SCAN_METADATA: i32 = 5;
/// A search without k, which is an error when it runs.
pub const WITHOUT_K: i32 = 6;
/// Added to the number of a search if the statement uses the metadata of answers.
const WITH_METADATA: i32 = 8;
/// Multiplied by the number of the vector column that is searched, and added too.
const VECTOR: i32 = 16;

/// A plan. SQLite passes its number and its text to each xFilter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub number: i32,
    pub text: String,
    /// One of the constants above.
    pub kind: i32,
    /// The number of the vector column that is searched.
    pub vector: usize,
    /// Whether the metadata of answers is used.
    pub metadata: bool,
    /// The arguments of xFilter.
    pub arguments: Vec<Argument>,
}

impl Plan {
    /// Reads a plan for a table with `columns`.
    pub fn parse(number: i32, text: &str, columns: &Columns) -> Self {
        Self {
            number,
            text: text.into(),
            kind: number % WITH_METADATA,
            vector: (number / VECTOR).max(0) as usize,
            metadata: number & WITH_METADATA != 0,
            arguments: text.split(',').filter_map(|word| Argument::of_word(word, columns)).collect(),
        }
    }

    /// Whether this is the plan with this number and text.
    pub fn is(&self, number: i32, text: &str) -> bool {
        (self.number, self.text.as_str()) == (number, text)
    }

    /// The arguments with their values.
    pub fn given<'a, 'v>(
        &'a self,
        args: &'a [Value<'v>],
    ) -> impl Iterator<Item = (Argument, &'a Value<'v>)> + Clone {
        self.arguments.iter().copied().zip(args)
    }
}

/// The error of [`WITHOUT_K`].
pub fn without_k() -> Error {
    Error::generic(
        "a search needs k: add AND k = 10 to the WHERE clause, or a bound like AND distance < 0.5 (LIMIT alone is \
         enough from SQLite 3.41 on, where no other table, condition or order than ORDER BY distance is involved)",
    )
}

/// An argument of xFilter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Match,
    Batch,
    K,
    Packed,
    Limit,
    Offset,
    Knob(Knob),
    /// Any knobs, in one text.
    Params,
    Per,
    Mmr,
    /// The embedding model, which is checked.
    Model,
    RowidEq,
    RowidIn,
    RowidNe,
    RowidIsNot,
    RowidGt,
    RowidGe,
    RowidLt,
    RowidLe,
    /// Never true.
    RowidNull,
    RowidNotNull,
    DistanceEq,
    DistanceIn,
    DistanceGt,
    DistanceGe,
    DistanceLt,
    DistanceLe,
    /// Of a text key.
    KeyEq,
    KeyIn,
    /// A condition on a metadata or partition column, by its index in [`Columns::values`].
    Value(usize, Operator),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Eq,
    In,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Is,
    IsNot,
    IsNull,
    IsNotNull,
    Like,
    Glob,
}

impl Operator {
    /// What follows the column's name in a plan's text, and in SQL.
    pub fn word(self) -> &'static str {
        OPERATORS.iter().find(|(of, _)| *of == self).map_or("", |(_, word)| word)
    }
}

/// What follows the column's name in a plan's text. None of these ends with one before it, so the first match
/// is right.
const OPERATORS: [(Operator, &str); 13] = [
    (Operator::In, " in"),
    (Operator::Like, " like"),
    (Operator::Glob, " glob"),
    (Operator::IsNull, " is null"),
    (Operator::IsNotNull, " is not null"),
    (Operator::IsNot, " is not"),
    (Operator::Is, " is"),
    (Operator::Ne, "!="),
    (Operator::Ge, ">="),
    (Operator::Le, "<="),
    (Operator::Gt, ">"),
    (Operator::Lt, "<"),
    (Operator::Eq, "="),
];

const WORDS: [(Argument, &str); 28] = [
    (Argument::Match, "match"),
    (Argument::Batch, "batch"),
    (Argument::K, "k"),
    (Argument::Packed, "packed"),
    (Argument::Limit, "limit"),
    (Argument::Offset, "offset"),
    (Argument::Params, "params"),
    (Argument::Per, "per"),
    (Argument::Mmr, "mmr"),
    (Argument::Model, "model"),
    (Argument::RowidEq, "rowid="),
    (Argument::RowidIn, "rowid in"),
    (Argument::RowidNe, "rowid!="),
    (Argument::RowidIsNot, "rowid is not"),
    (Argument::RowidGt, "rowid>"),
    (Argument::RowidGe, "rowid>="),
    (Argument::RowidLt, "rowid<"),
    (Argument::RowidLe, "rowid<="),
    (Argument::RowidNull, "rowid is null"),
    (Argument::RowidNotNull, "rowid is not null"),
    (Argument::DistanceEq, "distance="),
    (Argument::DistanceIn, "distance in"),
    (Argument::DistanceGt, "distance>"),
    (Argument::DistanceGe, "distance>="),
    (Argument::DistanceLt, "distance<"),
    (Argument::DistanceLe, "distance<="),
    (Argument::KeyEq, "key="),
    (Argument::KeyIn, "key in"),
];

impl Argument {
    /// Whether it may be the list of an IN.
    pub fn is_list(self) -> bool {
        matches!(self, Self::RowidIn | Self::KeyIn | Self::DistanceIn | Self::Value(_, Operator::In))
    }

    /// Its name in a plan's text: a column, and a comparison.
    pub fn word(self, columns: &Columns) -> Cow<'static, str> {
        if let Self::Value(value, operator) = self {
            let name = &columns.values()[value].name;
            let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let word = operator.word();
            // A name that is not a plain word, or is one of the words above, is written as a number.
            let reserved = WORDS.iter().any(|(_, word)| word.starts_with(name.as_str()));
            let text = if plain && !reserved { format!("{name}{word}") } else { format!("#{value}{word}") };
            return text.into();
        }
        if let Self::Knob(knob) = self {
            return knob.name().into();
        }
        WORDS.iter().find(|(argument, _)| *argument == self).map_or("", |(_, word)| word).into()
    }

    fn of_word(word: &str, columns: &Columns) -> Option<Self> {
        if let Some((argument, _)) = WORDS.iter().find(|(_, of)| *of == word) {
            return Some(*argument);
        }
        if let Some(knob) = Knob::from_name(word) {
            return Some(Self::Knob(knob));
        }
        let (operator, name) =
            OPERATORS.iter().find_map(|(operator, end)| Some((*operator, word.strip_suffix(end)?)))?;
        let value = match name.strip_prefix('#') {
            Some(number) => number.parse().ok().filter(|value| *value < columns.values().len()),
            None => columns.values().iter().position(|column| column.name == name),
        };
        value.map(|value| Self::Value(value, operator))
    }
}
