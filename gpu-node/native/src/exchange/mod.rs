//! Refinement of a mask by exchanging a kept weight for a pruned one, row by row.
//! `gpu-node/src/pruning/refinement/exchange.ts` is the reference and explains the method (public name
//! `+swaps`). Here every loop runs over neighbouring columns, and the results have the same bits: every sum
//! is associated as in the reference, no multiplication and addition are fused, and the lowest column wins
//! among equal candidates.

#![allow(unsafe_code)]

mod row;

use crate::cpu::Implementation;
use crate::shape::{ShapeError, check_lengths};
use row::refine_grouped;

/// Rows of a linear whose mask is refined.
///
/// With E the pruned part of W and `H = Σ x xᵀ / tokens`, a row's error is `e H eᵀ`.
#[derive(Debug)]
pub struct RowsToRefine<'a> {
    /// Columns of every row.
    pub cols: usize,
    /// Columns of a group: both weights of an exchange are in the same group. `None`: anywhere in the row.
    pub group: Option<usize>,
    /// W `[rows, cols]`.
    pub weights: &'a [f32],
    /// H `[cols, cols]`, symmetric.
    pub moment: &'a [f64],
    /// Mask bits `[rows, ceil(cols / 8)]`, refined in place.
    pub bits: &'a mut [u8],
    /// `E H` for the mask as given, `[rows, cols]`.
    pub gradient: &'a [f64],
    /// Error of each row under its mask, `[rows]`, updated with the mask.
    pub errors: &'a mut [f64],
}

/// Refines whole rows with the instructions of one level.
///
/// Contract: the machine has the instruction set.
pub(crate) type ExchangeFn = unsafe fn(RowsToRefine<'_>, f64);

/// Compiles the refinement of whole rows for a level, which compares `$lanes` candidates side by side.
macro_rules! compiled_for {
    ($level:ident, $lanes:literal) => {
        pub(crate) mod $level {
            use super::{RowsToRefine, row};
            use crate::cpu::levels::$level;

            $level!(
                pub(crate) unsafe fn refine_whole(rows: RowsToRefine<'_>, floor: f64) {
                    row::refine_whole::<$lanes>(rows, floor);
                }
            );
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, 32);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, 16);
#[cfg(target_arch = "aarch64")]
compiled_for!(neon, 8);
compiled_for!(scalar, 8);

/// Refines rows until no exchange lowers a row's error by more than `floor`. Changes `bits` and `errors` in
/// place.
pub fn refine(
    implementation: &'static Implementation,
    rows: RowsToRefine<'_>,
    floor: f64,
) -> Result<(), ShapeError> {
    check(&rows)?;
    match rows.group {
        // Compiled for the baseline: wider vectors gain nothing within groups. On Zen 3 a row of 576 columns took
        // as long with groups of 4, and half as long again with groups of 8.
        Some(4) => refine_grouped::<4>(rows, 4, floor),
        Some(8) => refine_grouped::<8>(rows, 8, floor),
        Some(group) => refine_grouped::<0>(rows, group, floor),
        // SAFETY: the machine can run every implementation that is given out.
        None => unsafe { (implementation.exchange)(rows, floor) },
    }
    Ok(())
}

fn check(rows: &RowsToRefine<'_>) -> Result<(), ShapeError> {
    let RowsToRefine { cols, group, weights, moment, bits, gradient, errors } = rows;
    let count = errors.len();
    check_lengths(
        &[
            ("weights", weights.len(), [count, *cols]),
            ("moment", moment.len(), [*cols, *cols]),
            ("bits", bits.len(), [count, cols.div_ceil(8)]),
            ("gradient", gradient.len(), [count, *cols]),
        ],
        &format!("{count} rows (as many as errors)"),
    )?;
    match group {
        Some(group) if *group == 0 || !cols.is_multiple_of(*group) => {
            Err(ShapeError::new("group", *group, format!("columns; it must divide the row's {cols}")))
        }
        _ => Ok(()),
    }
}
