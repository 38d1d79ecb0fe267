//! The projection, and the images of vectors.

use crate::base::alloc::{TryExtend, try_filled};
use crate::index::IndexError;
use crate::kernels::{CodePanel, CodeRows, Encoded, codes, kernels};

/// A linear map to fewer dimensions that shortens every vector.
///
/// Its rows are stored as int8 codes with a scale each, so that the image of a coded vector is a few integer
/// products.
#[derive(Debug, Clone)]
pub struct Projection {
    /// What is subtracted from every vector; zeros for inner products.
    mean: Vec<f32>,
    /// The scale of each row's code.
    scales: Vec<f32>,
    /// `[width][dim]`.
    codes: Vec<i8>,
    /// About the mean of the last coordinate of sketches, which is subtracted; 0 for inner products.
    tail: f32,
    /// The rows as columns, for the codes of segments.
    columns: CodePanel,
    /// The rows as rows, for single vectors.
    blocks: Vec<u8>,
    /// Zeros, in place of the values beside the blocks.
    zeros: Vec<f32>,
}

/// The image of a vector, `P v`, and how well it is known.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// `[width]`.
    pub head: Vec<f64>,
    /// The squared length of the vector.
    pub norm: f64,
    /// The vector is within this distance of the one that `head` is the exact image of.
    pub error: f64,
    /// The code of the vector, and that of what the first one leaves.
    pub codes: [Vec<i8>; 2],
    pub encoded: [Encoded; 2],
}

impl Image {
    /// The product of the vector and a code, from the products of its own two codes with that code.
    pub fn of_dots(&self, first: i32, second: i32) -> f64 {
        let [a, b] = self.encoded.map(|encoded| f64::from(encoded.scale));
        a * f64::from(first) + b * f64::from(second)
    }
}

impl Projection {
    /// A projection of these parts: `codes` is `[scales.len()][mean.len()]`.
    ///
    /// # Errors
    /// [`IndexError::InvalidParam`] if the lengths do not fit, or a number is not finite;
    /// [`IndexError::OutOfMemory`].
    pub fn new(mean: Vec<f32>, scales: Vec<f32>, codes: Vec<i8>, tail: f32) -> Result<Self, IndexError> {
        let (dim, width) = (mean.len(), scales.len());
        let is_finite = mean.iter().chain(&scales).chain([&tail]).all(|v| v.is_finite());
        if dim == 0 || width == 0 || width >= dim || codes.len() != dim * width || !is_finite {
            let detail =
                format!("{} codes are not a projection from {dim} to {width} dimensions", codes.len());
            return Err(IndexError::InvalidParam(detail));
        }
        let refused = |_| IndexError::OutOfMemory { bytes: codes.len() };
        let mut columns = CodePanel::new(dim);
        columns.try_reserve(width).map_err(refused)?;
        let mut blocks = try_filled(codes::ZERO, codes::blocks_len(dim, width))?;
        for (at, code) in codes.chunks_exact(dim).enumerate() {
            columns.push_summed(code, code.iter().map(|&v| i32::from(v)).sum());
            codes::write_row(&mut blocks, dim, at, code);
        }
        let zeros = try_filled(0.0, codes::padded_rows(width).max(dim))?;
        Ok(Self { mean, scales, codes, tail, columns, blocks, zeros })
    }

    /// With another mean of the last coordinate.
    pub(super) fn with_tail(self, tail: f32) -> Self {
        Self { tail, ..self }
    }

    /// The dimension of vectors.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The number of rows of the projection.
    pub fn width(&self) -> usize {
        self.scales.len()
    }

    /// The dimension of sketches.
    pub fn sketch_dim(&self) -> usize {
        self.width() + 1
    }

    /// What is subtracted from vectors, `[dim]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The scale of each row, `[width]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The rows, `[width][dim]`, to be multiplied by their scales.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// What is subtracted from the last coordinate of sketches.
    pub fn tail(&self) -> f32 {
        self.tail
    }

    pub(crate) fn columns(&self) -> &CodePanel {
        &self.columns
    }

    pub(crate) fn zeros(&self) -> &[f32] {
        &self.zeros[..self.dim()]
    }

    /// Computes the image of `vector - mean`. `residual` is a buffer.
    ///
    /// The vector is coded twice: the second code is that of what the first one leaves. So its error is a
    /// ten-thousandth of the vector.
    ///
    /// # Errors
    /// [`IndexError::OutOfMemory`].
    pub(crate) fn project(
        &self,
        vector: &[f32],
        panel: &mut CodePanel,
        residual: &mut Vec<f32>,
        dots: &mut Vec<i32>,
        image: &mut Image,
    ) -> Result<(), IndexError> {
        let (dim, width) = (self.dim(), self.width());
        residual.try_resize(dim, 0.0)?;
        for ((to, &v), &m) in residual.iter_mut().zip(vector).zip(&self.mean) {
            *to = v - m;
        }
        image.norm = residual.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        if panel.dim() != dim {
            *panel = CodePanel::new(dim);
        }
        panel.clear();
        panel.try_reserve(2).map_err(|_| IndexError::OutOfMemory { bytes: 2 * dim })?;
        let mut error = 0.0;
        for plane in 0..2 {
            let code = &mut image.codes[plane];
            code.try_resize(dim, 0)?;
            let encoded = kernels().encode_query(residual, self.zeros(), code);
            residual.iter_mut().zip(code.iter()).for_each(|(v, &c)| *v -= encoded.scale * f32::from(c));
            panel.push_summed(code, encoded.sum);
            image.encoded[plane] = encoded;
            error = f64::from(encoded.err);
        }
        // The differences are rounded in f32.
        image.error = error + 1e-6 * image.norm.sqrt();
        let rows = CodeRows {
            blocks: &self.blocks,
            dim,
            rows: width,
            u: &self.zeros,
            r: &self.zeros,
            s: &self.zeros,
        };
        let padded = codes::padded_rows(width);
        dots.try_resize(2 * padded, 0)?;
        kernels().dots_i8(&rows, panel, dots);
        let (first, second) = dots.split_at(padded);
        image.head.clear();
        let mut head = std::mem::take(&mut image.head);
        let dots = first.iter().zip(second);
        let products = self.scales.iter().zip(dots).map(|(&s, (&a, &b))| f64::from(s) * image.of_dots(a, b));
        head.try_extend(products)?;
        image.head = head;
        Ok(())
    }

    /// The last coordinate of a sketch, less its mean, and a bound of its error. The squared length of the
    /// vector is `norm`, known to `slack`.
    pub(crate) fn tail_of(&self, norm: f64, head: f64, slack: f64) -> (f64, f64) {
        let slack = slack + 1e-9 * norm;
        let tail = (norm - head).max(0.0).sqrt();
        // |a - b| = |a^2 - b^2| / (a + b), and at most sqrt(|a^2 - b^2|).
        let error = if tail * tail > slack { slack / tail } else { slack.sqrt() };
        (tail - f64::from(self.tail), error)
    }
}
