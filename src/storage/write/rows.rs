//! Rows on their way to a list, and their order there.

use crate::base::alloc::{OutOfMemory, TryExtend, try_collect, try_filled};
use crate::index::{CoarseQuantizer, Codes, IndexError, ListOrdering, Metadata, SegmentHead};
use crate::kernels::codes::{read_row, write_row};
use crate::kernels::kernels;
use crate::storage::{Layout, Tables};

/// Rows as they were given.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub rowids: Vec<i64>,
    /// Empty if `codes` stand for them.
    pub vectors: Vec<f32>,
    pub metadata: Metadata,
    /// In an index over a table: by row, how far its prepared vector is at most from that in `vectors`, which
    /// is then prepared too, because it was read from a code. `None` for a row as it was given. Empty if all
    /// are as given.
    pub slack: Vec<Option<f32>>,
    /// In an index over a table, the codes of rows that stay in their list.
    pub codes: Option<KeptCodes>,
}

/// Codes that rows keep, because their list stays the same.
#[derive(Debug, Default)]
pub(crate) struct KeptCodes {
    /// `[rows][dim]`
    codes: Vec<i8>,
    /// By row: scale, norm and error, as in [`Codes`], and the radius of its segment.
    values: Vec<[f32; 4]>,
}

impl KeptCodes {
    /// The codes of the live rows of a segment.
    pub fn of(head: &SegmentHead, codes: &Codes, dim: usize) -> Result<Self, OutOfMemory> {
        let mut kept = Self::default();
        for slot in (0..head.rows).filter(|&slot| head.alive(slot)) {
            let (start, slot) = (kept.codes.len(), slot as usize);
            kept.codes.try_resize(start + dim, 0)?;
            read_row(&codes.blocks, dim, slot, &mut kept.codes[start..]);
            let values = [codes.scale[slot], codes.norm[slot], codes.error[slot], head.radius];
            kept.values.try_push(values)?;
        }
        Ok(kept)
    }

    fn append(&mut self, other: &Self) -> Result<(), OutOfMemory> {
        self.codes.try_append(&other.codes)?;
        self.values.try_append(&other.values)
    }

    /// Writes row `i` as row `slot` of `codes`. Returns an upper bound of its distance to the centroid.
    pub fn give(&self, i: usize, codes: &mut Codes, dim: usize, slot: usize) -> f32 {
        write_row(&mut codes.blocks, dim, slot, &self.codes[i * dim..][..dim]);
        let radius;
        [codes.scale[slot], codes.norm[slot], codes.error[slot], radius] = self.values[i];
        radius
    }
}

impl Rows {
    /// No rows, with the columns of a table.
    pub fn new(tables: &Tables) -> Self {
        Self { metadata: Metadata::new(&tables.shape().metadata), ..Self::default() }
    }

    /// Appends a row. The caller adds its metadata.
    pub fn push(&mut self, rowid: i64, vector: &[f32]) -> Result<(), OutOfMemory> {
        self.rowids.try_push(rowid)?;
        if !self.slack.is_empty() {
            self.slack.try_push(None)?;
        }
        self.vectors.try_append(vector)
    }

    /// Appends row `i` of rows with the same columns, and with vectors.
    pub fn push_from(&mut self, rows: &Self, i: usize, dim: usize) -> Result<(), IndexError> {
        self.push(rows.rowids[i], &rows.vectors[i * dim..(i + 1) * dim])?;
        if let Some(slack @ Some(_)) = rows.slack.get(i) {
            self.set_slack(*slack)?;
        }
        self.metadata.push_from(&rows.metadata, i)
    }

    /// Sets the slack of the last row.
    pub fn set_slack(&mut self, slack: Option<f32>) -> Result<(), OutOfMemory> {
        self.slack.try_resize(self.rowids.len(), None)?;
        self.slack.last_mut().into_iter().for_each(|last| *last = slack);
        Ok(())
    }

    /// The slack of a row.
    pub fn slack_of((rows, i): Pick<'_>) -> Option<f32> {
        rows.slack.get(i as usize).copied().flatten()
    }

    /// Appends rows with the same columns.
    pub fn append(&mut self, rows: &Self) -> Result<(), IndexError> {
        if !self.slack.is_empty() || !rows.slack.is_empty() {
            self.slack.try_resize(self.rowids.len(), None)?;
            self.slack.try_append(&rows.slack)?;
            self.slack.try_resize(self.rowids.len() + rows.rowids.len(), None)?;
        }
        if let Some(codes) = &rows.codes {
            self.codes.get_or_insert_default().append(codes)?;
        }
        self.rowids.try_append(&rows.rowids)?;
        self.vectors.try_append(&rows.vectors)?;
        self.metadata.append(&rows.metadata, 0..rows.rowids.len())
    }

    /// The indexes of the rows in the order of their rowids.
    pub fn by_rowid(&self) -> Result<Vec<usize>, OutOfMemory> {
        let mut order = try_collect(0..self.rowids.len())?;
        order.sort_unstable_by_key(|&i| self.rowids[i]);
        Ok(order)
    }

    /// The bytes in memory.
    pub fn bytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, |codes| codes.codes.len() + codes.values.len() * 16);
        self.rowids.len() * 8 + self.vectors.len() * 4 + self.metadata.bytes() + codes
    }
}

/// A reference to a row among others: rows are ordered without copies.
pub(crate) type Pick<'a> = (&'a Rows, u32);

impl Rows {
    /// References to all rows, in their order.
    pub fn picks(&self) -> impl Iterator<Item = Pick<'_>> {
        (0..self.rowids.len() as u32).map(move |i| (self, i))
    }

    /// The rowid of a row.
    pub fn rowid((rows, i): Pick<'_>) -> i64 {
        rows.rowids[i as usize]
    }

    /// The vector of a row.
    pub fn vector((rows, i): Pick<'_>, dim: usize) -> &[f32] {
        &rows.vectors[i as usize * dim..][..dim]
    }
}

/// The metadata of rows, in the order of the picks.
///
/// # Errors
/// [`IndexError::OutOfMemory`], [`IndexError::InvalidParam`] for texts of more than 4 GiB.
pub(crate) fn metadata_of(picks: &[Pick<'_>]) -> Result<Metadata, IndexError> {
    let Some((first, _)) = picks.first() else { return Ok(Metadata::default()) };
    let mut metadata = first.metadata.range(0..0)?;
    for of_one in picks.chunk_by(|a, b| std::ptr::eq(a.0, b.0)) {
        metadata.append(&of_one[0].0.metadata, of_one.iter().map(|(_, i)| *i as usize))?;
    }
    Ok(metadata)
}

/// Puts the rows of one list in the order of the layout. Before training there is no centroid, and no order.
///
/// # Errors
/// [`OutOfMemory`].
pub(crate) fn order(
    layout: &Layout,
    coarse: Option<&CoarseQuantizer>,
    list_no: u32,
    picks: &mut [Pick<'_>],
) -> Result<(), OutOfMemory> {
    let (ListOrdering::ResidualNormAsc, Some(coarse)) = (layout.ordering, coarse) else { return Ok(()) };
    let centroid = coarse.centroid(list_no as usize);
    let mut prepared = try_filled(0.0, layout.dim)?;
    let norm = |pick: &Pick<'_>| {
        prepared.copy_from_slice(Rows::vector(*pick, layout.dim));
        layout.metric.prepare(&mut prepared);
        kernels().l2_squared(&prepared, centroid)
    };
    let norms = try_collect(picks.iter().map(norm))?;
    let mut ordered = try_collect(norms.into_iter().zip(picks.iter().copied()))?;
    let before = |(norm, pick): &(f32, Pick<'_>), (other, of): &(f32, Pick<'_>)| {
        norm.total_cmp(other).then(Rows::rowid(*pick).cmp(&Rows::rowid(*of)))
    };
    if !ordered.is_sorted_by(|a, b| before(a, b).is_le()) {
        ordered.sort_unstable_by(before);
        picks.iter_mut().zip(ordered).for_each(|(pick, (_, of))| *pick = of);
    }
    Ok(())
}
