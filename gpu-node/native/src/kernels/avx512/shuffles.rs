//! Expansion within a register by shuffles, for processors without VBMI2.
//!
//! A shuffle of bytes moves within 16 bytes. So each quarter of a register is loaded from where its own kept
//! values begin, and a table tells from the mask which of them each place takes.

use super::int4::expanded_codes;
use crate::cpu::levels::avx512;
use std::arch::asm;
use std::arch::x86_64::*;

/// The tables of [`take_words`], in registers.
pub(super) struct Words {
    /// For each four bits of a mask, in two halves, the bytes of the kept values at each of four places.
    places: [__m512i; 2],
    /// For each four bits of a mask, in two halves, the number of kept bytes, eight times.
    counts: [__m512i; 2],
    /// The place of each lane's four bits within a mask.
    shifts: __m512i,
}

/// The tables of [`take_bytes`], in registers.
pub(super) struct Bytes {
    /// For each four bits of a mask, the places of the kept codes among those that the four bits keep.
    places: __m512i,
    /// For each four bits of a mask, the number of ones, four times.
    counts: __m512i,
    /// The place of each lane's four bits within half a mask.
    shifts: __m512i,
    /// The codes of pruned weights of int8.
    pruned: __m512i,
}

/// What [`Bytes::load_kept`] loads.
struct Kept {
    /// The kept codes of each quarter from its start on.
    codes: __m512i,
    /// The place of each code in its quarter.
    places: __m512i,
    mask: __mmask64,
}

avx512!(
    /// Loads the tables of [`take_words`].
    #[inline]
    pub(super) fn words() -> Words {
        // SAFETY: the arrays have two vectors each.
        unsafe {
            let halves = |table: &'static [[u8; 8]; 16]| {
                let (first, second) = table.split_at(8);
                [_mm512_loadu_si512(first.as_ptr().cast()), _mm512_loadu_si512(second.as_ptr().cast())]
            };
            Words {
                places: halves(&WORD_PLACES),
                counts: halves(&WORD_COUNTS),
                shifts: _mm512_setr_epi64(0, 4, 8, 12, 16, 20, 24, 28),
            }
        }
    }
);

avx512!(
    /// Loads the tables of [`take_bytes`].
    #[inline]
    pub(super) fn bytes() -> Bytes {
        // SAFETY: the arrays have 64 bytes.
        unsafe {
            Bytes {
                places: _mm512_loadu_si512(BYTE_PLACES.as_ptr().cast()),
                counts: _mm512_loadu_si512(BYTE_COUNTS.as_ptr().cast()),
                shifts: half_shifts(),
                pruned: _mm512_set1_epi8(-128),
            }
        }
    }
);

avx512!(
    /// The places of fours of bits within half a mask of 64 bits, for the lanes of [`load_mask`].
    #[inline]
    pub(super) fn half_shifts() -> __m512i {
        _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28)
    }
);

avx512!(
    /// Loads a mask of 64 bits: its first half into each of the first eight lanes, its second half into the
    /// others. Written out, because the compiler would move halves that it has in general registers.
    ///
    /// # Safety
    ///
    /// Eight bytes are readable.
    #[inline]
    pub(super) unsafe fn load_mask(mask: *const u8) -> __m512i {
        let halves;
        // SAFETY: only reads the eight bytes, which the caller guarantees to be readable.
        unsafe {
            asm!(
                "vpbroadcastd {halves}, dword ptr [{mask}]",
                "vpbroadcastd {halves} {{{second}}}, dword ptr [{mask} + 4]",
                halves = out(zmm_reg) halves,
                second = in(kreg) 0xff00_u16,
                mask = in(reg) mask,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        halves
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
    pub(super) unsafe fn take_words(tables: &Words, at: &mut *const u8, mask: *const u8) -> __m512i {
        let masks: __m512i;
        // SAFETY: guaranteed by the caller: no quarter begins later than 48 bytes behind `at`.
        unsafe {
            // Written out for the reason that `load_mask` is.
            asm!(
                "vpbroadcastd {}, dword ptr [{}]",
                out(zmm_reg) masks, in(reg) mask,
                options(pure, readonly, nostack, preserves_flags),
            );
            let fours = _mm512_srlv_epi64(masks, tables.shifts);
            let places = _mm512_permutex2var_epi64(tables.places[0], fours, tables.places[1]);
            let counts = _mm512_permutex2var_epi64(tables.counts[0], fours, tables.counts[1]);
            // The second four values of a quarter follow those that its first four bits keep.
            let places = _mm512_add_epi8(places, _mm512_bslli_epi128::<8>(counts));

            let bits = mask.cast::<u32>().read_unaligned();
            let before = |quarter: u32| 2 * (bits & ((1 << (8 * quarter)) - 1)).count_ones() as usize;
            let values = joined([
                _mm_loadu_si128(at.cast()),
                _mm_loadu_si128(at.add(before(1)).cast()),
                _mm_loadu_si128(at.add(before(2)).cast()),
                _mm_loadu_si128(at.add(before(3)).cast()),
            ]);
            *at = at.add(2 * bits.count_ones() as usize);
            _mm512_shuffle_epi8(values, places)
        }
    }
);

avx512!(
    /// Expands the codes that a mask of 64 bits keeps, from `at` on, to their places; pruned ones are those of int8.
    /// Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// Eight bytes of the mask are readable, and 64 bytes from `at` on.
    #[inline]
    pub(super) unsafe fn take_bytes(tables: &Bytes, at: &mut *const u8, mask: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller.
        let kept = unsafe { tables.load_kept(at, mask) };
        _mm512_mask_shuffle_epi8(tables.pruned, kept.mask, kept.codes, kept.places)
    }
);

avx512!(
    /// As [`take_bytes`], of nibbles: those of a tile, as bytes of expanded codes. Pruned ones are those of `pruned`.
    ///
    /// # Safety
    ///
    /// As for [`take_bytes`].
    #[inline]
    pub(super) unsafe fn take_nibbles<const TILE: usize>(
        tables: &Bytes,
        pruned: __m512i,
        at: &mut *const u8,
        mask: *const u8,
    ) -> __m512i {
        // SAFETY: guaranteed by the caller.
        let kept = unsafe { tables.load_kept(at, mask) };
        _mm512_mask_shuffle_epi8(pruned, kept.mask, expanded_codes::<TILE>(kept.codes), kept.places)
    }
);

impl Bytes {
    avx512!(
        /// Loads the codes that a mask of 64 bits keeps, from `at` on, and moves `at` behind them.
        ///
        /// # Safety
        ///
        /// As for [`take_bytes`].
        #[inline]
        unsafe fn load_kept(&self, at: &mut *const u8, mask: *const u8) -> Kept {
            let bits;
            // SAFETY: guaranteed by the caller: no quarter begins later than 48 bytes behind `at`.
            unsafe {
                asm!("kmovq {}, qword ptr [{}]", out(kreg) bits, in(reg) mask, options(pure, readonly, nostack, preserves_flags));
                let fours = _mm512_srlv_epi32(load_mask(mask), self.shifts);
                let places = _mm512_permutexvar_epi32(fours, self.places);
                let counts = _mm512_permutexvar_epi32(fours, self.counts);
                // The sums of the counts before each lane, within its quarter.
                let one_before = _mm512_bslli_epi128::<4>(counts);
                let pairs_before = _mm512_bslli_epi128::<8>(_mm512_add_epi8(counts, one_before));
                let places = _mm512_add_epi8(_mm512_add_epi8(places, one_before), pairs_before);

                let words = mask.cast::<u16>();
                let first = words.read_unaligned().count_ones() as usize;
                let half = mask.cast::<u32>().read_unaligned().count_ones() as usize;
                let third = half + words.add(2).read_unaligned().count_ones() as usize;
                let codes = joined([
                    _mm_loadu_si128(at.cast()),
                    _mm_loadu_si128(at.add(first).cast()),
                    _mm_loadu_si128(at.add(half).cast()),
                    _mm_loadu_si128(at.add(third).cast()),
                ]);
                *at = at.add(mask.cast::<u64>().read_unaligned().count_ones() as usize);
                Kept { codes, places, mask: bits }
            }
        }
    );
}

avx512!(
    /// Joins the quarters of a register.
    #[inline]
    fn joined(quarters: [__m128i; 4]) -> __m512i {
        let [first, second, third, fourth] = quarters;
        let joined = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(first), second);
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(joined, third), fourth)
    }
);

/// For each four bits, the index of the kept value of each place; 255 for a place without one.
const PLACES: [[u8; 4]; 16] = {
    let mut table = [[255; 4]; 16];
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

/// [`PLACES`] of bytes. The byte that a place without a kept value selects does not matter.
static BYTE_PLACES: [[u8; 4]; 16] = PLACES;

static BYTE_COUNTS: [[u8; 4]; 16] = {
    let mut table = [[0; 4]; 16];
    let mut bits: usize = 0;
    while bits < 16 {
        table[bits] = [bits.count_ones() as u8; 4];
        bits += 1;
    }
    table
};

/// [`PLACES`] of words of two bytes. A place without a kept value selects byte 128 or a later one, which gives
/// 0, also after the count of another four is added.
static WORD_PLACES: [[u8; 8]; 16] = {
    let mut table = [[128; 8]; 16];
    let mut bits = 0;
    while bits < 16 {
        let mut place = 0;
        while place < 4 {
            let source = PLACES[bits][place];
            if source != 255 {
                table[bits][2 * place] = 2 * source;
                table[bits][2 * place + 1] = 2 * source + 1;
            }
            place += 1;
        }
        bits += 1;
    }
    table
};

static WORD_COUNTS: [[u8; 8]; 16] = {
    let mut table = [[0; 8]; 16];
    let mut bits: usize = 0;
    while bits < 16 {
        table[bits] = [2 * bits.count_ones() as u8; 8];
        bits += 1;
    }
    table
};
