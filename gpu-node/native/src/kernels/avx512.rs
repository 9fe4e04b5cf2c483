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
use crate::storage::{BLOCK_ROWS, Format, TILE_ROWS, VECTOR_BYTES};
use std::arch::asm;
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

/// Runs a block for each of `T` tokens, written out: a loop would come to be unrolled only after the
/// compiler has decided what lives in registers, and the sums would be left in memory.
macro_rules! each_token {
    ($tokens:ident, $token:ident => $block:block) => {
        each_token!($tokens, $token => $block, 0 1 2 3 4 5 6 7)
    };
    ($tokens:ident, $token:ident => $block:block, $($number:literal)*) => {
        $(if $number < $tokens {
            const $token: usize = $number;
            $block
        })*
    };
}

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
        let mut masks = at;
        // SAFETY: as the masks say, the values of a group follow them; an expanding move looks at no
        // more than the vector it loads, which may reach behind the stream by less than 64 bytes.
        unsafe {
            at = at.add(Format::BF16.sparse_header());
            for _ in 0..Format::BF16.steps() / STRANDS {
                for strand in 0..STRANDS {
                    prefetch(at);
                    let (mask, kept) = load_mask32(masks);
                    let first = _mm512_mask_expand_epi16(pruned, mask, load(at));
                    at = at.add(2 * kept);
                    let (mask, kept) = load_mask32(masks.add(4));
                    let second = _mm512_mask_expand_epi16(pruned, mask, load(at));
                    at = at.add(2 * kept);
                    masks = masks.add(4 * TILES);
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
            let mut masks = at.add(2 * TILES * TILE_ROWS);
            at = masks.add(GROUP * BLOCK_ROWS / 8);
            let mut dots = start_at_zero_point::<T>(panel, group);
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    prefetch(at);
                    let (mask, kept) = load_mask64(masks);
                    let first = _mm512_mask_expand_epi8(pruned, mask, load(at));
                    at = at.add(kept);
                    let (mask, kept) = load_mask64(masks.add(8));
                    let second = _mm512_mask_expand_epi8(pruned, mask, load(at));
                    at = at.add(kept);
                    masks = masks.add(8 * TILES);
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
    let nibbles = nibbles();
    let mut totals = [[_mm512_setzero_ps(); TILES]; T];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for group in 0..groups {
        // SAFETY: the groups of the stream and the words of the panel, by the contract.
        unsafe {
            let scales = high_is_16_times(load_halves(at));
            let minimums = load_halves(at.add(2 * TILES * TILE_ROWS));
            at = at.add(4 * TILES * TILE_ROWS);
            let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    let codes = load(at);
                    at = at.add(VECTOR_BYTES);
                    let pair = nibbles.map(|nibble| _mm512_and_si512(codes, nibble));
                    dot_int8(&mut dots[strand_of::<T>(strand)], pair, words);
                    words = words.add(T);
                }
            }
            add_scaled(&join(&dots), scales, panel, group, &mut totals);
            each_token!(T, TOKEN => {
                let place = group * T + TOKEN;
                let sum = *panel.scales.get_unchecked(place) * *panel.sums.get_unchecked(place) as f32;
                let (total, sum) = (&mut totals[TOKEN], _mm512_set1_ps(sum));
                total[0] = _mm512_fmadd_ps(minimums[0], sum, total[0]);
                total[1] = _mm512_fmadd_ps(minimums[1], sum, total[1]);
            });
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
            let scales = high_is_16_times(load_halves(at));
            let [low, high] = load_zero_points(at.add(2 * TILES * TILE_ROWS));
            let zeros = [low, _mm512_slli_epi32::<4>(high)];
            let pruned = zeros.map(|zeros| in_every_byte(zeros));
            let mut masks = at.add(3 * TILES * TILE_ROWS);
            at = masks.add(GROUP * BLOCK_ROWS / 8);
            let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
            let mut nibbles = Nibbles::new(at);
            for _ in 0..GROUP / 4 / STRANDS {
                for strand in 0..STRANDS {
                    let pair = nibbles.expand(pruned, masks);
                    masks = masks.add(8 * TILES);
                    dot_int8(&mut dots[strand_of::<T>(strand)], pair, words);
                    words = words.add(T);
                }
            }
            at = nibbles.end();
            let mut dots = join(&dots);
            each_token!(T, TOKEN => {
                let sum = _mm512_set1_epi32(*panel.sums.get_unchecked(group * T + TOKEN));
                let dots = &mut dots[TOKEN];
                dots[0] = _mm512_sub_epi32(dots[0], _mm512_mullo_epi32(zeros[0], sum));
                dots[1] = _mm512_sub_epi32(dots[1], _mm512_mullo_epi32(zeros[1], sum));
            });
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
        let masks = at;
        // SAFETY: as in `sparse_bf16`; the room in `out` is the caller's.
        unsafe {
            at = at.add(Format::BF16.sparse_header());
            for index in 0..Format::BF16.steps() * TILES {
                let (mask, kept) = load_mask32(masks.add(4 * index));
                store(out, _mm512_mask_expand_epi16(pruned, mask, load(at)));
                at = at.add(2 * kept);
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
            let masks = at.add(2 * TILES * TILE_ROWS);
            at = masks.add(GROUP * BLOCK_ROWS / 8);
            for index in 0..GROUP / 4 * TILES {
                let (mask, kept) = load_mask64(masks.add(8 * index));
                store(out, _mm512_mask_expand_epi8(pruned, mask, load(at)));
                at = at.add(kept);
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
            let zeros = zeros.map(|zeros| in_every_byte(zeros));
            let pruned = [zeros[0], _mm512_slli_epi16::<4>(zeros[1])];
            // From a code with the zero point to one with the offset of int8.
            let shift = zeros.map(|zeros| _mm512_sub_epi8(_mm512_set1_epi8(-128), zeros));
            let masks = at.add(3 * TILES * TILE_ROWS);
            at = masks.add(GROUP * BLOCK_ROWS / 8);
            let mut nibbles = Nibbles::new(at);
            for step in 0..GROUP / 4 {
                let [low, high] = nibbles.expand(pruned, masks.add(8 * TILES * step));
                let pair = [low, _mm512_srli_epi16::<4>(high)];
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

    /// The next vector of each tile; the second tile's codes are in the upper nibbles, 16 times too large.
    ///
    /// # Safety
    ///
    /// `masks` are those of the next vectors, and a vector may be read behind the group's last byte.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
    unsafe fn expand(&mut self, pruned: [__m512i; TILES], masks: *const u8) -> [__m512i; TILES] {
        let nibbles = nibbles();
        // SAFETY: the caller's.
        unsafe {
            let (mask, kept) = load_mask64(masks);
            let codes = _mm512_and_si512(load(self.low), nibbles[0]);
            let first = _mm512_mask_expand_epi8(pruned[0], mask, codes);
            self.low = self.low.add(kept);
            let (mask, kept) = load_mask64(masks.add(8));
            let codes = _mm512_and_si512(load(self.high), nibbles[1]);
            let second = _mm512_mask_expand_epi8(pruned[1], mask, codes);
            self.high = self.high.add(kept);
            [first, second]
        }
    }

    /// Where the group ends.
    fn end(&self) -> *const u8 {
        self.low.max(self.high)
    }
}

/// Where the codes of the two tiles are in a byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn nibbles() -> [__m512i; TILES] {
    [_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0u8.cast_signed())]
}

/// Scales for upper nibbles that stay where they are: a shift less a vector, and exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn high_is_16_times(scales: [__m512; TILES]) -> [__m512; TILES] {
    [scales[0], _mm512_mul_ps(scales[1], _mm512_set1_ps(1.0 / 16.0))]
}

/// A vector's mask of 32 bits, and how many values it keeps.
///
/// # Safety
///
/// Four bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn load_mask32(at: *const u8) -> (__mmask32, usize) {
    // SAFETY: the caller's.
    let mask = unsafe { at.cast::<u32>().read_unaligned() };
    (mask, mask.count_ones() as usize)
}

/// A vector's mask of 64 bits, and how many values it keeps. Both come from memory: the way to a mask
/// register from a general one takes longer, and the compiler would take it if both were one load. It
/// makes a difference with int4, which has most to do between two masks.
///
/// # Safety
///
/// Eight bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn load_mask64(at: *const u8) -> (__mmask64, usize) {
    let mask;
    // SAFETY: reads the caller's bytes and does nothing else.
    unsafe {
        asm!("kmovq {}, qword ptr [{}]", out(kreg) mask, in(reg) at, options(pure, readonly, nostack, preserves_flags));
        (mask, at.cast::<u64>().read_unaligned().count_ones() as usize)
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
    let [first, second] = pair.map(|weights| {
        // SAFETY: both are 512 bits of any value.
        unsafe { transmute::<__m512i, __m512bh>(weights) }
    });
    each_token!(T, TOKEN => {
        // SAFETY: the words are the caller's; as above.
        let input = unsafe {
            let input = _mm512_set1_epi32(words.add(TOKEN).read().cast_signed());
            transmute::<__m512i, __m512bh>(input)
        };
        totals[TOKEN][0] = _mm512_dpbf16_ps(totals[TOKEN][0], first, input);
        totals[TOKEN][1] = _mm512_dpbf16_ps(totals[TOKEN][1], second, input);
    });
}

/// # Safety
///
/// `words` are those of `T` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dot_int8<const T: usize>(dots: &mut Dots<T>, pair: [__m512i; TILES], words: *const u32) {
    each_token!(T, TOKEN => {
        // SAFETY: the caller's.
        let input = unsafe { _mm512_set1_epi32(words.add(TOKEN).read().cast_signed()) };
        dots[TOKEN][0] = _mm512_dpbusd_epi32(dots[TOKEN][0], pair[0], input);
        dots[TOKEN][1] = _mm512_dpbusd_epi32(dots[TOKEN][1], pair[1], input);
    });
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
    each_token!(T, TOKEN => {
        // SAFETY: the caller's.
        let sum = unsafe { *panel.sums.get_unchecked(group * T + TOKEN) };
        dots[0][TOKEN] = [_mm512_set1_epi32(-128 * sum); TILES];
    });
    dots
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn join<const T: usize>(dots: &[Dots<T>; STRANDS]) -> Dots<T> {
    let mut joined = dots[0];
    if T == 1 {
        joined[0][0] = _mm512_add_epi32(joined[0][0], dots[1][0][0]);
        joined[0][1] = _mm512_add_epi32(joined[0][1], dots[1][0][1]);
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
    each_token!(T, TOKEN => {
        // SAFETY: the caller's.
        let input = unsafe { _mm512_set1_ps(*panel.scales.get_unchecked(group * T + TOKEN)) };
        let [first, second] = scales.map(|scale| _mm512_mul_ps(scale, input));
        let total = &mut totals[TOKEN];
        total[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[TOKEN][0]), first, total[0]);
        total[1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[TOKEN][1]), second, total[1]);
    });
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
    each_token!(T, TOKEN => {
        let at = sums.0[TOKEN].as_mut_ptr();
        // SAFETY: a token has 16 sums for each of two tiles.
        unsafe {
            let second = at.add(TILE_ROWS);
            _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), totals[TOKEN][0]));
            _mm512_storeu_ps(second, _mm512_add_ps(_mm512_loadu_ps(second), totals[TOKEN][1]));
        }
    });
}
