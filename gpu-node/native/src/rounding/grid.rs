//! The values that the codes of a group stand for.

use crate::storage::{BLOCK_ROWS, quantise_packed_int4, read_scale_and_zero_point};

/// Columns of a group of int4.
pub(super) const GROUP: usize = 32;
/// The highest code.
const LAST_CODE: f64 = 15.0;

/// The codes of one row's group: `weight = quarter · (4 · code − zero_point)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// A quarter of the scale; 0 where every code stands for 0.
    quarter: f64,
    /// In quarters of a code.
    zero_point: f64,
}

impl Grid {
    /// The grids that packing derives from groups with the given smallest and largest weights; both include 0. `None` if a
    /// weight cannot be represented.
    pub(super) fn of_ranges(ranges: &[(f32, f32)], grids: &mut Vec<Grid>) -> Option<()> {
        grids.clear();
        for ranges in ranges.chunks(BLOCK_ROWS) {
            let mut rows = [[0.0; GROUP]; BLOCK_ROWS];
            for (row, (low, high)) in rows.iter_mut().zip(ranges) {
                [row[0], row[1]] = [*low, *high];
            }
            let packed = quantise_packed_int4(rows.each_ref(), GROUP).ok()?;
            grids.extend(packed.scales.iter().take(ranges.len()).map(|bits| {
                let (quarter, zero_point) = read_scale_and_zero_point(*bits);
                Grid { quarter: quarter.into(), zero_point: zero_point.into() }
            }));
        }
        Some(())
    }

    /// The value of the lowest code.
    #[inline(always)]
    pub(super) fn lowest(self) -> f64 {
        self.value(0.0)
    }

    /// The value of the highest code.
    #[inline(always)]
    pub(super) fn highest(self) -> f64 {
        self.value(LAST_CODE)
    }

    /// The nearest value.
    #[inline(always)]
    pub(super) fn nearest(self, value: f64) -> f64 {
        if self.quarter == 0.0 {
            return 0.0;
        }
        let code = 0.25 * (value / self.quarter + self.zero_point);
        self.value(code.round_ties_even().clamp(0.0, LAST_CODE))
    }

    /// Exact: both factors have few bits.
    #[inline(always)]
    fn value(self, code: f64) -> f64 {
        self.quarter * (4.0 * code - self.zero_point)
    }
}
