//! Scores, by which devices rank rows, and the exact keys of rows.

use crate::kernels::{kernels, settle};

/// Ranks a row x for a query q: smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// |x|^2 / 2 - q x. The squared distance is |q|^2 plus twice this.
    L2,
    /// -q x.
    Ip,
    /// sum |q - x|.
    L1,
}

impl Score {
    /// The exact key of a row: |q - x|^2, -q x or sum |q - x|. Smaller is nearer. The same bits on every
    /// device.
    #[inline]
    pub fn key(self, query: &[f32], row: &[f32]) -> f32 {
        settle(match self {
            Self::L2 => kernels().l2_squared(query, row),
            Self::Ip => -kernels().dot(query, row),
            Self::L1 => kernels().l1(query, row),
        })
    }
}
