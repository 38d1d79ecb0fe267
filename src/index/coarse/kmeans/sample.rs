//! The sample of rows that trains the centroids.

/// How many rows train `nlist` lists of an index with `n` rows: 256 per list as in faiss, down to 128 per
/// list if that is more than 131,072, and never more than `n`.
pub fn sample_size(nlist: usize, n: usize) -> usize {
    let least = nlist.saturating_mul(128);
    nlist.saturating_mul(256).min(1 << 17).max(least).min(n)
}

/// A uniform sample without replacement: exactly `count` of `n` row numbers, ascending.
///
/// Selection sampling (Knuth, TAOCP 2, algorithm S) with a hash of (seed, row number) as the random number,
/// so that one pass over a table can take its sample as the rows stream by.
#[derive(Debug, Clone)]
pub struct Sample {
    seed: u64,
    row: u64,
    rows: u64,
    wanted: u64,
}

impl Sample {
    /// A sample of `count` of the rows `0 .. n`; all of them if `count >= n`.
    pub fn new(count: usize, n: usize, seed: u64) -> Self {
        Self { seed, row: 0, rows: n as u64, wanted: count.min(n) as u64 }
    }

    /// Whether the next row is in the sample. Each call advances by one row.
    pub fn takes_next(&mut self) -> bool {
        let left = self.rows - self.row.min(self.rows);
        let chance = u128::from(hash(self.seed, self.row)) * u128::from(left);
        self.row += 1;
        let taken = ((chance >> 64) as u64) < self.wanted;
        self.wanted -= u64::from(taken);
        taken
    }
}

impl Iterator for Sample {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.wanted > 0 {
            if self.takes_next() {
                return Some((self.row - 1) as usize);
            }
        }
        None
    }
}

/// SplitMix64's finalizer over a keyed number (Steele, Lea, Flood 2014).
pub(crate) fn hash(key: u64, number: u64) -> u64 {
    let mut z = key.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_ascending_exact_in_number_and_spread_over_all_rows() {
        let rows: Vec<usize> = Sample::new(1000, 10_000, 7).collect();
        assert_eq!(rows.len(), 1000);
        assert!(rows.is_sorted_by(|a, b| a < b) && rows[999] < 10_000);
        let early = rows.iter().filter(|&&row| row < 5000).count();
        assert!((430..570).contains(&early), "{early} of 1000 in the first half");
        assert_ne!(rows, Sample::new(1000, 10_000, 8).collect::<Vec<_>>());
        assert_eq!(Sample::new(9, 5, 7).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(Sample::new(0, 5, 7).next(), None);
        let mut stream = Sample::new(1000, 10_000, 7);
        assert!((0..10_000).filter(|_| stream.takes_next()).eq(rows));
    }

    #[test]
    fn a_sample_has_128_to_256_rows_per_list_where_there_are_as_many() {
        let sizes = [(16, 100), (16, 1 << 20), (512, 1 << 20), (1024, 1 << 20), (4096, 1 << 20)];
        assert_eq!(sizes.map(|(nlist, n)| sample_size(nlist, n)), [100, 4096, 131_072, 131_072, 524_288]);
    }
}
