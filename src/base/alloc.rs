//! Fallible allocation: an error where the standard library would end the process.
//!
//! For every buffer whose size comes from data. A buffer of at most a few pages, whatever the data, is
//! allocated normally.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

/// A buffer could not be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: {bytes} bytes could not be allocated")]
pub struct OutOfMemory {
    /// Its size.
    pub bytes: usize,
}

/// A collection that can grow fallibly.
pub(crate) trait TryGrow {
    /// Reserves room for `more` elements.
    fn try_room(&mut self, more: usize) -> Result<(), OutOfMemory>;
}

macro_rules! try_grow {
    ($([$($generics:tt)*] $of:ty, $element:ty;)*) => { $(
        impl<$($generics)*> TryGrow for $of {
            #[inline]
            fn try_room(&mut self, more: usize) -> Result<(), OutOfMemory> {
                self.try_reserve(more).map_err(|_| refused::<$element>(self.len().saturating_add(more)))
            }
        }
    )* };
}

try_grow! {
    [T] Vec<T>, T;
    [T: Ord] BinaryHeap<T>, T;
    [T: Eq + Hash, S: BuildHasher] HashSet<T, S>, T;
    [K: Eq + Hash, V, S: BuildHasher] HashMap<K, V, S>, (K, V);
}

#[cold]
fn refused<T>(len: usize) -> OutOfMemory {
    OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) }
}

/// [`Vec`]'s ways to grow, fallibly.
pub(crate) trait TryExtend<T>: Sized {
    fn try_push(&mut self, value: T) -> Result<(), OutOfMemory>;
    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<(), OutOfMemory>;
    fn try_resize(&mut self, len: usize, value: T) -> Result<(), OutOfMemory>
    where
        T: Clone;
    fn try_append(&mut self, values: &[T]) -> Result<(), OutOfMemory>
    where
        T: Copy;
}

impl<T> TryExtend<T> for Vec<T> {
    #[inline]
    fn try_push(&mut self, value: T) -> Result<(), OutOfMemory> {
        if self.len() == self.capacity() {
            self.try_room(1)?;
        }
        self.push(value);
        Ok(())
    }

    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<(), OutOfMemory> {
        let mut values = values.into_iter();
        self.try_room(values.size_hint().0)?;
        // Elements beyond the hint: each push checks for room.
        values.try_for_each(|value| self.try_push(value))
    }

    fn try_resize(&mut self, len: usize, value: T) -> Result<(), OutOfMemory>
    where
        T: Clone,
    {
        self.try_room(len.saturating_sub(self.len()))?;
        self.resize(len, value);
        Ok(())
    }

    fn try_append(&mut self, values: &[T]) -> Result<(), OutOfMemory>
    where
        T: Copy,
    {
        self.try_room(values.len())?;
        self.extend_from_slice(values);
        Ok(())
    }
}

/// An empty vector with room for `len` elements.
pub(crate) fn try_vec<T>(len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| refused::<T>(len))?;
    Ok(vec)
}

/// A vector of `len` times `value`.
pub(crate) fn try_filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = try_vec(len)?;
    vec.resize(len, value);
    Ok(vec)
}

/// A copy of a slice.
pub(crate) fn try_copy<T: Copy>(values: &[T]) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = try_vec(values.len())?;
    vec.extend_from_slice(values);
    Ok(vec)
}

/// The rows of `rows` (`[n][dim]`) with these numbers, in their order.
pub(crate) fn try_gather(rows: &[f32], dim: usize, numbers: &[u32]) -> Result<Vec<f32>, OutOfMemory> {
    let mut gathered = try_vec(numbers.len() * dim)?;
    numbers.iter().for_each(|&number| gathered.extend_from_slice(&rows[number as usize * dim..][..dim]));
    Ok(gathered)
}

/// Collects an iterator.
pub(crate) fn try_collect<T>(values: impl IntoIterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = Vec::new();
    vec.try_extend(values)?;
    Ok(vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_and_leaves_what_was_there() {
        let mut vec = vec![1_u8];
        assert!(matches!(vec.try_room(usize::MAX), Err(OutOfMemory { .. })));
        assert!(vec.try_resize(usize::MAX, 0).is_err());
        assert!(try_vec::<u64>(usize::MAX / 4).is_err());
        assert!(HashMap::<u64, u64>::new().try_room(usize::MAX / 32).is_err());
        assert_eq!(vec, [1]);
    }

    #[test]
    fn what_grows_in_either_way_holds_the_same() {
        let odd = || (0..5000_u32).filter(|n| n % 2 == 1);
        assert_eq!(try_collect(odd()).unwrap(), odd().collect::<Vec<_>>());
        assert_eq!(try_copy(&[1, 2]).unwrap(), try_collect([1, 2]).unwrap());
    }
}
