//! The refinement of masks against that of the processor, in double precision.

use crate::support::native::{Random, mask_of};
use crate::support::{bits_of, device};
use copal_gpu::exchange::{Exchanger, Fault, Linear};
use copal_gpu::fault::DeviceFault;
use copal_native::cpu::Implementation;
use copal_native::exchange::{RowsToRefine, refine};

/// How much worse a row's error may be than on the processor, relative to it.
const TOLERANCE: f64 = 1e-4;

/// Columns of a row, and columns of a group.
const SHAPES: &[(usize, Option<usize>)] = &[
    (1, None),
    (7, None),
    (33, None),
    (200, None),
    (577, None),
    (8, Some(1)),
    (4, Some(4)),
    (100, Some(4)),
    (136, Some(8)),
    (96, Some(16)),
    (64, Some(64)),
    // More groups than threads.
    (1100, Some(4)),
];

struct Problem {
    cols: usize,
    group: Option<usize>,
    weights: Vec<f32>,
    moment: Vec<f64>,
    bits: Vec<u8>,
}

/// The mask after a refinement, and the errors before and after it.
struct Refined {
    bits: Vec<u8>,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Problem {
    /// A seeded problem of correlated inputs, one of which is always 0. `coarse` values are whole numbers, so that many
    /// candidates are equal and no sum is rounded.
    fn new(seed: u64, cols: usize, group: Option<usize>, rows: usize, coarse: bool) -> Problem {
        let mut random = Random::new(seed);
        let tokens = if coarse { 64 } else { cols.min(60) + 5 };
        let common = random.normals(tokens, 1.0);
        let mut inputs = random.normals(tokens * cols, 0.7);
        for (index, input) in inputs.iter_mut().enumerate() {
            let value = (*input + common[index / cols]) * (1 + index % cols % 3) as f32;
            *input = if index % cols == 5 { 0.0 } else { value };
        }
        let mut weights = random.normals(rows * cols, 1.0);
        if coarse {
            inputs.iter_mut().chain(&mut weights).for_each(|value| *value = value.round());
        }
        let mut moment = vec![0.0; cols * cols];
        for x in inputs.chunks(cols) {
            for (row, a) in x.iter().enumerate() {
                for (sum, b) in moment[row * cols..][..cols].iter_mut().zip(x) {
                    *sum += f64::from(*a) * f64::from(*b) / tokens as f64;
                }
            }
        }
        let size = group.unwrap_or(cols);
        // The first row keeps all weights, and the second none.
        let kept = [size, 0, size / 2, size.div_ceil(3)];
        let bits = mask_of(rows, cols, |row, col| col % size < kept[row % 4]);
        Problem { cols, group, weights, moment, bits }
    }

    fn rows(&self) -> usize {
        self.weights.len() / self.cols
    }

    fn keeps(&self, bits: &[u8], row: usize, col: usize) -> bool {
        bits[row * self.cols.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1
    }

    /// `E H` and the error of each row, for a mask.
    fn measure(&self, bits: &[u8]) -> (Vec<f64>, Vec<f64>) {
        let cols = self.cols;
        let mut gradient = vec![0.0; self.weights.len()];
        let mut errors = vec![0.0; self.rows()];
        for row in 0..self.rows() {
            let pruned: Vec<usize> = (0..cols).filter(|&col| !self.keeps(bits, row, col)).collect();
            let weight = |col: usize| f64::from(self.weights[row * cols + col]);
            for &col in &pruned {
                for (sum, moment) in gradient[row * cols..][..cols].iter_mut().zip(&self.moment[col * cols..])
                {
                    *sum += weight(col) * moment;
                }
            }
            errors[row] = pruned.iter().map(|&col| weight(col) * gradient[row * cols + col]).sum();
        }
        (gradient, errors)
    }

    fn floor(&self, errors: &[f64]) -> f64 {
        1e-9 * errors.iter().sum::<f64>() / self.rows() as f64
    }

    fn on_processor(&self) -> Refined {
        let mut bits = self.bits.clone();
        let (gradient, before) = self.measure(&bits);
        let mut errors = before.clone();
        let rows = RowsToRefine {
            cols: self.cols,
            group: self.group,
            weights: &self.weights,
            moment: &self.moment,
            bits: &mut bits,
            gradient: &gradient,
            errors: &mut errors,
        };
        refine(Implementation::select(None).unwrap(), rows, self.floor(&before)).unwrap();
        let after = self.measure(&bits).1;
        Refined { bits, before, after }
    }

    fn begin(&self, exchanger: &mut Exchanger) -> Result<Linear, Fault> {
        let diagonal: Vec<f64> = self.moment.iter().step_by(self.cols + 1).copied().collect();
        exchanger.begin(&diagonal, self.group)
    }

    /// Refines with so many rows of W in a piece, and of H in a call.
    fn on_device(&self, exchanger: &mut Exchanger, piece_rows: usize, moment_rows: usize) -> Refined {
        let cols = self.cols;
        let mut linear = self.begin(exchanger).unwrap();
        for rows in self.moment.chunks(moment_rows * cols) {
            linear.add_moment(rows).unwrap();
        }
        let pieces = || {
            let bits = self.bits.chunks(piece_rows * cols.div_ceil(8));
            self.weights.chunks(piece_rows * cols).zip(bits)
        };
        let before: Vec<f64> =
            pieces().flat_map(|(weights, bits)| linear.add_rows(weights, bits).unwrap()).collect();
        let floor = self.floor(&before);
        let (mut bits, mut after) = (Vec::new(), Vec::new());
        for piece in 0..pieces().count() {
            let refined = linear.refine(piece, floor).unwrap();
            bits.extend(refined.bits);
            after.extend(refined.errors);
        }
        Refined { bits, before, after }
    }

    /// Checks that groups keep their counts, and that the errors are those of the mask.
    fn check(&self, refined: &Refined, what: &str) {
        let size = self.group.unwrap_or(self.cols);
        for row in 0..self.rows() {
            for begin in (0..self.cols).step_by(size) {
                let count =
                    |bits: &[u8]| (begin..begin + size).filter(|&col| self.keeps(bits, row, col)).count();
                assert_eq!(count(&refined.bits), count(&self.bits), "{what}, row {row}, column {begin}");
            }
        }
        let [before, after] = [&self.bits, &refined.bits].map(|bits| self.measure(bits).1);
        for (row, &size) in before.iter().enumerate() {
            for (found, exact) in [(refined.before[row], size), (refined.after[row], after[row])] {
                // Sums of f32 lose most where exchanges leave little of an error.
                assert!(
                    (found - exact).abs() <= 1e-5 * size,
                    "{what}, row {row}: {found} for {exact} of {size}"
                );
            }
        }
    }
}

fn exchanger() -> Exchanger {
    Exchanger::open(device().as_deref()).expect("tests need a device; Debian's mesa-vulkan-drivers has one")
}

#[test]
fn no_row_is_worse_than_on_the_processor_and_none_rises() {
    let mut exchanger = exchanger();
    let (mut worst, mut changed, mut equal, mut rows) = (0f64, 0, 0, 0);
    for &(cols, group) in SHAPES {
        for seed in 0..2 {
            let problem = Problem::new(10 * cols as u64 + seed, cols, group, 13, false);
            let what = format!("{cols} columns, group {group:?}, seed {seed}");
            let expected = problem.on_processor();
            let found = problem.on_device(&mut exchanger, 13, cols);
            problem.check(&found, &what);
            let exact = problem.measure(&found.bits).1;
            for (row, (exact, expected_error)) in exact.iter().zip(&expected.after).enumerate() {
                worst = worst.max(if *expected_error > 0.0 { exact / expected_error - 1.0 } else { *exact });
                assert!(
                    *exact <= expected_error * (1.0 + TOLERANCE),
                    "{what}, row {row}: {exact} for {expected_error}"
                );
                assert!(*exact <= expected.before[row], "{what}, row {row} rises to {exact}");
            }
            changed += usize::from(found.bits != problem.bits);
            let bytes = cols.div_ceil(8);
            rows += problem.rows();
            equal +=
                found.bits.chunks(bytes).zip(expected.bits.chunks(bytes)).filter(|(a, b)| a == b).count();
        }
    }
    println!(
        "{equal} of {rows} rows have the processor's mask; the worst error is {worst:e} above the processor's"
    );
    assert!(changed > SHAPES.len(), "{changed} problems had an exchange to make");
}

#[test]
fn equal_candidates_go_to_the_lowest_column_as_on_the_processor() {
    let mut exchanger = exchanger();
    let mut changed = 0;
    for &(cols, group) in SHAPES {
        let problem = Problem::new(cols as u64, cols, group, 9, true);
        let found = problem.on_device(&mut exchanger, 9, cols);
        assert_eq!(found.bits, problem.on_processor().bits, "{cols} columns, group {group:?}");
        changed += usize::from(found.bits != problem.bits);
    }
    assert!(changed > SHAPES.len() / 2, "{changed} problems had an exchange to make");
}

#[test]
fn results_repeat_to_the_bit_for_any_size_of_the_pieces_and_of_the_buffers() {
    let mut whole = exchanger();
    for (cols, group) in [(200, None), (100, Some(4))] {
        let problem = Problem::new(3, cols, group, 70, false);
        let expected = problem.on_device(&mut whole, 70, cols);
        let rows_of_buffer = (cols as u64).div_ceil(4);
        let mut split = exchanger().with_part_bytes(4 * cols as u64 * rows_of_buffer + 3);
        let sizes = [(false, 70, cols), (false, 1, 1), (false, 7, 33), (true, 64, 7), (true, 70, cols)];
        // By CUDA, H lies in one buffer.
        let can_split = whole.gpu().description().api != "cuda";
        for (is_split, piece_rows, moment_rows) in sizes {
            let exchanger = if is_split && can_split { &mut split } else { &mut whole };
            let found = problem.on_device(exchanger, piece_rows, moment_rows);
            assert_eq!(found.bits, expected.bits, "pieces of {piece_rows}");
            assert_eq!(bits_of(&found.before), bits_of(&expected.before), "pieces of {piece_rows}");
            assert_eq!(bits_of(&found.after), bits_of(&expected.after), "pieces of {piece_rows}");
        }
    }
}

#[test]
fn an_exchange_must_gain_more_than_the_floor() {
    let mut exchanger = exchanger();
    let problem = Problem::new(4, 60, None, 8, false);
    let mut changed_bits = |floor| {
        let mut linear = problem.begin(&mut exchanger).unwrap();
        linear.add_moment(&problem.moment).unwrap();
        linear.add_rows(&problem.weights, &problem.bits).unwrap();
        let bits = linear.refine(0, floor).unwrap().bits;
        bits.iter().zip(&problem.bits).map(|(now, before)| (now ^ before).count_ones()).sum::<u32>()
    };
    assert_eq!(changed_bits(f64::INFINITY), 0);
    let (all, some) = (changed_bits(0.0), changed_bits(8.0));
    assert!(0 < some && some < all, "{some} of {all} bits");
}

#[test]
fn values_of_any_size_are_refined_alike() {
    let mut exchanger = exchanger();
    let problem = Problem::new(8, 60, None, 8, false);
    let expected = problem.on_device(&mut exchanger, 8, 60);
    for (weight, moment) in [(2f32.powi(60), 2f64.powi(-200)), (2f32.powi(-60), 2f64.powi(300))] {
        let sized = Problem {
            weights: problem.weights.iter().map(|value| value * weight).collect(),
            moment: problem.moment.iter().map(|value| value * moment).collect(),
            bits: problem.bits.clone(),
            ..problem
        };
        let found = sized.on_device(&mut exchanger, 8, 60);
        assert_eq!(found.bits, expected.bits);
        let factor = f64::from(weight) * f64::from(weight) * moment;
        let scaled: Vec<f64> = expected.after.iter().map(|error| error * factor).collect();
        assert_eq!(bits_of(&found.after), bits_of(&scaled));
    }
}

#[test]
fn values_that_are_not_finite_and_arrays_that_do_not_fit_are_rejected_by_name() {
    let (mut exchanger, mut other) = (exchanger(), exchanger());
    let problem = Problem::new(1, 12, Some(4), 2, false);
    let reason = |fault: Fault| match fault {
        Fault::Invalid(reason) => reason,
        Fault::Device(fault) => panic!("{fault}"),
    };
    let mut begin = |diagonal: &[f64], group| reason(other.begin(diagonal, group).err().unwrap());
    assert!(begin(&[], None).starts_with("diagonal has 0 values"));
    assert!(begin(&vec![1.0; 32_769], None).contains("the kernels take 1 to 32768"));
    assert!(begin(&[1.0; 12], Some(5)).contains("group has 5 columns; it must divide the row's 12"));
    assert!(begin(&[1.0; 12], Some(0)).starts_with("group has 0"));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(begin(&[1.0, value], None), "diagonal has a value that is not finite");
        let mut linear = problem.begin(&mut exchanger).unwrap();
        let mut moment = problem.moment.clone();
        moment[77] = value;
        assert_eq!(reason(linear.add_moment(&moment).unwrap_err()), "moment has a value that is not finite");
        linear.add_moment(&problem.moment).unwrap();
        let mut weights = problem.weights.clone();
        weights[13] = value as f32;
        let fault = linear.add_rows(&weights, &problem.bits).unwrap_err();
        assert_eq!(reason(fault), "weights has a value that is not finite");
    }
    let mut linear = problem.begin(&mut exchanger).unwrap();
    assert!(reason(linear.add_moment(&[0.0; 13]).unwrap_err()).contains("must be rows of 12"));
    linear.add_moment(&problem.moment[..60]).unwrap();
    let fault = linear.add_rows(&problem.weights, &problem.bits).unwrap_err();
    assert_eq!(reason(fault), "moment has 5 rows; it has the shape [12, 12]");
    assert!(reason(linear.add_moment(&problem.moment).unwrap_err()).starts_with("moment has 17 rows"));
    linear.add_moment(&problem.moment[60..]).unwrap();
    assert!(reason(linear.add_rows(&[], &[]).unwrap_err()).starts_with("weights has 0 values"));
    let fault = linear.add_rows(&problem.weights, &[0; 3]).unwrap_err();
    assert_eq!(reason(fault), "bits has 3 bytes; the mask of 2 rows has 4");
    linear.add_rows(&problem.weights, &problem.bits).unwrap();
    assert_eq!(reason(linear.refine(0, f64::NAN).unwrap_err()), "floor must be a number");
    linear.refine(0, 0.0).unwrap();
    for piece in [0, 1] {
        assert_eq!(
            reason(linear.refine(piece, 0.0).unwrap_err()),
            format!("there is no piece {piece} to refine")
        );
    }
}

#[test]
fn too_small_buffers_and_a_lost_device_are_faults_of_the_device() {
    let problem = Problem::new(1, 40, None, 4, false);
    let mut small = exchanger().with_part_bytes(40 * 4 * 9);
    match problem.begin(&mut small).err() {
        Some(Fault::Device(DeviceFault::OutOfMemory(what))) => assert!(what.contains("40 columns"), "{what}"),
        other => panic!("{other:?}"),
    }
    let mut lost = exchanger();
    let mut linear = problem.begin(&mut lost).unwrap();
    linear.add_moment(&problem.moment).unwrap();
    linear.add_rows(&problem.weights, &problem.bits).unwrap();
    lost.gpu().lose();
    for fault in [linear.refine(0, 0.0).err(), problem.begin(&mut lost).err()] {
        assert!(matches!(fault, Some(Fault::Device(DeviceFault::Lost(_)))), "{fault:?}");
    }
}
