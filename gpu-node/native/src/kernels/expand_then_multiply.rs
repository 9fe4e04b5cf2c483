//! Sparse multiplication in two steps, for instruction sets that cannot expand within registers.

use super::{BlockFn, BlockSums, ExpandFn, MAX_GROUP_BYTES, Panel};
use crate::prefetch::prefetch_bytes;
use crate::storage::VECTOR_BYTES;

/// Prefetch distance, bytes: about a group, which arrives while the group before it is multiplied.
pub(super) const EXPAND_AHEAD: usize = 2048;

/// Room for an expanded group of any format, and for the vector that may be read behind it.
#[repr(align(64))]
struct Group([u8; MAX_GROUP_BYTES + VECTOR_BYTES]);

/// Multiplies sparse groups: expands each group into the nearest cache, once for all tokens, and multiplies
/// it from there.
///
/// # Safety
///
/// The contracts of `expand` and `multiply`, for a stream of `groups` sparse groups.
pub(super) unsafe fn expand_then_multiply(
    expand: ExpandFn,
    multiply: BlockFn,
    mut stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let mut expanded = Group([0; _]);
    for panel in panel.each_group(groups) {
        // SAFETY: `stream` starts with a group, by the contract; `expanded` has room for a group of any format
        // and a vector more.
        unsafe {
            let read = expand(stream, 1, &mut expanded.0);
            stream = &stream[read..];
            prefetch_bytes(stream.as_ptr().wrapping_add(EXPAND_AHEAD), read);
            multiply(&expanded.0, 1, panel, sums);
        }
    }
}

/// Defines a [`BlockFn`] for sparse groups of `GROUP` columns: `$expand` expands them, and `$multiply` multiplies expanded ones.
macro_rules! expanding_fn {
    ($(#[$contract:meta])* $visibility:vis $name:ident, $($expand:ident)::+, $($multiply:ident)::+) => {
        /// # Safety
        ///
        /// The contract of a `BlockFn`.
        $(#[$contract])*
        $visibility unsafe fn $name<const GROUP: usize, const T: usize>(
            stream: &[u8],
            groups: usize,
            panel: Panel<'_>,
            sums: &mut BlockSums,
        ) {
            let (expand, multiply) = ($($expand)::+::<GROUP>, $($multiply)::+::<GROUP, T>);
            // SAFETY: guaranteed by the caller.
            unsafe { expand_then_multiply(expand, multiply, stream, groups, panel, sums) }
        }
    };
}
pub(super) use expanding_fn;
