//! The choice of the zero points of packed int4.

use super::packing::Vector;
use super::quantise::{Codes, MAX_ZERO_POINT, PLACES};
use super::{TILE_ROWS, VECTOR_BYTES};
use half::f16;

/// Moves the zero points of a tile's rows by a quarter of a code, up or down, where that lowers the sum of the squared errors of a
/// row's weights, and makes codes of the places in its vectors. Weights of 0 do not count: they are pruned.
///
/// With `e` the error of a weight in codes, from -1/2 to 1/2, that by the next zero point is `e + 1/4`, or `e - 3/4` where `e` is
/// above 1/4. So its square differs by `e / 2 + 1/16 - 2 max(0, e - 1/4)`. By the zero point before it is that of `-e`. In this no
/// weight is outside of the codes by half a code or more.
///
/// A zero point stays where weights are on one side of 0, which is at an end of the codes there. It also stays with a subnormal
/// scale, where 0 has to be a code.
#[inline(always)]
pub(super) fn choose_zero_points<const TILES: usize>(
    rows: &mut [Codes; TILE_ROWS],
    vectors: &mut [[Vector; TILES]],
    tile: usize,
) {
    let (mut zeros, mut limits) = ([0; TILE_ROWS], [0; TILE_ROWS]);
    for ((zero, limit), row) in zeros.iter_mut().zip(&mut limits).zip(&*rows) {
        *zero = FOUR_BYTES * u32::from(row.place_of_zero());
        let may_move = row.scale.to_bits() >= f16::MIN_POSITIVE.to_bits()
            && 0 < row.zero_point
            && row.zero_point < MAX_ZERO_POINT;
        *limit = if may_move { 0 } else { i32::MIN };
    }
    let zeros = bytes_of(&zeros);
    // Sums over the vectors. Errors are in places and by `HALF` larger, differences are in units of 8 squared places. Both are below
    // 2⁷ in magnitude in the end; before that they may wrap.
    let (mut next, mut before) = ([0u8; VECTOR_BYTES], [0u8; VECTOR_BYTES]);
    for vector in vectors.iter() {
        for lane in 0..VECTOR_BYTES {
            let place = vector[tile][lane];
            let error = place % PLACES;
            let is_kept = if place == zeros[lane] { 0 } else { !0 };
            let (above, below) =
                (error.saturating_sub(HALF + QUARTER), (HALF - QUARTER).saturating_sub(error));
            let difference = error.wrapping_sub(HALF);
            let up = difference.wrapping_add(2).wrapping_sub(above.wrapping_mul(4));
            let down = 2u8.wrapping_sub(difference).wrapping_sub(below.wrapping_mul(4));
            next[lane] = next[lane].wrapping_add(up & is_kept);
            before[lane] = before[lane].wrapping_add(down & is_kept);
        }
    }
    let (mut ups, mut downs) = ([0; TILE_ROWS], [0; TILE_ROWS]);
    let lanes = next.as_chunks().0.iter().zip(before.as_chunks().0).zip(limits);
    for ((up, down), ((next, before), limit)) in ups.iter_mut().zip(&mut downs).zip(lanes) {
        let (next, before) = (sum(next), sum(before));
        *up = FOUR_BYTES * u32::from(QUARTER) * u32::from((next < limit) & (next <= before));
        *down = FOUR_BYTES * u32::from(QUARTER) * u32::from((before < limit) & (before < next));
    }
    for (row, (up, down)) in rows.iter_mut().zip(ups.iter().zip(&downs)) {
        row.zero_point = row.zero_point + u8::from(*up != 0) - u8::from(*down != 0);
    }
    let (ups, downs) = (bytes_of(&ups), bytes_of(&downs));
    for vector in vectors {
        for (place, (up, down)) in vector[tile].iter_mut().zip(ups.iter().zip(&downs)) {
            *place = place.saturating_add(*up).saturating_sub(*down) / PLACES;
        }
    }
}

/// A word with 1 in each byte.
const FOUR_BYTES: u32 = 0x0101_0101;
const HALF: u8 = PLACES / 2;
const QUARTER: u8 = PLACES / 4;

/// The bytes of a word for each row.
#[inline(always)]
fn bytes_of(words: &[u32; TILE_ROWS]) -> Vector {
    let mut bytes = [0; VECTOR_BYTES];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

/// The sum of four signed bytes, by shifts of a word: so the compiler adds those of all rows at once.
#[inline(always)]
fn sum(bytes: &[u8; 4]) -> i32 {
    let word = i32::from_le_bytes(*bytes);
    (word << 24 >> 24) + (word << 16 >> 24) + (word << 8 >> 24) + (word >> 24)
}
