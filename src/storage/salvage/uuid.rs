//! The uuid of a table whose state is damaged.

use crate::sqlite::Kind;
use crate::storage::format::seal::Seal;
use crate::storage::salvage::readable;
use crate::storage::{Sql, State, StorageError, Tables};

/// Heads that are held against a uuid, at most.
const HEADS: usize = 8;

/// The seal of a table, and its state if that is whole.
///
/// A uuid whose state is damaged is right if one blob is sealed with it: by chance one in 2^64 is. If none
/// is, each uuid that differs in one byte is tried. A uuid that is lost altogether stands nowhere else.
///
/// # Errors
/// [`StorageError::Corrupt`] if the uuid is lost: nothing in the table can then be told from damage.
pub(super) fn seal_of(tables: &Tables) -> Result<(Seal, Option<State>), StorageError> {
    if let Some(state) = readable(tables.read_state())? {
        return Ok((state.seal(), Some(state)));
    }
    if let Some(found) = readable(candidate(tables))?.flatten() {
        let proofs = proofs(tables)?;
        let is_right = |uuid: &[u8; 16]| {
            let seal = Seal::new(*uuid);
            proofs.iter().any(|(kind, id, blob)| seal.unseal(*kind, *id, blob).is_ok())
        };
        if is_right(&found) {
            return Ok((Seal::new(found), None));
        }
        for at in 0..found.len() {
            for flip in 1..=u8::MAX {
                let mut uuid = found;
                uuid[at] ^= flip;
                if is_right(&uuid) {
                    return Ok((Seal::new(uuid), None));
                }
            }
        }
    }
    Err(tables.corrupt(
        "state",
        1,
        "the uuid is lost, and without it no checksum of the table can be verified: take the uuid from a backup",
    ))
}

/// What stands where the uuid should.
fn candidate(tables: &Tables) -> Result<Option<[u8; 16]>, StorageError> {
    let mut statement = tables.statement(Sql::StateRead)?;
    let mut rows = statement.query(&[])?;
    if !rows.step()? || rows.kind(0) != Kind::Blob {
        return Ok(None);
    }
    Ok(rows.blob(0)?.try_into().ok())
}

/// Small blobs that are sealed with 64 bits: the kind of each, its number, its bytes.
fn proofs(tables: &Tables) -> Result<Vec<(u8, i64, Vec<u8>)>, StorageError> {
    let mut proofs = Vec::new();
    let settings = || -> Result<Vec<u8>, StorageError> {
        let mut statement = tables.statement(Sql::ConfigRead)?;
        let mut rows = statement.query(&["settings".into()])?;
        Ok(if rows.step()? { rows.blob(0)?.to_vec() } else { Vec::new() })
    };
    proofs.extend(readable(settings())?.map(|blob| (b'g', 0, blob)));
    let mut heads = || -> Result<(), StorageError> {
        let mut statement = tables.statement(Sql::ListsRead)?;
        let mut rows = statement.query(&[i64::MIN.into(), i64::MAX.into()])?;
        while proofs.len() <= HEADS && rows.step()? {
            if rows.kind(1) == Kind::Blob {
                proofs.push((b'h', rows.i64(0), rows.blob(1)?.to_vec()));
            }
        }
        Ok(())
    };
    readable(heads())?;
    Ok(proofs)
}
