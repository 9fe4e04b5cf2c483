//! Coordinate descent on one row.

use super::grid::{GROUP, Grid};

/// Most passes over a row. After a few passes hardly a code changes.
const MAX_PASSES: usize = 8;
/// The ranges that are tried for the codes of a group, as fractions of the range of its weights. A narrower range clips the
/// largest weights and has finer steps for the others.
const RANGES: [f32; 6] = [1.0, 0.93, 0.86, 0.8, 0.72, 0.64];

/// A kept weight.
#[derive(Clone, Copy)]
struct Kept {
    column: usize,
    grid: Grid,
    /// The value that the weight must have, because it is at an end of its group's codes.
    end: Option<f64>,
}

/// The second moment that all rows of a linear share, and working memory for one row.
pub(super) struct RowState<'a> {
    moment: &'a [f64],
    damping: f64,
    cols: usize,
    kept: Vec<Kept>,
    /// The kept weights, in the order of `kept`.
    weights: Vec<f64>,
    ranges: Vec<(f32, f32)>,
    grids: Vec<Grid>,
}

impl<'a> RowState<'a> {
    pub(super) fn new(moment: &'a [f64], damping: f64, cols: usize) -> RowState<'a> {
        let (kept, weights) = (Vec::with_capacity(cols), Vec::with_capacity(cols));
        RowState { moment, damping, cols, kept, weights, ranges: Vec::new(), grids: Vec::new() }
    }

    /// Rounds the kept weights of a row. `None` if one of them cannot be represented.
    #[inline(always)]
    pub(super) fn round(&mut self, values: &mut [f32], bits: &[u8], gradient: &mut [f64]) -> Option<()> {
        self.choose_grids(values, bits)?;
        for at in 0..self.kept.len() {
            if let Some(end) = self.kept[at].end {
                self.set(at, end, gradient);
            }
        }
        for _ in 0..MAX_PASSES {
            let mut changed = false;
            for at in 0..self.kept.len() {
                let Kept { column, grid, end } = self.kept[at];
                if end.is_some() {
                    continue;
                }
                let curvature = self.moment[column * (self.cols + 1)] + self.damping;
                // A column that no token uses has no best value; its weight takes the nearest.
                let step = if curvature > 0.0 { gradient[column] / curvature } else { 0.0 };
                changed |= self.set(at, grid.nearest(self.weights[at] + step), gradient);
            }
            if !changed {
                break;
            }
        }
        for (kept, weight) in self.kept.iter().zip(&self.weights) {
            values[kept.column] = *weight as f32;
        }
        Some(())
    }

    /// Changes a weight and the gradient. Returns whether the weight had another value.
    #[inline(always)]
    fn set(&mut self, at: usize, value: f64, gradient: &mut [f64]) -> bool {
        let step = value - self.weights[at];
        if step == 0.0 {
            return false;
        }
        self.weights[at] = value;
        let column = self.kept[at].column;
        for (gradient, moment) in gradient.iter_mut().zip(&self.moment[column * self.cols..][..self.cols]) {
            *gradient -= step * moment;
        }
        gradient[column] -= step * self.damping;
        true
    }

    /// Lists the kept weights of a row, each with the grid of its group: that of the range whose rounded weights have the least
    /// squared error, each weighted by its column's diagonal element of H.
    #[inline(always)]
    fn choose_grids(&mut self, values: &[f32], bits: &[u8]) -> Option<()> {
        let is_kept = |column: usize| bits[column / 8] >> (column % 8) & 1 == 1;
        self.ranges.clear();
        for (group, values) in values.chunks(GROUP).enumerate() {
            let (mut low, mut high) = (0.0_f32, 0.0_f32);
            for (column, value) in values.iter().enumerate() {
                if is_kept(group * GROUP + column) {
                    (low, high) = (low.min(*value), high.max(*value));
                    // The minimum and the maximum leave NaN out.
                    value.is_finite().then_some(())?;
                }
            }
            self.ranges.extend(RANGES.map(|part| (part * low, part * high)));
        }
        Grid::of_ranges(&self.ranges, &mut self.grids)?;
        self.kept.clear();
        self.weights.clear();
        for (group, values) in values.chunks(GROUP).enumerate() {
            let first = self.kept.len();
            for (column, value) in values.iter().enumerate() {
                let column = group * GROUP + column;
                if is_kept(column) {
                    self.kept.push(Kept { column, grid: self.grids[group * RANGES.len()], end: None });
                    self.weights.push(f64::from(*value));
                }
            }
            self.choose_grid(first, group);
        }
        Some(())
    }

    /// Chooses the grid of the group of the kept weights from `first` on.
    #[inline(always)]
    fn choose_grid(&mut self, first: usize, group: usize) {
        let (kept, weights) = (&mut self.kept[first..], &self.weights[first..]);
        let grids = &self.grids[group * RANGES.len()..][..RANGES.len()];
        let (mut best, mut least) = (grids[0], f64::INFINITY);
        for grid in grids {
            let errors = kept.iter().zip(weights).map(|(kept, weight)| {
                let error = weight - grid.nearest(*weight);
                error * error * self.moment[kept.column * (self.cols + 1)]
            });
            let error: f64 = errors.sum();
            if error < least {
                (best, least) = (*grid, error);
            }
        }
        let (mut lowest, mut highest) = (None, None);
        let (mut low, mut high) = (0.0, 0.0);
        for (at, (kept, weight)) in kept.iter_mut().zip(weights).enumerate() {
            kept.grid = best;
            if *weight < low {
                (lowest, low) = (Some(at), *weight);
            }
            if *weight > high {
                (highest, high) = (Some(at), *weight);
            }
        }
        if let Some(at) = lowest {
            kept[at].end = Some(best.lowest());
        }
        if let Some(at) = highest {
            kept[at].end = Some(best.highest());
        }
    }
}
