//! Grouped-query attention over pages of keys and values, with an online softmax (Milakov and Gimelshein
//! 2018; Dao et al. 2022): no complete row of scores is ever stored.

use super::pages::{PAGE_TOKENS, PagePool};
use super::vector::{LANES, exp, largest_of, multiply_add, sum_of};
use half::f16;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
use std::ops::Range;

/// Maximum number of tokens of one sequence whose attention is computed together: each page is read once for
/// all of them.
pub(crate) const QUERY_TOKENS: usize = 8;

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

/// The type of keys and values: f16 as stored in pages, or f32 after conversion.
trait Element: Copy {
    const ZERO: Self;

    fn widen<const FMA: bool>(elements: &[Self; LANES]) -> [f32; LANES];
}

impl Element for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn widen<const FMA: bool>(elements: &[f32; LANES]) -> [f32; LANES] {
        *elements
    }
}

impl Element for f16 {
    const ZERO: f16 = f16::ZERO;

    #[inline(always)]
    fn widen<const FMA: bool>(elements: &[f16; LANES]) -> [f32; LANES] {
        let mut floats = [0.0; LANES];
        widen::<FMA>(elements, &mut floats);
        floats
    }
}

/// Inputs, outputs and working memory of an [`Attention`].
pub(crate) struct AttentionBuffers {
    /// `[rows, head_dim]`, scaled: token after token, and within a token head after head.
    pub(crate) queries: Vec<f32>,
    /// `[rows, head_dim]`.
    pub(crate) outputs: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    largest: Vec<f32>,
    total: Vec<f32>,
}

impl AttentionBuffers {
    /// Creates buffers for up to `rows` rows.
    pub(crate) fn new(head_dim: usize, rows: usize) -> AttentionBuffers {
        let page = PAGE_TOKENS * head_dim;
        AttentionBuffers {
            queries: vec![0.0; rows * head_dim],
            outputs: vec![0.0; rows * head_dim],
            keys: vec![0.0; page],
            values: vec![0.0; page],
            largest: vec![0.0; rows],
            total: vec![0.0; rows],
        }
    }
}

/// Runs an attention with `SIDE` rows side by side and `VECTORS` vectors of [`LANES`] of a head at a time:
/// each key and value is loaded once for these rows, whose sums are independent. The output of a row depends
/// only on its own query and position: pages are visited in order, and a page whose positions are all later
/// than the row does not change it.
#[inline(always)]
pub(crate) fn attend<const FMA: bool, const SIDE: usize, const VECTORS: usize>(
    attention: &mut Attention<'_>,
) {
    let Attention { pool, pages, layer, kv_head, position, heads, rows, head_dim, buffers } = attention;
    let (heads, count, head_dim, position) = (*heads, *rows, *head_dim, *position);
    let mut rows = Rows {
        head_dim,
        queries: &buffers.queries[..count * head_dim],
        outputs: &mut buffers.outputs[..count * head_dim],
        largest: &mut buffers.largest[..count],
        total: &mut buffers.total[..count],
    };
    rows.outputs.fill(0.0);
    rows.largest.fill(f32::NEG_INFINITY);
    rows.total.fill(0.0);
    let last = position + count / heads - 1;
    for (page, &id) in pages[..=last / PAGE_TOKENS].iter().enumerate() {
        let first = page * PAGE_TOKENS;
        let (keys, values) = pool.read(id, *layer, *kv_head);
        // Pages lie apart, so that the processor does not see by itself what is read next.
        if page < last / PAGE_TOKENS {
            pool.prefetch(pages[page + 1], *layer, *kv_head);
        }
        if count == heads {
            // One token: its rows are computed side by side, so each key and value is read once.
            let visible = (last - first + 1).min(PAGE_TOKENS);
            attend_few_rows::<FMA, SIDE, VECTORS, f16>(&mut rows, 0..count, visible, keys, values);
            continue;
        }
        widen::<FMA>(keys, &mut buffers.keys);
        widen::<FMA>(values, &mut buffers.values);
        let (keys, values) = (&buffers.keys[..], &buffers.values[..]);
        // Tokens before the page do not attend to it, tokens in the page attend to its positions up to their
        // own, and later tokens attend to all of it.
        let row_at = |at: usize| (at.saturating_sub(position) * heads).min(count);
        let whole = row_at(first + PAGE_TOKENS - 1);
        for row in (row_at(first)..whole).step_by(heads) {
            let visible = position + row / heads - first + 1;
            attend_few_rows::<FMA, SIDE, VECTORS, f32>(&mut rows, row..row + heads, visible, keys, values);
        }
        let side = count - (count - whole) % SIDE;
        for row in (whole..side).step_by(SIDE) {
            attend_rows::<FMA, SIDE, VECTORS, f32>(&mut rows, row, PAGE_TOKENS, keys, values);
        }
        attend_few_rows::<FMA, SIDE, VECTORS, f32>(&mut rows, side..count, PAGE_TOKENS, keys, values);
    }
    for (output, total) in rows.outputs.chunks_exact_mut(head_dim).zip(rows.total.iter()) {
        let inverse = 1.0 / total;
        output.iter_mut().for_each(|output| *output *= inverse);
    }
}

/// The state of an attention. Outputs are sums of values, weighted by the exponentials of scores minus the
/// largest score.
struct Rows<'a> {
    head_dim: usize,
    /// `[rows, head_dim]`.
    queries: &'a [f32],
    /// `[rows, head_dim]`.
    outputs: &'a mut [f32],
    largest: &'a mut [f32],
    total: &'a mut [f32],
}

/// Adds the first `visible` positions of a page to some rows, up to three rows side by side.
#[inline(always)]
fn attend_few_rows<const FMA: bool, const SIDE: usize, const VECTORS: usize, T: Element>(
    rows: &mut Rows<'_>,
    range: Range<usize>,
    visible: usize,
    keys: &[T],
    values: &[T],
) {
    let mut row = range.start;
    while row < range.end {
        let side = SIDE.min(3).min(range.end - row);
        match side {
            3 => attend_rows::<FMA, 3, VECTORS, T>(rows, row, visible, keys, values),
            2 => attend_rows::<FMA, 2, VECTORS, T>(rows, row, visible, keys, values),
            _ => attend_rows::<FMA, 1, VECTORS, T>(rows, row, visible, keys, values),
        }
        row += side;
    }
}

/// Adds the first `visible` positions of a page to the `R` rows from `row` on.
#[inline(always)]
fn attend_rows<const FMA: bool, const R: usize, const VECTORS: usize, T: Element>(
    rows: &mut Rows<'_>,
    row: usize,
    visible: usize,
    keys: &[T],
    values: &[T],
) {
    let head_dim = rows.head_dim;
    let queries = std::array::from_fn(|index| &rows.queries[(row + index) * head_dim..][..head_dim]);
    let mut weights = scores_of::<FMA, R, T>(queries, keys);
    let outputs = &mut rows.outputs[row * head_dim..][..R * head_dim];
    for (index, scores) in weights.iter_mut().enumerate() {
        let (largest, total) = (&mut rows.largest[row + index], &mut rows.total[row + index]);
        for (slot, score) in scores.iter_mut().enumerate() {
            *score = if slot < visible { *score } else { f32::NEG_INFINITY };
        }
        let best = largest.max(largest_of(*scores));
        // NaN scores do not change `best`, and stay NaN.
        let best = if best == f32::NEG_INFINITY { 0.0 } else { best };
        let decay = exp::<FMA>(*largest - best);
        for score in scores.iter_mut() {
            *score = exp::<FMA>(*score - best);
        }
        *largest = best;
        *total = multiply_add::<FMA>(*total, decay, sum_of(*scores));
        if decay != 1.0 {
            outputs[index * head_dim..][..head_dim].iter_mut().for_each(|output| *output *= decay);
        }
    }
    add_values::<FMA, R, VECTORS, T>(outputs, &weights, visible, values);
}

/// Returns the products of `R` queries with the keys of a page, `[head_dim, PAGE_TOKENS]`. A lane is a
/// position.
#[inline(always)]
fn scores_of<const FMA: bool, const R: usize, T: Element>(
    queries: [&[f32]; R],
    keys: &[T],
) -> [[f32; PAGE_TOKENS]; R] {
    let mut even = [[0.0; PAGE_TOKENS]; R];
    let mut odd = [[0.0; PAGE_TOKENS]; R];
    let pairs = queries.map(|query| query.as_chunks::<2>().0);
    let (rows, _) = keys.as_chunks::<PAGE_TOKENS>();
    let (row_pairs, _) = rows.as_chunks::<2>();
    for (index, rows) in row_pairs[..pairs[0].len()].iter().enumerate() {
        let rows = [T::widen::<FMA>(&rows[0]), T::widen::<FMA>(&rows[1])];
        for row in 0..R {
            let pair = pairs[row][index];
            for slot in 0..PAGE_TOKENS {
                even[row][slot] = multiply_add::<FMA>(pair[0], rows[0][slot], even[row][slot]);
                odd[row][slot] = multiply_add::<FMA>(pair[1], rows[1][slot], odd[row][slot]);
            }
        }
    }
    for (even, odd) in even.iter_mut().zip(odd) {
        for (even, odd) in even.iter_mut().zip(odd) {
            *even += odd;
        }
    }
    even
}

/// Adds the first `visible` values of a page, `[PAGE_TOKENS, head_dim]`, to the outputs of `R` rows, in order
/// of position.
#[inline(always)]
fn add_values<const FMA: bool, const R: usize, const VECTORS: usize, T: Element>(
    outputs: &mut [f32],
    weights: &[[f32; PAGE_TOKENS]; R],
    visible: usize,
    values: &[T],
) {
    let head_dim = outputs.len() / R;
    let mut start = 0;
    while start + VECTORS * LANES <= head_dim {
        add_at::<FMA, R, VECTORS, T>(outputs, weights, visible, values, start);
        start += VECTORS * LANES;
    }
    while start + LANES <= head_dim {
        add_at::<FMA, R, 1, T>(outputs, weights, visible, values, start);
        start += LANES;
    }
    if start == head_dim {
        return;
    }
    for (output, weights) in outputs.chunks_exact_mut(head_dim).zip(weights) {
        for (position, values) in values.chunks_exact(head_dim).take(visible).enumerate() {
            let mut rest = [T::ZERO; LANES];
            rest[..head_dim - start].copy_from_slice(&values[start..]);
            for (output, value) in output[start..].iter_mut().zip(T::widen::<FMA>(&rest)) {
                *output = multiply_add::<FMA>(weights[position], value, *output);
            }
        }
    }
}

/// Adds the values of `VECTORS` vectors of a head from `start` on.
#[inline(always)]
fn add_at<const FMA: bool, const R: usize, const VECTORS: usize, T: Element>(
    outputs: &mut [f32],
    weights: &[[f32; PAGE_TOKENS]; R],
    visible: usize,
    values: &[T],
    start: usize,
) {
    let head_dim = outputs.len() / R;
    let mut sums = [[[0.0; LANES]; VECTORS]; R];
    for (output, sums) in outputs.chunks_exact(head_dim).zip(&mut sums) {
        sums.as_flattened_mut().copy_from_slice(&output[start..][..VECTORS * LANES]);
    }
    for (position, values) in values.chunks_exact(head_dim).take(visible.min(PAGE_TOKENS)).enumerate() {
        let (vectors, _) = values[start..].as_chunks::<LANES>();
        for vector in 0..VECTORS {
            let values = T::widen::<FMA>(&vectors[vector]);
            for row in 0..R {
                for lane in 0..LANES {
                    sums[row][vector][lane] =
                        multiply_add::<FMA>(weights[row][position], values[lane], sums[row][vector][lane]);
                }
            }
        }
    }
    for (output, sums) in outputs.chunks_exact_mut(head_dim).zip(&sums) {
        output[start..][..VECTORS * LANES].copy_from_slice(sums.as_flattened());
    }
}

/// Converts f16 to f32. `FMA` on x86-64 implies F16C: every level that has one has the other.
#[inline(always)]
fn widen<const FMA: bool>(halves: &[f16], floats: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if FMA {
        let (eights, rest) = halves.as_chunks::<8>();
        let (floats, floats_rest) = floats[..halves.len()].as_chunks_mut::<8>();
        for (floats, halves) in floats.iter_mut().zip(eights) {
            // SAFETY: both slices have eight values; on x86-64 every level with FMA has F16C
            // (`cpu/levels.rs`).
            unsafe {
                let halves = _mm_loadu_si128(halves.as_ptr().cast());
                _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        return widen_by_integers(rest, floats_rest);
    }
    widen_by_integers(halves, floats);
}

/// Converts f16 to f32 by integer operations, which the compiler vectorises for every instruction set.
#[inline(always)]
fn widen_by_integers(halves: &[f16], floats: &mut [f32]) {
    // Changes the bias of the exponent from 15 to 127, for subnormal numbers too.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    for (float, half) in floats.iter_mut().zip(halves) {
        let bits = u32::from(half.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * REBIAS;
        // Infinities and NaN are kept: they must show in every token that attends to them.
        let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        *float = f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_widens_to_its_value() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let check = |widen: fn(&[f16], &mut [f32])| {
            // Nine at a time: a vector and a remainder.
            for halves in all.chunks(9) {
                let mut floats = [0.0; 9];
                widen(halves, &mut floats);
                for (half, float) in halves.iter().zip(floats) {
                    let expected = half.to_f32();
                    assert!(float == expected || float.is_nan() && expected.is_nan(), "{half:?}: {float}");
                }
            }
        };
        check(widen::<false>);
        #[cfg(target_arch = "x86_64")]
        if crate::cpu::Implementation::supported_names().contains(&"avx2") {
            check(widen::<true>);
        }
    }
}
