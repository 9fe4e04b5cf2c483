//! Seeded random matrices, masks and the oracle for the tests of storage and kernels.

#![allow(dead_code)]

pub mod engine;
pub mod model;
mod random;

use copal_native::cpu::Implementation;
use copal_native::kernels::{Encoding, Multiplier};
use copal_native::pool::Pool;
use copal_native::storage::{Arena, Form, Format, Mask, Matrix, Precision, pack, pack_rows_as};
pub use random::{Random, mask_of};

/// Returns every format.
pub fn formats() -> Vec<Format> {
    let mut formats = vec![Format::BF16];
    for precision in [Precision::Int8, Precision::Int4] {
        formats.extend([64, 32].map(|group| Format::new(precision, group).unwrap()));
    }
    formats
}

/// Returns typical masks and edge cases, with names.
pub fn masks(rows: usize, cols: usize, random: &mut Random) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("half", mask_of(rows, cols, |_, _| random.uniform() < 0.5)),
        ("unequal rows", {
            let densities: Vec<f64> = (0..rows).map(|_| random.uniform()).collect();
            mask_of(rows, cols, |row, _| random.uniform() < densities[row])
        }),
        ("nothing", mask_of(rows, cols, |_, _| false)),
        ("everything", mask_of(rows, cols, |_, _| true)),
        ("full and empty rows", mask_of(rows, cols, |row, _| row % 3 == 0)),
        ("full and empty tiles", mask_of(rows, cols, |row, _| row / 16 % 2 == 1)),
        ("2:4", {
            let patterns = [0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100];
            let mut pattern = 0;
            mask_of(rows, cols, |_, col| {
                if col % 4 == 0 {
                    pattern = patterns[random.bits() as usize % patterns.len()];
                }
                pattern >> (col % 4) & 1 == 1
            })
        }),
    ]
}

/// Returns the inputs as the kernels read them after encoding, in f64.
pub fn encoded(encoding: Encoding, cols: usize, inputs: &[f32]) -> Vec<f64> {
    match encoding {
        Encoding::Bf16 => inputs.iter().map(|&input| half::bf16::from_f32(input).to_f64()).collect(),
        Encoding::Int16 { group } => integers(32_767.0, group, cols, inputs),
        Encoding::Int8 { group } => integers(127.0, group, cols, inputs),
    }
}

/// Returns inputs after rounding to integers up to `largest_code`, with a scale for each group of a token.
fn integers(largest_code: f32, group: usize, cols: usize, inputs: &[f32]) -> Vec<f64> {
    let groups = inputs.chunks(cols).flat_map(|token| token.chunks(group));
    groups
        .flat_map(|group| {
            let largest = group.iter().fold(0f32, |largest, input| largest.max(input.abs()));
            let scale = largest / largest_code;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let code = move |input: &f32| f64::from((input * inverse).round_ties_even());
            group.iter().map(move |input| code(input) * f64::from(scale))
        })
        .collect()
}

/// Returns the products in f64, `[tokens, rows]`, each with the sum of the magnitudes of its terms, for a
/// tolerance.
pub fn oracle(weights: &[f32], cols: usize, inputs: &[f64]) -> Vec<(f64, f64)> {
    let mut products = Vec::new();
    for token in inputs.chunks(cols) {
        for row in weights.chunks(cols) {
            let terms = row.iter().zip(token).map(|(&weight, input)| f64::from(weight) * input);
            products.push(terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs())));
        }
    }
    products
}

/// Multiplies once with `implementation` on `threads` threads.
pub fn multiply(
    implementation: &'static Implementation,
    threads: usize,
    matrix: &Matrix,
    inputs: &[f32],
) -> Vec<f32> {
    let tokens = inputs.len() / matrix.cols();
    let pool = Pool::new(threads).unwrap();
    let mut multiplier = Multiplier::new(implementation, pool, tokens, matrix.cols()).unwrap();
    // NaN shows an output that is never written.
    let mut outputs = vec![f32::NAN; tokens * matrix.rows()];
    multiplier.encode(Encoding::of(matrix.format()), matrix.cols(), inputs).unwrap();
    multiplier.multiply(matrix, &mut outputs).unwrap();
    outputs
}

/// Packs a matrix; dense without a mask.
pub fn packed(weights: &[f32], cols: usize, mask: Option<&[u8]>, format: Format) -> Matrix {
    pack(weights, (weights.len() / cols, cols), mask, format).unwrap()
}

/// Packs with codes of 0 for pruned weights.
pub fn packed_dense(mut weights: &[f32], cols: usize, mask: &[u8], format: Format) -> Matrix {
    let shape = (weights.len() / cols, cols);
    let mask = Mask::new(mask, shape.0, cols).unwrap();
    pack_rows_as(Form::Dense, &mut weights, shape, Some(mask), format, &Arena::default(), &|| ()).unwrap()
}

/// Weights whose rows lie on one side of 0, around it and far from it, in all sizes that f16 scales hold.
pub fn lopsided(rows: usize, cols: usize, random: &mut Random) -> Vec<f32> {
    let mut weights = random.normals(rows * cols, 1.0);
    for (row, weights) in weights.chunks_mut(cols).enumerate() {
        let size = [1.0, 1e-3, 1e-6, 3e-8, 5e3][row % 5];
        for weight in weights {
            *weight =
                size * [*weight, weight.abs(), -weight.abs(), *weight + 2.0, *weight - 4.0][row / 5 % 5];
        }
    }
    weights
}
