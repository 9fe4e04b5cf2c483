//! Grouped-query attention over pages of keys and values, with an online softmax (Milakov and Gimelshein
//! 2018; Dao et al. 2022): no complete row of scores is ever stored.
//!
//! A row does not subtract its largest score so far, which would have to be found for every page, but a reference, which
//! is raised when a page has a score that exceeds it by more than [`SLACK`]. Weights and their sums are then up to
//! `e^SLACK` times larger, which cancels out in the outputs and does not change their precision.
//!
//! The output of a row depends only on its own query and position: its scores and weights are computed in lanes, its
//! values are added in order of position, and its reference is raised page after page, whatever rows and pages are
//! computed together.

mod products;

use self::products::{add_values, multiply, scores_of, widen};
use super::lanes::{Element, Lanes};
use super::pages::{KvPrecision, PAGE_TOKENS, PagePool, Plane, Scales, Stored};
use super::vector::{LANES, largest_of, sum_of};
use half::f16;

/// Maximum number of tokens of one sequence whose attention is computed together: each page is read and converted
/// once for all of them.
pub(crate) const MAX_QUERY_TOKENS: usize = 32;

/// Returns how many tokens to compute together, given the tokens of a batch times the key/value heads: as many as
/// leave each thread several pieces of work.
pub(crate) fn query_tokens(work: usize, threads: usize) -> usize {
    const PIECES: usize = 8;
    (work / (PIECES * threads)).clamp(8, MAX_QUERY_TOKENS) / 4 * 4
}

/// Up to this many rows read keys and values as they are stored; for more, a page is converted once for all of them.
const DIRECT_ROWS: usize = 8;
/// How many pages before it is read a page is prefetched, where few rows read pages as they are stored.
const PAGES_AHEAD: usize = 2;
/// The largest amount by which a score exceeds its row's reference.
const SLACK: f32 = 16.0;

/// Attention of some query heads of one key/value head, for some consecutive tokens of one sequence.
pub(crate) struct Attention<'a> {
    pub(crate) pool: &'a PagePool,
    /// Indices of the sequence's pages in the pool.
    pub(crate) pages: &'a [u32],
    pub(crate) layer: usize,
    pub(crate) kv_head: usize,
    /// Position of the first token in its sequence.
    pub(crate) position: usize,
    /// Number of query heads, which is the number of rows of a token.
    pub(crate) heads: usize,
    /// Number of rows: tokens times heads.
    pub(crate) rows: usize,
    pub(crate) head_dim: usize,
    /// Holds the queries, and receives the outputs.
    pub(crate) buffers: &'a mut AttentionBuffers,
}

/// Inputs, outputs and working memory of an [`Attention`].
pub(crate) struct AttentionBuffers {
    /// `[rows, head_dim]`, scaled: token after token, and within a token head after head.
    pub(crate) queries: Vec<f32>,
    /// `[rows, head_dim]`.
    pub(crate) outputs: Vec<f32>,
    /// `[MAX_PAGES, head_dim, PAGE_TOKENS]`.
    keys: Vec<f32>,
    /// `[MAX_PAGES, PAGE_TOKENS, head_dim]`.
    values: Vec<f32>,
    references: Vec<f32>,
    sums: Vec<[f32; LANES]>,
}

/// The most pages of a [`Tile`].
const MAX_PAGES: usize = 2;

impl AttentionBuffers {
    /// Creates buffers for up to `rows` rows.
    pub(crate) fn new(head_dim: usize, rows: usize) -> AttentionBuffers {
        let pages = MAX_PAGES * PAGE_TOKENS * head_dim;
        AttentionBuffers {
            queries: vec![0.0; rows * head_dim],
            outputs: vec![0.0; rows * head_dim],
            keys: vec![0.0; pages],
            values: vec![0.0; pages],
            references: vec![0.0; rows],
            sums: vec![[0.0; LANES]; rows],
        }
    }
}

/// Runs an attention with `SIDE` rows and `PAGES` pages side by side and `VECTORS` vectors of [`LANES`] of a head at a
/// time: each key and value is loaded once for these rows, whose sums are independent.
#[inline(always)]
pub(crate) fn attend<L: Lanes, const SIDE: usize, const PAGES: usize, const VECTORS: usize>(
    attention: &mut Attention<'_>,
) {
    match attention.pool.precision() {
        KvPrecision::F16 => attend_stored::<L, f16, SIDE, PAGES, VECTORS>(attention),
        KvPrecision::Int8 => attend_stored::<L, i8, SIDE, PAGES, VECTORS>(attention),
    }
}

/// As [`attend`], of keys and values that are stored as `S`.
#[inline(always)]
fn attend_stored<
    L: Lanes,
    S: Stored + Element,
    const SIDE: usize,
    const PAGES: usize,
    const VECTORS: usize,
>(
    attention: &mut Attention<'_>,
) {
    const { assert!(PAGES <= MAX_PAGES) };
    let Attention { pool, pages, layer, kv_head, position, heads, rows, head_dim, buffers } = attention;
    let (heads, count, head_dim, position) = (*heads, *rows, *head_dim, *position);
    let mut rows = Rows {
        head_dim,
        heads,
        position,
        queries: &buffers.queries[..count * head_dim],
        outputs: &mut buffers.outputs[..count * head_dim],
        references: &mut buffers.references[..count],
        sums: &mut buffers.sums[..count],
    };
    rows.outputs.fill(0.0);
    rows.references.fill(f32::MIN);
    rows.sums.fill([0.0; LANES]);
    let end = (position + count / heads).div_ceil(PAGE_TOKENS);
    let read = |page: usize| pool.read::<S>(pages[page], *layer, *kv_head);
    // Pages lie apart, so that the processor does not see by itself what is read next. A page that is converted is prefetched
    // at once, beside the many rows that the page before it is multiplied with.
    let together = if count <= DIRECT_ROWS { 0 } else { end - end % PAGES };
    for page in (0..together).step_by(PAGES) {
        let size = PAGE_TOKENS * head_dim;
        let mut scales = [None; PAGES];
        for (index, scales) in scales.iter_mut().enumerate() {
            if page + index + 1 < end {
                pool.prefetch(pages[page + index + 1], *layer, *kv_head);
            }
            let plane = read(page + index);
            widen::<L, S>(plane.keys, &mut buffers.keys[index * size..][..size]);
            widen::<L, S>(plane.values, &mut buffers.values[index * size..][..size]);
            *scales = plane.scales;
        }
        let (keys, values) = (&buffers.keys[..PAGES * size], &buffers.values[..PAGES * size]);
        let tile = Tile { first: page * PAGE_TOKENS, keys, values, scales, next: std::ptr::null() };
        attend_tile::<L, f32, SIDE, PAGES, VECTORS>(&mut rows, tile);
    }
    // A page that few rows read is prefetched line by line, beside the lines of a page before it: all at once would hold up
    // the reads of that page.
    for page in together..end {
        let Plane { keys, values, scales } = read(page);
        let next = read((page + PAGES_AHEAD).min(end - 1)).keys.as_ptr().cast();
        let tile = Tile { first: page * PAGE_TOKENS, keys, values, scales: [scales], next };
        attend_tile::<L, S, SIDE, 1, VECTORS>(&mut rows, tile);
    }
    for (output, sums) in rows.outputs.chunks_exact_mut(head_dim).zip(rows.sums.iter()) {
        let inverse = 1.0 / sum_of(*sums);
        output.iter_mut().for_each(|output| *output *= inverse);
    }
}

/// The state of an attention. Outputs are sums of values, weighted by the exponentials of scores minus the reference.
struct Rows<'a> {
    head_dim: usize,
    /// Rows of a token, and the position of the first token.
    heads: usize,
    position: usize,
    /// `[rows, head_dim]`.
    queries: &'a [f32],
    /// `[rows, head_dim]`.
    outputs: &'a mut [f32],
    references: &'a mut [f32],
    /// The sums of the weights: a lane adds up the same slot of every page.
    sums: &'a mut [[f32; LANES]],
}

/// `P` pages, one after another.
#[derive(Clone, Copy)]
struct Tile<'a, T, const P: usize> {
    /// Position of the first slot.
    first: usize,
    /// `[P, head_dim, PAGE_TOKENS]`.
    keys: &'a [T],
    /// `[P * PAGE_TOKENS, head_dim]`.
    values: &'a [T],
    /// Of each page. Scores and weights are scaled instead of keys and values, so that the outputs are the same whether these
    /// were converted before.
    scales: [Option<&'a Scales>; P],
    /// The keys of a page that is read later, with its values behind them, which a tile of one page prefetches.
    next: *const u8,
}

/// Adds a tile to all rows that see any of it, `SIDE` rows side by side.
#[inline(always)]
fn attend_tile<L: Lanes, T: Element, const SIDE: usize, const P: usize, const VECTORS: usize>(
    rows: &mut Rows<'_>,
    tile: Tile<'_, T, P>,
) {
    let count = rows.references.len();
    let first = (tile.first.saturating_sub(rows.position) * rows.heads).min(count);
    // A few rows that see nothing of the tile may be among them; they do not change.
    let mut row = first - first % SIDE;
    while row < count {
        let side = if count - row >= SIDE { SIDE } else { (count - row).min(3) };
        match side {
            1 => attend_rows::<L, T, 1, P, VECTORS>(rows, row, tile),
            2 => attend_rows::<L, T, 2, P, VECTORS>(rows, row, tile),
            3 => attend_rows::<L, T, 3, P, VECTORS>(rows, row, tile),
            _ => attend_rows::<L, T, SIDE, P, VECTORS>(rows, row, tile),
        }
        row += side;
    }
}

/// Adds a tile to the `R` rows from `row` on.
#[inline(always)]
fn attend_rows<L: Lanes, T: Element, const R: usize, const P: usize, const VECTORS: usize>(
    rows: &mut Rows<'_>,
    row: usize,
    tile: Tile<'_, T, P>,
) {
    let head_dim = rows.head_dim;
    let mut seen = [0; R];
    let mut queries = [rows.queries; R];
    for index in 0..R {
        let end = rows.position + (row + index) / rows.heads + 1;
        seen[index] = end.saturating_sub(tile.first).min(P * PAGE_TOKENS);
        queries[index] = &rows.queries[(row + index) * head_dim..][..head_dim];
    }
    let outputs = &mut rows.outputs[row * head_dim..][..R * head_dim];
    let references = &mut rows.references[row..][..R];
    let sums = &mut rows.sums[row..][..R];
    let mut weights = scores_of::<L, T, R, P>(queries, tile.keys, tile.next);
    for scores in &mut weights {
        for (scores, scales) in scores.iter_mut().zip(tile.scales) {
            if let Some([scales, _]) = scales {
                multiply::<L>(scores, scales);
            }
        }
    }
    // Later rows see at least as much as the first.
    if seen[0] < P * PAGE_TOKENS {
        for (weights, seen) in weights.iter_mut().zip(seen) {
            for (slot, score) in weights.as_flattened_mut().iter_mut().enumerate() {
                *score = if slot < seen { *score } else { f32::NEG_INFINITY };
            }
        }
    }
    // Slots from here on have weights, and values that are not added yet.
    let mut start = 0;
    for page in 0..P {
        let mut exceeds = false;
        for (weights, reference) in weights.iter().zip(&*references) {
            exceeds |= exceed(&weights[page], *reference);
        }
        if exceeds {
            for index in 0..R {
                let outputs = &mut outputs[index * head_dim..][..head_dim];
                let range = start..seen[index].min(page * PAGE_TOKENS);
                add_values::<L, T, 1, P, 1>(outputs, [&weights[index]], range, tile.values, std::ptr::null());
                if exceed(&weights[index][page], references[index]) {
                    let largest = largest_of(weights[index][page]);
                    let decay = L::exp(references[index] - largest);
                    references[index] = largest;
                    sums[index].iter_mut().for_each(|sum| *sum *= decay);
                    outputs.iter_mut().for_each(|output| *output *= decay);
                }
            }
            start = page * PAGE_TOKENS;
        }
        for index in 0..R {
            for slot in 0..PAGE_TOKENS {
                let weight = L::exp(weights[index][page][slot] - references[index]);
                weights[index][page][slot] = weight;
                sums[index][slot] += weight;
            }
            if let Some([_, scales]) = tile.scales[page] {
                multiply::<L>(&mut weights[index][page], scales);
            }
        }
    }
    let all = start.max(seen[0]);
    let next_values = tile.next.wrapping_add(size_of_val(tile.values));
    add_values::<L, T, R, P, VECTORS>(outputs, weights.each_ref(), start..all, tile.values, next_values);
    if seen[R - 1] > all {
        for index in 0..R {
            let outputs = &mut outputs[index * head_dim..][..head_dim];
            add_values::<L, T, 1, P, 1>(
                outputs,
                [&weights[index]],
                all..seen[index],
                tile.values,
                std::ptr::null(),
            );
        }
    }
}

/// Returns whether a score exceeds the reference by more than [`SLACK`]. NaN does not.
#[inline(always)]
fn exceed(scores: &[f32; PAGE_TOKENS], reference: f32) -> bool {
    let mut exceeds = false;
    for score in scores {
        exceeds |= *score > reference + SLACK;
    }
    exceeds
}

#[cfg(test)]
mod tests;
