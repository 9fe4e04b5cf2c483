//! Tests the contents of packed matrices, and the inputs that cannot be packed.

use crate::support::{Random, formats, lopsided, mask_of, masks, packed, packed_dense};
use copal_native::storage::{
    Arena, BLOCK_ROWS, Counted, Format, KeptError, KeptRows, KeptRule, Mask, MaskError, Matrix, PackError,
    Precision, pack, pack_rows, quantise_packed_int4,
};
use std::ops::Range;

/// How far a stored weight may be from the weight.
#[derive(Clone, Copy)]
enum Stored {
    Dense,
    Packed,
}

/// Returns the largest error of a weight in a group whose largest magnitude is `largest`.
fn tolerance(format: Format, stored: Stored, largest: f32) -> f32 {
    match format.precision() {
        Precision::Bf16 => largest / 256.0,
        Precision::Int8 => largest / 127.0 * 0.51,
        // Half of one of 15 codes over twice the largest magnitude.
        Precision::Int4 => {
            let code = 2.0 * largest / 15.0;
            match stored {
                // Half a code more where the codes begin or end elsewhere, so that one of them is 0.
                Stored::Dense => code * 1.02,
                // An eighth for the zero point, and half of what a scale of 6 bits adds to 15 codes.
                Stored::Packed => code * (0.5 + 0.125 + 7.5 / 64.0),
            }
        }
    }
}

#[test]
fn weights_come_back_within_their_precision_and_pruned_ones_as_zero() {
    let mut random = Random::new(5);
    for (rows, cols) in [(1, 1), (35, 67), (64, 128), (40, 300)] {
        let weights = random.normals(rows * cols, 0.1);
        for format in formats() {
            for (name, mask) in masks(rows, cols, &mut random) {
                let packed = packed(&weights, cols, Some(&mask), format);
                let dense = packed_dense(&weights, cols, &mask, format);
                for (matrix, stored) in [(&packed, Stored::Packed), (&dense, Stored::Dense)] {
                    assert_kept(matrix, &weights, &mask, name, |largest| tolerance(format, stored, largest));
                }
            }
        }
    }
}

/// The smallest f16, of which small scales are multiples.
const STEP: f32 = 5.960_464_5e-8;

#[test]
fn weights_of_any_size_on_any_side_of_zero_come_back() {
    const COLS: usize = 203;
    let mut random = Random::new(7);
    let weights = lopsided(70, COLS, &mut random);
    for format in formats().into_iter().filter(|format| format.precision() != Precision::Bf16) {
        for (name, mask) in masks(70, COLS, &mut random) {
            let packed = packed(&weights, COLS, Some(&mask), format);
            let dense = packed_dense(&weights, COLS, &mask, format);
            for (matrix, stored) in [(&packed, Stored::Packed), (&dense, Stored::Dense)] {
                // Small scales are multiples of 16 or, packed, 32 of the smallest f16. That adds half of one to a code, and in
                // dense form as much for the place of 0; or as much as the weight itself.
                let limit = |largest| tolerance(format, stored, largest) + (16.4 * STEP).min(largest);
                assert_kept(matrix, &weights, &mask, name, limit);
            }
        }
    }
}

/// Fails unless pruned weights are 0 and others within a limit, which gets the largest magnitude of the group.
fn assert_kept(matrix: &Matrix, weights: &[f32], mask: &[u8], name: &str, limit: impl Fn(f32) -> f32) {
    let (format, cols) = (matrix.format(), matrix.cols());
    let mut kept = 0;
    for (index, (found, weight)) in matrix.unpack().iter().zip(weights).enumerate() {
        let (row, col) = (index / cols, index % cols);
        if mask[row * cols.div_ceil(8) + col / 8] >> (col % 8) & 1 == 0 {
            assert_eq!(*found, 0.0, "{format:?}, {name}, row {row}, column {col}");
            continue;
        }
        kept += 1;
        let group = &weights[row * cols..][..cols][col / format.group() * format.group()..];
        let group = &group[..group.len().min(format.group())];
        let largest = group.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        let error = (found - weight).abs();
        assert!(error <= limit(largest), "{format:?}, {name}, row {row}: {found} for {weight}");
    }
    assert_eq!(matrix.kept(), kept, "{format:?}, {name}");
}

#[test]
fn groups_of_tiny_weights_are_scaled_without_clipping() {
    let shape = Random::new(12).normals(40 * 64, 1.0);
    for precision in [Precision::Int8, Precision::Int4] {
        let format = Format::usual(precision);
        // Half of the range, and the number of codes in it.
        let (reach, codes) = if precision == Precision::Int8 { (1.0, 127.0) } else { (2.0, 15.0) };
        for size in [1e-3, 1e-4, 1e-5, 3.7e-6, 1e-6] {
            for group in shape.chunks(64 * 8) {
                let largest = group.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
                let weights: Vec<f32> = group.iter().map(|weight| weight / largest * size).collect();
                let found = packed(&weights, 64, None, format).unpack();
                for (found, weight) in found.iter().zip(&weights) {
                    // Half a code, whose scale is rounded up, and the rounding of a minimum.
                    let allowed = 0.51 * (reach * size / codes + STEP) + STEP;
                    assert!((found - weight).abs() <= allowed, "{precision:?}, {size}: {found} for {weight}");
                }
            }
        }
    }
}

#[test]
fn a_mask_that_keeps_everything_changes_no_weight_of_bf16_and_int8() {
    let weights = Random::new(6).normals(40 * 100, 0.1);
    let mask = mask_of(40, 100, |_, _| true);
    for format in formats().into_iter().filter(|format| format.precision() != Precision::Int4) {
        let sparse = packed(&weights, 100, Some(&mask), format).unpack();
        assert_eq!(sparse, packed(&weights, 100, None, format).unpack());
    }
}

/// Returns the kept weights as bf16, as a mask file stores them.
fn kept_values(weights: &[f32], cols: usize, mask: &[u8]) -> Vec<u8> {
    let kept = |index: &usize| {
        mask[index / cols * cols.div_ceil(8) + index % cols / 8] >> (index % cols % 8) & 1 == 1
    };
    let kept = (0..weights.len()).filter(kept);
    kept.flat_map(|index| half::bf16::from_f32(weights[index]).to_le_bytes()).collect()
}

#[test]
fn kept_values_are_packed_like_the_dense_matrix_with_its_mask() {
    let mut random = Random::new(9);
    for (rows, cols) in [(1, 1), (35, 67), (64, 128), (40, 300)] {
        let mut weights = random.normals(rows * cols, 0.1);
        weights.iter_mut().for_each(|weight| *weight = half::bf16::from_f32(*weight).to_f32());
        for (name, mask) in &masks(rows, cols, &mut random) {
            let values = kept_values(&weights, cols, mask);
            let bits = Mask::new(mask, rows, cols).unwrap();
            for format in formats() {
                let mut kept = KeptRows::new(bits, &values);
                let found = pack_rows(&mut kept, (rows, cols), Some(bits), format, &Arena::default(), &|| ())
                    .unwrap();
                let expected = packed(&weights, cols, Some(mask), format);
                assert_eq!(found.unpack(), expected.unpack(), "{format:?}, {name}");
            }
        }
    }
}

#[test]
fn a_kept_value_that_is_not_finite_is_rejected_with_its_place() {
    let mut weights = vec![0.5; 40 * 70];
    weights[35 * 70 + 68] = f32::INFINITY;
    let mask = mask_of(40, 70, |row, col| row == 35 || col % 3 == 0);
    let (values, bits) = (kept_values(&weights, 70, &mask), Mask::new(&mask, 40, 70).unwrap());
    for format in formats() {
        let found = pack_rows(
            &mut KeptRows::new(bits, &values),
            (40, 70),
            Some(bits),
            format,
            &Arena::default(),
            &|| (),
        );
        assert!(matches!(found, Err(PackError::Weight { row: 35, col: 68, .. })), "{format:?}");
    }
}

/// Returns rows of 64 weights like those of Q4_1, in groups of 32 with a scale and a minimum in f16, and the scale of each
/// group. The first half of a group has every level.
fn on_sixteen_levels(random: &mut Random) -> (Vec<f32>, Vec<f32>) {
    let (mut weights, mut scales) = (Vec::new(), Vec::new());
    for _ in 0..64 {
        let scale = half::f16::from_f64(0.01 + 0.01 * random.uniform()).to_f32();
        let minimum = half::f16::from_f64(-0.1 * random.uniform()).to_f32();
        weights.extend((0..32).map(|index| {
            let code = if index < 16 { index } else { random.bits() % 16 };
            scale * code as f32 + minimum
        }));
        scales.push(scale);
    }
    (weights, scales)
}

#[test]
fn int4_represents_sixteen_levels_without_loss() {
    let format = Format::new(Precision::Int4, 32).unwrap();
    let (weights, _) = on_sixteen_levels(&mut Random::new(7));
    let found = packed(&weights, 64, None, format).unpack();
    for (found, weight) in found.iter().zip(&weights) {
        assert!((found - weight).abs() <= 1e-7, "{found} for {weight}");
    }
}

/// A zero point costs an eighth of a code, and a scale of 6 bits half of what it adds to 15 codes. Where the mask takes the
/// lowest or the highest level of a group, the others are rounded anew.
#[test]
fn int4_under_a_mask_keeps_sixteen_levels_to_a_quarter_of_a_code_if_the_outer_ones_are_kept() {
    let format = Format::new(Precision::Int4, 32).unwrap();
    let mut random = Random::new(7);
    let (weights, scales) = on_sixteen_levels(&mut random);
    let outer = mask_of(32, 64, |_, col| col % 32 < 16 || random.uniform() < 0.5);
    let any = mask_of(32, 64, |_, _| random.uniform() < 0.5);
    for (mask, limit) in [(outer, 0.125 + 7.5 / 64.0 + 0.01), (any, 0.5)] {
        let found = packed(&weights, 64, Some(&mask), format).unpack();
        for (index, (found, weight)) in found.iter().zip(&weights).enumerate() {
            if mask[index / 8] >> (index % 8) & 1 == 0 {
                assert_eq!(*found, 0.0);
            } else {
                let error = (found - weight).abs() / scales[index / 32];
                assert!(error <= limit, "{found} for {weight}: {error} codes");
            }
        }
    }
}

/// The sum of the squared errors of weights whose zero point is so many quarters of a code, in codes.
fn squared_error(kept: &[f32], scale: f32, zero_point: u16) -> f64 {
    let place = |weight: &f32| f64::from(weight / scale) + 0.25 * f64::from(zero_point);
    kept.iter().map(place).map(|place| (place - place.round().clamp(0.0, 15.0)).powi(2)).sum()
}

#[test]
fn packed_int4_takes_the_best_of_three_zero_points_in_every_layout() {
    let mut random = Random::new(17);
    let (rows, cols) = (BLOCK_ROWS, 10 * 32);
    let weights = random.normals(rows * cols, 0.1);
    let mask = mask_of(rows, cols, |_, _| random.uniform() < 0.5);
    let found = packed(&weights, cols, Some(&mask), Format::usual(Precision::Int4)).unpack();
    let (mut by_middle, mut by_choice, mut least) = (0.0, 0.0, 0.0);
    for first in (0..cols).step_by(32) {
        let block: [[f32; 32]; BLOCK_ROWS] = std::array::from_fn(|row| {
            std::array::from_fn(|col| {
                let col = first + col;
                let is_kept = mask[row * cols / 8 + col / 8] >> (col % 8) & 1 == 1;
                if is_kept { weights[row * cols + col] } else { 0.0 }
            })
        });
        let group = quantise_packed_int4(block.each_ref(), 32).unwrap();
        for (row, values) in block.iter().enumerate() {
            let zero_point = group.scales[row] & 0x3f;
            let scale = half::f16::from_bits((group.scales[row] ^ zero_point) >> 1).to_f32();
            for (col, value) in values.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                let code = f32::from(group.codes[row][col]) - 0.25 * f32::from(zero_point);
                assert_eq!(found[row * cols + first + col], scale * code, "{value}");
            }
            let kept: Vec<_> = values.iter().copied().filter(|value| *value != 0.0).collect();
            let (low, high) =
                kept.iter().fold((0f32, 0f32), |(low, high), &value| (low.min(value), high.max(value)));
            let middle = (4.0 * (7.5 - (low + high) / (2.0 * scale))).round() as u16;
            let error = |zero_point| squared_error(&kept, scale, zero_point);
            by_middle += error(middle);
            by_choice += error(zero_point);
            least += error(middle).min(error(middle - 1)).min(error(middle + 1));
        }
    }
    assert!(by_choice < 1.01 * least, "{by_choice}, at least {least}");
    assert!(by_choice < 0.9 * by_middle, "{by_choice}, with the middle of the range {by_middle}");
}

#[test]
fn a_matrix_takes_the_bytes_of_the_documented_layout() {
    let mut random = Random::new(8);
    let (rows, cols) = (100, 192);
    let weights = random.normals(rows * cols, 0.1);
    let half = mask_of(rows, cols, |_, col| col % 2 == 0);
    let blocks = 4;
    for (format, dense, pruned) in [
        // Rows that do not exist have masks but no values: only 4 rows of the last block exist.
        (Format::BF16, 3 * 4096, blocks * (3 * 256 + 192 * 32) - 28 * 192),
        (
            Format::new(Precision::Int8, 64).unwrap(),
            3 * (64 + 2048),
            blocks * (3 * (64 + 256) + 96 * 32) - 28 * 96,
        ),
        // A group has the bytes of its fuller tile; of the last block the second one is empty.
        (
            Format::new(Precision::Int4, 64).unwrap(),
            3 * (128 + 1024),
            blocks * 3 * (64 + 256) + 3 * 3 * 16 * 32 + 3 * 4 * 32,
        ),
        (
            Format::new(Precision::Int4, 32).unwrap(),
            6 * (128 + 512),
            blocks * 6 * (64 + 128) + 3 * 6 * 16 * 16 + 6 * 4 * 16,
        ),
    ] {
        assert_eq!(packed(&weights, cols, None, format).stream_bytes(), blocks * dense, "{format:?}");
        let found = packed(&weights, cols, Some(&half), format);
        assert_eq!(found.stream_bytes(), pruned, "{format:?}");
        assert!(found.is_sparse(), "{format:?}");
    }
}

#[test]
fn a_group_of_int4_has_no_gaps_where_its_tiles_take_turns() {
    let weights = Random::new(8).normals(32 * 32, 0.1);
    // In each step of four columns one of the two tiles of 16 rows keeps all of its weights.
    let turns = mask_of(32, 32, |row, col| row / 16 == col / 4 % 2);
    let found = packed(&weights, 32, Some(&turns), Format::new(Precision::Int4, 32).unwrap());
    assert_eq!(found.stream_bytes(), 64 + 128 + 16 * 16);
}

#[test]
fn weights_that_a_precision_cannot_hold_are_rejected_with_their_place() {
    for format in formats() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut weights = vec![0.5; 40 * 70];
            weights[35 * 70 + 68] = broken;
            // A weight that is not finite is an error even where it is pruned.
            let mask = mask_of(40, 70, |row, _| row != 35);
            let masks = if broken.is_finite() { vec![None] } else { vec![None, Some(mask.as_slice())] };
            for mask in masks {
                match pack(&weights, (40, 70), mask, format) {
                    Err(PackError::Weight { row: 35, col: 68, .. }) => {}
                    Err(error) => panic!("{format:?}: {error}"),
                    Ok(_) => panic!("{format:?} took {broken}"),
                }
            }
        }
    }
}

#[test]
fn masks_and_shapes_that_do_not_match_are_rejected() {
    let rejection = |rows, cols, mask| pack(&[0.0; 18], (rows, cols), mask, Format::BF16).err();
    assert!(matches!(rejection(2, 8, None), Some(PackError::Shape { rows: 2, cols: 8, weights: 18 })));
    assert!(matches!(rejection(usize::MAX, 2, None), Some(PackError::Shape { .. })));
    assert!(pack(&[], (0, 4), None, Format::BF16).is_err());
    let length = PackError::Mask(MaskError::Length { expected: 4, found: 3 });
    assert_eq!(rejection(2, 9, Some(&[0; 3])), Some(length));
    assert_eq!(rejection(2, 9, Some(&[255, 1, 255, 2])), Some(PackError::Mask(MaskError::Tail { row: 1 })));
    assert!(rejection(2, 9, Some(&[255, 1, 255, 0])).is_none());
}

/// Checks a rule one bit at a time.
fn broken(rule: &KeptRule, mask: &[u8], rows: usize, cols: usize) -> Option<KeptError> {
    let expected = rule.kept;
    let kept = |row: usize, columns: Range<usize>| {
        columns.filter(|col| mask[row * cols.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1).count()
    };
    let broken =
        |row, column, kept, of| (kept != expected).then_some(KeptError { row, column, kept, of, expected });
    match rule.of {
        Counted::Row => (0..rows).find_map(|row| broken(Some(row), None, kept(row, 0..cols), cols)),
        Counted::Matrix => broken(None, None, (0..rows).map(|row| kept(row, 0..cols)).sum(), rows * cols),
        Counted::Columns(group) => (0..rows)
            .flat_map(|row| (0..cols).step_by(group).map(move |first| (row, first)))
            .find_map(|(row, first)| broken(Some(row), Some(first), kept(row, first..first + group), group)),
    }
}

#[test]
fn a_mask_that_breaks_its_rule_is_rejected_at_the_first_place() {
    let mut random = Random::new(8);
    for (cols, group) in
        [(64, 4), (192, 8), (128, 64), (96, 2), (60, 6), (60, 4), (128, 16), (65, 5), (48, 48)]
    {
        let rows = 5;
        for of in [Counted::Row, Counted::Matrix, Counted::Columns(group)] {
            let mut mask = mask_of(rows, cols, |_, col| col % group < group / 2);
            let per_row = cols / group * (group / 2);
            let kept = match of {
                Counted::Row => per_row,
                Counted::Matrix => rows * per_row,
                Counted::Columns(_) => group / 2,
            };
            let rule = KeptRule { of, kept };
            assert_eq!(rule.total(rows, cols), rows * per_row);
            for flips in 0..40 {
                let found = rule.check(&Mask::new(&mask, rows, cols).unwrap(), rows, cols);
                assert_eq!(
                    found.err(),
                    broken(&rule, &mask, rows, cols),
                    "{rule:?}, {cols} columns, {flips} flips"
                );
                let (row, col) =
                    ((random.uniform() * 5.0) as usize, (random.uniform() * cols as f64) as usize);
                mask[row * cols.div_ceil(8) + col / 8] ^= 1 << (col % 8);
            }
        }
    }
}
