//! What a transaction has done to a table that its end has to look after, by savepoint: what a savepoint takes back is
//! forgotten with it.

use crate::storage::Written;

/// What was done since a savepoint opened, or since the transaction began.
#[derive(Debug)]
struct Layer {
    /// The number of the savepoint, -1 for the transaction itself.
    level: i32,
    /// The name of the table when the savepoint opened.
    name: String,
    /// The version of the table then; none where the transaction had written nothing before.
    ver: Option<[u8; 16]>,
    /// Whether it may have another version now.
    touched: bool,
    written: Written,
    /// The lists were looked after here: what was written before is done with, as long as this layer is not undone.
    settled: bool,
}

impl Layer {
    fn new(level: i32, name: String, ver: Option<[u8; 16]>) -> Self {
        Self { level, name, ver, touched: false, written: Written::default(), settled: false }
    }

    /// Adds what a later layer did.
    fn absorb(&mut self, later: Self) {
        self.touched |= later.touched;
        if later.settled {
            self.settled = true;
            self.written = later.written;
        } else {
            self.written.extend(later.written);
        }
    }
}

/// The layers of a transaction, the innermost last.
///
/// SQLite tells a table of a savepoint when it opens, or when the table is first written: then of the innermost one only. It
/// tells each object that stands for the table, so that the same news may come twice.
#[derive(Debug)]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// Those of a transaction that has done nothing yet.
    pub fn new(name: String) -> Self {
        Self(vec![Layer::new(-1, name, None)])
    }

    fn top(&mut self) -> &mut Layer {
        if self.0.is_empty() {
            *self = Self::new(String::new());
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// The innermost savepoint of the transaction that the table was told of, -1 for none.
    pub fn level(&self) -> i32 {
        self.0.last().map_or(i32::MIN, |layer| layer.level)
    }

    /// Whether nothing has happened in the transaction.
    pub fn is_new(&self) -> bool {
        self.0.iter().all(|layer| layer.level < 0 && !layer.touched)
    }

    /// The version at the last savepoint, if the table has not been written since.
    pub fn untouched(&self) -> Option<Option<[u8; 16]>> {
        self.0.last().filter(|layer| !layer.touched).map(|layer| layer.ver)
    }

    /// A savepoint opens; nothing, if that is known.
    pub fn open(&mut self, level: i32, name: String, ver: Option<[u8; 16]>) {
        if level > self.level() {
            self.0.push(Layer::new(level, name, ver));
        }
    }

    /// The savepoints from `level` on are gone, what was done in them stays.
    pub fn release(&mut self, level: i32) {
        let Some(mut gone) = self.pop_from(level.max(0)) else { return };
        if self.level() < level - 1 {
            // The table was first written after the next one opened, and not told of it.
            gone.level = level - 1;
            self.0.push(gone);
        } else {
            self.top().absorb(gone);
        }
    }

    /// Takes the layers from `level` on away, as one.
    fn pop_from(&mut self, level: i32) -> Option<Layer> {
        let mut inner: Option<Layer> = None;
        while self.level() >= level
            && let Some(mut outer) = self.0.pop()
        {
            if let Some(inner) = inner {
                outer.absorb(inner);
            }
            inner = Some(outer);
        }
        inner
    }

    /// What was done since the savepoint `level` opened was undone, -1 for all of the transaction, which goes on. The name of
    /// the table then; none if the savepoint is not known to be open.
    pub fn undo(&mut self, level: i32) -> Option<String> {
        if level > self.level() {
            return None;
        }
        let Layer { name, ver, .. } = self.pop_from(level)?;
        self.0.push(Layer::new(level, name.clone(), ver));
        Some(name)
    }

    /// The table was written.
    pub fn touch(&mut self) {
        self.top().touched = true;
    }

    /// Rows were written.
    pub fn add(&mut self, written: Written) {
        self.top().written.extend(written);
    }

    /// Whatever was written so far is looked after.
    pub fn settle(&mut self) {
        let top = self.top();
        top.settled = true;
        top.written = Written::default();
    }

    /// What was written and is yet to be looked after.
    pub fn written(&self) -> Written {
        let from = self.0.iter().rposition(|layer| layer.settled).unwrap_or(0);
        let mut written = Written::default();
        for layer in &self.0[from..] {
            written.rows = written.rows.saturating_add(layer.written.rows);
            written.lists.extend(layer.written.lists.iter().map(|(list_no, rows)| (*list_no, *rows)));
        }
        written
    }

    /// Whether rows were written that are yet to be looked after.
    pub fn has_written(&self) -> bool {
        let from = self.0.iter().rposition(|layer| layer.settled).unwrap_or(0);
        self.0[from..].iter().any(|layer| layer.written.rows > 0)
    }

    /// What was done up to that version of the table; none if that was not its version at a savepoint.
    pub fn up_to(mut self, ver: [u8; 16]) -> Option<Self> {
        let at = self.0.iter().rposition(|layer| layer.ver == Some(ver))?;
        self.0.truncate(at);
        Some(self).filter(|layers| !layers.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: u64) -> Written {
        Written { rows, ..Written::default() }
    }

    #[test]
    fn a_layer_is_forgotten_or_kept_with_its_savepoint() {
        let mut layers = Layers::new("s".into());
        layers.add(rows(1));
        layers.open(0, "t".into(), Some([1; 16]));
        layers.add(rows(10));
        layers.open(1, "u".into(), Some([2; 16]));
        layers.open(1, "v".into(), Some([3; 16]));
        layers.add(rows(100));
        assert_eq!((layers.written().rows, layers.level()), (111, 1));
        layers.settle();
        assert!(!layers.has_written());
        layers.add(rows(1000));
        assert_eq!(layers.written().rows, 1000);
        assert_eq!(layers.undo(2), None);
        assert_eq!(layers.undo(1), Some("u".into()));
        assert_eq!((layers.written().rows, layers.level()), (11, 1));
        layers.add(rows(100));
        layers.release(1);
        assert_eq!((layers.written().rows, layers.level()), (111, 0));
        assert_eq!(layers.undo(0), Some("t".into()));
        assert_eq!((layers.written().rows, layers.level()), (1, 0));
        layers.release(0);
        assert_eq!((layers.written().rows, layers.level()), (1, -1));
        // The savepoint that began the transaction.
        assert_eq!(layers.undo(-1), Some("s".into()));
        assert_eq!((layers.written().rows, layers.level()), (0, -1));
    }

    #[test]
    fn a_table_that_was_told_late_knows_the_savepoints_outside() {
        let mut layers = Layers::new("s".into());
        layers.open(4, "t".into(), None);
        layers.add(rows(5));
        layers.release(4);
        assert_eq!((layers.written().rows, layers.level()), (5, 3));
        layers.open(4, "t".into(), Some([4; 16]));
        layers.add(rows(7));
        assert_eq!(layers.undo(1), Some("t".into()));
        assert_eq!((layers.written().rows, layers.level()), (0, 1));
        layers.add(rows(3));
        layers.release(0);
        assert_eq!((layers.written().rows, layers.level()), (3, -1));
    }

    #[test]
    fn what_was_written_up_to_a_version_is_found_again() {
        let mut layers = Layers::new("s".into());
        layers.add(rows(1));
        layers.open(0, "t".into(), Some([1; 16]));
        layers.add(rows(10));
        assert!(Layers::new(String::new()).up_to([1; 16]).is_none());
        assert_eq!(layers.up_to([1; 16]).unwrap().written().rows, 1);
    }
}
