use super::*;
use crate::cpu::Implementation;
use crate::engine::ModelConfig;
use std::collections::BTreeSet;

const TOKENS: usize = 70;
const PRECISIONS: [KvPrecision; 2] = [KvPrecision::F16, KvPrecision::Int8];
/// The key/value head that is used.
const KV_HEAD: usize = 1;

/// A sequence of [`TOKENS`] tokens.
struct Sequence {
    heads: usize,
    head_dim: usize,
    pool: PagePool,
    pages: Vec<u32>,
    /// `[TOKENS, heads, head_dim]`.
    queries: Vec<f32>,
    /// `[TOKENS, head_dim]`, exact as they are stored.
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Returns numbers in −1 to 1 that are exact in f16.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |index: usize| ((index * 7919 + seed * 104_729) % 2039) as f32 / 1024.0 - 1.0;
    (0..count).map(|index| f16::from_f32(number(index * index % 4093)).to_f32()).collect()
}

/// Rounds to 255 numbers, of which the largest magnitude is the last.
fn round_to_int8(numbers: &mut [f32]) {
    let scale = numbers.iter().fold(0f32, |largest, number| largest.max(number.abs())) / 127.0;
    numbers.iter_mut().for_each(|number| *number = (*number / scale).round() * scale);
}

impl Sequence {
    /// Creates a sequence whose scores grow by about `growth` at every position.
    fn new(heads: usize, head_dim: usize, growth: f32, precision: KvPrecision) -> Sequence {
        let mut keys = numbers(TOKENS * head_dim, 1);
        let mut queries = numbers(TOKENS * heads * head_dim, 2);
        // The first dimension carries the growth.
        queries.iter_mut().step_by(head_dim).for_each(|query| *query = 1.0);
        for (position, key) in keys.chunks_exact_mut(head_dim).enumerate() {
            key[0] = f16::from_f32(growth * position as f32).to_f32();
        }
        let mut values = numbers(TOKENS * head_dim, 3);
        if precision == KvPrecision::Int8 {
            keys.chunks_exact_mut(head_dim).for_each(round_to_int8);
            values.chunks_exact_mut(head_dim).for_each(round_to_int8);
        }
        let config = ModelConfig {
            hidden: 8,
            layers: 1,
            heads: 2 * heads,
            kv_heads: 2,
            head_dim,
            intermediate: 8,
            vocab: 8,
            context: TOKENS,
            eps: 1e-5,
            rope: vec![1.0; head_dim / 2],
        };
        let pages: Vec<u32> = (0..TOKENS.div_ceil(PAGE_TOKENS) as u32).rev().collect();
        let pool = PagePool::new(&config, pages.len(), precision).unwrap();
        let mut sequence = Sequence { heads, head_dim, pool, pages, queries, keys, values };
        sequence.write();
        sequence
    }

    fn write(&mut self) {
        let rows = self.keys.chunks_exact(self.head_dim).zip(self.values.chunks_exact(self.head_dim));
        for (position, (key, value)) in rows.enumerate() {
            // The other head has other numbers.
            let (keys, values) = ([value, key].concat(), [key, value].concat());
            let page = self.pages[position / PAGE_TOKENS];
            self.pool.write(page, 0, position % PAGE_TOKENS, &keys, &values);
        }
    }

    /// Computes the outputs, `[TOKENS, heads, head_dim]`, of `tokens` tokens and `heads` heads at a time.
    fn attend(&self, implementation: &Implementation, tokens: usize, heads: usize) -> Vec<f32> {
        let (dim, width) = (self.head_dim, self.heads * self.head_dim);
        let mut outputs = vec![0.0; self.queries.len()];
        let mut buffers = AttentionBuffers::new(dim, tokens * heads);
        for position in (0..TOKENS).step_by(tokens) {
            let tokens = tokens.min(TOKENS - position);
            for head in (0..self.heads).step_by(heads) {
                let place = |token: usize| (position + token) * width + head * dim..;
                for token in 0..tokens {
                    let queries = &self.queries[place(token)][..heads * dim];
                    buffers.queries[token * heads * dim..][..heads * dim].copy_from_slice(queries);
                }
                implementation.attend(&mut Attention {
                    pool: &self.pool,
                    pages: &self.pages,
                    layer: 0,
                    kv_head: KV_HEAD,
                    position,
                    heads,
                    rows: tokens * heads,
                    head_dim: dim,
                    buffers: &mut buffers,
                });
                for token in 0..tokens {
                    let found = &buffers.outputs[token * heads * dim..][..heads * dim];
                    outputs[place(token)][..heads * dim].copy_from_slice(found);
                }
            }
        }
        outputs
    }

    /// The output of one row in f64, and the largest size of its scores.
    fn exact(&self, position: usize, head: usize) -> (Vec<f64>, f64) {
        let dim = self.head_dim;
        let query = &self.queries[(position * self.heads + head) * dim..][..dim];
        let scores: Vec<f64> = (0..=position)
            .map(|at| &self.keys[at * dim..][..dim])
            .map(|key| query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum())
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let value = |at: usize, index: usize| f64::from(self.values[at * dim + index]);
        let sum =
            |index: usize| weights.iter().enumerate().map(|(at, weight)| weight * value(at, index)).sum();
        let outputs = (0..dim).map(sum).map(|sum: f64| sum / total).collect();
        (outputs, scores.iter().fold(1.0, |size, score| score.abs().max(size)))
    }
}

/// Shapes with whole vectors and with a remainder, for growths that raise references never, after some pages, within a tile,
/// and at every page; one falls. Each is stored in both precisions.
fn sequences() -> impl Iterator<Item = Sequence> {
    let shapes = [(1, 128), (3, 64), (8, 32), (5, 40), (2, 6)];
    let growths = [0.0, 0.3, 0.7, 1.5, -0.5];
    let of_shape = move |(heads, dim)| {
        growths
            .into_iter()
            .flat_map(move |growth| PRECISIONS.map(|precision| Sequence::new(heads, dim, growth, precision)))
    };
    shapes.into_iter().flat_map(of_shape)
}

#[test]
fn attention_agrees_with_f64_at_every_position() {
    for sequence in sequences() {
        let (dim, heads) = (sequence.head_dim, sequence.heads);
        let exact: Vec<_> = (0..TOKENS * heads).map(|row| sequence.exact(row / heads, row % heads)).collect();
        for implementation in Implementation::with_own_loops() {
            let found = sequence.attend(implementation, TOKENS, heads);
            for (row, (found, (exact, size))) in found.chunks_exact(dim).zip(&exact).enumerate() {
                let position = row / heads;
                for (found, exact) in found.iter().zip(exact) {
                    let name = implementation.name();
                    // Rounding a score changes a weight by as much, relatively.
                    assert!(
                        (f64::from(*found) - exact).abs() < 5e-7 * size + 1e-6,
                        "{name}, dimension {dim}, position {position}: {found} for {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn outputs_are_the_same_bits_whatever_is_computed_together() {
    const SIZES: [usize; 7] = [1, 2, 3, 7, 16, 21, 32];
    for (index, sequence) in sequences().enumerate() {
        // Two sizes for each sequence. Every shape and every growth meets all of them in either precision.
        let sizes = [0, 1].map(|next| SIZES[(index + next) % SIZES.len()]);
        for implementation in Implementation::with_own_loops() {
            let expected = sequence.attend(implementation, TOKENS, sequence.heads);
            for tokens in sizes {
                for heads in BTreeSet::from([1, sequence.heads]) {
                    let found = sequence.attend(implementation, tokens, heads);
                    assert!(
                        found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{}, {tokens} tokens, {heads} heads",
                        implementation.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_number_that_is_not_finite_shows_in_the_tokens_that_attend_to_it_alone() {
    const BROKEN: usize = 37;
    let cases = PRECISIONS.into_iter().flat_map(|precision| [(precision, true), (precision, false)]);
    for (precision, in_keys) in cases {
        let mut sequence = Sequence::new(3, 64, 0.3, precision);
        let numbers = if in_keys { &mut sequence.keys } else { &mut sequence.values };
        numbers[BROKEN * 64..][..64].fill(f32::NAN);
        sequence.write();
        for implementation in Implementation::with_own_loops() {
            for tokens in [1, 8, TOKENS] {
                let found = sequence.attend(implementation, tokens, 3);
                let (before, after) = found.split_at(BROKEN * 3 * 64);
                assert!(before.iter().all(|output| output.is_finite()), "{}", implementation.name());
                assert!(after.iter().all(|output| output.is_nan()), "{}", implementation.name());
            }
        }
    }
}

#[test]
fn units_have_work_for_all_threads_and_a_multiple_of_four_tokens() {
    let found = [(256 * 3, 2), (256 * 32, 2), (256 * 3, 8), (256 * 3, 64), (1, 1)];
    assert_eq!(found.map(|(work, threads)| query_tokens(work, threads)), [32, 32, 12, 8, 8]);
}
