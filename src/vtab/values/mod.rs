//! Converts SQL values to vectors and numbers, and back.

pub mod element;
pub mod json;
pub mod number;
pub mod vector;
