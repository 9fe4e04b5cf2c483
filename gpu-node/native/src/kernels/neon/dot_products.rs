//! int8 and int4 weights by dot products of bytes (ARMv8.2 and later), four columns in one instruction. There is one
//! for signed bytes and one for unsigned ones, so that 16-bit inputs are taken as two planes: their upper bytes are
//! signed, their lower ones are not. 8-bit inputs are one plane.

use super::int4::{Codes, add_dots};
use super::{BlockSums, PIECES, Panel, REGISTER, TILES, add_scaled, load};
use crate::cpu::levels::neondot;
use crate::storage::{Format, Precision, VECTOR_BYTES};
use std::arch::{aarch64::*, asm};

neondot!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, and the panel is in planes.
    pub(super) unsafe fn dense_int8<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            // Half of the registers hold sums.
            match T {
                1 => dense_int8_by::<GROUP, 8, T>(stream, groups, panel, sums),
                2 => dense_int8_by::<GROUP, 4, T>(stream, groups, panel, sums),
                3 | 4 => dense_int8_by::<GROUP, 2, T>(stream, groups, panel, sums),
                _ => dense_int8_by::<GROUP, 1, T>(stream, groups, panel, sums),
            }
        }
    }
);

neondot!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, and the panel is in planes.
    pub(super) unsafe fn dense_int4<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe { multiply_int4::<GROUP, T, false>(stream, groups, panel, sums) }
    }
);

neondot!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for expanded groups, and the panel is in planes.
    pub(super) unsafe fn expanded_int4<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe { multiply_int4::<GROUP, T, true>(stream, groups, panel, sums) }
    }
);

neondot!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for dense or expanded groups, and the panel is in planes.
    #[inline]
    unsafe fn multiply_int4<const GROUP: usize, const T: usize, const EXPANDED: bool>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            // At most the four registers of a tile, whose codes lie in the same nibbles.
            match T {
                1..=4 => multiply_int4_by::<GROUP, 4, T, EXPANDED>(stream, groups, panel, sums),
                _ => multiply_int4_by::<GROUP, 2, T, EXPANDED>(stream, groups, panel, sums),
            }
        }
    }
);

neondot!(
    /// `N` registers of rows at a time.
    ///
    /// # Safety
    ///
    /// The contract of a `BlockFn`, and the panel is in planes.
    #[inline]
    unsafe fn dense_int8_by<const GROUP: usize, const N: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let offset = vdupq_n_u8(128);
        let format = Format::new(Precision::Int8, GROUP).expect("a group that int8 has");
        for group in 0..groups {
            // SAFETY: the stream has the groups and the panel has their planes, by the contract.
            unsafe {
                let planes = Planes::of::<GROUP, T>(panel, group);
                let offsets = planes.offsets::<GROUP, T>();
                let header = stream.as_ptr().add(group * format.dense_group());
                for piece in (0..PIECES).step_by(N) {
                    let mut at = header.add(format.dense_header() + piece * REGISTER);
                    let mut dots = [[PlaneDots::ZERO; T]; N];
                    for step in 0..format.steps() {
                        for (index, dots) in dots.iter_mut().enumerate() {
                            let codes = load(at.add(index * REGISTER));
                            let weights = vreinterpretq_s8_u8(veorq_u8(codes, offset));
                            planes.add_dots::<GROUP, T>(dots, weights, codes, step);
                        }
                        at = at.add(TILES * VECTOR_BYTES);
                    }
                    let dots = dots.map(|dots| {
                        let mut offsets = offsets.iter();
                        dots.map(|dots| vsubq_s32(dots.joined(), *offsets.next().expect("one a token")))
                    });
                    add_scaled(&dots, header, piece, panel, group, sums);
                }
            }
        }
    }
);

neondot!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for dense or expanded groups, the panel is in planes, and `N` is at most 4.
    #[inline]
    unsafe fn multiply_int4_by<const GROUP: usize, const N: usize, const T: usize, const EXPANDED: bool>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
        for group in 0..groups {
            // SAFETY: as in `dense_int8_by`.
            unsafe {
                let inputs = panel.words.as_ptr().add(group * format.steps() * T);
                let header = stream.as_ptr().add(group * Codes::<EXPANDED>::group(format));
                for piece in (0..PIECES).step_by(N) {
                    let mut codes = Codes::<EXPANDED>::of(header, piece);
                    let mut dots = [[vdupq_n_s32(0); T]; N];
                    for step in 0..format.steps() {
                        for (index, dots) in dots.iter_mut().enumerate() {
                            add_int8_dots(dots, codes.load(index), inputs.add(step), format.steps());
                        }
                        codes.advance();
                    }
                    add_dots::<N, T, EXPANDED>(&dots, header, piece, panel, group, sums);
                }
            }
        }
    }
);

neondot!(
    /// Adds the products of 4 columns and the 8-bit inputs of each token, whose words are `steps` apart.
    ///
    /// # Safety
    ///
    /// `words` has `T` tokens.
    #[inline]
    unsafe fn add_int8_dots<const T: usize>(
        dots: &mut [int32x4_t; T],
        codes: int8x16_t,
        words: *const u32,
        steps: usize,
    ) {
        for (token, dot) in dots.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let inputs = vreinterpretq_s8_u32(vdupq_n_u32(unsafe { words.add(steps * token).read() }));
            *dot = signed_dot(*dot, codes, inputs);
        }
    }
);

/// The planes of a group of the inputs of some tokens, `[tokens, columns]` bytes each.
#[derive(Clone, Copy)]
struct Planes {
    upper: *const u32,
    lower: *const u32,
}

impl Planes {
    /// The planes of a group of a panel with `T` tokens.
    ///
    /// # Safety
    ///
    /// The panel is in planes and has the group.
    #[inline(always)]
    unsafe fn of<const GROUP: usize, const T: usize>(panel: Panel<'_>, group: usize) -> Planes {
        let words = GROUP / 4 * T;
        // SAFETY: guaranteed by the caller.
        let upper = unsafe { panel.words.as_ptr().add(2 * group * words) };
        // SAFETY: as above: the lower plane follows the upper one.
        Planes { upper, lower: unsafe { upper.add(words) } }
    }

    neondot!(
        /// Adds the products of 4 columns, given as signed and as unsigned weights, and the inputs of each token.
        ///
        /// # Safety
        ///
        /// The planes have `T` tokens and the step.
        #[inline]
        unsafe fn add_dots<const GROUP: usize, const T: usize>(
            self,
            dots: &mut [PlaneDots; T],
            signed: int8x16_t,
            unsigned: uint8x16_t,
            step: usize,
        ) {
            for (token, dots) in dots.iter_mut().enumerate() {
                let place = GROUP / 4 * token + step;
                // SAFETY: guaranteed by the caller.
                let [upper, lower] = unsafe { [self.upper.add(place).read(), self.lower.add(place).read()] };
                dots.upper = signed_dot(dots.upper, signed, vreinterpretq_s8_u32(vdupq_n_u32(upper)));
                dots.lower = unsigned_dot(dots.lower, unsigned, vreinterpretq_u8_u32(vdupq_n_u32(lower)));
            }
        }
    );

    neondot!(
        /// Returns for each token what the offset of the unsigned weights, 128, adds to the products with its lower bytes.
        ///
        /// # Safety
        ///
        /// The planes have `T` tokens.
        #[inline]
        unsafe fn offsets<const GROUP: usize, const T: usize>(self) -> [int32x4_t; T] {
            let mut token = 0;
            [(); T].map(|()| {
                let mut sum = vdupq_n_u32(0);
                for register in 0..GROUP / REGISTER {
                    // SAFETY: guaranteed by the caller.
                    let bytes = unsafe {
                        load(self.lower.add(GROUP / 4 * token).cast::<u8>().add(register * REGISTER))
                    };
                    sum = unsigned_dot(sum, bytes, vdupq_n_u8(128));
                }
                token += 1;
                vdupq_n_s32(vaddvq_u32(sum).cast_signed())
            })
        }
    );
}

/// Products of 4 rows with both planes of a token.
#[derive(Clone, Copy)]
struct PlaneDots {
    upper: int32x4_t,
    lower: uint32x4_t,
}

impl PlaneDots {
    // SAFETY: vectors are plain bits.
    const ZERO: PlaneDots = unsafe { std::mem::zeroed() };

    neondot!(
        /// The products with the 16-bit inputs. Within a group they fit: 64 * 128 * 2^15 is 2^28.
        #[inline]
        fn joined(self) -> int32x4_t {
            vaddq_s32(vshlq_n_s32::<8>(self.upper), vreinterpretq_s32_u32(self.lower))
        }
    );
}

neondot!(
    /// Adds to each of 4 sums the product of 4 signed bytes. The intrinsic is not stable.
    #[inline]
    fn signed_dot(mut sum: int32x4_t, one: int8x16_t, other: int8x16_t) -> int32x4_t {
        // SAFETY: functions of this level run where the instruction is.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {one:v}.16b, {other:v}.16b",
                sum = inout(vreg) sum,
                one = in(vreg) one,
                other = in(vreg) other,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
);

neondot!(
    /// As [`signed_dot`], of unsigned bytes.
    #[inline]
    fn unsigned_dot(mut sum: uint32x4_t, one: uint8x16_t, other: uint8x16_t) -> uint32x4_t {
        // SAFETY: as in `signed_dot`.
        unsafe {
            asm!(
                "udot {sum:v}.4s, {one:v}.16b, {other:v}.16b",
                sum = inout(vreg) sum,
                one = in(vreg) one,
                other = in(vreg) other,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
);
