//! The hidden columns.

use crate::vtab::schema::knobs::Knob;

/// A hidden column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    Command,
    Distance,
    K,
    Batch,
    Query,
    /// All rowids of a query's answers, in a row that stands for the query.
    Rowids,
    /// All distances of a query's answers, in the same row.
    Distances,
    /// Whether rows stand for queries.
    Packed,
    Knob(Knob),
    /// Any knobs, in one text.
    Params,
    /// The column whose values are the groups that a search returns rows of.
    Per,
    /// How near answers are to the query, and how far from each other.
    Mmr,
    /// The embedding model of the vectors.
    Model,
}

/// A hidden column, its name, and its type, which some hosts decode values by.
pub(super) type HiddenColumn = (Hidden, &'static str, &'static str);

/// The hidden columns, which follow the declared ones. The first is the command, whose name is that of the
/// table.
pub(super) const HIDDEN: [HiddenColumn; 15] = [
    (Hidden::Command, "", "TEXT"),
    // Second, so that t('[1, 0]', 10) passes the query and k.
    (Hidden::K, "k", "INTEGER"),
    (Hidden::Distance, "distance", "REAL"),
    (Hidden::Knob(Knob::Nprobe), "nprobe", "NUMERIC"),
    (Hidden::Knob(Knob::MaxCodes), "max_codes", "INTEGER"),
    (Hidden::Knob(Knob::RecallTarget), "recall_target", "REAL"),
    (Hidden::Batch, "batch", "BLOB"),
    (Hidden::Query, "query", "INTEGER"),
    (Hidden::Packed, "packed", "INTEGER"),
    (Hidden::Rowids, "rowids", "BLOB"),
    (Hidden::Distances, "distances", "BLOB"),
    (Hidden::Params, "params", "TEXT"),
    (Hidden::Per, "per", "TEXT"),
    (Hidden::Mmr, "mmr", "NUMERIC"),
    (Hidden::Model, "model", "TEXT"),
];

/// Hidden columns that `vec0` tables lack: programs for sqlite-vec may join with tables that have columns of
/// these names.
pub(super) const IVF_ONLY: [Hidden; 8] = [
    Hidden::Batch,
    Hidden::Query,
    Hidden::Packed,
    Hidden::Rowids,
    Hidden::Distances,
    Hidden::Per,
    Hidden::Mmr,
    Hidden::Model,
];
