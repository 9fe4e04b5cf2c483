//! bf16 weights and inputs, sums in f32.

use super::{BlockSums, Panel, STRANDS, TILES, Totals};
use super::{add_totals, each_token, load, load_mask32, prefetch, strand_of};
use crate::storage::{Format, VECTOR_BYTES};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::mem::transmute;

/// # Safety
///
/// The contract of a `BlockFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
pub(super) unsafe fn dense<const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    let mut totals = [[[_mm512_setzero_ps(); TILES]; T]; STRANDS];
    let mut at = stream.as_ptr();
    let mut words = panel.words.as_ptr();
    for _ in 0..groups * Format::BF16.steps() / STRANDS {
        for strand in 0..STRANDS {
            // SAFETY: the groups of the stream and the words of the panel, by the contract.
            unsafe {
                let pair = [load(at), load(at.add(VECTOR_BYTES))];
                dot(&mut totals[strand_of::<T>(strand)], pair, words);
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
pub(super) unsafe fn sparse<const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
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
                    dot(&mut totals[strand_of::<T>(strand)], [first, second], words);
                    words = words.add(T);
                }
            }
        }
    }
    add_strands(&totals, sums);
}

/// # Safety
///
/// `words` are those of `T` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
unsafe fn dot<const T: usize>(totals: &mut Totals<T>, pair: [__m512i; TILES], words: *const u32) {
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512bf16,avx512vnni,avx2,popcnt")]
fn add_strands<const T: usize>(strands: &[Totals<T>; STRANDS], sums: &mut BlockSums) {
    add_totals(&strands[0], sums);
    if T == 1 {
        add_totals(&strands[1], sums);
    }
}
