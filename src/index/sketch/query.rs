//! The sketches of queries.

use crate::base::alloc::TryGrow;
use crate::index::IndexError;
use crate::index::sketch::Projection;
use crate::index::sketch::projection::Image;
use crate::kernels::{CodePanel, Encoded, kernels};

/// Buffers for sketches, reused between queries.
#[derive(Debug)]
pub(crate) struct SketchScratch {
    pub panel: CodePanel,
    pub residual: Vec<f32>,
    pub dots: Vec<i32>,
    pub image: Image,
    pub point: Vec<f32>,
}

impl Default for SketchScratch {
    fn default() -> Self {
        Self {
            panel: CodePanel::new(1),
            residual: Vec::new(),
            dots: Vec::new(),
            image: Image::default(),
            point: Vec::new(),
        }
    }
}

/// A query or its sketch, besides its code.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CodedQuery {
    pub encoded: Encoded,
    /// The point is within this distance of scale * code.
    pub error: f64,
    /// A bound of the length of the query, less the mean.
    pub length: f64,
}

impl Projection {
    /// Writes the code of a prepared query's sketch to `code` (`[sketch_dim]`), and that of the query, less
    /// the mean, to `whole` (`[dim]`).
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub(crate) fn sketch_query(
        &self,
        query: &[f32],
        scratch: &mut SketchScratch,
        code: &mut [i8],
        whole: &mut [i8],
    ) -> Result<[CodedQuery; 2], IndexError> {
        let SketchScratch { panel, residual, dots, image, point } = scratch;
        self.project(query, panel, residual, dots, image)?;
        let head: f64 = image.head.iter().map(|v| v * v).sum();
        let length = image.norm.sqrt();
        let slack = (2.0 * length + image.error) * image.error;
        let (tail, of_tail) = self.tail_of(image.norm, head, slack);
        point.clear();
        point.try_room(self.sketch_dim())?;
        point.extend(image.head.iter().map(|&v| v as f32));
        point.push(tail as f32);
        let encoded = kernels().encode_query(point, &self.zeros()[..point.len()], code);
        // The coordinates are rounded to f32.
        let error = f64::from(encoded.err) + image.error + of_tail + 1e-6 * length;
        whole.copy_from_slice(&image.codes[0]);
        let of_whole = f64::from(image.encoded[0].err) + 1e-6 * length;
        let length = length * (1.0 + 1e-9);
        let sketch = CodedQuery { encoded, error: error * (1.0 + 1e-9), length };
        Ok([sketch, CodedQuery { encoded: image.encoded[0], error: of_whole, length }])
    }
}
