//! The products of attention: of queries with the keys of a tile, and of weights with its values.

use super::super::lanes::{Element, Lanes};
use super::super::pages::PAGE_TOKENS;
use super::super::vector::LANES;
use crate::prefetch::{prefetch_bytes, prefetch_line};
use std::ops::Range;

/// The weights, or before that the scores, of a row for the pages of a tile.
pub(super) type Weights<const P: usize> = [[f32; PAGE_TOKENS]; P];

/// Returns the products of `R` queries with the keys of a tile. A lane is a position. A tile of one page prefetches as many keys
/// from `next` on.
#[inline(always)]
pub(super) fn scores_of<L: Lanes, T: Element, const R: usize, const P: usize>(
    queries: [&[f32]; R],
    keys: &[T],
    next: *const u8,
) -> [Weights<P>; R] {
    let mut even = [[L::splat(0.0); P]; R];
    let mut odd = even;
    let count = queries[0].len() / 2;
    let query_pairs = queries.map(|query| &query.as_chunks::<2>().0[..count]);
    let (key_pairs, _) = keys.as_chunks::<PAGE_TOKENS>().0.as_chunks::<2>();
    let mut page_pairs = [key_pairs; P];
    for page in 0..P {
        page_pairs[page] = &key_pairs[page * count..][..count];
    }
    for index in 0..count {
        if P == 1 {
            prefetch_line(next.wrapping_add(index * size_of::<[[T; PAGE_TOKENS]; 2]>()));
        }
        // Loops, because closures are not compiled for the level.
        let mut keys = [[L::splat(0.0); 2]; P];
        for page in 0..P {
            let [even, odd] = &page_pairs[page][index];
            keys[page] = [T::load::<L>(even), T::load::<L>(odd)];
        }
        for row in 0..R {
            let query = query_pairs[row][index];
            let query = [L::splat(query[0]), L::splat(query[1])];
            for page in 0..P {
                L::add_product(&mut even[row][page], &query[0], &keys[page][0]);
                L::add_product(&mut odd[row][page], &query[1], &keys[page][1]);
            }
        }
    }
    let mut scores = [[[0.0; PAGE_TOKENS]; P]; R];
    for row in 0..R {
        for page in 0..P {
            L::store(L::add(even[row][page], odd[row][page]), &mut scores[row][page]);
        }
    }
    scores
}

/// Adds the values of some slots of a tile to the outputs of `R` rows, in order of position. A tile of one page prefetches the
/// same slots from `next` on.
#[inline(always)]
pub(super) fn add_values<L: Lanes, T: Element, const R: usize, const P: usize, const VECTORS: usize>(
    outputs: &mut [f32],
    weights: [&Weights<P>; R],
    slots: Range<usize>,
    values: &[T],
    next: *const u8,
) {
    let head_dim = outputs.len() / R;
    let mut start = 0;
    while start + VECTORS * LANES <= head_dim {
        add_at::<L, T, R, P, VECTORS>(outputs, weights, slots.clone(), values, next, start);
        start += VECTORS * LANES;
    }
    while start + LANES <= head_dim {
        add_at::<L, T, R, P, 1>(outputs, weights, slots.clone(), values, next, start);
        start += LANES;
    }
    if start == head_dim {
        return;
    }
    let rest = head_dim - start;
    for (output, weights) in outputs.chunks_exact_mut(head_dim).zip(weights) {
        let mut floats = [0.0; LANES];
        floats[..rest].copy_from_slice(&output[start..]);
        let mut sum = L::load(&floats);
        for slot in slots.clone() {
            let mut padded = [T::ZERO; LANES];
            padded[..rest].copy_from_slice(&values[slot * head_dim..][start..head_dim]);
            L::add_product(&mut sum, &L::splat(weights.as_flattened()[slot]), &T::load::<L>(&padded));
        }
        L::store(sum, &mut floats);
        output[start..].copy_from_slice(&floats[..rest]);
    }
}

/// Adds the values of `VECTORS` vectors of a head from `start` on.
#[inline(always)]
fn add_at<L: Lanes, T: Element, const R: usize, const P: usize, const VECTORS: usize>(
    outputs: &mut [f32],
    weights: [&Weights<P>; R],
    slots: Range<usize>,
    values: &[T],
    next: *const u8,
    start: usize,
) {
    let head_dim = outputs.len() / R;
    let mut sums = [[L::splat(0.0); VECTORS]; R];
    for (output, sums) in outputs.chunks_exact(head_dim).zip(&mut sums) {
        for (vector, sum) in output[start..].as_chunks().0.iter().zip(sums) {
            *sum = L::load(vector);
        }
    }
    for slot in slots.start..slots.end.min(P * PAGE_TOKENS) {
        let place = slot * head_dim + start;
        let (vectors, _) = values[place..][..VECTORS * LANES].as_chunks();
        if P == 1 {
            prefetch_bytes(next.wrapping_add(place * size_of::<T>()), VECTORS * LANES * size_of::<T>());
        }
        let mut slot_weights = [L::splat(0.0); R];
        for row in 0..R {
            slot_weights[row] = L::splat(weights[row].as_flattened()[slot]);
        }
        for vector in 0..VECTORS {
            let values = T::load::<L>(&vectors[vector]);
            for row in 0..R {
                L::add_product(&mut sums[row][vector], &slot_weights[row], &values);
            }
        }
    }
    for (output, sums) in outputs.chunks_exact_mut(head_dim).zip(sums) {
        for (vector, sum) in output[start..].as_chunks_mut().0.iter_mut().zip(sums) {
            L::store(sum, vector);
        }
    }
}

/// Converts to f32, without scales.
#[inline(always)]
pub(super) fn widen<L: Lanes, T: Element>(elements: &[T], floats: &mut [f32]) {
    for (floats, elements) in floats.as_chunks_mut().0.iter_mut().zip(elements.as_chunks().0) {
        L::store(T::load::<L>(elements), floats);
    }
}

/// Multiplies the scores or weights of a page.
#[inline(always)]
pub(super) fn multiply<L: Lanes>(numbers: &mut [f32; PAGE_TOKENS], scales: &[f32; PAGE_TOKENS]) {
    L::store(L::multiply(L::load(numbers), L::load(scales)), numbers);
}
