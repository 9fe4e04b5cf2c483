use super::{BlockFn, BlockSums, ExpandFn, Panel};
use crate::storage::{BLOCK_ROWS, MAX_GROUP, VECTOR_BYTES};

/// A dense group of any format, and the vector that may be read behind it.
#[repr(align(64))]
struct Group([u8; 2 * BLOCK_ROWS * MAX_GROUP + 2 * BLOCK_ROWS + VECTOR_BYTES]);

/// A sparse multiplication for instruction sets that cannot expand within registers: each group is
/// expanded into the nearest cache, once for all tokens, and multiplied from there.
///
/// # Safety
///
/// The contracts of `expand` and `multiply`.
pub(super) unsafe fn by_groups(
    expand: ExpandFn,
    multiply: BlockFn,
    mut stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let mut dense = Group([0; _]);
    for group in 0..groups {
        // SAFETY: `stream` starts at a group, the caller's; `dense` has room for one of any format,
        // and a vector more.
        unsafe {
            let read = expand(stream, 1, &mut dense.0);
            stream = &stream[read..];
            multiply(&dense.0, 1, panel.group(group, groups), sums);
        }
    }
}
