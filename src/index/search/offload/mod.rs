//! Scans on a device.
//!
//! For each query, a device returns the `keep` > k rows with the smallest scores in the lists probed there. A
//! score and the key of the same row differ by at most a margin that bounds both kinds of arithmetic. So each
//! row that came back is a candidate: with its key if the device computed it, else with two bounds, and
//! re-scored on the CPU like any other. A row that did not come back has a score of at least the last one's,
//! so its key is at least the key of that score less the margin. If that is above the k-th smallest upper
//! bound, no row is missing. If it is not (more than keep - k rows are equally near up to rounding), the CPU
//! scans the query. The rows and the distances are the CPU's in either case.

pub(super) mod key_bounds;
mod pairs;
pub(super) mod whole;

use std::sync::Arc;

use crate::device::DeviceName;
use crate::index::{DeviceCache, IndexError, Placement, SearchParams, Snapshot};

/// The multiplications from which `auto` uses a GPU: about a millisecond on sixteen cores, and on the GPU.
const AUTO_MIN: u64 = 1 << 28;
/// The most entries that all queries of a call may keep, over all pieces of their lists: 512 MB on the
/// device.
const ENTRIES_MAX: usize = 1 << 26;
/// How many queries one task settles.
const SETTLE_QUERIES: usize = 64;

/// How many rows a device keeps for a query that wants k. The spare rows avoid scanning it again because of a
/// few near ties.
pub(crate) fn keep(k: usize) -> usize {
    k.saturating_add((k / 4).max(6))
}

/// The device for a search of `nq` queries; `None` for the CPU.
///
/// # Errors
/// [`IndexError::Device`] if the device cannot be opened.
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
    // A range search has no k-th row, later pages start at a key, and a device knows no groups: the CPU does these.
    Ok(device.filter(|device| {
        let most = match params.device {
            Placement::Auto => device.accelerator.fast_keep(),
            _ => device.accelerator.max_keep(),
        };
        params.above_key.is_none() && params.per.is_none() && keep(params.k) <= most
    }))
}
