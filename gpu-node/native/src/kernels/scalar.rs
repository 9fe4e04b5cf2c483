//! Plain Rust: runs everywhere, and defines what the other implementations compute.

use super::activations::{ChunkMut, encode_chunk};
use super::expand_then_multiply::{expand_then_multiply, expanding_fn};
use super::function_tables::{ByGroup, by_group_and_tokens, by_tokens};
use super::{Bf16Words, BlockSums, Expansion, MaxPasses, MinPlaneTokens, MultiplyFns, Panel};
use crate::storage::{
    BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, Precision, TILE_ROWS, VECTOR_BYTES, expand_bf16, expand_int4,
    expand_int8,
};
use half::f16;

pub(crate) const SCALAR: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Pairs,
    min_plane_tokens: MinPlaneTokens::NEVER,
    max_passes: MaxPasses::ONE,
    encode,
    release: None,
    near: None,
    int4_in_planes: None,
    dense_bf16: by_tokens!(dense_bf16),
    dense_int8: by_group_and_tokens!(dense_int8),
    dense_int4: by_group_and_tokens!(dense_int4),
    sparse_bf16: by_tokens!(sparse_bf16),
    sparse_int8: by_group_and_tokens!(sparse_int8),
    sparse_int4: by_group_and_tokens!(sparse_int4),
    expanded_int4: by_group_and_tokens!(expanded_int4),
    two_of_four_int8: by_group_and_tokens!(sparse_int8),
    expand_bf16,
    expand_int8: ByGroup { of_64: expand_int8::<64>, of_32: expand_int8::<32> },
    expand_int4: ByGroup {
        of_64: Expansion::Alone(expand_int4::<64>),
        of_32: Expansion::Alone(expand_int4::<32>),
    },
};

const TILES: usize = BLOCK_ROWS / TILE_ROWS;

fn encode(chunk: ChunkMut<'_>) {
    encode_chunk(chunk);
}

fn dense_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    let vectors = stream.chunks_exact(VECTOR_BYTES).take(groups * Format::BF16.steps() * TILES);
    for (index, vector) in vectors.enumerate() {
        let words = &panel.words[index / TILES * T..][..T];
        for (lane, pair) in vector.chunks_exact(4).enumerate() {
            let row = index % TILES * TILE_ROWS + lane;
            let pair = u32::from_le_bytes(pair.try_into().expect("a chunk of 4 bytes"));
            for (token, word) in words.iter().enumerate() {
                let sum = &mut sums.0[token][row];
                *sum += low(pair) * low(*word);
                *sum += high(pair) * high(*word);
            }
        }
    }
}

/// The first of a pair of bf16, as f32.
fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

/// The second of a pair of bf16, as f32.
fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

fn dense_int8<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let format = int8(GROUP);
    for (index, group) in stream.chunks_exact(format.dense_group()).take(groups).enumerate() {
        let (header, vectors) = group.split_at(format.dense_header());
        let mut dots = [[0i32; BLOCK_ROWS]; T];
        for (at, vector) in vectors.chunks_exact(VECTOR_BYTES).enumerate() {
            let words = &panel.words[2 * (index * format.steps() + at / TILES) * T..][..2 * T];
            let first_row = at % TILES * TILE_ROWS;
            let inputs = words.chunks_exact(2).map(|words| {
                [words[0], words[1], words[0] >> 16, words[1] >> 16].map(|input| i32::from(input as i16))
            });
            add_dots(vector, inputs, |code| i32::from(code) - 128, first_row, &mut dots);
        }
        for (token, dots) in dots.iter().enumerate() {
            let scale = panel.scales[index * T + token];
            for (row, dot) in dots.iter().enumerate() {
                sums.0[token][row] += *dot as f32 * (half(header, row) * scale);
            }
        }
    }
}

fn dense_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    for (index, group) in stream.chunks_exact(format.dense_group()).take(groups).enumerate() {
        let (header, vectors) = group.split_at(format.dense_header());
        let mut dots = [[0i32; BLOCK_ROWS]; T];
        for (step, vector) in vectors.chunks_exact(VECTOR_BYTES).enumerate() {
            let inputs = panel.words[(index * format.steps() + step) * T..][..T].iter();
            let inputs = inputs.map(|word| word.to_le_bytes().map(|input| i32::from(input as i8)));
            add_dots(vector, inputs.clone(), |codes| i32::from(codes & 15), 0, &mut dots);
            add_dots(vector, inputs, |codes| i32::from(codes >> 4), TILE_ROWS, &mut dots);
        }
        for (token, dots) in dots.iter().enumerate() {
            let scale = panel.scales[index * T + token];
            let input_sum = panel.input_sums[index * T + token];
            for (row, dot) in dots.iter().enumerate() {
                let sum = &mut sums.0[token][row];
                *sum += *dot as f32 * (half(header, row) * scale);
                *sum += half(header, BLOCK_ROWS + row) * input_sum;
            }
        }
    }
}

fn expanded_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    for (index, group) in stream.chunks_exact(format.expanded_group()).take(groups).enumerate() {
        let (header, vectors) = group.split_at(EXPANDED_INT4_HEADER);
        let (header, _) = header.as_chunks::<4>();
        let (quarters, zero_points) = header.split_at(BLOCK_ROWS);
        let mut dots = [[0i32; BLOCK_ROWS]; T];
        for (at, vector) in vectors.chunks_exact(VECTOR_BYTES).enumerate() {
            let inputs = panel.words[(index * format.steps() + at / TILES) * T..][..T].iter();
            let inputs = inputs.map(|word| word.to_le_bytes().map(|input| i32::from(input as i8)));
            add_dots(vector, inputs, i32::from, at % TILES * TILE_ROWS, &mut dots);
        }
        for (token, dots) in dots.iter().enumerate() {
            let scale = panel.scales[index * T + token];
            let input_sum = panel.sums[index * T + token];
            for (row, dot) in dots.iter().enumerate() {
                let dot = dot - i32::from_le_bytes(zero_points[row]) * input_sum;
                sums.0[token][row] += dot as f32 * (f32::from_le_bytes(quarters[row]) * scale);
            }
        }
    }
}

/// Adds one vector's products to the 16 rows from `first_row` on. `inputs` are the four inputs of each token, and `weight`
/// decodes a byte.
#[inline(always)]
fn add_dots<const T: usize>(
    vector: &[u8],
    inputs: impl Iterator<Item = [i32; 4]> + Clone,
    weight: impl Fn(u8) -> i32,
    first_row: usize,
    dots: &mut [[i32; BLOCK_ROWS]; T],
) {
    for (lane, codes) in vector.chunks_exact(4).enumerate() {
        for (inputs, dots) in inputs.clone().zip(dots.iter_mut()) {
            for (code, input) in codes.iter().zip(inputs) {
                dots[first_row + lane] += weight(*code) * input;
            }
        }
    }
}

/// The `index`-th f16 of a header.
fn half(header: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([header[2 * index], header[2 * index + 1]]).to_f32()
}

/// # Safety
///
/// The contract of a `BlockFn`.
unsafe fn sparse_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    // SAFETY: guaranteed by the caller.
    unsafe { expand_then_multiply(expand_bf16, dense_bf16::<T>, stream, groups, panel, sums) }
}

expanding_fn!(sparse_int8, expand_int8, dense_int8);

expanding_fn!(sparse_int4, expand_int4, expanded_int4);

fn int8(group: usize) -> Format {
    Format::new(Precision::Int8, group).expect("a group that int8 has")
}
