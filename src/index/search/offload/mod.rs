//! Scans on a device.
//!
//! A device gives each query the `keep` > k rows with the smallest scores of the lists that it probes there. A score and the key of
//! the same row differ by no more than a margin that both kinds of arithmetic are bounded by. So each of the rows that came back
//! is a candidate, with its key if the device has computed it, else with two bounds, re-scored on the CPU like any other; and a row
//! that did not come back has a score, hence a key, that is no smaller than the last one's less the margin. Where that is above the k-th smallest upper bound, nothing is
//! missing. Where it is not - more than keep - k rows as near as makes no difference, up to rounding - the query is scanned on the
//! CPU. The rows and the distances are the CPU's in either case.

pub(super) mod key_bounds;
mod pairs;
pub(super) mod whole;

use std::sync::Arc;

use crate::device::DeviceName;
use crate::index::{DeviceCache, IndexError, Placement, SearchParams, Snapshot};

/// Multiplications from which `auto` takes a search to a GPU: a millisecond of sixteen cores, and of the GPU.
const AUTO_MIN: u64 = 1 << 28;
/// Entries that all queries of a call may keep, over all pieces of their lists: 512 MB on the device.
const ENTRIES_MAX: usize = 1 << 26;
/// Queries whose rows one task settles.
const SETTLE_QUERIES: usize = 64;

/// How many rows a device keeps of a query that wants k: spare ones, so that a few near ties are no reason to scan it again.
pub(crate) fn keep(k: usize) -> usize {
    k.saturating_add((k / 4).max(6))
}

/// The device that takes a search for `nq` queries, if one does.
///
/// # Errors
/// What opening a device fails with.
pub(crate) fn device_for(
    snapshot: &Snapshot,
    params: &SearchParams<'_>,
    nq: usize,
) -> Result<Option<Arc<DeviceCache>>, IndexError> {
    let device = match params.device {
        Placement::Cpu => None,
        Placement::On(device) => Some(Arc::clone(device)),
        Placement::Auto => {
            let lists = params.nprobe.min(snapshot.widest(params.partitions));
            let rows = snapshot.rows() / snapshot.nlist() as u64;
            let factors = [lists as u64, rows, snapshot.dim() as u64];
            let work = factors.into_iter().fold(nq as u64, u64::saturating_mul);
            if work >= AUTO_MIN { DeviceCache::of_process(DeviceName::Auto)? } else { None }
        }
    };
    // A range has no k-th row, and what comes behind a page is found by key: both are the CPU's.
    Ok(device.filter(|device| {
        let most = match params.device {
            Placement::Auto => device.accelerator.fast_keep(),
            _ => device.accelerator.max_keep(),
        };
        params.above_key.is_none() && keep(params.k) <= most
    }))
}
