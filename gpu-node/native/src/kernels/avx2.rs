//! AVX2 with FMA and F16C: Haswell, Zen and later.
//!
//! A vector of the layout is two registers of 8 rows. There is no expanding move: a shuffle by a
//! table expands 8 values at a time, through memory.

use super::activations::{ChunkMut, encode_chunk};
use super::by_groups::by_groups;
use super::expand_table::{EXPAND_BYTES, EXPAND_WORDS};
use super::table::{ByGroup, by_group_and_tokens, by_tokens};
use super::{BlockSums, Kernel, Panel};
use crate::storage::{BLOCK_ROWS, Format, Precision, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

pub(super) static KERNEL: Kernel = Kernel {
    name: "avx2",
    encode,
    dense_bf16: by_tokens!(dense_bf16),
    dense_int8: by_group_and_tokens!(dense_int8),
    dense_int4: by_group_and_tokens!(dense_int4),
    sparse_bf16: by_tokens!(sparse_bf16),
    sparse_int8: by_group_and_tokens!(sparse_int8),
    sparse_int4: by_group_and_tokens!(sparse_int4),
    expand_bf16,
    expand_int8: ByGroup { of_64: expand_int8::<64>, of_32: expand_int8::<32> },
    expand_int4: ByGroup { of_64: expand_int4::<64>, of_32: expand_int4::<32> },
};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("popcnt")
}

const TILES: usize = 2;
/// Rows of a register.
const LANES: usize = 8;
/// Registers of 8 rows in a block.
const PIECES: usize = BLOCK_ROWS / LANES;
/// Bytes of a register.
const REGISTER: usize = 32;

#[target_feature(enable = "avx2,popcnt")]
unsafe fn encode(chunk: ChunkMut<'_>) {
    encode_chunk(chunk);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn dense_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    // SAFETY: the caller's.
    unsafe {
        // Sixteen registers: the fewer tokens, the more rows at a time.
        match T {
            1 | 2 => dense_bf16_by::<4, T>(stream, groups, panel, sums),
            3 | 4 => dense_bf16_by::<2, T>(stream, groups, panel, sums),
            _ => dense_bf16_by::<1, T>(stream, groups, panel, sums),
        }
    }
}

/// `N` registers of rows at a time.
///
/// # Safety
///
/// The contract of a `BlockFn`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn dense_bf16_by<const N: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let second = _mm256_set1_epi32(0xffff_0000u32.cast_signed());
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
                        let pair = load(at.add(index * REGISTER));
                        let weights = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair));
                        let others = _mm256_castsi256_ps(_mm256_and_si256(pair, second));
                        for (token, total) in totals.iter_mut().enumerate() {
                            let pair = _mm256_set1_epi32(words.add(token).read().cast_signed());
                            let input = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair));
                            let other = _mm256_castsi256_ps(_mm256_and_si256(pair, second));
                            *total = _mm256_fmadd_ps(weights, input, *total);
                            *total = _mm256_fmadd_ps(others, other, *total);
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
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn dense_int8<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    // SAFETY: the caller's.
    unsafe {
        match T {
            1 | 2 => dense_int8_by::<GROUP, 4, T>(stream, groups, panel, sums),
            3 | 4 => dense_int8_by::<GROUP, 2, T>(stream, groups, panel, sums),
            _ => dense_int8_by::<GROUP, 1, T>(stream, groups, panel, sums),
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn dense_int8_by<const GROUP: usize, const N: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let offset = _mm256_set1_epi8(-128);
    let ones = _mm256_set1_epi16(1);
    let format = int8(GROUP);
    for group in 0..groups {
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let header = stream.as_ptr().add(group * format.dense_group());
                let mut at = header.add(format.dense_header() + piece * REGISTER);
                let mut words = panel.words.as_ptr().add(group * format.steps() * T);
                let mut dots = [[_mm256_setzero_si256(); T]; N];
                for _ in 0..format.steps() {
                    for (index, dots) in dots.iter_mut().enumerate() {
                        let weights = _mm256_xor_si256(load(at.add(index * REGISTER)), offset);
                        let magnitudes = _mm256_abs_epi8(weights);
                        for (token, dot) in dots.iter_mut().enumerate() {
                            let input = _mm256_set1_epi32(words.add(token).read().cast_signed());
                            // 2 · 127 · 127 fits 16 bits.
                            let input = _mm256_sign_epi8(input, weights);
                            let pairs = _mm256_maddubs_epi16(magnitudes, input);
                            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
                        }
                    }
                    at = at.add(TILES * VECTOR_BYTES);
                    words = words.add(T);
                }
                add_scaled(&dots, header, piece, panel, group, sums);
            }
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn dense_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    // SAFETY: the caller's.
    unsafe {
        // The two registers of a tile, or one of them, by the same nibbles.
        if T <= 4 {
            dense_int4_by::<GROUP, 2, T>(stream, groups, panel, sums);
        } else {
            dense_int4_by::<GROUP, 1, T>(stream, groups, panel, sums);
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`, and `N` is 1 or 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn dense_int4_by<const GROUP: usize, const N: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let nibble = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    for group in 0..groups {
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let header = stream.as_ptr().add(group * format.dense_group());
                let shift = _mm_cvtsi32_si128(if piece < PIECES / 2 { 0 } else { 4 });
                let mut at = header.add(format.dense_header() + piece % (PIECES / 2) * REGISTER);
                let mut words = panel.words.as_ptr().add(group * format.steps() * T);
                let mut dots = [[_mm256_setzero_si256(); T]; N];
                for _ in 0..format.steps() {
                    for (index, dots) in dots.iter_mut().enumerate() {
                        let codes = _mm256_srl_epi16(load(at.add(index * REGISTER)), shift);
                        let codes = _mm256_and_si256(codes, nibble);
                        for (token, dot) in dots.iter_mut().enumerate() {
                            let input = _mm256_set1_epi32(words.add(token).read().cast_signed());
                            let pairs = _mm256_maddubs_epi16(codes, input);
                            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
                        }
                    }
                    at = at.add(VECTOR_BYTES);
                    words = words.add(T);
                }
                add_scaled(&dots, header, piece, panel, group, sums);
                add_minimums::<N, T>(header.add(2 * BLOCK_ROWS), piece, panel, group, sums);
            }
        }
    }
}

/// # Safety
///
/// The contract of a `BlockFn`.
unsafe fn sparse_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    // SAFETY: the caller's.
    unsafe { by_groups(Format::BF16, expand_bf16, dense_bf16::<T>, stream, groups, panel, sums) }
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
    unsafe { by_groups(int8(GROUP), expand, multiply, stream, groups, panel, sums) }
}

/// # Safety
///
/// The contract of a `BlockFn`.
unsafe fn sparse_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let (expand, multiply) = (expand_int4::<GROUP>, dense_int8::<GROUP, T>);
    // SAFETY: the caller's.
    unsafe { by_groups(int8(GROUP), expand, multiply, stream, groups, panel, sums) }
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
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
                let shuffle = EXPAND_WORDS.get_unchecked(mask as usize);
                let values = _mm_loadu_si128(at.cast());
                let expanded = _mm_shuffle_epi8(values, _mm_loadu_si128(shuffle.as_ptr().cast()));
                _mm_storeu_si128(out.cast(), expanded);
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
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn expand_int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let offset = _mm_set1_epi8(-128);
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
                // Around 0, for that is what a shuffle gives where there is no value.
                let values = _mm_xor_si128(_mm_loadl_epi64(at.cast()), offset);
                let expanded = _mm_xor_si128(_mm_shuffle_epi8(values, shuffle_of(mask)), offset);
                _mm_storel_epi64(out.cast(), expanded);
                at = at.add(mask.count_ones() as usize);
                out = out.add(8);
            }
        }
    }
    at.addr() - stream.as_ptr().addr()
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn expand_int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let offset = _mm_set1_epi8(-128);
    let nibble = _mm_set1_epi8(15);
    let mut at = stream.as_ptr();
    let mut out = out.as_mut_ptr();
    for _ in 0..groups {
        // SAFETY: as in `expand_bf16`.
        unsafe {
            out.copy_from_nonoverlapping(at, 2 * BLOCK_ROWS);
            out = out.add(2 * BLOCK_ROWS);
            let zeros = at.add(2 * BLOCK_ROWS);
            let masks = zeros.add(BLOCK_ROWS);
            at = masks.add(GROUP * BLOCK_ROWS / 8);
            let mut tiles = [at; TILES];
            for index in 0..GROUP * BLOCK_ROWS / 8 {
                // Eight bytes are two rows of four columns; eight of these are a tile's vector.
                let (tile, rows) = (index / LANES % TILES, index % LANES);
                let mask = *masks.add(index);
                let shuffle = shuffle_of(mask);
                let codes = _mm_loadl_epi64(tiles[tile].cast());
                let codes = _mm_srl_epi16(codes, _mm_cvtsi64_si128(4 * tile as i64));
                let codes = _mm_shuffle_epi8(_mm_and_si128(codes, nibble), shuffle);
                let zeros = zeros.add(tile * TILE_ROWS + 2 * rows).cast::<[u8; 2]>().read_unaligned();
                let zeros = zeros.map(|zero| u64::from(zero) * 0x0101_0101);
                let zeros = _mm_cvtsi64_si128((zeros[0] | zeros[1] << 32).cast_signed());
                // Where the shuffle asks for no byte the code is that of 0, which has no zero point.
                let kept = _mm_cmpgt_epi8(shuffle, _mm_set1_epi8(-1));
                let codes = _mm_sub_epi8(_mm_add_epi8(codes, offset), _mm_and_si128(zeros, kept));
                _mm_storel_epi64(out.cast(), codes);
                tiles[tile] = tiles[tile].add(mask.count_ones() as usize);
                out = out.add(8);
            }
            at = tiles[0].max(tiles[1]);
        }
    }
    at.addr() - stream.as_ptr().addr()
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
fn shuffle_of(mask: u8) -> __m128i {
    let shuffle = u64::from_le_bytes(EXPAND_BYTES[mask as usize]);
    // The upper half asks for nothing.
    _mm_set_epi64x(-1, shuffle.cast_signed())
}

/// # Safety
///
/// 32 bytes are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// The sums of `N` registers of rows from `piece` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
fn load_sums<const N: usize, const T: usize>(sums: &BlockSums, piece: usize) -> [[__m256; T]; N] {
    let mut totals = [[_mm256_setzero_ps(); T]; N];
    for (index, totals) in totals.iter_mut().enumerate() {
        for (total, sums) in totals.iter_mut().zip(&sums.0) {
            let sums = &sums[(piece + index) * LANES..][..LANES];
            // SAFETY: eight of them.
            *total = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
        }
    }
    totals
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
fn store_sums<const N: usize, const T: usize>(totals: &[[__m256; T]; N], sums: &mut BlockSums, piece: usize) {
    for (index, totals) in totals.iter().enumerate() {
        for (total, sums) in totals.iter().zip(&mut sums.0) {
            let sums = &mut sums[(piece + index) * LANES..][..LANES];
            // SAFETY: eight of them.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *total) };
        }
    }
}

/// Eight f16 of a header as f32.
///
/// # Safety
///
/// The header has those of all rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn load_halves(header: *const u8, piece: usize) -> __m256 {
    // SAFETY: the caller's.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(header.add(2 * LANES * piece).cast())) }
}

/// Adds a group's integers, scaled by weights and inputs.
///
/// # Safety
///
/// `header` starts with the scales of all rows, and the panel has the group.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn add_scaled<const N: usize, const T: usize>(
    dots: &[[__m256i; T]; N],
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
            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(panel.scales[group * T + token]));
            *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*dot), scale, *total);
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
#[target_feature(enable = "avx2,fma,f16c,popcnt")]
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
            *total = _mm256_fmadd_ps(minimums, _mm256_set1_ps(input), *total);
        }
    }
    store_sums(&totals, sums, piece);
}

fn int8(group: usize) -> Format {
    Format::new(Precision::Int8, group).expect("a group that int8 has")
}
