//! The parts of packing that are compiled for each instruction set. The bytes are the same with all of them.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx512_primitives;
mod portable;

use super::kept::Check;
use super::pack::{Fill, Source};
use super::rows::Spread;
use super::{KeptError, MAX_GROUP, PackError, TILE_ROWS, VECTOR_BYTES};
use crate::cpu::Implementation;
pub(super) use portable::Portable;

/// A vector of codes.
pub(super) type Vector = [u8; VECTOR_BYTES];

/// The codes of a row's group, one step in each word. bf16 fills all words, the other precisions fewer.
pub(super) type Words = [u32; MAX_GROUP / 2];

/// Values of two bytes in a vector.
pub(super) const WORDS: usize = VECTOR_BYTES / 2;

/// The primitives that the compiler does not vectorise well by itself.
pub(super) trait Packing {
    /// Prefetches `values`: rows are read a piece at a time, which the hardware does not predict.
    fn prefetch(values: &[f32]);

    /// Copies the values whose bit is 1, and writes 0 for the others.
    fn keep<const N: usize>(values: &[f32; N], mask: u64, out: &mut [f32; N]);

    /// The vectors of 16 steps of a tile's rows, from step `16 · half` on.
    fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS];

    /// Writes the bytes of `codes` whose bit is 1 to the start of `out`; the bytes behind them are unspecified.
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector);

    /// As [`Packing::bytes`], for values of two bytes.
    fn words(codes: &Vector, mask: u32, out: &mut Vector);

    /// Writes the next of `values`, bf16, to every place whose bit is 1, and 0 to the others.
    fn spread(values: &Vector, mask: u32, out: &mut [f32; WORDS]);
}

/// The packing functions of one instruction set.
///
/// Contract of each: the machine has the instruction set. The methods of [`Implementation`] call them.
pub(crate) struct PackingFns {
    sizes: unsafe fn(&Source<'_>) -> Vec<usize>,
    fill: unsafe fn(Fill<'_>) -> Result<u64, PackError>,
    check: unsafe fn(Check<'_>) -> Result<(), KeptError>,
    spread: for<'v> unsafe fn(Spread<'_, 'v>) -> &'v [u8],
    #[cfg(test)]
    masked: unsafe fn(tests::Masked<'_>) -> tests::Found,
    #[cfg(test)]
    transpose: unsafe fn(&[&Words; TILE_ROWS], usize) -> [Vector; TILE_ROWS],
}

/// Compiles packing for a level, with the primitives of `$packing`.
macro_rules! compiled_for {
    ($level:ident, $packing:ty) => {
        pub(crate) mod $level {
            use super::*;
            use crate::cpu::levels::$level;

            $level!(
                unsafe fn sizes(source: &Source<'_>) -> Vec<usize> {
                    source.sizes()
                }
            );
            $level!(
                unsafe fn fill(fill: Fill<'_>) -> Result<u64, PackError> {
                    fill.run::<$packing>()
                }
            );
            $level!(
                unsafe fn check(check: Check<'_>) -> Result<(), KeptError> {
                    check.run()
                }
            );
            $level!(
                unsafe fn spread<'v>(spread: Spread<'_, 'v>) -> &'v [u8] {
                    spread.run::<$packing>()
                }
            );
            #[cfg(test)]
            $level!(
                unsafe fn masked(masked: tests::Masked<'_>) -> tests::Found {
                    masked.run::<$packing>()
                }
            );
            #[cfg(test)]
            $level!(
                unsafe fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS] {
                    <$packing>::transpose(rows, half)
                }
            );

            pub(crate) const FNS: PackingFns = PackingFns {
                sizes,
                fill,
                check,
                spread,
                #[cfg(test)]
                masked,
                #[cfg(test)]
                transpose,
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx512vbmi2, avx512_primitives::Avx512Vbmi2);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, avx512_primitives::Avx512);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, Portable);
#[cfg(target_arch = "aarch64")]
compiled_for!(neon, Portable);
compiled_for!(scalar, Portable);

impl Implementation {
    /// Counts the bytes of each block of a packed source.
    pub(super) fn block_sizes(&self, source: &Source<'_>) -> Vec<usize> {
        // SAFETY: the machine can run every implementation that is given out.
        unsafe { (self.packing.sizes)(source) }
    }

    /// Writes the blocks of a source. Returns the number of weights that were kept.
    pub(super) fn fill_blocks(&self, fill: Fill<'_>) -> Result<u64, PackError> {
        // SAFETY: as above.
        unsafe { (self.packing.fill)(fill) }
    }

    /// Checks a mask against its rule.
    pub(super) fn check_mask(&self, check: Check<'_>) -> Result<(), KeptError> {
        // SAFETY: as above.
        unsafe { (self.packing.check)(check) }
    }

    /// Writes kept values to their places in rows. Returns the values that are left.
    pub(super) fn spread_values<'v>(&self, spread: Spread<'_, 'v>) -> &'v [u8] {
        // SAFETY: as above.
        unsafe { (self.packing.spread)(spread) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same codes and values under a mask, for every primitive that takes one.
    pub(super) struct Masked<'a>(&'a Vector, &'a [f32; MAX_GROUP], u64);

    #[derive(Debug, PartialEq)]
    pub(super) struct Found {
        bytes: Vec<u8>,
        words: Vec<u8>,
        kept: [f32; MAX_GROUP],
        spread: [f32; WORDS],
    }

    impl Masked<'_> {
        #[inline(always)]
        pub(super) fn run<P: Packing>(self) -> Found {
            let Masked(codes, values, mask) = self;
            let (mut bytes, mut words) = ([0; VECTOR_BYTES], [0; VECTOR_BYTES]);
            let (mut kept, mut spread) = ([f32::NAN; MAX_GROUP], [f32::NAN; WORDS]);
            P::bytes(codes, mask, &mut bytes);
            P::words(codes, mask as u32, &mut words);
            P::keep(values, mask, &mut kept);
            P::spread(codes, mask as u32, &mut spread);
            let bytes = bytes[..mask.count_ones() as usize].to_vec();
            Found { bytes, words: words[..2 * (mask as u32).count_ones() as usize].to_vec(), kept, spread }
        }
    }

    #[test]
    fn every_implementation_keeps_the_same_values_in_the_same_order() {
        let codes: Vector = std::array::from_fn(|index| (index * 37 + 11) as u8);
        let values: [f32; MAX_GROUP] = std::array::from_fn(|index| index as f32 - 30.5);
        let mut mask = 0x9e37_79b9_7f4a_7c15u64;
        let mut masks = vec![0, u64::MAX, 1, 1 << 63, 0x8000_0001];
        masks.extend((0..200).map(|_| {
            mask = mask.rotate_left(7).wrapping_mul(0x2545_f491_4f6c_dd1d);
            mask
        }));
        for mask in masks {
            let is_kept = |bit: usize| mask >> bit & 1 == 1;
            let by_bit = |width: usize| -> Vec<u8> {
                let places = codes.chunks_exact(width).enumerate();
                places.filter(|(bit, _)| is_kept(*bit)).flat_map(|(_, code)| code.to_vec()).collect()
            };
            let mut bf16 =
                codes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_le_bytes(*word)) << 16);
            let expected = Found {
                bytes: by_bit(1),
                words: by_bit(2),
                kept: std::array::from_fn(|bit| if is_kept(bit) { values[bit] } else { 0.0 }),
                spread: std::array::from_fn(|bit| {
                    if is_kept(bit) { f32::from_bits(bf16.next().unwrap()) } else { 0.0 }
                }),
            };
            for implementation in Implementation::supported() {
                // SAFETY: the machine can run the implementation.
                let found = unsafe { (implementation.packing.masked)(Masked(&codes, &values, mask)) };
                assert_eq!(found, expected, "{}: {mask:x}", implementation.name());
            }
        }
    }

    #[test]
    fn every_implementation_transposes_a_step_of_every_row_into_a_vector() {
        let words: [Words; TILE_ROWS] =
            std::array::from_fn(|row| std::array::from_fn(|step| (1000 * row + step) as u32));
        let rows = std::array::from_fn(|row| &words[row]);
        for half in [0, 1] {
            let expected: [Vector; TILE_ROWS] = std::array::from_fn(|step| {
                std::array::from_fn(|byte| words[byte / 4][half * TILE_ROWS + step].to_le_bytes()[byte % 4])
            });
            for implementation in Implementation::supported() {
                // SAFETY: the machine can run the implementation.
                let found = unsafe { (implementation.packing.transpose)(&rows, half) };
                assert_eq!(found, expected, "{}", implementation.name());
            }
        }
    }
}
