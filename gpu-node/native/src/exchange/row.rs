//! The search for the best exchange of one row.

use super::RowsToRefine;
use std::array::from_fn;

/// Maximum number of exchanges of one row, as in the reference.
const MAX_ROUNDS: usize = 50;

/// The state of one row, by column.
struct RowState {
    /// 2 W where a weight is kept, −2 W where it is pruned: pruning a weight and restoring it differ by this
    /// sign.
    slopes: Vec<f64>,
    /// `W² diag(H)` where a weight is kept, infinity where it cannot be pruned.
    kept: Vec<f64>,
    /// `W² diag(H)` where a weight is pruned, infinity where it cannot be restored.
    pruned: Vec<f64>,
    /// `E H` before `update`.
    gradient: Vec<f64>,
    update: Update,
}

/// The last exchange, which the next pass over the row adds to the gradient. Two weights of 0 before the
/// first exchange.
#[derive(Clone, Copy, Default)]
struct Update {
    pruned: usize,
    pruned_weight: f64,
    restored: usize,
    restored_weight: f64,
}

/// A column, and the change of the error if it is pruned or restored.
#[derive(Clone, Copy)]
struct Candidate {
    column: usize,
    change: f64,
}

/// The columns of a weight to prune and a weight to restore, and the change of the error by both.
struct Exchange {
    prune: usize,
    restore: usize,
    change: f64,
}

/// A search for the best exchange of a row.
trait Search {
    /// Returns the best exchange of the row, given its weights and H. Updates the gradient.
    fn best(&mut self, row_state: &mut RowState, weights: &[f32], moment: &[f64]) -> Option<Exchange>;
}

/// Refines rows in which any kept weight may be exchanged for any pruned one. Compares `LANES` candidates
/// side by side.
#[inline(always)]
pub(super) fn refine_whole<const LANES: usize>(rows: RowsToRefine<'_>, floor: f64) {
    refine(rows, floor, &mut WholeRow::<LANES>);
}

/// Refines rows in which an exchange stays within a group of `group` columns. `GROUP` is `group`, or 0 if the
/// compiler does not know it.
#[inline(always)]
pub(super) fn refine_grouped<const GROUP: usize>(rows: RowsToRefine<'_>, group: usize, floor: f64) {
    let cols = rows.cols;
    let group = if GROUP == 0 { group } else { GROUP };
    let within = moments_within(rows.moment, cols, group);
    let (costs, gains) = (vec![0.0; cols], vec![0.0; cols]);
    refine(rows, floor, &mut ByGroup::<GROUP> { group, within, costs, gains });
}

/// Makes the exchanges of each row.
#[inline(always)]
fn refine(rows: RowsToRefine<'_>, floor: f64, search: &mut impl Search) {
    let RowsToRefine { cols, weights, moment, bits, gradient, errors, .. } = rows;
    let mut row_state = RowState::new(cols);
    let bits = bits.chunks_exact_mut(cols.div_ceil(8));
    let given = weights.chunks_exact(cols).zip(gradient.chunks_exact(cols));
    for (((weights, gradient), bits), error) in given.zip(bits).zip(errors) {
        row_state.load(weights, moment, bits, gradient);
        for _ in 0..MAX_ROUNDS {
            let exchange = search.best(&mut row_state, weights, moment);
            let Some(exchange) = exchange.filter(|exchange| exchange.change < -floor) else { break };
            row_state.apply(&exchange, weights);
            bits[exchange.prune / 8] &= !(1 << (exchange.prune % 8));
            bits[exchange.restore / 8] |= 1 << (exchange.restore % 8);
            *error += exchange.change;
        }
    }
}

/// Chooses the weight to restore given the weight to prune.
struct WholeRow<const LANES: usize>;

impl<const LANES: usize> Search for WholeRow<LANES> {
    #[inline(always)]
    fn best(&mut self, row_state: &mut RowState, weights: &[f32], moment: &[f64]) -> Option<Exchange> {
        let prune = update_and_find_pruned::<LANES>(row_state, moment)?;
        let weight = f64::from(weights[prune.column]);
        let moments = &moment[prune.column * weights.len()..][..weights.len()];
        let restore = find_restored::<LANES>(row_state, weight, moments)?;
        Some(pair(prune, restore, weights, 0.0))
    }
}

/// In each group, takes the best weight to prune and the best weight to restore, each by itself. Returns the
/// exchange of the best group, the first among equal ones.
struct ByGroup<const GROUP: usize> {
    group: usize,
    /// The blocks on the diagonal of H, `[cols, group]`: the part that is needed, close together in memory.
    within: Vec<f64>,
    costs: Vec<f64>,
    gains: Vec<f64>,
}

/// Number of groups that are compared side by side.
const PARALLEL_GROUPS: usize = 8;

impl<const GROUP: usize> Search for ByGroup<GROUP> {
    #[inline(always)]
    fn best(&mut self, row_state: &mut RowState, weights: &[f32], moment: &[f64]) -> Option<Exchange> {
        update_and_list(row_state, moment, &mut self.costs, &mut self.gains);
        let mut best = None;
        let mut begin = 0;
        if GROUP > 0 {
            let costs = self.costs.chunks_exact(GROUP * PARALLEL_GROUPS);
            for (costs, gains) in costs.zip(self.gains.chunks_exact(GROUP * PARALLEL_GROUPS)) {
                let (prune, restore) = (least_of_each::<GROUP>(costs), least_of_each::<GROUP>(gains));
                for (prune, restore) in prune.into_iter().zip(restore) {
                    self.consider(begin, prune, restore, weights, &mut best);
                    begin += GROUP;
                }
            }
        }
        while begin < weights.len() {
            let end = begin + self.group;
            let (prune, restore) = (least(&self.costs[begin..end]), least(&self.gains[begin..end]));
            self.consider(begin, prune, restore, weights, &mut best);
            begin = end;
        }
        best
    }
}

impl<const GROUP: usize> ByGroup<GROUP> {
    /// Replaces `best` by the exchange of the group that begins at `begin`, if the group has one and it is
    /// better.
    #[inline(always)]
    fn consider(
        &self,
        begin: usize,
        prune: Candidate,
        restore: Candidate,
        weights: &[f32],
        best: &mut Option<Exchange>,
    ) {
        if prune.change == f64::INFINITY || restore.change == f64::INFINITY {
            return;
        }
        let moment = self.within[(begin + prune.column) * self.group + restore.column];
        let prune = Candidate { column: begin + prune.column, ..prune };
        let restore = Candidate { column: begin + restore.column, ..restore };
        let exchange = pair(prune, restore, weights, f64::from(weights[prune.column]) * moment);
        if exchange.change < best.as_ref().map_or(f64::INFINITY, |best| best.change) {
            *best = Some(exchange);
        }
    }
}

impl RowState {
    fn new(cols: usize) -> RowState {
        let values = || vec![0.0; cols];
        RowState {
            slopes: values(),
            kept: values(),
            pruned: values(),
            gradient: values(),
            update: Update::default(),
        }
    }

    #[inline(always)]
    fn load(&mut self, weights: &[f32], moment: &[f64], bits: &[u8], gradient: &[f64]) {
        self.gradient.copy_from_slice(gradient);
        self.update = Update::default();
        let diagonal = moment.iter().step_by(weights.len() + 1);
        for (column, (weight, diagonal)) in weights.iter().zip(diagonal).enumerate() {
            let weight = f64::from(*weight);
            let own = weight * weight * diagonal;
            let keeps = bits[column / 8] >> (column % 8) & 1 == 1;
            self.slopes[column] = if keeps { 2.0 * weight } else { -2.0 * weight };
            self.kept[column] = if keeps { own } else { f64::INFINITY };
            self.pruned[column] = if keeps { f64::INFINITY } else { own };
        }
    }

    #[inline(always)]
    fn apply(&mut self, exchange: &Exchange, weights: &[f32]) {
        for column in [exchange.prune, exchange.restore] {
            std::mem::swap(&mut self.kept[column], &mut self.pruned[column]);
            self.slopes[column] = -self.slopes[column];
        }
        self.update = Update {
            pruned: exchange.prune,
            pruned_weight: f64::from(weights[exchange.prune]),
            restored: exchange.restore,
            restored_weight: f64::from(weights[exchange.restore]),
        };
    }
}

/// Returns the exchange of two candidates. `uncounted` is the part of `W_p H_pq` that `restore` does not
/// include.
#[inline(always)]
fn pair(prune: Candidate, restore: Candidate, weights: &[f32], uncounted: f64) -> Exchange {
    let weight = f64::from(weights[restore.column]);
    let change = prune.change + restore.change - 2.0 * weight * uncounted;
    Exchange { prune: prune.column, restore: restore.column, change }
}

/// Updates the gradient, and finds the kept weight whose pruning costs least.
#[inline(always)]
fn update_and_find_pruned<const LANES: usize>(row_state: &mut RowState, moment: &[f64]) -> Option<Candidate> {
    let RowState { slopes, kept, gradient, update, .. } = row_state;
    let cols = gradient.len();
    let added = &moment[update.pruned * cols..][..cols];
    let removed = &moment[update.restored * cols..][..cols];
    let (add, remove) = (update.pruned_weight, update.restored_weight);
    let mut best = LaneMinimums::<LANES>::new();
    let vectors = (gradient.as_chunks_mut::<LANES>(), added.as_chunks().0, removed.as_chunks().0);
    let ((gradients, rest), added_vectors, removed_vectors): (_, &[[f64; LANES]], &[[f64; LANES]]) = vectors;
    let known = slopes.as_chunks::<LANES>().0.iter().zip(kept.as_chunks::<LANES>().0);
    let moments = added_vectors.iter().zip(removed_vectors);
    for ((gradient, (slopes, kept)), (added, removed)) in gradients.iter_mut().zip(known).zip(moments) {
        *gradient = from_fn(|i| gradient[i] + (add * added[i] - remove * removed[i]));
        best.offer(from_fn(|i| kept[i] + slopes[i] * gradient[i]));
    }
    let first = cols - rest.len();
    let tail = rest.iter_mut().enumerate().map(|(index, gradient)| {
        let i = first + index;
        *gradient += add * added[i] - remove * removed[i];
        kept[i] + slopes[i] * *gradient
    });
    best.least(tail)
}

/// Finds the pruned weight whose restoration gains most after `weight`, with the row `moments` of H, is
/// pruned.
#[inline(always)]
fn find_restored<const LANES: usize>(
    row_state: &RowState,
    weight: f64,
    moments: &[f64],
) -> Option<Candidate> {
    let RowState { slopes, pruned, gradient, .. } = row_state;
    let mut best = LaneMinimums::<LANES>::new();
    let (gradients, rest) = gradient.as_chunks::<LANES>();
    let known = slopes.as_chunks::<LANES>().0.iter().zip(pruned.as_chunks::<LANES>().0);
    for ((gradient, (slopes, pruned)), moment) in
        gradients.iter().zip(known).zip(moments.as_chunks::<LANES>().0)
    {
        best.offer(from_fn(|i| pruned[i] + slopes[i] * (gradient[i] + weight * moment[i])));
    }
    let first = gradient.len() - rest.len();
    let tail = (first..gradient.len()).map(|i| pruned[i] + slopes[i] * (gradient[i] + weight * moments[i]));
    best.least(tail)
}

/// Updates the gradient, and lists the costs of pruning and of restoring each column: infinity where that is
/// impossible.
#[inline(always)]
fn update_and_list(row_state: &mut RowState, moment: &[f64], costs: &mut [f64], gains: &mut [f64]) {
    let RowState { slopes, kept, pruned, gradient, update } = row_state;
    let cols = gradient.len();
    let added = &moment[update.pruned * cols..][..cols];
    let removed = &moment[update.restored * cols..][..cols];
    let (slopes, kept, pruned) = (&slopes[..cols], &kept[..cols], &pruned[..cols]);
    let (costs, gains) = (&mut costs[..cols], &mut gains[..cols]);
    for i in 0..cols {
        let moved = gradient[i] + (update.pruned_weight * added[i] - update.restored_weight * removed[i]);
        gradient[i] = moved;
        costs[i] = kept[i] + slopes[i] * moved;
        gains[i] = pruned[i] + slopes[i] * moved;
    }
}

/// Returns the first of the least changes; a change of infinity if there is no candidate.
#[inline(always)]
fn least(changes: &[f64]) -> Candidate {
    let mut best = Candidate { column: 0, change: f64::INFINITY };
    for (column, &change) in changes.iter().enumerate() {
        best = if change < best.change { Candidate { column, change } } else { best };
    }
    best
}

/// As [`least`], for each of [`PARALLEL_GROUPS`] groups.
#[inline(always)]
fn least_of_each<const GROUP: usize>(changes: &[f64]) -> [Candidate; PARALLEL_GROUPS] {
    let mut best = LaneMinimums::<PARALLEL_GROUPS>::new();
    for place in 0..GROUP {
        best.offer(from_fn(|group| changes[group * GROUP + place]));
    }
    from_fn(|group| Candidate { column: best.vectors[group] as usize, change: best.changes[group] })
}

/// The least change so far in each of `LANES` lanes.
struct LaneMinimums<const LANES: usize> {
    changes: [f64; LANES],
    /// The index of the vector, as a number of the same width as the changes.
    vectors: [f64; LANES],
    vectors_offered: f64,
}

impl<const LANES: usize> LaneMinimums<LANES> {
    #[inline(always)]
    fn new() -> Self {
        LaneMinimums { changes: [f64::INFINITY; LANES], vectors: [0.0; LANES], vectors_offered: 0.0 }
    }

    #[inline(always)]
    fn offer(&mut self, changes: [f64; LANES]) {
        let vector = self.vectors_offered;
        self.vectors = from_fn(|i| if changes[i] < self.changes[i] { vector } else { self.vectors[i] });
        self.changes = from_fn(|i| if changes[i] < self.changes[i] { changes[i] } else { self.changes[i] });
        self.vectors_offered += 1.0;
    }

    /// Returns the least change of all lanes and of the columns behind the last vector, the first among equal
    /// ones.
    #[inline(always)]
    fn least(&self, tail: impl Iterator<Item = f64>) -> Option<Candidate> {
        let mut best = Candidate { column: usize::MAX, change: f64::INFINITY };
        for (lane, (&change, &vector)) in self.changes.iter().zip(&self.vectors).enumerate() {
            let column = vector as usize * LANES + lane;
            if change < best.change
                || (change == best.change && column < best.column && change < f64::INFINITY)
            {
                best = Candidate { column, change };
            }
        }
        for (column, change) in (self.vectors_offered as usize * LANES..).zip(tail) {
            if change < best.change {
                best = Candidate { column, change };
            }
        }
        (best.column != usize::MAX).then_some(best)
    }
}

/// Returns the blocks on the diagonal of H, `[cols, group]`.
fn moments_within(moment: &[f64], cols: usize, group: usize) -> Vec<f64> {
    let rows = moment.chunks_exact(cols).enumerate();
    rows.flat_map(|(row, moments)| &moments[row / group * group..][..group]).copied().collect()
}
