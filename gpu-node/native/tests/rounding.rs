//! Tests the rounding to codes of packed int4 against the definition of the error, and against packing.

use crate::support::{Random, mask_of};
use copal_native::cpu::{IMPLEMENTATION_NAMES, Implementation};
use copal_native::rounding::{RoundingError, RowsToRound, round_to_int4};
use copal_native::storage::{BLOCK_ROWS, quantise_packed_int4};
use half::{bf16, f16};

const GROUP: usize = 32;
const COLS: &[usize] = if cfg!(miri) { &[37] } else { &[1, 31, 32, 33, 64, 100, 192] };

/// Rows to round, and the dense weights that their error is measured against.
#[derive(Clone)]
struct Problem {
    cols: usize,
    dense: Vec<f32>,
    values: Vec<f32>,
    bits: Vec<u8>,
    moment: Vec<f64>,
    damping: f64,
    gradient: Vec<f64>,
}

impl Problem {
    fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    fn round(&mut self, name: &str, threads: usize) -> Result<(), RoundingError> {
        let rows = RowsToRound {
            cols: self.cols,
            values: &mut self.values,
            bits: &self.bits,
            moment: &self.moment,
            damping: self.damping,
            gradient: &mut self.gradient,
        };
        round_to_int4(Implementation::select(Some(name)).unwrap(), rows, threads)
    }

    fn keeps(&self, row: usize, col: usize) -> bool {
        self.bits[row * self.cols.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1
    }

    /// `(w − a)(H + λ I)` of a row.
    fn gradient_of(&self, row: usize, values: &[f32]) -> Vec<f64> {
        let error: Vec<f64> = self.dense[row * self.cols..][..self.cols]
            .iter()
            .zip(values)
            .map(|(dense, value)| f64::from(*dense) - f64::from(*value))
            .collect();
        let moved =
            |col: usize| (0..self.cols).map(|k| error[k] * self.moment[k * self.cols + col]).sum::<f64>();
        (0..self.cols).map(|col| moved(col) + self.damping * error[col]).collect()
    }

    /// `(w − a)(H + λ I)(w − a)ᵀ` of a row.
    fn error_of(&self, row: usize, values: &[f32]) -> f64 {
        let errors = self.dense[row * self.cols..].iter().zip(values);
        let errors = errors.map(|(dense, value)| f64::from(*dense) - f64::from(*value));
        self.gradient_of(row, values).iter().zip(errors).map(|(gradient, error)| gradient * error).sum()
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }
}

/// Creates a seeded problem: `values` are near the dense weights where they are kept. Rows keep all, none, half and a few of
/// their weights; in every fifth all weights are positive, in the one behind it negative.
fn problem(random: &mut Random, cols: usize, rows: usize) -> Problem {
    let tokens = cols + 5;
    let inputs: Vec<f64> = random.normals(tokens * cols, 1.0).into_iter().map(f64::from).collect();
    let mut moment = vec![0.0; cols * cols];
    for x in inputs.chunks(cols) {
        for a in 0..cols {
            for b in 0..cols {
                moment[a * cols + b] += x[a] * x[b] / tokens as f64;
            }
        }
    }
    let sign = |row: usize, weight: f32| match row % 5 {
        3 => weight.abs(),
        4 => -weight.abs(),
        _ => weight,
    };
    let weights = random.normals(rows * cols, 0.05);
    let dense: Vec<f32> = weights.iter().enumerate().map(|(at, weight)| sign(at / cols, *weight)).collect();
    let share = [1.0, 0.0, 0.5, 0.15];
    let bits = mask_of(rows, cols, |row, _| random.uniform() < share[row % 4]);
    let values = vec![0.0; rows * cols];
    let mut problem =
        Problem { cols, dense, values, bits, moment, damping: 0.01, gradient: vec![0.0; rows * cols] };
    for row in 0..rows {
        for col in (0..cols).filter(|col| problem.keeps(row, *col)).collect::<Vec<_>>() {
            let change = 1.0 + 0.3 * (random.uniform() as f32 - 0.5);
            problem.values[row * cols + col] = problem.dense[row * cols + col] * change;
        }
        let gradient = problem.gradient_of(row, problem.row(row));
        problem.gradient[row * cols..][..cols].copy_from_slice(&gradient);
    }
    problem
}

/// What packing makes of rows of at most a block: the values of their codes, and for each value the distance of two codes.
fn packed(rows: &[&[f32]]) -> Vec<Vec<(f32, f32)>> {
    let cols = rows[0].len();
    let mut out = vec![Vec::new(); rows.len()];
    for first in (0..cols).step_by(GROUP) {
        let mut block = [[0.0; GROUP]; BLOCK_ROWS];
        let end = cols.min(first + GROUP);
        for (block, row) in block.iter_mut().zip(rows) {
            block[..end - first].copy_from_slice(&row[first..end]);
        }
        let group = quantise_packed_int4(block.each_ref(), end - first).unwrap();
        for (row, out) in out.iter_mut().enumerate() {
            let zero_point = group.scales[row] & 0x3f;
            let scale = f16::from_bits((group.scales[row] ^ zero_point) >> 1).to_f32();
            let value = |code: u8| scale * (f32::from(code) - 0.25 * f32::from(zero_point));
            out.extend(group.codes[row][..end - first].iter().map(|code| (value(*code), scale)));
        }
    }
    out
}

fn supported() -> impl Iterator<Item = &'static str> {
    IMPLEMENTATION_NAMES.into_iter().filter(|name| Implementation::select(Some(name)).is_ok())
}

#[test]
fn rounded_weights_are_packed_as_they_are() {
    let mut random = Random::new(11);
    let mut exact = 0;
    for &cols in COLS {
        let mut problem = problem(&mut random, cols, 20);
        problem.round("scalar", 1).unwrap();
        // As a weights file stores them.
        let stored: Vec<f32> = problem.values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        for values in [&problem.values, &stored] {
            let rows: Vec<_> = values.chunks(cols).collect();
            for (row, packed) in packed(&rows).iter().enumerate() {
                for (col, (value, scale)) in
                    packed.iter().enumerate().filter(|(col, _)| problem.keeps(row, *col))
                {
                    let difference = (problem.row(row)[col] - value).abs();
                    // A subnormal scale is rounded up.
                    let most = if *scale < f16::MIN_POSITIVE.to_f32() { *scale } else { 0.0 };
                    assert!(difference <= most, "{cols} columns, row {row}, column {col}: {difference}");
                    exact += usize::from(most == 0.0);
                }
            }
        }
        let pruned = (0..20 * cols).filter(|at| !problem.keeps(at / cols, at % cols));
        assert!(pruned.into_iter().all(|at| problem.values[at] == 0.0));
    }
    assert!(cfg!(miri) || exact > 5_000, "{exact} weights have normal scales");
}

#[test]
fn no_other_code_of_one_weight_is_better() {
    let mut random = Random::new(12);
    for &cols in COLS {
        let given = problem(&mut random, cols, 20);
        let mut rounded = given.clone();
        rounded.round("scalar", 1).unwrap();
        let rows: Vec<_> = rounded.values.chunks(cols).collect();
        let (mut tried, mut improved) = (0, 0);
        for (row, codes) in packed(&rows).iter().enumerate() {
            let error = rounded.error_of(row, rows[row]);
            for (group, codes) in codes.chunks(GROUP).enumerate() {
                let first = group * GROUP;
                let kept: Vec<_> =
                    (first..first + codes.len()).filter(|col| given.keeps(row, *col)).collect();
                let values = || kept.iter().map(|col| rows[row][*col]);
                let (low, high) = (values().fold(0.0, f32::min), values().fold(0.0, f32::max));
                for &col in &kept {
                    let (value, scale) = codes[col - first];
                    // The ends of the range stay, so that packing finds it again.
                    if value == low || value == high {
                        continue;
                    }
                    for other in [value - scale, value + scale]
                        .into_iter()
                        .filter(|other| (low..=high).contains(other))
                    {
                        let mut changed = rows[row].to_vec();
                        changed[col] = other;
                        tried += 1;
                        improved += usize::from(rounded.error_of(row, &changed) < error * (1.0 - 1e-9));
                    }
                }
            }
        }
        // The number of passes is limited.
        assert!(improved * 100 <= tried, "{cols} columns: {improved} of {tried} changes lower the error");
    }
}

#[test]
fn output_error_is_far_below_that_of_the_nearest_codes() {
    let mut random = Random::new(13);
    let given = problem(&mut random, 192, 40);
    let mut rounded = given.clone();
    rounded.round("scalar", 1).unwrap();
    // What rounding adds to the error of the given weights, against what their nearest codes add.
    let (mut added, mut nearest) = (0.0, 0.0);
    for first in (0..given.rows()).step_by(BLOCK_ROWS) {
        let rows: Vec<_> = (first..given.rows().min(first + BLOCK_ROWS)).map(|row| given.row(row)).collect();
        for (index, packed) in packed(&rows).iter().enumerate() {
            let row = first + index;
            let value =
                |(col, (value, _)): (usize, &(f32, f32))| if given.keeps(row, col) { *value } else { 0.0 };
            let values: Vec<f32> = packed.iter().enumerate().map(value).collect();
            let start = given.error_of(row, given.row(row));
            nearest += given.error_of(row, &values) - start;
            added += given.error_of(row, rounded.row(row)) - start;
        }
    }
    assert!(added < 0.5 * nearest, "{added} is added, and {nearest} by the nearest codes");
}

#[test]
fn gradient_is_that_of_the_rounded_weights() {
    let mut random = Random::new(14);
    let mut problem = problem(&mut random, 100, 8);
    problem.round("scalar", 1).unwrap();
    for row in 0..8 {
        let expected = problem.gradient_of(row, problem.row(row));
        for (col, expected) in expected.iter().enumerate() {
            assert!((problem.gradient[row * 100 + col] - expected).abs() < 1e-9, "row {row}, column {col}");
        }
    }
}

#[test]
fn every_implementation_and_number_of_threads_rounds_to_the_same_bits() {
    let mut random = Random::new(15);
    for &cols in COLS {
        let given = problem(&mut random, cols, 37);
        let mut expected = given.clone();
        expected.round("scalar", 1).unwrap();
        for name in supported() {
            for threads in [0, 1, 2, 5] {
                let mut other = given.clone();
                other.round(name, threads).unwrap();
                assert!(other.values == expected.values, "{name}, {threads} threads, {cols} columns");
            }
        }
    }
}

#[test]
fn columns_that_no_token_uses_take_the_nearest_code() {
    let mut random = Random::new(16);
    let mut problem = problem(&mut random, 64, 4);
    problem.moment.fill(0.0);
    problem.gradient.fill(0.0);
    problem.damping = 0.0;
    let given = problem.clone();
    problem.round("scalar", 1).unwrap();
    let rows: Vec<_> = given.values.chunks(64).collect();
    for (row, packed) in packed(&rows).iter().enumerate() {
        for (col, (value, scale)) in packed.iter().enumerate().filter(|(col, _)| given.keeps(row, *col)) {
            // The smallest and the largest weight go to the ends of the codes instead.
            assert!((problem.row(row)[col] - value).abs() <= *scale, "row {row}, column {col}");
        }
    }
}

#[test]
fn weights_that_int4_cannot_represent_are_named_by_their_row() {
    let mut random = Random::new(17);
    for wrong in [f32::NAN, f32::INFINITY, 70_000.0] {
        let mut problem = problem(&mut random, 40, 30);
        let row = 12;
        let col = (0..40).find(|col| problem.keeps(row, *col)).unwrap();
        problem.values[row * 40 + col] = wrong;
        assert_eq!(problem.round("scalar", 2), Err(RoundingError::Unrepresentable { row }));
    }
}

#[test]
fn arrays_of_other_lengths_are_rejected() {
    let mut random = Random::new(18);
    let given = problem(&mut random, 40, 4);
    let shorten: [fn(&mut Problem); 4] = [
        |problem| problem.values.truncate(159),
        |problem| problem.bits.truncate(19),
        |problem| problem.moment.truncate(1599),
        |problem| problem.gradient.truncate(120),
    ];
    for shorten in shorten {
        let mut problem = given.clone();
        shorten(&mut problem);
        let before = problem.values.clone();
        assert!(matches!(problem.round("scalar", 1), Err(RoundingError::Shape(_))));
        assert_eq!(problem.values, before);
    }
}
