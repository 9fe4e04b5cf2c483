//! Grouped-query attention over pages of keys and values, with an online softmax (Milakov and
//! Gimelshein 2018; Dao et al. 2022): a row of scores is never stored whole.

use super::pages::{PAGE_TOKENS, PagePool};
use super::vector::{exp, multiply_add, sum_of};
use half::f16;

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

/// Runs an attention. What a row gets depends on its own query and position alone: pages come in
/// order, and one that is wholly ahead of a row does not touch it.
#[inline(always)]
pub(crate) fn attend<const FMA: bool>(attention: &mut Attention<'_>) {
    let Attention { pool, pages, layer, kv_head, position, heads, rows, head_dim, room } = attention;
    let (heads, rows, head_dim, position) = (*heads, *rows, *head_dim, *position);
    let queries = &room.queries[..rows * head_dim];
    let outputs = &mut room.outputs[..rows * head_dim];
    let last = position + rows / heads - 1;
    let (largest, total) = (&mut room.largest[..rows], &mut room.total[..rows]);
    outputs.fill(0.0);
    largest.fill(f32::NEG_INFINITY);
    total.fill(0.0);
    for (page, &id) in pages[..=last / PAGE_TOKENS].iter().enumerate() {
        let first = page * PAGE_TOKENS;
        let (keys, values) = pool.read(id, *layer, *kv_head);
        widen(keys, &mut room.keys);
        widen(values, &mut room.values);
        let query_rows = queries.chunks_exact(head_dim).zip(outputs.chunks_exact_mut(head_dim));
        for (row, (query, output)) in query_rows.enumerate() {
            let at = position + row / heads;
            if at < first {
                continue;
            }
            let mut scores = scores_of::<FMA>(query, &room.keys);
            let visible = (at - first + 1).min(PAGE_TOKENS);
            let mut best = largest[row];
            for (slot, score) in scores.iter_mut().enumerate() {
                *score = if slot < visible { *score } else { f32::NEG_INFINITY };
                best = if *score > best { *score } else { best };
            }
            // Scores that are no numbers leave `best` as it was; they stay none.
            let best = if best == f32::NEG_INFINITY { 0.0 } else { best };
            let faded = exp::<FMA>(largest[row] - best);
            for score in &mut scores {
                *score = exp::<FMA>(*score - best);
            }
            largest[row] = best;
            total[row] = multiply_add::<FMA>(total[row], faded, sum_of(scores));
            if faded != 1.0 {
                output.iter_mut().for_each(|output| *output *= faded);
            }
            // Four positions at a time, in their order: an output is loaded and stored a quarter as often.
            let (quads, rest) = scores[..visible].as_chunks::<4>();
            let values = room.values.chunks_exact(4 * head_dim);
            for (weights, values) in quads.iter().zip(values) {
                let (first, values) = values.split_at(head_dim);
                let (second, values) = values.split_at(head_dim);
                let (third, fourth) = values.split_at(head_dim);
                let values = first.iter().zip(second).zip(third.iter().zip(fourth));
                for (output, ((first, second), (third, fourth))) in output.iter_mut().zip(values) {
                    let sum = multiply_add::<FMA>(weights[0], *first, *output);
                    let sum = multiply_add::<FMA>(weights[1], *second, sum);
                    let sum = multiply_add::<FMA>(weights[2], *third, sum);
                    *output = multiply_add::<FMA>(weights[3], *fourth, sum);
                }
            }
            let values = room.values.chunks_exact(head_dim).skip(4 * quads.len());
            for (weight, value) in rest.iter().zip(values) {
                for (output, value) in output.iter_mut().zip(value) {
                    *output = multiply_add::<FMA>(*weight, *value, *output);
                }
            }
        }
    }
    for (output, total) in outputs.chunks_exact_mut(head_dim).zip(total.iter()) {
        let inverse = 1.0 / total;
        output.iter_mut().for_each(|output| *output *= inverse);
    }
}

/// Products of a query with the keys of a page, `[head_dim, PAGE_TOKENS]`; a lane is a position.
#[inline(always)]
fn scores_of<const FMA: bool>(query: &[f32], keys: &[f32]) -> [f32; PAGE_TOKENS] {
    let mut even = [0.0; PAGE_TOKENS];
    let mut odd = [0.0; PAGE_TOKENS];
    let (pairs, _) = query.as_chunks::<2>();
    let (rows, _) = keys.as_chunks::<PAGE_TOKENS>();
    let (row_pairs, _) = rows.as_chunks::<2>();
    for (pair, rows) in pairs.iter().zip(row_pairs) {
        for slot in 0..PAGE_TOKENS {
            even[slot] = multiply_add::<FMA>(pair[0], rows[0][slot], even[slot]);
            odd[slot] = multiply_add::<FMA>(pair[1], rows[1][slot], odd[slot]);
        }
    }
    for (even, odd) in even.iter_mut().zip(odd) {
        *even += odd;
    }
    even
}

/// f16 as f32, by integer operations that the compiler vectorises anywhere.
#[inline(always)]
fn widen(halves: &[f16], floats: &mut [f32]) {
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
        for bits in 0..=u16::MAX {
            let mut float = [0.0];
            widen(&[f16::from_bits(bits)], &mut float);
            let expected = f16::from_bits(bits).to_f32();
            assert!(float[0] == expected || float[0].is_nan() && expected.is_nan(), "{bits:#x}");
        }
    }
}
