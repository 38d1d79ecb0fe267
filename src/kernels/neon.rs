//! AVX-512.

use super::Kernels;

/// The sets of this module that the machine can run, the best one last.
pub(super) fn detect() -> Vec<&'static Kernels> {
    Vec::new()
}
