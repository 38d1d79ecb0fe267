//! Sketches: the first pass of a scan reads a row in fewer dimensions.
//!
//! A [`Projection`] P has `width` rows, and shortens every vector: |P v| <= |v|. The sketch of a vector x is
//! the point
//!
//! ```text
//! y(x) = (P (x - m), t(x)),   t(x) = sqrt(|x - m|^2 - |P (x - m)|^2)
//! ```
//!
//! of `width + 1` dimensions. Since I - P^T P is positive semidefinite, t is a seminorm of x - m, and its
//! triangle inequality gives
//!
//! ```text
//! |y(q) - y(x)| <= |q - x|,   <q, x> <= <y(q), y(x)>  (with m = 0)
//! ```
//!
//! So a sketch bounds keys from below, as codes do, and the same kernels and the same linear forms read it.
//! How tight it is depends on the data. The rows of P are the directions in which rows differ most from their
//! centroids (the principal components); the last coordinate makes up for the length that P loses. FlatPanorama
//! (faiss) and PCA trees rule rows out by such partial distances, too; here the bound is one distance of two
//! short codes, so that it needs no loop over parts.
//!
//! Sketches are made in memory from the codes of a segment, once its vectors are resident. The rows that they
//! do not rule out, a few in a hundred, are compared exactly. A table stores only its projection.

mod projection;
mod query;
mod train;

pub use projection::Projection;
pub(crate) use query::{CodedQuery, SketchScratch};
