//! sqlite-ivf
#![deny(unsafe_code)]
#![warn(missing_docs)]
pub mod device;
pub mod index;
#[allow(unsafe_code)]
pub mod kernels;
