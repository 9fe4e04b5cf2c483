//! Refinement of a mask by swaps, row by row: what `gpu-node/src/pruning/refinement/exchange.ts` does, which says what and
//! why and is the reference. Here every loop goes over neighbouring columns, and the bits are the same:
//! each sum is associated as there, nothing is fused, and of equal candidates the lowest column is taken.

#![allow(unsafe_code)]

mod row;

#[cfg(target_arch = "x86_64")]
use crate::kernels::InstructionSet;
use crate::kernels::Kernel;
use row::{refine_grouped, refine_whole};
use std::fmt;

/// Some rows of a linear while their mask is refined.
///
/// With E the pruned part of W and `H = Σ x xᵀ / tokens`, a row's error is `e H eᵀ`.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Columns of every row.
    pub cols: usize,
    /// Where a swap stays within one group of so many columns; `None`: anywhere in the row.
    pub group: Option<usize>,
    /// W `[rows, cols]`.
    pub weights: &'a [f32],
    /// H `[cols, cols]`, symmetric.
    pub moment: &'a [f64],
    /// Mask bits `[rows, ceil(cols / 8)]`, refined in place.
    pub bits: &'a mut [u8],
    /// `E H` of the mask as it is given, `[rows, cols]`.
    pub gradient: &'a [f64],
    /// Error of each row under its mask, kept up to date.
    pub errors: &'a mut [f64],
}

/// Arrays that do not belong to one linear.
#[derive(Debug, PartialEq, Eq)]
pub struct ShapeError {
    what: &'static str,
    found: usize,
    expected: String,
}

/// Refines rows until no swap lowers the row's error by more than `floor`.
pub fn swap_rows(kernel: &Kernel, rows: Rows<'_>, floor: f64) -> Result<(), ShapeError> {
    check(&rows)?;
    match (rows.group, kernel.instruction_set()) {
        // Wider vectors win nothing within groups: a row of 576 columns took as long with groups of 4 and half as
        // long again with groups of 8 on Zen 3.
        (Some(4), _) => refine_grouped::<4>(rows, 4, floor),
        (Some(8), _) => refine_grouped::<8>(rows, 8, floor),
        (Some(group), _) => refine_grouped::<0>(rows, group, floor),
        // SAFETY: a kernel is only given out where the machine has its instructions, and these are some of them.
        #[cfg(target_arch = "x86_64")]
        (None, InstructionSet::Avx512) => unsafe { refine_avx512(rows, floor) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (None, InstructionSet::Avx2) => unsafe { refine_avx2(rows, floor) },
        // NEON belongs to the baseline, as SSE2 does.
        (None, _) => refine_whole::<8>(rows, floor),
    }
    Ok(())
}

/// `refine_whole` is inlined here, with all that it calls: that is what its loops are compiled for.
///
/// # Safety
///
/// The machine has AVX-512 F and VL.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2")]
unsafe fn refine_avx512(rows: Rows<'_>, floor: f64) {
    refine_whole::<32>(rows, floor);
}

/// # Safety
///
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn refine_avx2(rows: Rows<'_>, floor: f64) {
    refine_whole::<16>(rows, floor);
}

fn check(rows: &Rows<'_>) -> Result<(), ShapeError> {
    let Rows { cols, group, weights, moment, bits, gradient, errors } = rows;
    let count = errors.len();
    let shape = |rows: usize, cols: usize| (rows.checked_mul(cols), format!("[{rows}, {cols}]"));
    for (what, found, (expected, shape)) in [
        ("weights", weights.len(), shape(count, *cols)),
        ("moment", moment.len(), shape(*cols, *cols)),
        ("bits", bits.len(), shape(count, cols.div_ceil(8))),
        ("gradient", gradient.len(), shape(count, *cols)),
    ] {
        if Some(found) != expected {
            let expected = format!("values; with {count} rows (as many as errors) it has the shape {shape}");
            return Err(ShapeError { what, found, expected });
        }
    }
    match group {
        Some(group) if *group == 0 || !cols.is_multiple_of(*group) => Err(ShapeError {
            what: "group",
            found: *group,
            expected: format!("columns; it must divide the row's {cols}"),
        }),
        _ => Ok(()),
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {} {}", self.what, self.found, self.expected)
    }
}

impl std::error::Error for ShapeError {}
