//! Tests every implementation that this machine supports against sums in f64, and against itself.

use crate::support::{
    Random, encoded, formats, lopsided, mask_of, masks, multiply, oracle, packed, packed_dense,
};
use copal_native::cpu::{IMPLEMENTATION_NAMES, Implementation, SelectError};
use copal_native::kernels::{Encoding, MAX_PRODUCTS, Multiplier, MultiplyError};
use copal_native::measure::time_pass;
use copal_native::pool::Pool;
use copal_native::storage::{BLOCK_ROWS, Format, Matrix, Precision};

/// Shapes `[rows, cols]`. Only small ones under Miri, which is slow.
const SHAPES: &[(usize, usize)] = if cfg!(miri) {
    &[(1, 1), (33, 66)]
} else {
    &[(1, 1), (3, 2), (32, 64), (33, 66), (48, 32), (70, 203), (129, 576), (17, 1025)]
};

/// Returns matrices of a shape: dense and with every mask, in every format.
fn matrices((rows, cols): (usize, usize), random: &mut Random) -> Vec<(String, Matrix)> {
    let weights = random.normals(rows * cols, 0.05);
    let masks = masks(rows, cols, random);
    let mut matrices = Vec::new();
    for format in formats() {
        let name = format!("[{rows}, {cols}] {}-{}", format.precision().name(), format.group());
        for (mask_name, mask) in &masks {
            let matrix = packed(&weights, cols, Some(mask), format);
            matrices.push((format!("{name}, {mask_name}"), matrix));
        }
        // Of other formats, both forms have the same bits.
        if format.precision() == Precision::Int4 {
            let matrix = packed_dense(&weights, cols, &masks[0].1, format);
            matrices.push((format!("{name}, {} in dense form", masks[0].0), matrix));
        }
        matrices.push((format!("{name}, dense"), packed(&weights, cols, None, format)));
    }
    matrices
}

fn assert_near(what: &str, found: &[f32], expected: &[(f64, f64)]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, (sum, size))) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - sum).abs();
        // The order of f32 sums is not specified. The bound is relative to the sum of magnitudes, and
        // includes the rounding of terms.
        assert!(error <= 2e-6 * size + 1e-30, "{what}, output {index}: {found} for {sum}, seed 1");
    }
}

/// An int4 weight is the sum of a scaled code and a minimum. Both can be as large as the largest weight of
/// the row, even where the weight is 0.
fn add_minimums(expected: &mut [(f64, f64)], weights: &[f32], cols: usize, inputs: &[f64]) {
    let rows = weights.len() / cols;
    for (token, expected) in inputs.chunks(cols).zip(expected.chunks_mut(rows)) {
        let inputs = token.iter().map(|input| input.abs()).sum::<f64>();
        for (row, (_, size)) in weights.chunks(cols).zip(expected) {
            *size += 2.0 * inputs * f64::from(row.iter().fold(0f32, |most, weight| most.max(weight.abs())));
        }
    }
}

#[test]
fn every_implementation_agrees_with_f64_for_all_shapes_masks_and_numbers_of_tokens() {
    let mut random = Random::new(1);
    for &shape in SHAPES {
        for (name, matrix) in matrices(shape, &mut random) {
            let weights = matrix.unpack();
            // As many as share a pass by tiles of bf16; fewer are enough for integers.
            let most = if matrix.format().precision() == Precision::Bf16 { 16 } else { 9 };
            for tokens in if cfg!(miri) { vec![1, 9] } else { (1..=most).chain([16, 21]).collect() } {
                // One value more, so that the inputs start at an unaligned address.
                let inputs = random.normals(tokens * shape.1 + 1, 1.0);
                let inputs = &inputs[1..];
                let encoding = Encoding::of(matrix.format());
                let inputs_read = encoded(encoding, shape.1, inputs);
                let mut expected = oracle(&weights, shape.1, &inputs_read);
                if matrix.format().precision() == Precision::Int4 {
                    add_minimums(&mut expected, &weights, shape.1, &inputs_read);
                }
                for implementation in Implementation::supported() {
                    let found = multiply(implementation, 1, &matrix, inputs);
                    assert_near(
                        &format!("{}: {name}, {tokens} tokens", implementation.name()),
                        &found,
                        &expected,
                    );
                }
            }
        }
    }
}

#[test]
fn pruned_weights_of_bf16_and_int8_give_the_same_bits_in_both_forms() {
    const COLS: usize = 203;
    let mut random = Random::new(7);
    let weights = lopsided(70, COLS, &mut random);
    for (name, mask) in masks(70, COLS, &mut random) {
        for format in formats().into_iter().filter(|format| format.precision() != Precision::Int4) {
            let packed = packed(&weights, COLS, Some(&mask), format);
            let dense = packed_dense(&weights, COLS, &mask, format);
            assert!(packed.is_sparse() && !dense.is_sparse());
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(packed.unpack()), bits(dense.unpack()), "{format:?}, {name}");
            for tokens in [1, 3, 8] {
                let inputs = random.normals(tokens * COLS, 1.0);
                for implementation in Implementation::supported() {
                    let [packed, dense] =
                        [&packed, &dense].map(|matrix| bits(multiply(implementation, 1, matrix, &inputs)));
                    let what = implementation.name();
                    assert_eq!(packed, dense, "{what}: {format:?}, {name}, {tokens} tokens");
                }
            }
        }
    }
}

#[test]
fn int4_is_multiplied_right_wherever_its_zero_is() {
    const COLS: usize = 203;
    let mut random = Random::new(8);
    let weights = lopsided(70, COLS, &mut random);
    for (name, mask) in masks(70, COLS, &mut random) {
        for format in formats().into_iter().filter(|format| format.precision() == Precision::Int4) {
            let matrix = packed(&weights, COLS, Some(&mask), format);
            for tokens in [1, 3, 9] {
                let inputs = random.normals(tokens * COLS, 1.0);
                let inputs_read = encoded(Encoding::of(format), COLS, &inputs);
                let mut expected = oracle(&matrix.unpack(), COLS, &inputs_read);
                add_minimums(&mut expected, &weights, COLS, &inputs_read);
                for implementation in Implementation::supported() {
                    let what = format!("{}: {format:?}, {name}, {tokens} tokens", implementation.name());
                    assert_near(&what, &multiply(implementation, 1, &matrix, &inputs), &expected);
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Random::new(2);
    for (name, matrix) in matrices((130, 70), &mut random) {
        for tokens in [1, 8, 11] {
            let inputs = random.normals(tokens * 70, 1.0);
            for implementation in Implementation::supported() {
                let alone = multiply(implementation, 1, &matrix, &inputs);
                for threads in [2, 3, 7] {
                    let shared = multiply(implementation, threads, &matrix, &inputs);
                    let (alone, shared) = (alone.iter(), shared.iter());
                    assert!(
                        alone.map(|a| a.to_bits()).eq(shared.map(|b| b.to_bits())),
                        "{}: {name}, {tokens} tokens, {threads} threads",
                        implementation.name()
                    );
                }
            }
        }
    }
}

#[test]
fn sums_of_the_largest_int4_codes_and_inputs_are_exact() {
    let (rows, cols) = (BLOCK_ROWS, 128);
    // One weight of each group is 0. The others have the largest code, or the smallest one.
    let weights: Vec<f32> = (0..rows * cols)
        .map(|index| if index % 32 == 5 { 0.0 } else { [1.0, -1.0][index / cols % 2] })
        .collect();
    let everything = mask_of(rows, cols, |_, _| true);
    let patterns: [fn(usize) -> f32; 3] =
        [|_| 1.0, |_| -1.0, |col| if col / 2 % 2 == 0 { 1.0 } else { -1.0 }];
    for group in [32, 64] {
        let format = Format::new(Precision::Int4, group).unwrap();
        for mask in [None, Some(&everything[..])] {
            let matrix = packed(&weights, cols, mask, format);
            let represented = matrix.unpack();
            for tokens in (1..=9).chain([43]) {
                let inputs: Vec<f32> =
                    (0..tokens * cols).map(|index| patterns[index / cols % 3](index % cols)).collect();
                let inputs_read = encoded(Encoding::of(format), cols, &inputs);
                let mut expected = oracle(&represented, cols, &inputs_read);
                add_minimums(&mut expected, &represented, cols, &inputs_read);
                for implementation in Implementation::supported() {
                    let what = format!("{}, groups of {group}, {tokens} tokens", implementation.name());
                    assert_near(&what, &multiply(implementation, 1, &matrix, &inputs), &expected);
                }
            }
        }
    }
}

#[test]
fn a_token_gets_the_same_result_alone_and_among_sixteen() {
    let mut random = Random::new(3);
    for (name, matrix) in matrices((64, 128), &mut random) {
        let inputs = random.normals(16 * 128, 1.0);
        for implementation in Implementation::supported() {
            let together = multiply(implementation, 1, &matrix, &inputs);
            for (token, together) in inputs.chunks(128).zip(together.chunks(64)) {
                let alone = multiply(implementation, 1, &matrix, token);
                for (alone, together) in alone.iter().zip(together) {
                    let same = alone.to_bits() == together.to_bits();
                    assert!(same, "{}: {name}: {alone}, {together}", implementation.name());
                }
            }
        }
    }
}

/// Columns that take several slices of a block, and numbers of tokens whose chunks read a block whole, one after another, and others
/// whose chunks read its slices: more than 256 with every implementation.
#[test]
fn a_token_gets_the_same_result_alone_and_in_a_prefill_of_long_rows() {
    const COLS: usize = if cfg!(miri) { 320 } else { 3000 };
    const TOKENS: usize = if cfg!(miri) { 19 } else { 267 };
    let mut random = Random::new(6);
    for (name, matrix) in matrices((33, COLS), &mut random) {
        let inputs = random.normals(TOKENS * COLS, 1.0);
        for implementation in Implementation::supported() {
            let alone = [0, 7, 8, 18, TOKENS - 1]
                .map(|token| (token, multiply(implementation, 1, &matrix, &inputs[token * COLS..][..COLS])));
            for tokens in [19, 70, TOKENS] {
                let tokens = tokens.min(TOKENS);
                let together = multiply(implementation, 1, &matrix, &inputs[..tokens * COLS]);
                for (token, alone) in alone.iter().filter(|(token, _)| *token < tokens) {
                    let together = &together[token * 33..][..33];
                    let same = alone.iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{}: {name}, token {token} of {tokens}", implementation.name());
                }
            }
        }
    }
}

/// Columns of which int4, which has the longest slices, takes several.
#[test]
fn a_token_gets_the_same_result_alone_and_in_a_prefill_of_rows_longer_than_any_slice() {
    const COLS: usize = if cfg!(miri) { 320 } else { 7000 };
    const TOKENS: usize = 43;
    let mut random = Random::new(9);
    let weights = random.normals(33 * COLS, 0.05);
    let (_, mask) = &masks(33, COLS, &mut random)[0];
    let inputs = random.normals(TOKENS * COLS, 1.0);
    for format in formats() {
        let matrix = packed(&weights, COLS, Some(mask), format);
        for implementation in Implementation::supported() {
            let together = multiply(implementation, 1, &matrix, &inputs);
            for token in [0, 7, 8, TOKENS - 1] {
                let alone = multiply(implementation, 1, &matrix, &inputs[token * COLS..][..COLS]);
                let together = &together[token * 33..][..33];
                let same = alone.iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}: {format:?}, token {token}", implementation.name());
            }
        }
    }
}

#[test]
fn levels_of_x86_and_those_of_arm_give_the_same_bits_but_for_bf16_by_pairs() {
    let mut random = Random::new(7);
    let by_pairs = ["amx", "avx512bf16", "scalar"];
    for (name, matrix) in matrices((70, 203), &mut random) {
        let is_bf16 = matrix.format().precision() == Precision::Bf16;
        let mut implementations = Implementation::supported();
        implementations
            .retain(|level| level.name() != "scalar" && !(is_bf16 && by_pairs.contains(&level.name())));
        for tokens in [1, 5, 8, 21] {
            let inputs = random.normals(tokens * 203, 1.0);
            let mut results = implementations.iter().map(|level| multiply(level, 1, &matrix, &inputs));
            let Some(first) = results.next() else { return };
            for (level, other) in implementations[1..].iter().zip(results) {
                let same = first.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{} and {}: {name}, {tokens} tokens", level.name(), implementations[0].name());
            }
        }
    }
}

#[test]
fn several_matrices_at_once_give_the_results_of_each_alone() {
    let mut random = Random::new(5);
    let format = Format::new(Precision::Int8, 64).unwrap();
    let matrices: Vec<Matrix> = [(40, true), (33, false), (1, false), (64, true), (8, false)]
        .map(|(rows, sparse)| {
            let weights = random.normals(rows * 70, 1.0);
            let mask = sparse.then(|| mask_of(rows, 70, |row, col| (row + col) % 3 == 0));
            packed(&weights, 70, mask.as_deref(), format)
        })
        .into();
    for implementation in Implementation::supported() {
        for tokens in [1, 3, 9] {
            let inputs = random.normals(tokens * 70, 1.0);
            let pool = Pool::new(2).unwrap();
            let mut multiplier = Multiplier::new(implementation, pool, tokens, 70).unwrap();
            multiplier.encode(Encoding::of(format), 70, &inputs).unwrap();
            let mut outputs: Vec<Vec<f32>> =
                matrices.iter().map(|matrix| vec![f32::NAN; tokens * matrix.rows()]).collect();
            let mut products: Vec<(&Matrix, &mut [f32])> =
                matrices.iter().zip(outputs.iter_mut().map(Vec::as_mut_slice)).collect();
            assert!(matches!(multiplier.multiply_all(&mut products), Err(MultiplyError::Shape(_))));
            multiplier.multiply_all(&mut products[..MAX_PRODUCTS]).unwrap();
            for (matrix, found) in matrices.iter().zip(outputs).take(MAX_PRODUCTS) {
                assert_eq!(
                    found,
                    multiply(implementation, 1, matrix, &inputs),
                    "{}, {tokens}",
                    implementation.name()
                );
            }
        }
    }
}

#[test]
fn an_input_that_is_not_finite_shows_in_every_output_of_its_token_only() {
    let mut random = Random::new(4);
    for format in formats() {
        let weights: Vec<f32> = random.normals(32 * 64, 0.05);
        let everything = mask_of(32, 64, |_, _| true);
        for matrix in [packed(&weights, 64, None, format), packed(&weights, 64, Some(&everything), format)] {
            for tokens in [2, 16] {
                let mut inputs = random.normals(tokens * 64, 1.0);
                // One input, and whole groups of them.
                for (range, broken) in [(70..71, f32::NAN), (64..128, f32::INFINITY), (64..128, -f32::NAN)] {
                    inputs[range].fill(broken);
                    for implementation in Implementation::supported() {
                        let outputs = multiply(implementation, 1, &matrix, &inputs);
                        let (what, broken) = (implementation.name(), 32..64);
                        for (index, output) in outputs.iter().enumerate() {
                            assert_eq!(output.is_finite(), !broken.contains(&index), "{what}, {index}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn an_unknown_kernel_is_an_error_that_lists_the_known_ones() {
    let error = Implementation::select(Some("sse9")).unwrap_err();
    assert_eq!(error, SelectError::Unknown("sse9".to_owned()));
    let message = error.to_string();
    for name in IMPLEMENTATION_NAMES {
        assert!(message.contains(name), "{message}");
    }
    let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    assert!(matches!(Implementation::select(Some(other)), Err(SelectError::Unsupported(_))));
    assert_eq!(Implementation::select(Some("scalar")).unwrap().name(), "scalar");
    assert_eq!(Implementation::select(None).unwrap().name(), Implementation::supported()[0].name());
}

#[test]
fn inputs_and_outputs_of_other_shapes_are_rejected() {
    let matrix = packed(&[1.0; 6], 3, None, Format::BF16);
    let sized = |tokens, cols| {
        Multiplier::new(Implementation::select(None).unwrap(), Pool::new(1).unwrap(), tokens, cols)
    };
    let mut multiplier = sized(2, 3).unwrap();
    let is_shape_error = |result: Result<(), MultiplyError>| matches!(result, Err(MultiplyError::Shape(_)));
    assert!(is_shape_error(multiplier.encode(Encoding::Bf16, 3, &[0.0; 4])));
    assert!(is_shape_error(multiplier.encode(Encoding::Bf16, 3, &[])));
    assert!(is_shape_error(multiplier.encode(Encoding::Bf16, 3, &[0.0; 9])));
    assert!(is_shape_error(multiplier.encode(Encoding::Bf16, 4, &[0.0; 4])));
    multiplier.encode(Encoding::Int16 { group: 64 }, 3, &[0.0; 3]).unwrap();
    assert!(is_shape_error(multiplier.multiply(&matrix, &mut [0.0; 2])));
    multiplier.encode(Encoding::Bf16, 3, &[0.0; 3]).unwrap();
    assert!(is_shape_error(multiplier.multiply(&matrix, &mut [0.0; 3])));
    multiplier.multiply(&matrix, &mut [0.0; 2]).unwrap();
    assert!(is_shape_error(time_pass(&mut multiplier, &[&matrix], 1 << 40).map(|_| ())));
    // Sizes that no machine has, and one that only the padding makes too large.
    for (tokens, cols) in [(usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 40), (1 << 28, 1)] {
        assert!(is_shape_error(sized(tokens, cols).map(|_| ())), "{tokens} x {cols}");
    }
    assert!(Precision::named("int7").unwrap_err().to_string().contains("bf16, int8, int4"));
}
