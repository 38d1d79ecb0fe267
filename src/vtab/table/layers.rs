//! What a transaction has written to a table, by savepoint, for the upkeep at its end. A rollback to a
//! savepoint also undoes these records.

use crate::storage::Written;

/// What was written since a savepoint opened, or since the transaction began.
#[derive(Debug)]
struct Layer {
    /// The number of the savepoint; -1 for the transaction itself.
    level: i32,
    /// The name of the table when the savepoint opened.
    name: String,
    /// The version of the table at that time; `None` if the transaction had written nothing before.
    ver: Option<[u8; 16]>,
    /// Whether the version may have changed since.
    touched: bool,
    written: Written,
    /// Whether upkeep was done in this layer. What was written before it then needs none, unless this layer
    /// is undone.
    settled: bool,
}

impl Layer {
    fn new(level: i32, name: String, ver: Option<[u8; 16]>) -> Self {
        Self { level, name, ver, touched: false, written: Written::default(), settled: false }
    }

    /// Adds a later layer to this one.
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

/// The layers of a transaction, innermost last.
///
/// SQLite tells a table of a savepoint when it opens, or when the table is first written: then only of the
/// innermost one. It tells each object of the table, so the same call may come twice.
///
/// A dropped table that ROLLBACK TO brings back is another object, and nobody has told it what happened to
/// savepoints meanwhile. It only knows the versions in its past.
#[derive(Debug)]
pub struct Layers {
    layers: Vec<Layer>,
    /// What was written before the table was dropped. The last layer is empty: its version is that of the
    /// table when it came back.
    past: Vec<Layer>,
    /// The innermost savepoint that was open at that time; -1 for none. Undoing it may undo a part of the
    /// past.
    within: i32,
    /// Whether `within` is not known yet.
    late: bool,
    /// Whether a part of the past may have been undone.
    stale: bool,
}

impl Layers {
    /// The layers of a new transaction.
    pub fn new(name: String) -> Self {
        let layers = vec![Layer::new(-1, name, None)];
        Self { layers, past: Vec::new(), within: -1, late: false, stale: false }
    }

    /// The layers of a table that was dropped, and has come back under `name` with the version `ver`. `self`
    /// is from before.
    pub fn come_back(self, ver: [u8; 16], name: String) -> Self {
        let past = self.past.into_iter().chain(self.layers).collect();
        let mut layers = Self { past, late: true, ..Self::new(name) };
        layers.reconcile(ver);
        layers
    }

    /// Whether [`Layers::reconcile`] must be called before the table is written.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Drops the part of the past that was undone: the table has the version `ver` again.
    pub fn reconcile(&mut self, ver: [u8; 16]) {
        // A version that no savepoint has is the one at which the transaction began.
        let at = self.past.iter().rposition(|layer| layer.ver == Some(ver));
        self.past.truncate(at.unwrap_or(0));
        if !self.past.is_empty() {
            self.past.push(Layer::new(-1, String::new(), Some(ver)));
        }
        // The rollback went further back than this object: its layer began with another version.
        let stale = std::mem::take(&mut self.stale);
        if let Some(last) = self.layers.last_mut().filter(|last| stale && !last.touched) {
            last.ver = Some(ver);
        }
    }

    /// All layers, outermost first.
    fn all(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        self.past.iter().chain(&self.layers)
    }

    fn top(&mut self) -> &mut Layer {
        if self.layers.is_empty() {
            *self = Self::new(String::new());
        }
        let last = self.layers.len() - 1;
        &mut self.layers[last]
    }

    /// The innermost savepoint that the table was told of; -1 for none.
    pub fn level(&self) -> i32 {
        self.layers.last().map_or(i32::MIN, |layer| layer.level)
    }

    /// Whether nothing has happened in the transaction.
    pub fn is_new(&self) -> bool {
        self.all().all(|layer| layer.level < 0 && !layer.touched)
    }

    /// The version at the last savepoint, if the table was not written since.
    pub fn untouched(&self) -> Option<Option<[u8; 16]>> {
        self.layers.last().filter(|layer| !layer.touched).map(|layer| layer.ver)
    }

    /// Opens a savepoint, unless it is known.
    pub fn open(&mut self, level: i32, name: String, ver: Option<[u8; 16]>) {
        if std::mem::take(&mut self.late) {
            self.within = level;
        }
        if level > self.level() {
            self.layers.push(Layer::new(level, name, ver));
        }
    }

    /// Releases the savepoints from `level` on. What was written in them remains.
    pub fn release(&mut self, level: i32) {
        self.within = self.within.min(level - 1).max(-1);
        let Some(mut gone) = self.pop_from(level.max(0)) else { return };
        if self.level() < level - 1 {
            // The table was first written after the next savepoint opened, and was not told of this one.
            gone.level = level - 1;
            self.layers.push(gone);
        } else {
            self.top().absorb(gone);
        }
    }

    /// Removes the layers from `level` on, and merges them into one.
    fn pop_from(&mut self, level: i32) -> Option<Layer> {
        let mut inner: Option<Layer> = None;
        while self.level() >= level
            && let Some(mut outer) = self.layers.pop()
        {
            if let Some(inner) = inner {
                outer.absorb(inner);
            }
            inner = Some(outer);
        }
        inner
    }

    /// Undoes what was written since the savepoint `level` opened (-1: since the transaction began). The
    /// savepoint stays open. Returns the name of the table at that time; `None` if the savepoint is not known
    /// to be open.
    pub fn undo(&mut self, level: i32) -> Option<String> {
        if level > self.level() {
            return None;
        }
        self.stale |= level <= self.within && !self.past.is_empty();
        // Later savepoints of the same numbers are younger than the return of the table.
        self.within = self.within.min(level);
        let Layer { name, ver, .. } = self.pop_from(level)?;
        self.layers.push(Layer::new(level, name.clone(), ver));
        Some(name)
    }

    /// Notes that the table was written.
    pub fn touch(&mut self) {
        self.late = false;
        self.top().touched = true;
    }

    /// Adds rows that were written.
    pub fn add(&mut self, written: Written) {
        self.top().written.extend(written);
    }

    /// Notes that upkeep was done for everything written so far.
    pub fn settle(&mut self) {
        let top = self.top();
        top.settled = true;
        top.written = Written::default();
    }

    /// What was written and still needs upkeep.
    pub fn written(&self) -> Written {
        let mut written = Written::default();
        for layer in self.all() {
            if layer.settled {
                written = Written::default();
            }
            written.rows = written.rows.saturating_add(layer.written.rows);
            written.lists.extend(layer.written.lists.iter().map(|(list_no, rows)| (*list_no, *rows)));
        }
        written
    }

    /// Whether rows were written that still need upkeep.
    pub fn has_written(&self) -> bool {
        let has = |has, layer: &Layer| layer.written.rows > 0 || (has && !layer.settled);
        self.all().fold(false, has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: u64) -> Written {
        Written { rows, ..Written::default() }
    }

    /// A table that came back after 1 row before the savepoint 0 and 10 rows in it, within the savepoint 1.
    fn come_back() -> Layers {
        let mut layers = Layers::new("s".into());
        layers.add(rows(1));
        layers.open(0, "t".into(), Some([1; 16]));
        layers.add(rows(10));
        layers.touch();
        layers.open(1, "t".into(), Some([2; 16]));
        layers.come_back([2; 16], "t".into())
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
        let mut back = come_back();
        assert_eq!((back.written().rows, back.level()), (11, -1));
        // The innermost savepoint that is open now may be any of these, or a later one.
        back.open(0, "t".into(), Some([2; 16]));
        back.add(rows(100));
        assert_eq!(back.undo(0), Some("t".into()));
        assert!(back.is_stale());
        back.reconcile([1; 16]);
        assert_eq!(back.written().rows, 1);
        back.reconcile([1; 16]);
        assert_eq!((back.written().rows, back.is_stale()), (1, false));
        back.reconcile([9; 16]);
        assert!(!back.has_written());
    }

    #[test]
    fn a_savepoint_younger_than_the_return_of_a_table_takes_back_nothing_of_its_past() {
        let mut back = come_back();
        back.open(1, "t".into(), Some([2; 16]));
        back.undo(0);
        back.reconcile([1; 16]);
        assert_eq!(back.untouched(), Some(Some([1; 16])));
        back.add(rows(100));
        back.touch();
        // This one has the number of a savepoint that is gone.
        back.open(1, "t".into(), Some([3; 16]));
        back.undo(1);
        assert!(!back.is_stale());
        assert_eq!(back.written().rows, 101);
        back.undo(0);
        assert!(back.is_stale());
    }
}
