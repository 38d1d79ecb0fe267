//! What a table stores: its columns, and the layout of its lists.

use crate::index::{ListOrdering, Metric, Quantizer, ValueKind};
use crate::storage::Element;
use crate::storage::format::SEGMENT_ROWS;
use crate::storage::tables::content::Content;

/// What a table has besides vectors. It decides which optional shadow tables there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// The number of the vector column. The shadow tables of the first one, 0, have no number in their names.
    pub number: usize,
    /// The types of its metadata columns, partition columns included.
    pub metadata: Vec<ValueKind>,
    /// The indexes of the partition columns among them.
    pub partitions: Vec<usize>,
    /// Whether the primary key is a text.
    pub text_key: bool,
    /// Whether the map has the text key too.
    pub has_keys_in_map: bool,
    /// The types of its auxiliary columns.
    pub auxiliary: Vec<&'static str>,
    /// The table that has the vectors, if the index stores none.
    pub content: Option<Content>,
}

impl Shape {
    /// The number of columns of `t_auxiliary` besides the rowid. Without any, there is no such table.
    pub fn auxiliary_columns(&self) -> usize {
        usize::from(self.text_key) + self.auxiliary.len()
    }
}

/// The layout of rows in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The metric.
    pub metric: Metric,
    /// The element type of stored vectors.
    pub element: Element,
    /// The dimension.
    pub dim: usize,
    /// How rows are coded.
    pub quantizer: Quantizer,
    /// The order of rows in a segment.
    pub ordering: ListOrdering,
}

impl Layout {
    /// The number of rows at which a tail is sealed.
    pub fn tail_rows(&self) -> usize {
        ((32 << 10) / (self.dim * 4)).clamp(16, 256)
    }

    /// The most rows of a sealed segment.
    pub fn sealed_rows(&self) -> usize {
        ((1 << 20) / (self.dim * 4)).clamp(256, SEGMENT_ROWS as usize)
    }

    /// The level of a segment with this many rows. Four adjacent sealed segments of one level are merged.
    pub(crate) fn level(&self, rows: usize) -> u32 {
        (rows / self.tail_rows()).max(1).ilog(4)
    }
}
