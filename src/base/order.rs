//! A total order of floats: by value, NaN last or first by its sign.

use std::cmp::Ordering;

/// An f32 in a total order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Key(pub f32);

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Packs a (score, row number) into a number with the same order as the pair.
#[inline]
pub(crate) fn entry(score: f32, row: u32) -> u64 {
    u64::from(ordered(score)) << 32 | u64::from(row)
}

/// A number with the same order as `score`.
#[inline]
fn ordered(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The bits of an entry's score, and its row number.
#[cfg_attr(not(feature = "candle"), allow(dead_code))]
pub(crate) fn words(entry: u64) -> [u32; 2] {
    let ordered = (entry >> 32) as u32;
    [if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered }, entry as u32]
}

/// The entry for "no row", which orders after all others.
#[cfg_attr(not(feature = "candle"), allow(dead_code))]
pub(crate) const NO_ENTRY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_order_as_their_floats() {
        let floats = [f32::NEG_INFINITY, -3.5, -1e-40, 0.0, 1e-40, 2.0, f32::INFINITY];
        assert!(floats.windows(2).all(|w| ordered(w[0]) < ordered(w[1])));
    }

    #[test]
    fn entries_order_like_scores_and_then_rows() {
        let scores = [f32::MIN, -1.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, f32::MAX];
        let all: Vec<u64> = scores.iter().flat_map(|&score| [3, 9].map(|row| entry(score, row))).collect();
        assert!(all.is_sorted_by(|a, b| a < b) && all.iter().all(|entry| *entry < NO_ENTRY));
        for (i, score) in scores.iter().enumerate() {
            assert_eq!(words(all[2 * i]), [score.to_bits(), 3]);
        }
        assert_eq!(words(NO_ENTRY)[1], u32::MAX);
    }
}
