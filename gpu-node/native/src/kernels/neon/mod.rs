//! NEON: every 64-bit ARM.
//!
//! A vector of the layout is four registers of 4 rows. As with AVX2, a table lookup expands 8 values
//! at a time, through memory.

use super::activations::{ChunkMut, encode_chunk};
use super::by_groups::by_groups;
use super::expand_table::{EXPAND_BYTES, EXPAND_WORDS};
use super::table::{ByGroup, by_group_and_tokens, by_tokens};
use super::{Bf16Words, BlockSums, InstructionSet, Kernel, Panel};
use crate::storage::{BLOCK_ROWS, Format, Precision, VECTOR_BYTES};
use half::f16;
use std::arch::aarch64::*;

pub(super) static KERNEL: Kernel = Kernel {
    name: "neon",
    set: InstructionSet::Neon,
    bf16_words: Bf16Words::Pairs,
    planes_from: usize::MAX,
    encode,
    dense_bf16: by_tokens!(dense_bf16),
    dense_int8: by_group_and_tokens!(dense_int8),
    dense_int4: by_group_and_tokens!(dense_int4),
    sparse_bf16: by_tokens!(sparse_bf16),
    sparse_int8: by_group_and_tokens!(sparse_int8),
    expand_bf16,
    expand_int8: ByGroup { of_64: expand_int8::<64>, of_32: expand_int8::<32> },
};

const TILES: usize = 2;
/// Rows of a register.
const LANES: usize = 4;
/// Registers of 4 rows in a block.
const PIECES: usize = BLOCK_ROWS / LANES;
/// Bytes of a register.
const REGISTER: usize = 16;

unsafe fn encode(chunk: ChunkMut<'_>) {
    encode_chunk(chunk);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "neon")]
unsafe fn dense_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    // SAFETY: the caller's.
    unsafe {
        // Half of the registers are sums: the fewer tokens, the more rows at a time.
        match T {
            1 | 2 => dense_bf16_by::<8, T>(stream, groups, panel, sums),
            3 | 4 => dense_bf16_by::<4, T>(stream, groups, panel, sums),
            _ => dense_bf16_by::<2, T>(stream, groups, panel, sums),
        }
    }
}

/// `N` registers of rows at a time.
///
/// # Safety
///
/// The contract of a `BlockFn`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_bf16_by<const N: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let second = vdupq_n_u32(0xffff_0000);
    let steps = Format::BF16.steps();
    for group in 0..groups {
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let mut totals = load_sums::<N, T>(sums, piece);
                let mut words = panel.words.as_ptr().add(group * steps * T);
                let mut at = stream.as_ptr().add(group * Format::BF16.dense_group() + piece * REGISTER);
                for _ in 0..steps {
                    for (index, totals) in totals.iter_mut().enumerate() {
                        let pair = vreinterpretq_u32_u8(load(at.add(index * REGISTER)));
                        let weights = vreinterpretq_f32_u32(vshlq_n_u32::<16>(pair));
                        let others = vreinterpretq_f32_u32(vandq_u32(pair, second));
                        for (token, total) in totals.iter_mut().enumerate() {
                            let pair = words.add(token).read();
                            *total = vfmaq_n_f32(*total, weights, f32::from_bits(pair << 16));
                            *total = vfmaq_n_f32(*total, others, f32::from_bits(pair & 0xffff_0000));
                        }
                    }
                    at = at.add(TILES * VECTOR_BYTES);
                    words = words.add(T);
                }
                store_sums(&totals, sums, piece);
            }
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "neon")]
unsafe fn dense_int8<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    // SAFETY: the caller's.
    unsafe {
        match T {
            1 | 2 => dense_int8_by::<GROUP, 8, T>(stream, groups, panel, sums),
            3 | 4 => dense_int8_by::<GROUP, 4, T>(stream, groups, panel, sums),
            _ => dense_int8_by::<GROUP, 2, T>(stream, groups, panel, sums),
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_int8_by<const GROUP: usize, const N: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let offset = vdupq_n_u8(128);
    let format = int8(GROUP);
    for group in 0..groups {
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let header = stream.as_ptr().add(group * format.dense_group());
                let mut at = header.add(format.dense_header() + piece * REGISTER);
                let mut words = panel.words.as_ptr().add(2 * group * format.steps() * T);
                let mut dots = [[vdupq_n_s32(0); T]; N];
                for _ in 0..format.steps() {
                    for (index, dots) in dots.iter_mut().enumerate() {
                        let weights = veorq_u8(load(at.add(index * REGISTER)), offset);
                        add_dots(dots, vreinterpretq_s8_u8(weights), words);
                    }
                    at = at.add(TILES * VECTOR_BYTES);
                    words = words.add(2 * T);
                }
                add_scaled(&dots, header, piece, panel, group, sums);
            }
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "neon")]
unsafe fn dense_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    // SAFETY: the caller's.
    unsafe {
        // No more than the four registers of a tile, which have the same nibbles.
        match T {
            1..=4 => dense_int4_by::<GROUP, 4, T>(stream, groups, panel, sums),
            _ => dense_int4_by::<GROUP, 2, T>(stream, groups, panel, sums),
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`, and `N` is 4 or 2.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_int4_by<const GROUP: usize, const N: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let nibble = vdupq_n_u8(15);
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    for group in 0..groups {
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let header = stream.as_ptr().add(group * format.dense_group());
                // A shift to the left by a negative number is one to the right.
                let shift = vdupq_n_s8(if piece < PIECES / 2 { 0 } else { -4 });
                let mut at = header.add(format.dense_header() + piece % (PIECES / 2) * REGISTER);
                let mut words = panel.words.as_ptr().add(2 * group * format.steps() * T);
                let mut dots = [[vdupq_n_s32(0); T]; N];
                for _ in 0..format.steps() {
                    for (index, dots) in dots.iter_mut().enumerate() {
                        let codes = vshlq_u8(load(at.add(index * REGISTER)), shift);
                        add_dots(dots, vreinterpretq_s8_u8(vandq_u8(codes, nibble)), words);
                    }
                    at = at.add(VECTOR_BYTES);
                    words = words.add(2 * T);
                }
                add_scaled(&dots, header, piece, panel, group, sums);
                add_minimums::<N, T>(header.add(2 * BLOCK_ROWS), piece, panel, group, sums);
            }
        }
    }
}

/// # Safety
///
/// `words` are those of `T` tokens, two each.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_dots<const T: usize>(dots: &mut [int32x4_t; T], weights: int8x16_t, words: *const u32) {
    let weights = vreinterpretq_s16_s8(weights);
    let even = vshrq_n_s16::<8>(vshlq_n_s16::<8>(weights));
    let odd = vshrq_n_s16::<8>(weights);
    for (token, dot) in dots.iter_mut().enumerate() {
        // SAFETY: the caller's.
        let [first, second] = unsafe { [words.add(2 * token).read(), words.add(2 * token + 1).read()] };
        let first = vreinterpretq_s16_u32(vdupq_n_u32(first));
        let second = vreinterpretq_s16_u32(vdupq_n_u32(second));
        let low = vmull_s16(vget_low_s16(even), vget_low_s16(first));
        let low = vmlal_s16(low, vget_low_s16(odd), vget_low_s16(second));
        let high = vmlal_high_s16(vmull_high_s16(even, first), odd, second);
        *dot = vaddq_s32(*dot, vpaddq_s32(low, high));
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
unsafe fn sparse_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    // SAFETY: the caller's.
    unsafe { by_groups(expand_bf16, dense_bf16::<T>, stream, groups, panel, sums) }
}

/// # Safety
///
/// The contract of a `BlockFn`.
unsafe fn sparse_int8<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let (expand, multiply) = (expand_int8::<GROUP>, dense_int8::<GROUP, T>);
    // SAFETY: the caller's.
    unsafe { by_groups(expand, multiply, stream, groups, panel, sums) }
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "neon")]
unsafe fn expand_bf16(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let mut at = stream.as_ptr();
    let mut out = out.as_mut_ptr();
    for _ in 0..groups {
        let masks = at;
        // SAFETY: a load takes 16 bytes where at most as many values follow, within the vector behind
        // the stream; the table has every byte; the room in `out` is the caller's.
        unsafe {
            at = at.add(Format::BF16.sparse_header());
            for index in 0..Format::BF16.sparse_header() {
                let mask = *masks.add(index);
                let places = vld1q_u8(EXPAND_WORDS.0.get_unchecked(mask as usize).as_ptr());
                vst1q_u8(out, vqtbl1q_u8(load(at), places));
                at = at.add(2 * mask.count_ones() as usize);
                out = out.add(16);
            }
        }
    }
    at.addr() - stream.as_ptr().addr()
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "neon")]
unsafe fn expand_int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let offset = vdup_n_u8(128);
    let mut at = stream.as_ptr();
    let mut out = out.as_mut_ptr();
    for _ in 0..groups {
        // SAFETY: as in `expand_bf16`.
        unsafe {
            out.copy_from_nonoverlapping(at, 2 * BLOCK_ROWS);
            out = out.add(2 * BLOCK_ROWS);
            let masks = at.add(2 * BLOCK_ROWS);
            at = masks.add(GROUP * BLOCK_ROWS / 8);
            for index in 0..GROUP * BLOCK_ROWS / 8 {
                let mask = *masks.add(index);
                // Around 0, for that is what a lookup gives where there is no value.
                let values = veor_u8(vld1_u8(at), offset);
                vst1_u8(out, veor_u8(vtbl1_u8(values, places_of(mask)), offset));
                at = at.add(mask.count_ones() as usize);
                out = out.add(8);
            }
        }
    }
    at.addr() - stream.as_ptr().addr()
}

#[inline]
#[target_feature(enable = "neon")]
fn places_of(mask: u8) -> uint8x8_t {
    vcreate_u8(u64::from_le_bytes(EXPAND_BYTES.0[mask as usize]))
}

/// # Safety
///
/// 16 bytes are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load(at: *const u8) -> uint8x16_t {
    // SAFETY: the caller's.
    unsafe { vld1q_u8(at) }
}

/// The sums of `N` registers of rows from `piece` on.
#[inline]
#[target_feature(enable = "neon")]
fn load_sums<const N: usize, const T: usize>(sums: &BlockSums, piece: usize) -> [[float32x4_t; T]; N] {
    let mut totals = [[vdupq_n_f32(0.0); T]; N];
    for (index, totals) in totals.iter_mut().enumerate() {
        for (total, sums) in totals.iter_mut().zip(&sums.0) {
            let sums = &sums[(piece + index) * LANES..][..LANES];
            // SAFETY: four of them.
            *total = unsafe { vld1q_f32(sums.as_ptr()) };
        }
    }
    totals
}

#[inline]
#[target_feature(enable = "neon")]
fn store_sums<const N: usize, const T: usize>(
    totals: &[[float32x4_t; T]; N],
    sums: &mut BlockSums,
    piece: usize,
) {
    for (index, totals) in totals.iter().enumerate() {
        for (total, sums) in totals.iter().zip(&mut sums.0) {
            let sums = &mut sums[(piece + index) * LANES..][..LANES];
            // SAFETY: four of them.
            unsafe { vst1q_f32(sums.as_mut_ptr(), *total) };
        }
    }
}

/// Four f16 of a header as f32.
///
/// # Safety
///
/// The header has those of all rows.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_halves(header: *const u8, piece: usize) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe {
        let halves = header.add(2 * LANES * piece).cast::<[[u8; 2]; LANES]>().read_unaligned();
        let floats = halves.map(|half| f16::from_le_bytes(half).to_f32());
        vld1q_f32(floats.as_ptr())
    }
}

/// Adds a group's integers, scaled by weights and inputs.
///
/// # Safety
///
/// `header` starts with the scales of all rows, and the panel has the group.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_scaled<const N: usize, const T: usize>(
    dots: &[[int32x4_t; T]; N],
    header: *const u8,
    piece: usize,
    panel: Panel<'_>,
    group: usize,
    sums: &mut BlockSums,
) {
    let mut totals = load_sums::<N, T>(sums, piece);
    for (index, (dots, totals)) in dots.iter().zip(&mut totals).enumerate() {
        // SAFETY: the caller's.
        let scales = unsafe { load_halves(header, piece + index) };
        for (token, (dot, total)) in dots.iter().zip(totals).enumerate() {
            let scale = vmulq_n_f32(scales, panel.scales[group * T + token]);
            *total = vfmaq_f32(*total, vcvtq_f32_s32(*dot), scale);
        }
    }
    store_sums(&totals, sums, piece);
}

/// Adds what the minimums of a dense int4 group give: each times the sum of the inputs.
///
/// # Safety
///
/// `minimums` has those of all rows, and the panel has the group.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_minimums<const N: usize, const T: usize>(
    minimums: *const u8,
    piece: usize,
    panel: Panel<'_>,
    group: usize,
    sums: &mut BlockSums,
) {
    let mut totals = load_sums::<N, T>(sums, piece);
    for (index, totals) in totals.iter_mut().enumerate() {
        // SAFETY: the caller's.
        let minimums = unsafe { load_halves(minimums, piece + index) };
        for (token, total) in totals.iter_mut().enumerate() {
            let place = group * T + token;
            let input = panel.scales[place] * panel.sums[place] as f32;
            *total = vfmaq_n_f32(*total, minimums, input);
        }
    }
    store_sums(&totals, sums, piece);
}

fn int8(group: usize) -> Format {
    Format::new(Precision::Int8, group).expect("a group that int8 has")
}
