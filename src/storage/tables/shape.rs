//! What a table stores: its columns, and how its vectors are laid out.

use crate::index::{ListOrdering, Metric, Quantizer, ValueKind};
use crate::storage::Element;
use crate::storage::format::SEGMENT_ROWS;

/// What a table has beside vectors. It says which shadow tables there are beside those that every table has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// Which of the vector columns: the tables of the first one are named without a number.
    pub number: usize,
    /// The kinds of its metadata columns, partition columns included.
    pub metadata: Vec<ValueKind>,
    /// Which of them are partition columns.
    pub partitions: Vec<usize>,
    /// Whether a text is its primary key.
    pub text_key: bool,
    /// Whether the map has it, too.
    pub has_keys_in_map: bool,
    /// The types of its auxiliary columns.
    pub auxiliary: Vec<&'static str>,
}

impl Shape {
    /// Columns of `t_auxiliary` beside the rowid; there is no such table if there are none.
    pub fn auxiliary_columns(&self) -> usize {
        usize::from(self.text_key) + self.auxiliary.len()
    }
}

/// How rows are laid out in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The metric.
    pub metric: Metric,
    /// What vectors are stored as.
    pub element: Element,
    /// The dimension.
    pub dim: usize,
    /// How rows are coded.
    pub quantizer: Quantizer,
    /// How the rows of a segment are ordered.
    pub ordering: ListOrdering,
}

impl Layout {
    /// Rows at which the tail of a list is sealed.
    pub fn tail_rows(&self) -> usize {
        ((32 << 10) / (self.dim * 4)).clamp(16, 256)
    }

    /// Rows of a sealed segment, at most.
    pub fn sealed_rows(&self) -> usize {
        ((1 << 20) / (self.dim * 4)).clamp(256, SEGMENT_ROWS as usize)
    }

    /// Sealed segments of one level are merged four at a time.
    pub(crate) fn level(&self, rows: usize) -> u32 {
        (rows / self.tail_rows()).max(1).ilog(4)
    }
}
