//! Tests the refinement of masks with every implementation against a plain search that follows the
//! definition.

use crate::support::{Random, mask_of};
use copal_native::cpu::Implementation;
use copal_native::exchange::{RowsToRefine, refine};

/// Columns of a row, and columns of a group.
const SHAPES: &[(usize, Option<usize>)] = if cfg!(miri) {
    &[(37, None), (24, Some(4))]
} else {
    &[
        (1, None),
        (7, None),
        (16, None),
        (33, None),
        (200, None),
        (8, Some(1)),
        (4, Some(4)),
        (36, Some(4)),
        (100, Some(4)),
        (72, Some(8)),
        (136, Some(8)),
        (96, Some(16)),
        (64, Some(64)),
    ]
};

struct Problem {
    cols: usize,
    group: Option<usize>,
    weights: Vec<f32>,
    moment: Vec<f64>,
    bits: Vec<u8>,
    gradient: Vec<f64>,
    errors: Vec<f64>,
}

impl Problem {
    fn rows(&mut self) -> RowsToRefine<'_> {
        RowsToRefine {
            cols: self.cols,
            group: self.group,
            weights: &self.weights,
            moment: &self.moment,
            bits: &mut self.bits,
            gradient: &self.gradient,
            errors: &mut self.errors,
        }
    }

    fn keeps(&self, row: usize, col: usize) -> bool {
        self.bits[row * self.cols.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1
    }
}

/// Creates a seeded problem. With `coarse` values, many candidates are equal.
fn problem(random: &mut Random, cols: usize, group: Option<usize>, rows: usize, coarse: bool) -> Problem {
    let round = |value: f32| if coarse { value.round() } else { value };
    let tokens = cols + 5;
    let inputs: Vec<f64> =
        random.normals(tokens * cols, 1.0).into_iter().map(|x| f64::from(round(x))).collect();
    let mut moment = vec![0.0; cols * cols];
    for x in inputs.chunks(cols) {
        for a in 0..cols {
            for b in 0..cols {
                moment[a * cols + b] += x[a] * x[b] / tokens as f64;
            }
        }
    }
    let weights: Vec<f32> = random.normals(rows * cols, 1.0).into_iter().map(round).collect();
    let size = group.unwrap_or(cols);
    // Every group of a row keeps the same number of weights: all of them in the first row, and none in the
    // second.
    let kept = [size, 0, size / 2, size.div_ceil(3)];
    let bits = mask_of(rows, cols, |row, col| col % size < kept[row % 4]);
    let mut problem = Problem {
        cols,
        group,
        weights,
        moment,
        bits,
        gradient: vec![0.0; rows * cols],
        errors: vec![0.0; rows],
    };
    for row in 0..rows {
        for a in (0..cols).filter(|&a| !problem.keeps(row, a)).collect::<Vec<_>>() {
            let weight = f64::from(problem.weights[row * cols + a]);
            for b in 0..cols {
                problem.gradient[row * cols + b] += weight * problem.moment[a * cols + b];
            }
        }
        for a in (0..cols).filter(|&a| !problem.keeps(row, a)).collect::<Vec<_>>() {
            problem.errors[row] +=
                f64::from(problem.weights[row * cols + a]) * problem.gradient[row * cols + a];
        }
    }
    problem
}

/// Refines by comparing one candidate after another, with sums associated as in the reference.
fn refine_by_plain_search(problem: &mut Problem, floor: f64) {
    let cols = problem.cols;
    let size = problem.group.unwrap_or(cols);
    for row in 0..problem.errors.len() {
        let w: Vec<f64> = problem.weights[row * cols..][..cols].iter().map(|&w| f64::from(w)).collect();
        let mut g = problem.gradient[row * cols..][..cols].to_vec();
        for _ in 0..50 {
            let h = |a: usize, b: usize| problem.moment[a * cols + b];
            let mut best = (f64::INFINITY, 0, 0);
            for begin in (0..cols).step_by(size) {
                let places = || begin..begin + size;
                let cost = |p: usize| w[p] * w[p] * h(p, p) + 2.0 * w[p] * g[p];
                let Some(p) = first_least(places().filter(|&p| problem.keeps(row, p)), cost) else {
                    continue;
                };
                let coupling = if problem.group.is_none() { w[p] } else { 0.0 };
                let gain = |q: usize| w[q] * w[q] * h(q, q) - 2.0 * w[q] * (g[q] + coupling * h(p, q));
                let Some(q) = first_least(places().filter(|&q| !problem.keeps(row, q)), gain) else {
                    continue;
                };
                let change = cost(p) + gain(q) - 2.0 * w[q] * ((w[p] - coupling) * h(p, q));
                if change < best.0 {
                    best = (change, p, q);
                }
            }
            let (change, p, q) = best;
            if change >= -floor {
                break;
            }
            for (col, g) in g.iter_mut().enumerate() {
                *g += w[p] * h(p, col) - w[q] * h(q, col);
            }
            let bits = &mut problem.bits[row * cols.div_ceil(8)..];
            bits[p / 8] ^= 1 << (p % 8);
            bits[q / 8] ^= 1 << (q % 8);
            problem.errors[row] += change;
        }
    }
}

fn first_least(places: impl Iterator<Item = usize>, value: impl Fn(usize) -> f64) -> Option<usize> {
    let mut best = None;
    for place in places {
        if value(place) < best.map_or(f64::INFINITY, &value) {
            best = Some(place);
        }
    }
    best
}

#[test]
fn every_implementation_makes_the_exchanges_of_a_plain_search_to_the_bit() {
    let mut changed = 0;
    for &(cols, group) in SHAPES {
        for coarse in [false, true] {
            let seed = 2 * cols as u64 + u64::from(coarse);
            let new_problem = || problem(&mut Random::new(seed), cols, group, 9, coarse);
            let mut expected = new_problem();
            refine_by_plain_search(&mut expected, 1e-9);
            changed += usize::from(expected.bits != new_problem().bits);
            for implementation in Implementation::supported() {
                let mut found = new_problem();
                refine(implementation, found.rows(), 1e-9).unwrap();
                let what = format!(
                    "{}: {cols} columns, group {group:?}, coarse {coarse}, seed {seed}",
                    implementation.name()
                );
                assert_eq!(found.bits, expected.bits, "{what}");
                let bits = |errors: &[f64]| errors.iter().map(|error| error.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found.errors), bits(&expected.errors), "{what}");
            }
        }
    }
    assert!(changed > SHAPES.len(), "{changed} problems had an exchange to make");
}

#[test]
fn arrays_of_other_shapes_are_rejected_by_name() {
    let implementation = Implementation::select(None).unwrap();
    let mut random = Random::new(6);
    let mut valid_problem = || problem(&mut random, 12, Some(4), 2, false);
    let rejection =
        |mut problem: Problem| refine(implementation, problem.rows(), 0.0).unwrap_err().to_string();
    refine(implementation, valid_problem().rows(), 0.0).unwrap();
    assert!(
        rejection(Problem { group: Some(5), ..valid_problem() })
            .contains("group has 5 columns; it must divide the row's 12")
    );
    assert!(rejection(Problem { group: Some(0), ..valid_problem() }).starts_with("group"));
    assert!(
        rejection(Problem { weights: vec![0.0; 23], ..valid_problem() })
            .contains("weights has 23 values; with 2 rows")
    );
    assert!(rejection(Problem { moment: vec![0.0; 143], ..valid_problem() }).contains("shape [12, 12]"));
    assert!(rejection(Problem { bits: vec![0; 5], ..valid_problem() }).starts_with("bits has 5"));
    assert!(rejection(Problem { gradient: vec![0.0; 25], ..valid_problem() }).starts_with("gradient has 25"));
}
