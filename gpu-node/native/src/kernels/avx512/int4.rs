//! int4 weights, inputs of 16 bits, sums of a group in integers.

use super::integers::{add_scaled, dot, join, load_halves};
use super::{BlockSums, Panel, STRANDS, TILES};
use super::{add_totals, each_token, load, load_mask64, prefetch, strand_of};
use crate::storage::{BLOCK_ROWS, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
pub(super) unsafe fn dense<const GROUP: usize, const T: usize>(
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
                    prefetch(at);
                    let codes = load(at);
                    at = at.add(VECTOR_BYTES);
                    let pair = nibbles.map(|nibble| _mm512_and_si512(codes, nibble));
                    dot(&mut dots[strand_of::<T>(strand)], pair, words);
                    words = words.add(2 * T);
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
pub(super) unsafe fn sparse<const GROUP: usize, const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let mut totals = [[_mm512_setzero_ps(); TILES]; T];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for group in 0..groups {
        // SAFETY: as in `bf16::sparse`.
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
                    dot(&mut dots[strand_of::<T>(strand)], pair, words);
                    words = words.add(2 * T);
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

/// The two streams of nibbles in a group's bytes.
pub(super) struct Nibbles {
    low: *const u8,
    high: *const u8,
}

impl Nibbles {
    pub(super) fn new(at: *const u8) -> Nibbles {
        Nibbles { low: at, high: at }
    }

    /// The next vector of each tile; the second tile's codes are in the upper nibbles, 16 times too large.
    ///
    /// # Safety
    ///
    /// `masks` are those of the next vectors, and a vector may be read behind the group's last byte.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
    pub(super) unsafe fn expand(&mut self, pruned: [__m512i; TILES], masks: *const u8) -> [__m512i; TILES] {
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
    pub(super) fn end(&self) -> *const u8 {
        self.low.max(self.high)
    }
}

/// Where the codes of the two tiles are in a byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
fn nibbles() -> [__m512i; TILES] {
    [_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0u8.cast_signed())]
}

/// Scales for upper nibbles that stay where they are: a shift less a vector, and exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
fn high_is_16_times(scales: [__m512; TILES]) -> [__m512; TILES] {
    [scales[0], _mm512_mul_ps(scales[1], _mm512_set1_ps(1.0 / 16.0))]
}

/// The zero points of both tiles as i32.
///
/// # Safety
///
/// 32 bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
pub(super) unsafe fn load_zero_points(at: *const u8) -> [__m512i; TILES] {
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,avx2,popcnt")]
pub(super) fn in_every_byte(lanes: __m512i) -> __m512i {
    let first_of_four = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    _mm512_shuffle_epi8(lanes, _mm512_broadcast_i32x4(first_of_four))
}
