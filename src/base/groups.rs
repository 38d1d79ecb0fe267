//! Items grouped by a small number, by counting sort.

use crate::base::alloc::{OutOfMemory, TryExtend};

/// Items in groups, each group in the order of insertion. The memory is reused by the next sort.
#[derive(Debug)]
pub(crate) struct Groups<T> {
    items: Vec<T>,
    /// Group g is `items[starts[g]..starts[g + 1]]`.
    starts: Vec<usize>,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self { items: Vec::new(), starts: Vec::new() }
    }
}

impl<T: Copy> Groups<T> {
    /// Groups the items of `all`, which are pairs of a group below `groups` and an item.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(groups: usize, all: impl Iterator<Item = (u32, T)> + Clone) -> Result<Self, OutOfMemory> {
        let mut sorted = Self::default();
        sorted.sort(groups, all)?;
        Ok(sorted)
    }

    /// [`Groups::new`] that replaces the items of these groups, and reuses the memory.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn sort(
        &mut self,
        groups: usize,
        all: impl Iterator<Item = (u32, T)> + Clone,
    ) -> Result<(), OutOfMemory> {
        self.items.clear();
        self.items.try_extend(all.clone().map(|(_, item)| item))?;
        // Counts are stored two places further on: while items are placed, `starts[g + 1]` is where the next
        // item of group g goes. At the end it is where group g + 1 starts.
        self.starts.clear();
        self.starts.try_resize(groups + 2, 0)?;
        if groups == 1 {
            self.starts[1] = self.items.len();
            return Ok(());
        }
        all.clone().for_each(|(group, _)| self.starts[group as usize + 2] += 1);
        for group in 2..groups + 2 {
            self.starts[group] += self.starts[group - 1];
        }
        for (group, item) in all {
            let place = &mut self.starts[group as usize + 1];
            self.items[*place] = item;
            *place += 1;
        }
        Ok(())
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(2)
    }

    /// The items of a group.
    pub fn of(&self, group: usize) -> &[T] {
        &self.items[self.range(group)]
    }

    /// The items of a group, for reordering.
    pub fn of_mut(&mut self, group: usize) -> &mut [T] {
        let range = self.range(group);
        &mut self.items[range]
    }

    /// The range of a group in [`Groups::items`].
    pub fn range(&self, group: usize) -> std::ops::Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// All items, group by group.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The groups that have items, ascending, with their items.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[T])> {
        (0..self.len()).map(|group| (group, self.of(group))).filter(|(_, items)| !items.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stand_in_their_groups_in_the_order_in_which_they_came() {
        let mut sorted = Groups::default();
        for groups in [1, 2, 5, 40] {
            for n in [0, 1, 7, 100_u32] {
                let all = (0..n).map(|i| (i * i * 7 % groups, i));
                sorted.sort(groups as usize, all.clone()).unwrap();
                for group in 0..groups {
                    let wanted: Vec<u32> =
                        all.clone().filter(|(of, _)| *of == group).map(|(_, i)| i).collect();
                    assert_eq!(sorted.of(group as usize), wanted);
                }
                assert_eq!(sorted.iter().map(|(_, items)| items.len() as u32).sum::<u32>(), n);
            }
        }
    }
}
