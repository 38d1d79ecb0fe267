//! The sketches of a segment's rows.

use std::sync::Arc;

use crate::base::alloc::{TryExtend, try_filled};
use crate::index::list::segment::{Largest, ResidentCodes, RowValues};
use crate::index::sketch::{Projection, SketchScratch};
use crate::index::{Codes, IndexError, Metric};
use crate::kernels::{CodeRows, codes, kernels};

/// The sketches of a segment's rows, and a code of each row about the mean.
///
/// Scans read the sketches of all rows, and then the codes of those that remain, row by row. Both compare with
/// one code of the query, whatever the list.
#[derive(Debug)]
pub struct Sketch {
    projection: Arc<Projection>,
    codes: ResidentCodes,
    /// A record for each row: its code, `[dim]`, and the bytes of its three values. A row that remains is
    /// somewhere in memory, and these are all that is read of it.
    records: Vec<i8>,
    /// Those of the records.
    largest: Largest,
}

/// The bytes of the values in a record.
const VALUES: usize = size_of::<RowValues>();

impl Sketch {
    /// Makes the sketches of `vectors` (`[rows][dim]`), which `of` codes relative to `centroid`.
    ///
    /// A row x is within its error of c + s e, where e is its code. The image of that is P (c - m) + s P e,
    /// so the products of the codes of P and of the rows give the images of all rows.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub(crate) fn new(
        projection: &Arc<Projection>,
        metric: Metric,
        centroid: &[f32],
        of: &ResidentCodes,
        vectors: &[f32],
    ) -> Result<Self, IndexError> {
        let (rows, dim, width) = (of.rowids.len(), projection.dim(), projection.width());
        let padded = codes::padded_rows(rows);
        let view = CodeRows { blocks: &of.blocks, dim, rows, u: &of.u, r: &of.r, s: &of.s };
        let mut scratch = SketchScratch::default();
        let SketchScratch { panel, residual, dots, image, point } = &mut scratch;
        projection.project(centroid, panel, residual, dots, image)?;
        // The panel has the two codes of the centroid: their products with the rows give the lengths.
        dots.try_resize(2 * padded, 0)?;
        kernels().dots_i8(&view, panel, dots);
        let mut products = try_filled(0, width * padded)?;
        kernels().dots_i8(&view, projection.columns(), &mut products);

        let sketch_dim = projection.sketch_dim();
        let mut code = try_filled(0, sketch_dim)?;
        point.clear();
        point.try_resize(sketch_dim, 0.0)?;
        let (mut scale, mut norm, mut error) =
            (try_filled(0.0, padded)?, try_filled(0.0, padded)?, try_filled(0.0, padded)?);
        let mut blocks = try_filled(codes::ZERO, codes::blocks_len(sketch_dim, rows))?;
        let centroid_length = image.norm.sqrt();
        for slot in 0..rows {
            let s = f64::from(of.s[slot]);
            let mut head = 0.0;
            for (at, ((to, &base), &factor)) in
                point.iter_mut().zip(&image.head).zip(projection.scales()).enumerate()
            {
                let v = base + s * f64::from(factor) * f64::from(products[at * padded + slot]);
                head += v * v;
                *to = v as f32;
            }
            let with_centroid = image.of_dots(dots[slot], dots[padded + slot]);
            let length = of.code_norm(metric, slot).sqrt();
            let squared = image.norm + 2.0 * s * with_centroid + length * length;
            let reach = centroid_length + length;
            // The codes of the centroid are within image.error of it; the length of the row's is rounded.
            let error_squared = f64::from(of.r[slot]).powi(2);
            let slack = 2.0 * image.error * reach + 1e-6 * (length * length + error_squared);
            let (tail, of_tail) = projection.tail_of(squared.max(0.0), head, slack);
            point[width] = tail as f32;
            let encoded = kernels().encode(point, &projection.zeros()[..sketch_dim], &mut code);
            codes::write_row(&mut blocks, sketch_dim, slot, &code);
            let bound = f64::from(encoded.err) + f64::from(of.r[slot]) + image.error + of_tail + 1e-6 * reach;
            (scale[slot], norm[slot]) = (encoded.scale, encoded.norm);
            error[slot] = (bound as f32).next_up();
        }
        let resident = |scale, norm, error, blocks| {
            ResidentCodes::new(metric, Codes { rowids: Vec::new(), scale, norm, error, blocks })
        };
        let codes = resident(scale, norm, error, blocks);
        let mut records = try_filled(0, rows * (dim + VALUES))?;
        let (mut scale, mut norm, mut error) =
            (try_filled(0.0, rows)?, try_filled(0.0, rows)?, try_filled(0.0, rows)?);
        let of_rows = records.chunks_exact_mut(dim + VALUES);
        for (slot, (record, row)) in of_rows.zip(vectors.chunks_exact(dim)).enumerate() {
            let encoded = kernels().encode(row, projection.mean(), &mut record[..dim]);
            (scale[slot], norm[slot], error[slot]) = (encoded.scale, encoded.norm, encoded.err);
        }
        let values = resident(scale, norm, error, Vec::new());
        for (slot, record) in records.chunks_exact_mut(dim + VALUES).enumerate() {
            let bytes = values.values(slot).map(f32::to_le_bytes);
            record[dim..].iter_mut().zip(bytes.as_flattened()).for_each(|(to, &byte)| *to = byte as i8);
        }
        Ok(Self { projection: Arc::clone(projection), codes, records, largest: values.largest })
    }

    /// Whether the sketches were made with this projection.
    pub(crate) fn is_of(&self, projection: &Arc<Projection>) -> bool {
        Arc::ptr_eq(&self.projection, projection)
    }

    /// The sketches.
    pub(crate) fn codes(&self) -> &ResidentCodes {
        &self.codes
    }

    /// The largest values of any record.
    pub(crate) fn largest(&self) -> Largest {
        self.largest
    }

    /// The record of a row, to be prefetched.
    pub(crate) fn record(&self, slot: u32) -> &[i8] {
        let stride = self.projection.dim() + VALUES;
        &self.records[slot as usize * stride..][..stride]
    }

    /// The code of a row, about the mean of the projection, `[dim]`, and its values.
    pub(crate) fn row(&self, slot: u32) -> (&[i8], RowValues) {
        let (code, bytes) = self.record(slot).split_at(self.projection.dim());
        let value = |at: usize| f32::from_le_bytes(std::array::from_fn(|i| bytes[4 * at + i] as u8));
        (code, std::array::from_fn(value))
    }

    /// The bytes in memory, without the projection.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.records.len()
    }

    /// The bytes of the sketches of `rows` rows.
    pub(crate) fn bytes_of(projection: &Projection, rows: usize) -> usize {
        let of_sketches = codes::padded_rows(rows) * 12 + codes::blocks_len(projection.sketch_dim(), rows);
        of_sketches + rows * (projection.dim() + VALUES)
    }
}
