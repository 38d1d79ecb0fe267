//! Identifies the file that a table is in. Memory that mirrors a table has this key, and must not outlive its
//! file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::fork::PerProcess;
use crate::index::Version;
use crate::sqlite::Db;
use crate::vtab::table::registry::cache;

/// A file with a table of this process: device and inode. While the file is open, no other file can have
/// them.
pub struct OpenFile {
    id: (u64, u64),
    path: PathBuf,
    /// The schema version. SQLite reconnects a table if another connection has changed the schema. A restore
    /// by the backup API changes it; so does any DDL and VACUUM, after which the lists are read again. No
    /// cheaper signal is known: a forged copy is equal in everything that can be checked without reading it.
    schema_version: i64,
}

/// What is known of a file whose snapshots are cached.
enum KnownFile {
    /// How many tables in it are open, and the newest schema version that one was opened at.
    Open(usize, i64),
    /// No table in it is open. Another file may get its inode, or it may get other content, so the snapshots
    /// are used again only if the file is unchanged.
    Left(Untouched),
}

/// The size of a file and its ctime, which no program can set.
#[derive(PartialEq)]
struct Untouched {
    size: u64,
    changed: Duration,
}

/// The most files whose snapshots are kept without an open table.
const LEFT_KEPT: usize = 64;
/// A file that was changed this recently may change again without a change of its ctime, because file systems
/// count in ticks.
const TICK: Duration = Duration::from_millis(100);

type Files = HashMap<(u64, u64), KnownFile>;

static KNOWN: PerProcess<Mutex<Files>> = PerProcess::new();

fn known() -> MutexGuard<'static, Files> {
    KNOWN.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenFile {
    /// The file of a schema; `None` if it cannot be identified for certain.
    pub fn of(db: Db, schema: &str) -> Option<Self> {
        let path = PathBuf::from(db.file_name(schema).filter(|path| !path.is_empty())?);
        let (id, untouched) = look(&path)?;
        let schema_version = db.schema_version(schema)?;
        // Checked after `look`, so that the file it has looked at is the one that SQLite has open.
        if db.file_has_moved(schema) {
            return None;
        }
        let mut known = known();
        let (tables, newest) = match known.get(&id) {
            Some(&KnownFile::Open(tables, newest)) => (tables, newest),
            Some(KnownFile::Left(left)) if *left == untouched => (0, schema_version),
            _ => (0, i64::MIN),
        };
        // Readers of older snapshots read them again.
        if newest < schema_version {
            cache().forget_file(id);
        }
        known.insert(id, KnownFile::Open(tables + 1, newest.max(schema_version)));
        Some(Self { id, path, schema_version })
    }

    /// Device and inode.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// The version of a table in this file.
    pub fn version(&self, uuid: [u8; 16], stamp: [u8; 16]) -> Version {
        Version { uuid, stamp, file: self.id, schema_version: self.schema_version }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut known = known();
        match known.get_mut(&self.id) {
            Some(KnownFile::Open(tables, _)) if *tables > 1 => *tables -= 1,
            _ => match look(&self.path) {
                Some((id, untouched)) if id == self.id && untouched.is_settled() => {
                    known.insert(id, KnownFile::Left(untouched));
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

/// Limits the files without an open table to those that were changed last.
fn forget_some(known: &mut Files) {
    let mut left: Vec<_> = known
        .iter()
        .filter_map(|(id, known)| match known {
            KnownFile::Left(untouched) => Some((untouched.changed, *id)),
            KnownFile::Open(..) => None,
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
    // No inodes here: each connection keeps its own snapshots.
    None
}
