//! Which file a table is in. Memory that mirrors a table is keyed by it, and must not outlive it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::fork::PerProcess;
use crate::index::Version;
use crate::sqlite::Db;
use crate::vtab::table::registry::cache;

/// A file that a table of this process is in: device and inode. As long as the file is open no other file can have them.
pub struct OpenFile {
    id: (u64, u64),
    path: PathBuf,
    /// SQLite opens a table anew where another connection has changed it. To restore a file by the backup interface is such
    /// a change; so is any DDL and VACUUM, after which the lists are read again. What else could tell nobody has found: a
    /// forged copy is equal in all that can be looked at without reading it.
    schema_version: i64,
}

/// What is known of a file that snapshots are kept of.
enum Known {
    /// So many tables are in it, and this is the newest schema version that one was opened at.
    Open(usize, i64),
    /// Nobody has it open any more. Another file may come to have its inode, or other content may be put into it: the
    /// snapshots are of use only if it was not touched meanwhile.
    Left(Untouched),
}

/// The size of a file and the time of its last change, which no program can set.
#[derive(PartialEq)]
struct Untouched {
    size: u64,
    changed: Duration,
}

/// Files whose snapshots are kept though nobody has them open, at most.
const LEFT_KEPT: usize = 64;
/// A file that was changed so recently may change again without its time showing it: file systems count in ticks.
const TICK: Duration = Duration::from_millis(100);

type Files = HashMap<(u64, u64), Known>;

static KNOWN: PerProcess<Mutex<Files>> = PerProcess::new();

fn known() -> MutexGuard<'static, Files> {
    KNOWN.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenFile {
    /// The file of a schema; none where that cannot be told for sure.
    pub fn of(db: Db, schema: &str) -> Option<Self> {
        let path = PathBuf::from(db.file_name(schema).filter(|path| !path.is_empty())?);
        let (id, untouched) = look(&path)?;
        let schema_version = db.schema_version(schema)?;
        // Asked after looking: what was looked at is what SQLite has open.
        if db.file_has_moved(schema) {
            return None;
        }
        let mut known = known();
        let (tables, newest) = match known.get(&id) {
            Some(&Known::Open(tables, newest)) => (tables, newest),
            Some(Known::Left(left)) if *left == untouched => (0, schema_version),
            _ => (0, i64::MIN),
        };
        // Readers of old snapshots read again.
        if newest < schema_version {
            cache().forget_file(id);
        }
        known.insert(id, Known::Open(tables + 1, newest.max(schema_version)));
        Some(Self { id, path, schema_version })
    }

    /// Device and inode.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// A version of a table in it.
    pub fn version(&self, uuid: [u8; 16], stamp: [u8; 16]) -> Version {
        Version { uuid, stamp, file: self.id, schema_version: self.schema_version }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut known = known();
        match known.get_mut(&self.id) {
            Some(Known::Open(tables, _)) if *tables > 1 => *tables -= 1,
            _ => match look(&self.path) {
                Some((id, untouched)) if id == self.id && untouched.is_settled() => {
                    known.insert(id, Known::Left(untouched));
                    forget_some(&mut known);
                }
                _ => forget(&mut known, self.id),
            },
        }
    }
}

fn forget(known: &mut Files, id: (u64, u64)) {
    known.remove(&id);
    cache().forget_file(id);
}

/// Keeps few files that nobody has open, those that were changed last.
fn forget_some(known: &mut Files) {
    let mut left: Vec<_> = known
        .iter()
        .filter_map(|(id, known)| match known {
            Known::Left(untouched) => Some((untouched.changed, *id)),
            Known::Open(..) => None,
        })
        .collect();
    if left.len() > LEFT_KEPT {
        left.sort_unstable();
        left.drain(..left.len() - LEFT_KEPT).for_each(|(_, id)| forget(known, id));
    }
}

impl Untouched {
    fn is_settled(&self) -> bool {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.checked_sub(self.changed).is_some_and(|age| age > TICK)
    }
}

#[cfg(unix)]
fn look(path: &Path) -> Option<((u64, u64), Untouched)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    let changed = Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    Some(((metadata.dev(), metadata.ino()), Untouched { size: metadata.size(), changed }))
}

#[cfg(not(unix))]
fn look(_: &Path) -> Option<((u64, u64), Untouched)> {
    // No inode here: each connection keeps its own snapshots.
    None
}
