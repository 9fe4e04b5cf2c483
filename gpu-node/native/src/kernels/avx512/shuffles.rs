//! Expansion within a register by shuffles, for processors without VBMI2.
//!
//! A shuffle of bytes moves within 16 bytes. So each quarter of a register is loaded from where its own kept
//! values begin, and a table tells from the mask which of them each place takes.

use crate::cpu::levels::avx512;
use crate::kernels::expand_table::EXPAND_WORDS;
use std::arch::asm;
use std::arch::x86_64::*;

/// What [`take_bytes`] needs in registers.
pub(super) struct Bytes {
    /// For each four bits of a mask, the places of the kept codes among those that the four bits keep.
    places: __m512i,
    /// For each four bits of a mask, the number of ones, in each of four bytes.
    counts: __m512i,
    /// The place of each lane's four bits within half a mask.
    shifts: __m512i,
    pruned: __m512i,
}

avx512!(
    /// Returns what [`take_words`] needs in registers: nothing.
    #[inline]
    pub(super) fn words() {}
);

avx512!(
    /// Returns what [`take_bytes`] needs in registers.
    #[inline]
    pub(super) fn bytes() -> Bytes {
        // SAFETY: the arrays have 64 bytes.
        unsafe {
            Bytes {
                places: _mm512_loadu_si512(PLACES.as_ptr().cast()),
                counts: _mm512_loadu_si512(COUNTS.as_ptr().cast()),
                shifts: _mm512_loadu_si512(SHIFTS.as_ptr().cast()),
                pruned: _mm512_set1_epi8(-128),
            }
        }
    }
);

avx512!(
    /// Expands the values that a mask of 32 bits keeps, from `at` on, to their places; pruned ones are 0.
    /// Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// Four bytes of the mask are readable, and 64 bytes from `at` on.
    #[inline]
    pub(super) unsafe fn take_words(_: &(), at: &mut *const u8, mask: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller; the table has an entry for every byte.
        unsafe {
            let masks = mask.cast::<[u8; 4]>().read();
            let (mut values, mut places) = ([_mm_setzero_si128(); 4], [_mm_setzero_si128(); 4]);
            for quarter in 0..4 {
                let mask = masks[quarter];
                values[quarter] = _mm_loadu_si128(at.cast());
                places[quarter] = _mm_load_si128(EXPAND_WORDS.0.as_ptr().add(mask as usize).cast());
                *at = at.add(2 * mask.count_ones() as usize);
            }
            _mm512_shuffle_epi8(joined(values), joined(places))
        }
    }
);

avx512!(
    /// Expands the codes that a mask of 64 bits keeps, from `at` on, to their places; pruned ones are 128.
    /// Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// Eight bytes of the mask are readable, and 64 bytes from `at` on.
    #[inline]
    pub(super) unsafe fn take_bytes(tables: &Bytes, at: &mut *const u8, mask: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller: no quarter begins later than 48 bytes behind `at`.
        unsafe {
            let kept: __mmask64;
            asm!("kmovq {}, qword ptr [{}]", out(kreg) kept, in(reg) mask, options(pure, readonly, nostack, preserves_flags));
            let halves = _mm512_mask_set1_epi32(
                _mm512_set1_epi32(mask.cast::<i32>().read_unaligned()),
                0xff00,
                mask.add(4).cast::<i32>().read_unaligned(),
            );
            let fours = _mm512_srlv_epi32(halves, tables.shifts);
            let places = _mm512_permutexvar_epi32(fours, tables.places);
            let counts = _mm512_permutexvar_epi32(fours, tables.counts);
            // The sums of the counts before each lane, within its quarter.
            let one_before = _mm512_bslli_epi128::<4>(counts);
            let pairs_before = _mm512_bslli_epi128::<8>(_mm512_add_epi8(counts, one_before));
            let places = _mm512_add_epi8(_mm512_add_epi8(places, one_before), pairs_before);

            let words = mask.cast::<u16>();
            let first = words.read_unaligned().count_ones() as usize;
            let half = mask.cast::<u32>().read_unaligned().count_ones() as usize;
            let third = half + words.add(2).read_unaligned().count_ones() as usize;
            let values = joined([
                _mm_loadu_si128(at.cast()),
                _mm_loadu_si128(at.add(first).cast()),
                _mm_loadu_si128(at.add(half).cast()),
                _mm_loadu_si128(at.add(third).cast()),
            ]);
            *at = at.add(mask.cast::<u64>().read_unaligned().count_ones() as usize);
            _mm512_mask_shuffle_epi8(tables.pruned, kept, values, places)
        }
    }
);

avx512!(
    /// Joins the quarters of a register.
    #[inline]
    fn joined(quarters: [__m128i; 4]) -> __m512i {
        let [first, second, third, fourth] = quarters;
        let joined = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(first), second);
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(joined, third), fourth)
    }
);

/// For each four bits, the kept code that each of their places takes. A place that takes none has any number.
static PLACES: [[u8; 4]; 16] = {
    let mut table = [[0; 4]; 16];
    let mut bits = 0;
    while bits < 16 {
        let (mut place, mut taken) = (0, 0);
        while place < 4 {
            if bits >> place & 1 == 1 {
                table[bits][place] = taken;
                taken += 1;
            }
            place += 1;
        }
        bits += 1;
    }
    table
};

static COUNTS: [[u8; 4]; 16] = {
    let mut table = [[0; 4]; 16];
    let mut bits: usize = 0;
    while bits < 16 {
        table[bits] = [bits.count_ones() as u8; 4];
        bits += 1;
    }
    table
};

static SHIFTS: [u32; 16] = [0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28];
