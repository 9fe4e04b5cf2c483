//! Rounding of the weights that a mask keeps to the codes of packed int4 (public name `+int4`), so that the output of the
//! layer changes little.
//!
//! Rounding each weight to the nearest code adds errors that have nothing to do with each other. Here a weight is rounded to
//! the code that is best for the output, given the codes of the others, one weight after another, until no code changes:
//! coordinate descent on the output error, as QuantEase does for dense weights (Behdin et al. 2023, arXiv 2309.01885).
//!
//! Each group of a row has its smallest and its largest weight at the ends of the codes. So the ranges of the rounded weights,
//! also after they were stored in bf16, give [`pack`](crate::storage::pack) the scales and zero points that they were rounded
//! by, and the codes are packed as they are. Exceptions are groups whose scale is a subnormal f16 (weights below 10⁻³).

#![allow(unsafe_code)]

mod grid;
mod row;

use crate::cpu::Implementation;
use crate::shape::{ShapeError, check_lengths};
use row::RowState;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Rows that a thread takes at a time.
const CHUNK_ROWS: usize = 8;

/// Rows of a linear whose weights are rounded.
///
/// With W the dense weights, A the given ones and `H = Σ x xᵀ / tokens`, a row's error is `(w − a)(H + λ I)(w − a)ᵀ`.
#[derive(Debug)]
pub struct RowsToRound<'a> {
    /// Columns of every row.
    pub cols: usize,
    /// A `[rows, cols]`, rounded in place; 0 where pruned.
    pub values: &'a mut [f32],
    /// Mask bits `[rows, ceil(cols / 8)]`.
    pub bits: &'a [u8],
    /// H `[cols, cols]`, symmetric.
    pub moment: &'a [f64],
    /// λ
    pub damping: f64,
    /// `(W − A)(H + λ I)` where weights are kept, `[rows, cols]`; other elements are not read. Updated with A; afterwards other
    /// elements have no meaning.
    pub gradient: &'a mut [f64],
}

/// Why weights were not rounded.
#[derive(Debug, PartialEq, Eq)]
pub enum RoundingError {
    /// An array has the wrong length. Nothing was changed.
    Shape(ShapeError),
    /// A row has a weight that is not finite, or too large for int4. Other rows may have been rounded.
    Unrepresentable {
        /// Counted from the first of the given rows.
        row: usize,
    },
}

/// Rounds rows with the instructions of one level, and returns the row that cannot be rounded.
///
/// Contract: the machine has the instruction set, and the arrays have the lengths of [`RowsToRound`].
pub(crate) type RoundingFn = unsafe fn(RowsToRound<'_>) -> Result<(), usize>;

/// Compiles the rounding for a level.
macro_rules! compiled_for {
    ($level:ident) => {
        pub(crate) mod $level {
            use super::RowsToRound;
            use crate::cpu::levels::$level;

            $level!(
                pub(crate) unsafe fn round_rows(rows: RowsToRound<'_>) -> Result<(), usize> {
                    super::round_rows(rows)
                }
            );
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx512);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2);
#[cfg(target_arch = "aarch64")]
compiled_for!(neon);
compiled_for!(scalar);

/// Rounds the kept weights of each row to codes of packed int4, on `threads` threads. The result depends neither on their
/// number nor on the implementation.
pub fn round_to_int4(
    implementation: &'static Implementation,
    rows: RowsToRound<'_>,
    threads: usize,
) -> Result<(), RoundingError> {
    check(&rows).map_err(RoundingError::Shape)?;
    let RowsToRound { cols, values, bits, moment, damping, gradient } = rows;
    if values.is_empty() {
        return Ok(());
    }
    let chunks = values
        .chunks_mut(CHUNK_ROWS * cols)
        .zip(gradient.chunks_mut(CHUNK_ROWS * cols))
        .zip(bits.chunks(CHUNK_ROWS * cols.div_ceil(8)))
        .enumerate();
    let left = Mutex::new(chunks);
    let wrong = Mutex::new(None);
    let work = || {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((chunk, ((values, gradient), bits))) = next else { break };
            let rows = RowsToRound { cols, values, bits, moment, damping, gradient };
            // SAFETY: the machine can run every implementation that is given out, and the lengths were checked.
            if let Err(row) = unsafe { (implementation.rounding)(rows) } {
                let row = chunk * CHUNK_ROWS + row;
                let mut first = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                *first = Some(first.map_or(row, |first: usize| first.min(row)));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(row) => Err(RoundingError::Unrepresentable { row }),
        None => Ok(()),
    }
}

/// Rounds rows one after another, and returns the first that cannot be rounded; those behind it are left.
#[inline(always)]
fn round_rows(rows: RowsToRound<'_>) -> Result<(), usize> {
    let RowsToRound { cols, values, bits, moment, damping, gradient } = rows;
    let mut state = RowState::new(moment, damping, cols);
    let rows = values.chunks_exact_mut(cols).zip(gradient.chunks_exact_mut(cols));
    for (row, ((values, gradient), bits)) in rows.zip(bits.chunks_exact(cols.div_ceil(8))).enumerate() {
        state.round(values, bits, gradient).ok_or(row)?;
    }
    Ok(())
}

fn check(rows: &RowsToRound<'_>) -> Result<(), ShapeError> {
    let RowsToRound { cols, values, bits, moment, gradient, .. } = rows;
    let count = values.len().checked_div(*cols).unwrap_or(0);
    check_lengths(
        &[
            ("values", values.len(), [count, *cols]),
            ("moment", moment.len(), [*cols, *cols]),
            ("bits", bits.len(), [count, cols.div_ceil(8)]),
            ("gradient", gradient.len(), [count, *cols]),
        ],
        &format!("{count} rows (as many as whole rows of values)"),
    )
}

impl fmt::Display for RoundingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoundingError::Shape(error) => error.fmt(f),
            RoundingError::Unrepresentable { row } => {
                write!(
                    f,
                    "row {row} has a weight that int4 cannot represent: it is not finite, or above 65,504"
                )
            }
        }
    }
}

impl std::error::Error for RoundingError {}
