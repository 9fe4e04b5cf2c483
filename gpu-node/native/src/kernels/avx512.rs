//! AVX-512 with VBMI2 (expanding moves), BF16 and VNNI (dot products): Ice Lake, Zen 4 and later.
//!
//! Pruned weights are put between the packed ones within a register. On Zen the form of the
//! expanding move that reads memory is slow, and the one that clears what it does not fill waits
//! for its destination; so values are loaded, and merged into a copy of a register that holds the
//! value of a pruned weight. The register comes through [`black_box`], or the compiler would see
//! the zeros in it and choose the clearing form.

use super::activations::{ChunkMut, encode_chunk};
use super::table::{ByGroup, by_group_and_tokens, by_tokens};
use super::{BlockSums, Kernel, Panel};
use crate::storage::{Format, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::mem::transmute;

pub(super) static KERNEL: Kernel = Kernel {
    name: "avx512",
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
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("popcnt")
}

/// How far ahead of the values sparse streams are asked for; measured.
const AHEAD: usize = 2048;
/// Steps that a loop takes at a time.
const STRANDS: usize = 2;

/// At one token every second step has sums of its own: the latency of a dot product wants four
/// independent ones, and a step has two tiles.
const fn strand_of<const T: usize>(step: usize) -> usize {
    if T == 1 { step % STRANDS } else { 0 }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,popcnt")]
unsafe fn encode(chunk: ChunkMut<'_>) {
    encode_chunk(chunk);
}

/// Products of a group of integers, `[token][tile]`.
type Dots<const T: usize> = [[__m512i; TILES]; T];
/// Products of a block, `[token][tile]`.
type Totals<const T: usize> = [[__m512; TILES]; T];

const TILES: usize = 2;

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dense_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    let mut totals = [[[_mm512_setzero_ps(); TILES]; T]; STRANDS];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for _ in 0..groups * Format::BF16.steps() / STRANDS {
        for strand in 0..STRANDS {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let pair = [load(at), load(at.add(VECTOR_BYTES))];
                dot_bf16(&mut totals[strand_of::<T>(strand)], pair, words);
                at = at.add(TILES * VECTOR_BYTES);
                words = words.add(T);
            }
        }
    }
    add_strands(&totals, sums);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn sparse_bf16<const T: usize>(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
    let pruned = black_box(_mm512_setzero_si512());
    let mut totals = [[[_mm512_setzero_ps(); TILES]; T]; STRANDS];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for _ in 0..groups {
        let mut masks = at.cast::<[__mmask32; TILES]>();
        // SAFETY: as the masks say, the values of a group follow them; an expanding move looks at no
        // more than the vector it loads, which may reach behind the stream by less than 64 bytes.
        unsafe {
            at = at.add(Format::BF16.sparse_header());
            for _ in 0..Format::BF16.steps() / STRANDS {
                for strand in 0..STRANDS {
                    let mask = masks.read_unaligned();
                    masks = masks.add(1);
                    prefetch(at);
                    let first = _mm512_mask_expand_epi16(pruned, mask[0], load(at));
                    at = at.add(2 * mask[0].count_ones() as usize);
                    let second = _mm512_mask_expand_epi16(pruned, mask[1], load(at));
                    at = at.add(2 * mask[1].count_ones() as usize);
                    dot_bf16(&mut totals[strand_of::<T>(strand)], [first, second], words);
                    words = words.add(T);
                }
            }
        }
    }
    add_strands(&totals, sums);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dense_int8<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let mut totals = [[_mm512_setzero_ps(); TILES]; T];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for group in 0..groups {
        // SAFETY: the groups of the stream and the words of the panel, by the contract.
        unsafe {
            let scales = load_halves(at);
            at = at.add(2 * TILES * TILE_ROWS);
            let mut dots = start_at_zero_point::<T>(panel, group);
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    let pair = [load(at), load(at.add(VECTOR_BYTES))];
                    at = at.add(TILES * VECTOR_BYTES);
                    dot_int8(&mut dots[strand_of::<T>(strand)], pair, words);
                    words = words.add(T);
                }
            }
            add_scaled(&join(&dots), scales, panel, group, &mut totals);
        }
    }
    add_totals(&totals, sums);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn sparse_int8<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let pruned = black_box(_mm512_set1_epi8(-128));
    let mut totals = [[_mm512_setzero_ps(); TILES]; T];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for group in 0..groups {
        // SAFETY: as in `sparse_bf16`.
        unsafe {
            let scales = load_halves(at);
            let mut masks = at.add(2 * TILES * TILE_ROWS).cast::<[__mmask64; TILES]>();
            at = masks.add(GROUP / 4).cast();
            let mut dots = start_at_zero_point::<T>(panel, group);
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    let mask = masks.read_unaligned();
                    masks = masks.add(1);
                    prefetch(at);
                    let first = _mm512_mask_expand_epi8(pruned, mask[0], load(at));
                    at = at.add(mask[0].count_ones() as usize);
                    let second = _mm512_mask_expand_epi8(pruned, mask[1], load(at));
                    at = at.add(mask[1].count_ones() as usize);
                    dot_int8(&mut dots[strand_of::<T>(strand)], [first, second], words);
                    words = words.add(T);
                }
            }
            add_scaled(&join(&dots), scales, panel, group, &mut totals);
        }
    }
    add_totals(&totals, sums);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dense_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let nibble = _mm512_set1_epi8(15);
    let mut totals = [[_mm512_setzero_ps(); TILES]; T];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for group in 0..groups {
        // SAFETY: the groups of the stream and the words of the panel, by the contract.
        unsafe {
            let scales = load_halves(at);
            let minimums = load_halves(at.add(2 * TILES * TILE_ROWS));
            at = at.add(4 * TILES * TILE_ROWS);
            let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    let codes = load(at);
                    at = at.add(VECTOR_BYTES);
                    let first = _mm512_and_si512(codes, nibble);
                    let second = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble);
                    dot_int8(&mut dots[strand_of::<T>(strand)], [first, second], words);
                    words = words.add(T);
                }
            }
            add_scaled(&join(&dots), scales, panel, group, &mut totals);
            for (token, totals) in totals.iter_mut().enumerate() {
                let place = group * T + token;
                let sum = *panel.scales.get_unchecked(place) * *panel.sums.get_unchecked(place) as f32;
                for (total, minimum) in totals.iter_mut().zip(minimums) {
                    *total = _mm512_fmadd_ps(minimum, _mm512_set1_ps(sum), *total);
                }
            }
        }
    }
    add_totals(&totals, sums);
}

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn sparse_int4<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let mut totals = [[_mm512_setzero_ps(); TILES]; T];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for group in 0..groups {
        // SAFETY: as in `sparse_bf16`.
        unsafe {
            let scales = load_halves(at);
            let zeros = load_zero_points(at.add(2 * TILES * TILE_ROWS));
            let pruned = zeros.map(|zeros| in_every_byte(zeros));
            let mut masks = at.add(3 * TILES * TILE_ROWS).cast::<[__mmask64; TILES]>();
            at = masks.add(GROUP / 4).cast();
            let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
            let mut nibbles = Nibbles::new(at);
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    let mask = masks.read_unaligned();
                    masks = masks.add(1);
                    let pair = nibbles.expand(pruned, mask);
                    dot_int8(&mut dots[strand_of::<T>(strand)], pair, words);
                    words = words.add(T);
                }
            }
            at = nibbles.end();
            let mut dots = join(&dots);
            for (token, dots) in dots.iter_mut().enumerate() {
                let sum = _mm512_set1_epi32(*panel.sums.get_unchecked(group * T + token));
                for (dot, zeros) in dots.iter_mut().zip(zeros) {
                    *dot = _mm512_sub_epi32(*dot, _mm512_mullo_epi32(zeros, sum));
                }
            }
            add_scaled(&dots, scales, panel, group, &mut totals);
        }
    }
    add_totals(&totals, sums);
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn expand_bf16(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let pruned = black_box(_mm512_setzero_si512());
    let mut at = stream.as_ptr();
    let mut out = out.as_mut_ptr();
    for _ in 0..groups {
        let masks = at.cast::<__mmask32>();
        // SAFETY: as in `sparse_bf16`; the room in `out` is the caller's.
        unsafe {
            at = at.add(Format::BF16.sparse_header());
            for index in 0..Format::BF16.steps() * TILES {
                let mask = masks.add(index).read_unaligned();
                store(out, _mm512_mask_expand_epi16(pruned, mask, load(at)));
                at = at.add(2 * mask.count_ones() as usize);
                out = out.add(VECTOR_BYTES);
            }
        }
    }
    at.addr() - stream.as_ptr().addr()
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn expand_int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let pruned = black_box(_mm512_set1_epi8(-128));
    let mut at = stream.as_ptr();
    let mut out = out.as_mut_ptr();
    for _ in 0..groups {
        // SAFETY: as in `expand_bf16`.
        unsafe {
            store(out, load(at));
            out = out.add(VECTOR_BYTES);
            let masks = at.add(2 * TILES * TILE_ROWS).cast::<__mmask64>();
            at = masks.add(GROUP / 4 * TILES).cast();
            for index in 0..GROUP / 4 * TILES {
                let mask = masks.add(index).read_unaligned();
                store(out, _mm512_mask_expand_epi8(pruned, mask, load(at)));
                at = at.add(mask.count_ones() as usize);
                out = out.add(VECTOR_BYTES);
            }
        }
    }
    at.addr() - stream.as_ptr().addr()
}

/// # Safety
///
/// The contract of an `ExpandFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn expand_int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let mut at = stream.as_ptr();
    let mut out = out.as_mut_ptr();
    for _ in 0..groups {
        // SAFETY: as in `expand_bf16`.
        unsafe {
            store(out, load(at));
            out = out.add(VECTOR_BYTES);
            let zeros = load_zero_points(at.add(2 * TILES * TILE_ROWS));
            let pruned = zeros.map(|zeros| in_every_byte(zeros));
            // From a code with the zero point to one with the offset of int8.
            let shift = pruned.map(|zeros| _mm512_sub_epi8(_mm512_set1_epi8(-128), zeros));
            let masks = at.add(3 * TILES * TILE_ROWS).cast::<[__mmask64; TILES]>();
            at = masks.add(GROUP / 4).cast();
            let mut nibbles = Nibbles::new(at);
            for step in 0..GROUP / 4 {
                let pair = nibbles.expand(pruned, masks.add(step).read_unaligned());
                for (codes, shift) in pair.into_iter().zip(shift) {
                    store(out, _mm512_add_epi8(codes, shift));
                    out = out.add(VECTOR_BYTES);
                }
            }
            at = nibbles.end();
        }
    }
    at.addr() - stream.as_ptr().addr()
}

/// The two streams of nibbles in a group's bytes.
struct Nibbles {
    low: *const u8,
    high: *const u8,
}

impl Nibbles {
    fn new(at: *const u8) -> Nibbles {
        Nibbles { low: at, high: at }
    }

    /// The next vector of each tile.
    ///
    /// # Safety
    ///
    /// The masks are those of the group, and a vector may be read behind its last byte.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
    unsafe fn expand(&mut self, pruned: [__m512i; TILES], mask: [__mmask64; TILES]) -> [__m512i; TILES] {
        let nibble = _mm512_set1_epi8(15);
        // SAFETY: the caller's.
        unsafe {
            let low = _mm512_and_si512(load(self.low), nibble);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(load(self.high)), nibble);
            self.low = self.low.add(mask[0].count_ones() as usize);
            self.high = self.high.add(mask[1].count_ones() as usize);
            [
                _mm512_mask_expand_epi8(pruned[0], mask[0], low),
                _mm512_mask_expand_epi8(pruned[1], mask[1], high),
            ]
        }
    }

    /// Where the group ends.
    fn end(&self) -> *const u8 {
        self.low.max(self.high)
    }
}

/// # Safety
///
/// 64 bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn load(at: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// # Safety
///
/// 64 bytes are writable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn store(at: *mut u8, vector: __m512i) {
    // SAFETY: the caller's.
    unsafe { _mm512_storeu_si512(at.cast(), vector) }
}

/// Asks for what a sparse stream is going to read; any address may be asked for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn prefetch(at: *const u8) {
    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
}

/// The f16 of both tiles as f32.
///
/// # Safety
///
/// 64 bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn load_halves(at: *const u8) -> [__m512; TILES] {
    // SAFETY: the caller's.
    let halves = unsafe { load(at) };
    [_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves))]
}

/// The zero points of both tiles as i32.
///
/// # Safety
///
/// 32 bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn load_zero_points(at: *const u8) -> [__m512i; TILES] {
    // SAFETY: the caller's.
    unsafe {
        [
            _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())),
            _mm512_cvtepu8_epi32(_mm_loadu_si128(at.add(TILE_ROWS).cast())),
        ]
    }
}

/// The lowest byte of each 32-bit lane in all four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn in_every_byte(lanes: __m512i) -> __m512i {
    let first_of_four = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    _mm512_shuffle_epi8(lanes, _mm512_broadcast_i32x4(first_of_four))
}

/// # Safety
///
/// `words` are those of `T` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dot_bf16<const T: usize>(totals: &mut Totals<T>, pair: [__m512i; TILES], words: *const u32) {
    for (token, totals) in totals.iter_mut().enumerate() {
        // SAFETY: the words are the caller's; the types are vectors of the same bits.
        unsafe {
            let input = _mm512_set1_epi32(words.add(token).read().cast_signed());
            for (total, weights) in totals.iter_mut().zip(pair) {
                *total = _mm512_dpbf16_ps(
                    *total,
                    transmute::<__m512i, __m512bh>(weights),
                    transmute::<__m512i, __m512bh>(input),
                );
            }
        }
    }
}

/// # Safety
///
/// `words` are those of `T` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dot_int8<const T: usize>(dots: &mut Dots<T>, pair: [__m512i; TILES], words: *const u32) {
    for (token, dots) in dots.iter_mut().enumerate() {
        // SAFETY: the caller's.
        let input = unsafe { _mm512_set1_epi32(words.add(token).read().cast_signed()) };
        for (dot, codes) in dots.iter_mut().zip(pair) {
            *dot = _mm512_dpbusd_epi32(*dot, codes, input);
        }
    }
}

/// int8 codes are larger than the weights by 128; what that adds is the same for all rows.
///
/// # Safety
///
/// The panel has the group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn start_at_zero_point<const T: usize>(panel: Panel<'_>, group: usize) -> [Dots<T>; STRANDS] {
    let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
    for (token, dots) in dots[0].iter_mut().enumerate() {
        // SAFETY: the caller's.
        let sum = unsafe { *panel.sums.get_unchecked(group * T + token) };
        *dots = [_mm512_set1_epi32(-128 * sum); TILES];
    }
    dots
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn join<const T: usize>(dots: &[Dots<T>; STRANDS]) -> Dots<T> {
    let mut joined = dots[0];
    for (joined, other) in joined.iter_mut().flatten().zip(dots[1].iter().flatten()) {
        *joined = _mm512_add_epi32(*joined, *other);
    }
    joined
}

/// Adds a group's integers, scaled by weights and inputs.
///
/// # Safety
///
/// The panel has the group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn add_scaled<const T: usize>(
    dots: &Dots<T>,
    scales: [__m512; TILES],
    panel: Panel<'_>,
    group: usize,
    totals: &mut Totals<T>,
) {
    for (token, (dots, totals)) in dots.iter().zip(totals).enumerate() {
        // SAFETY: the caller's.
        let input = unsafe { _mm512_set1_ps(*panel.scales.get_unchecked(group * T + token)) };
        for tile in 0..TILES {
            let scale = _mm512_mul_ps(scales[tile], input);
            totals[tile] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[tile]), scale, totals[tile]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn add_strands<const T: usize>(strands: &[Totals<T>; STRANDS], sums: &mut BlockSums) {
    add_totals(&strands[0], sums);
    if T == 1 {
        add_totals(&strands[1], sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn add_totals<const T: usize>(totals: &Totals<T>, sums: &mut BlockSums) {
    for (totals, sums) in totals.iter().zip(&mut sums.0) {
        for (total, sums) in totals.iter().zip(sums.chunks_exact_mut(TILE_ROWS)) {
            let at = sums.as_mut_ptr();
            // SAFETY: a chunk has 16 sums.
            unsafe { _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), *total)) }
        }
    }
}
