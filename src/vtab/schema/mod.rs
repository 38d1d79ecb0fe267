//! What a CREATE statement says: columns, options, settings.

pub mod columns;
pub mod knobs;
pub mod options;
pub mod vec0;
pub mod words;
