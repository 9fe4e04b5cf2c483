//! Grouped-query attention over pages of keys and values, with an online softmax (Milakov and
//! Gimelshein 2018; Dao et al. 2022): a row of scores is never stored whole.

use super::pages::{PAGE_TOKENS, PagePool};
use super::vector::{LANES, exp, largest_of, multiply_add, sum_of};
use half::f16;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
use std::ops::Range;

/// Tokens of one sequence whose attention is computed together: a page is read once for all.
pub(crate) const QUERY_TOKENS: usize = 8;

/// Some query heads, of one key/value head, of some consecutive tokens of one sequence.
pub(crate) struct Attention<'a> {
    pub(crate) pool: &'a PagePool,
    /// The sequence's pages.
    pub(crate) pages: &'a [u32],
    pub(crate) layer: usize,
    pub(crate) kv_head: usize,
    /// Of the first token.
    pub(crate) position: usize,
    /// Query heads: rows of a token.
    pub(crate) heads: usize,
    /// Tokens times heads.
    pub(crate) rows: usize,
    pub(crate) head_dim: usize,
    /// Holds the queries, and gets the results.
    pub(crate) room: &'a mut Room,
}

/// What keys and values are read as: f16 as pages hold them, or f32 that they were widened to.
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

/// What an attention of up to so many rows reads, writes and needs while it runs.
pub(crate) struct Room {
    /// `[rows, head_dim]`: token after token, head after head, scaled.
    pub(crate) queries: Vec<f32>,
    /// `[rows, head_dim]`.
    pub(crate) outputs: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    largest: Vec<f32>,
    total: Vec<f32>,
}

impl Room {
    pub(crate) fn new(head_dim: usize, rows: usize) -> Room {
        let page = PAGE_TOKENS * head_dim;
        Room {
            queries: vec![0.0; rows * head_dim],
            outputs: vec![0.0; rows * head_dim],
            keys: vec![0.0; page],
            values: vec![0.0; page],
            largest: vec![0.0; rows],
            total: vec![0.0; rows],
        }
    }
}

/// Runs an attention, `SIDE` rows side by side: a key or value is loaded once for all, and their sums do not wait for
/// each other; of a head, `VECTORS` vectors of [`LANES`] at a time. What a row gets depends on its own query and position
/// alone: pages come in order, and one that is wholly ahead of a row does not touch it.
#[inline(always)]
pub(crate) fn attend<const FMA: bool, const SIDE: usize, const VECTORS: usize>(
    attention: &mut Attention<'_>,
) {
    let Attention { pool, pages, layer, kv_head, position, heads, rows, head_dim, room } = attention;
    let (heads, count, head_dim, position) = (*heads, *rows, *head_dim, *position);
    let mut rows = Rows {
        head_dim,
        queries: &room.queries[..count * head_dim],
        outputs: &mut room.outputs[..count * head_dim],
        largest: &mut room.largest[..count],
        total: &mut room.total[..count],
    };
    rows.outputs.fill(0.0);
    rows.largest.fill(f32::NEG_INFINITY);
    rows.total.fill(0.0);
    let last = position + count / heads - 1;
    for (page, &id) in pages[..=last / PAGE_TOKENS].iter().enumerate() {
        let first = page * PAGE_TOKENS;
        let (keys, values) = pool.read(id, *layer, *kv_head);
        if count == heads {
            // One token, whose rows stand side by side: each key and value is read once.
            let visible = (last - first + 1).min(PAGE_TOKENS);
            see_few::<FMA, SIDE, VECTORS, f16>(&mut rows, 0..count, visible, keys, values);
            continue;
        }
        widen::<FMA>(keys, &mut room.keys);
        widen::<FMA>(values, &mut room.values);
        let (keys, values) = (&room.keys[..], &room.values[..]);
        // Tokens before the page do not see it, those in it see what is not ahead of them, and later ones all of it.
        let row_at = |at: usize| (at.saturating_sub(position) * heads).min(count);
        let whole = row_at(first + PAGE_TOKENS - 1);
        for row in (row_at(first)..whole).step_by(heads) {
            let visible = position + row / heads - first + 1;
            see_few::<FMA, SIDE, VECTORS, f32>(&mut rows, row..row + heads, visible, keys, values);
        }
        let side = count - (count - whole) % SIDE;
        for row in (whole..side).step_by(SIDE) {
            see::<FMA, SIDE, VECTORS, f32>(&mut rows, row, PAGE_TOKENS, keys, values);
        }
        see_few::<FMA, SIDE, VECTORS, f32>(&mut rows, side..count, PAGE_TOKENS, keys, values);
    }
    for (output, total) in rows.outputs.chunks_exact_mut(head_dim).zip(rows.total.iter()) {
        let inverse = 1.0 / total;
        output.iter_mut().for_each(|output| *output *= inverse);
    }
}

/// An attention so far: outputs are sums of values, weighted by the exponentials of scores less the largest.
struct Rows<'a> {
    head_dim: usize,
    /// `[rows, head_dim]`.
    queries: &'a [f32],
    /// `[rows, head_dim]`.
    outputs: &'a mut [f32],
    largest: &'a mut [f32],
    total: &'a mut [f32],
}

/// Lets some rows see the first `visible` positions of a page, up to three side by side.
#[inline(always)]
fn see_few<const FMA: bool, const SIDE: usize, const VECTORS: usize, T: Element>(
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
            3 => see::<FMA, 3, VECTORS, T>(rows, row, visible, keys, values),
            2 => see::<FMA, 2, VECTORS, T>(rows, row, visible, keys, values),
            _ => see::<FMA, 1, VECTORS, T>(rows, row, visible, keys, values),
        }
        row += side;
    }
}

/// Lets `R` rows from `row` on see the first `visible` positions of a page.
#[inline(always)]
fn see<const FMA: bool, const R: usize, const VECTORS: usize, T: Element>(
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
        // Scores that are no numbers leave `best` as it was; they stay none.
        let best = if best == f32::NEG_INFINITY { 0.0 } else { best };
        let faded = exp::<FMA>(*largest - best);
        for score in scores.iter_mut() {
            *score = exp::<FMA>(*score - best);
        }
        *largest = best;
        *total = multiply_add::<FMA>(*total, faded, sum_of(*scores));
        if faded != 1.0 {
            outputs[index * head_dim..][..head_dim].iter_mut().for_each(|output| *output *= faded);
        }
    }
    add_values::<FMA, R, VECTORS, T>(outputs, &weights, visible, values);
}

/// Products of `R` queries with the keys of a page, `[head_dim, PAGE_TOKENS]`; a lane is a position.
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

/// Adds the first `visible` values of a page, `[PAGE_TOKENS, head_dim]`, to the outputs of `R` rows, in their order.
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

/// Adds values at `VECTORS` vectors from `start` on.
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

/// f16 as f32: with F16C where the machine has the rest, which is compiled together.
#[inline(always)]
fn widen<const FMA: bool>(halves: &[f16], floats: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if FMA {
        let (eights, rest) = halves.as_chunks::<8>();
        let (floats, floats_rest) = floats[..halves.len()].as_chunks_mut::<8>();
        for (floats, halves) in floats.iter_mut().zip(eights) {
            // SAFETY: eight of each; whoever runs code with FMA on x86-64 has compiled F16C with it.
            unsafe {
                let halves = _mm_loadu_si128(halves.as_ptr().cast());
                _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        return widen_by_integers(rest, floats_rest);
    }
    widen_by_integers(halves, floats);
}

/// By integer operations that the compiler vectorises anywhere.
#[inline(always)]
fn widen_by_integers(halves: &[f16], floats: &mut [f32]) {
    // Moves the exponent from a bias of 15 to one of 127, for subnormal numbers as well.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    for (float, half) in floats.iter_mut().zip(halves) {
        let bits = u32::from(half.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * REBIAS;
        // What is not a number stays none: it must show in every token that attends to it.
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
            // Nine at a time: vectors and what is left of them.
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
        if is_x86_feature_detected!("f16c") {
            check(widen::<true>);
        }
    }
}
