use super::RowsToRefine;
use std::array::from_fn;

/// Swaps of one row at most; as in the reference.
const MAX_ROUNDS: usize = 50;

/// One row while it is refined, by column.
struct Line {
    /// 2 W where a weight is kept, −2 W where it is pruned: pruning and returning it differ by this sign.
    slopes: Vec<f64>,
    /// `W² diag(H)` where a weight is kept, infinity elsewhere: no candidate to prune.
    kept: Vec<f64>,
    /// The same of the pruned ones: candidates to return.
    pruned: Vec<f64>,
    /// `E H` before `update`.
    gradient: Vec<f64>,
    update: Update,
}

/// The last swap, which the next pass over the row brings into the gradient. Before the first it is none,
/// written as two weights of 0.
#[derive(Clone, Copy, Default)]
struct Update {
    pruned: usize,
    pruned_weight: f64,
    returned: usize,
    returned_weight: f64,
}

/// A column, and what its pruning or returning changes the error by.
#[derive(Clone, Copy)]
struct Candidate {
    column: usize,
    change: f64,
}

/// Columns of the weight to prune and the weight to return, and what both change the error by.
struct Swap {
    prune: usize,
    restore: usize,
    change: f64,
}

/// How the best swap of a row is found.
trait Search {
    /// From the row, its weights and H; brings the gradient up to date on the way.
    fn best(&mut self, line: &mut Line, weights: &[f32], moment: &[f64]) -> Option<Swap>;
}

/// Refines rows in which any kept and any pruned weight may change places; `LANES` candidates are compared
/// side by side.
#[inline(always)]
pub(super) fn refine_whole<const LANES: usize>(rows: RowsToRefine<'_>, floor: f64) {
    refine(rows, floor, &mut WholeRow::<LANES>);
}

/// Refines rows in which a swap stays within a group of columns, `GROUP` if it is not 0.
#[inline(always)]
pub(super) fn refine_grouped<const GROUP: usize>(rows: RowsToRefine<'_>, group: usize, floor: f64) {
    let cols = rows.cols;
    let group = if GROUP == 0 { group } else { GROUP };
    let within = moments_within(rows.moment, cols, group);
    let (costs, gains) = (vec![0.0; cols], vec![0.0; cols]);
    refine(rows, floor, &mut ByGroup::<GROUP> { group, within, costs, gains });
}

/// Makes the swaps of each row.
#[inline(always)]
fn refine(rows: RowsToRefine<'_>, floor: f64, search: &mut impl Search) {
    let RowsToRefine { cols, weights, moment, bits, gradient, errors, .. } = rows;
    let mut line = Line::new(cols);
    let bits = bits.chunks_exact_mut(cols.div_ceil(8));
    let given = weights.chunks_exact(cols).zip(gradient.chunks_exact(cols));
    for (((weights, gradient), bits), error) in given.zip(bits).zip(errors) {
        line.load(weights, moment, bits, gradient);
        for _ in 0..MAX_ROUNDS {
            let swap = search.best(&mut line, weights, moment);
            let Some(swap) = swap.filter(|swap| swap.change < -floor) else { break };
            line.apply(&swap, weights);
            bits[swap.prune / 8] &= !(1 << (swap.prune % 8));
            bits[swap.restore / 8] |= 1 << (swap.restore % 8);
            *error += swap.change;
        }
    }
}

/// The weight to return is chosen in view of the one to prune.
struct WholeRow<const LANES: usize>;

impl<const LANES: usize> Search for WholeRow<LANES> {
    #[inline(always)]
    fn best(&mut self, line: &mut Line, weights: &[f32], moment: &[f64]) -> Option<Swap> {
        let prune = update_and_find::<LANES>(line, moment)?;
        let weight = f64::from(weights[prune.column]);
        let moments = &moment[prune.column * weights.len()..][..weights.len()];
        let restore = find_return::<LANES>(line, weight, moments)?;
        Some(pair(prune, restore, weights, 0.0))
    }
}

/// In each group the weight to prune and the weight to return are the best alone; the best group of the
/// row is taken, the first of equal ones.
struct ByGroup<const GROUP: usize> {
    group: usize,
    /// The blocks of H on its diagonal, `[cols, group]`: what is needed of it, near together.
    within: Vec<f64>,
    costs: Vec<f64>,
    gains: Vec<f64>,
}

/// Groups that are compared side by side.
const GROUPS: usize = 8;

impl<const GROUP: usize> Search for ByGroup<GROUP> {
    #[inline(always)]
    fn best(&mut self, line: &mut Line, weights: &[f32], moment: &[f64]) -> Option<Swap> {
        update_and_list(line, moment, &mut self.costs, &mut self.gains);
        let mut best = None;
        let mut begin = 0;
        if GROUP > 0 {
            let costs = self.costs.chunks_exact(GROUP * GROUPS);
            for (costs, gains) in costs.zip(self.gains.chunks_exact(GROUP * GROUPS)) {
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
    /// Takes the swap of the group that begins there, if there is one and it is better than the best.
    #[inline(always)]
    fn consider(
        &self,
        begin: usize,
        prune: Candidate,
        restore: Candidate,
        weights: &[f32],
        best: &mut Option<Swap>,
    ) {
        if prune.change == f64::INFINITY || restore.change == f64::INFINITY {
            return;
        }
        let moment = self.within[(begin + prune.column) * self.group + restore.column];
        let prune = Candidate { column: begin + prune.column, ..prune };
        let restore = Candidate { column: begin + restore.column, ..restore };
        let swap = pair(prune, restore, weights, f64::from(weights[prune.column]) * moment);
        if swap.change < best.as_ref().map_or(f64::INFINITY, |best| best.change) {
            *best = Some(swap);
        }
    }
}

impl Line {
    fn new(cols: usize) -> Line {
        let values = || vec![0.0; cols];
        Line {
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
    fn apply(&mut self, swap: &Swap, weights: &[f32]) {
        for column in [swap.prune, swap.restore] {
            std::mem::swap(&mut self.kept[column], &mut self.pruned[column]);
            self.slopes[column] = -self.slopes[column];
        }
        self.update = Update {
            pruned: swap.prune,
            pruned_weight: f64::from(weights[swap.prune]),
            returned: swap.restore,
            returned_weight: f64::from(weights[swap.restore]),
        };
    }
}

/// What the two change together; `uncounted` is the part of `W_p H_pq` that `restore` does not know of.
#[inline(always)]
fn pair(prune: Candidate, restore: Candidate, weights: &[f32], uncounted: f64) -> Swap {
    let weight = f64::from(weights[restore.column]);
    let change = prune.change + restore.change - 2.0 * weight * uncounted;
    Swap { prune: prune.column, restore: restore.column, change }
}

/// Brings the gradient up to date, and finds the kept weight that costs least.
#[inline(always)]
fn update_and_find<const LANES: usize>(line: &mut Line, moment: &[f64]) -> Option<Candidate> {
    let Line { slopes, kept, gradient, update, .. } = line;
    let cols = gradient.len();
    let added = &moment[update.pruned * cols..][..cols];
    let removed = &moment[update.returned * cols..][..cols];
    let (add, remove) = (update.pruned_weight, update.returned_weight);
    let mut best = Best::<LANES>::new();
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

/// Finds the pruned weight that saves most once a weight of this size and these moments is pruned.
#[inline(always)]
fn find_return<const LANES: usize>(line: &Line, weight: f64, moments: &[f64]) -> Option<Candidate> {
    let Line { slopes, pruned, gradient, .. } = line;
    let mut best = Best::<LANES>::new();
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

/// Brings the gradient up to date, and lists what pruning and what returning costs; infinity where it cannot be.
#[inline(always)]
fn update_and_list(line: &mut Line, moment: &[f64], costs: &mut [f64], gains: &mut [f64]) {
    let Line { slopes, kept, pruned, gradient, update } = line;
    let cols = gradient.len();
    let added = &moment[update.pruned * cols..][..cols];
    let removed = &moment[update.returned * cols..][..cols];
    let (slopes, kept, pruned) = (&slopes[..cols], &kept[..cols], &pruned[..cols]);
    let (costs, gains) = (&mut costs[..cols], &mut gains[..cols]);
    for i in 0..cols {
        let moved = gradient[i] + (update.pruned_weight * added[i] - update.returned_weight * removed[i]);
        gradient[i] = moved;
        costs[i] = kept[i] + slopes[i] * moved;
        gains[i] = pruned[i] + slopes[i] * moved;
    }
}

/// The first of the least; of infinity where there is none.
#[inline(always)]
fn least(changes: &[f64]) -> Candidate {
    let mut best = Candidate { column: 0, change: f64::INFINITY };
    for (column, &change) in changes.iter().enumerate() {
        best = if change < best.change { Candidate { column, change } } else { best };
    }
    best
}

/// As [`least`], of each of [`GROUPS`] groups.
#[inline(always)]
fn least_of_each<const GROUP: usize>(changes: &[f64]) -> [Candidate; GROUPS] {
    let mut best = Best::<GROUPS>::new();
    for place in 0..GROUP {
        best.offer(from_fn(|group| changes[group * GROUP + place]));
    }
    from_fn(|group| Candidate { column: best.vectors[group] as usize, change: best.changes[group] })
}

/// The least so far in each of `LANES` columns that are compared side by side.
struct Best<const LANES: usize> {
    changes: [f64; LANES],
    /// The number of the vector, as a number of the same width as what is compared.
    vectors: [f64; LANES],
    offered: f64,
}

impl<const LANES: usize> Best<LANES> {
    #[inline(always)]
    fn new() -> Self {
        Best { changes: [f64::INFINITY; LANES], vectors: [0.0; LANES], offered: 0.0 }
    }

    #[inline(always)]
    fn offer(&mut self, changes: [f64; LANES]) {
        let vector = self.offered;
        self.vectors = from_fn(|i| if changes[i] < self.changes[i] { vector } else { self.vectors[i] });
        self.changes = from_fn(|i| if changes[i] < self.changes[i] { changes[i] } else { self.changes[i] });
        self.offered += 1.0;
    }

    /// The least of all vectors and the columns behind them, the first of equal ones.
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
        for (column, change) in (self.offered as usize * LANES..).zip(tail) {
            if change < best.change {
                best = Candidate { column, change };
            }
        }
        (best.column != usize::MAX).then_some(best)
    }
}

/// The blocks of H on its diagonal, `[cols, group]`.
fn moments_within(moment: &[f64], cols: usize, group: usize) -> Vec<f64> {
    let rows = moment.chunks_exact(cols).enumerate();
    rows.flat_map(|(row, moments)| &moments[row / group * group..][..group]).copied().collect()
}
