//! Calibrations of a block against those in double precision.

use crate::support::random::Random;
use crate::support::{bits, open};
use copal_gpu::calibration::{CalibrationOptions, Calibrator, Fault, Limits};
use copal_gpu::engine::ModelConfig;
use copal_gpu::fault::DeviceFault;

/// A block with random weights, and inputs for it.
struct Block {
    config: ModelConfig,
    linears: Vec<Vec<f32>>,
    norms: [Vec<f32>; 2],
}

/// What a calibration computes, or the oracle.
struct Found<T> {
    output: Vec<T>,
    moments: Vec<Vec<T>>,
    sensitivities: Vec<Vec<T>>,
}

const INPUTS: [usize; 7] = [0, 0, 0, 1, 2, 2, 3];

fn block(heads: usize, kv_heads: usize, head_dim: usize, hidden: usize, intermediate: usize) -> Block {
    let rope = (0..head_dim / 2).map(|pair| 100f64.powf(-2.0 * pair as f64 / head_dim as f64)).collect();
    let config = ModelConfig {
        hidden,
        layers: 1,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        vocab: 1,
        context: 4096,
        eps: 1e-5,
        rope,
    };
    let mut random = Random::new((heads * head_dim) as u64);
    let shapes = config.linear_shapes();
    let linears = shapes.iter().map(|&(rows, cols)| random.normals(rows * cols, 1.0 / (cols as f32).sqrt()));
    let linears = linears.collect();
    let norms = [1, 2].map(|_| random.normals(hidden, 0.3).iter().map(|value| 1.0 + value).collect());
    Block { config, linears, norms }
}

impl Block {
    /// Hidden states of which one in five columns is large.
    fn hidden(&self, seed: u64, tokens: usize) -> Vec<f32> {
        let mut hidden = Random::new(seed).normals(tokens * self.config.hidden, 1.0);
        hidden.iter_mut().step_by(5).for_each(|value| *value *= 10.0);
        hidden
    }

    fn options(&self, tokens: usize) -> CalibrationOptions {
        CalibrationOptions { tokens, length: tokens, sensitivities: true }
    }

    fn calibrator(&self, tokens: usize, change: impl Fn(&mut Limits)) -> Calibrator {
        let gpu = open();
        let mut limits = Limits::new(&gpu, &self.config);
        change(&mut limits);
        let mut calibrator = Calibrator::new(gpu, self.config.clone(), self.options(tokens), limits).unwrap();
        self.write(&mut calibrator);
        calibrator
    }

    fn write(&self, calibrator: &mut Calibrator) {
        for (linear, (weights, (rows, cols))) in
            self.linears.iter().zip(self.config.linear_shapes()).enumerate()
        {
            // In two pieces.
            let first = rows / 2;
            calibrator.write_linear(linear, 0, &weights[..first.max(1) * cols]).unwrap();
            calibrator.write_linear(linear, first, &weights[first * cols..]).unwrap();
        }
        for (norm, values) in self.norms.iter().enumerate() {
            calibrator.write_norm(norm, values).unwrap();
        }
    }

    /// Runs chunks of sequences, and reads everything.
    fn calibrate(&self, calibrator: &mut Calibrator, chunks: &[(Vec<f32>, Vec<usize>)]) -> Found<f32> {
        calibrator.clear().unwrap();
        let output = chunks.iter().flat_map(|(hidden, lengths)| run(calibrator, hidden, lengths)).collect();
        let sizes = self.sizes();
        let moment = |input: usize| {
            // In two pieces.
            let middle = sizes[input].div_ceil(2);
            let mut values = calibrator.read_moment(input, 0..middle).unwrap();
            if middle < sizes[input] {
                values.extend(calibrator.read_moment(input, middle..sizes[input]).unwrap());
            }
            values
        };
        let shapes = self.config.linear_shapes();
        Found {
            output,
            moments: (0..4).map(moment).collect(),
            sensitivities: (0..7)
                .map(|linear| calibrator.read_sensitivity(linear, 0..shapes[linear].0).unwrap())
                .collect(),
        }
    }

    fn sizes(&self) -> [usize; 4] {
        let shapes = self.config.linear_shapes();
        [shapes[0].1, shapes[3].1, shapes[4].1, shapes[6].1]
    }

    fn product(&self, linear: usize, x: &[f64]) -> Vec<f64> {
        let cols = self.config.linear_shapes()[linear].1;
        let rows = self.linears[linear].chunks(cols);
        let row = |row: &[f32]| -> f64 { row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum() };
        rows.map(row).collect()
    }

    fn norm(&self, norm: usize, x: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (square + f64::from(self.config.eps)).sqrt();
        x.iter().zip(&self.norms[norm]).map(|(x, &gamma)| x * scale * f64::from(gamma)).collect()
    }

    fn rotated(&self, position: usize, state: &[f64]) -> Vec<f64> {
        let ModelConfig { head_dim, rope, .. } = &self.config;
        let half = head_dim / 2;
        let mut out = state.to_vec();
        for head in 0..state.len() / head_dim {
            for (pair, frequency) in rope.iter().enumerate() {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                let (low, high) = (head * head_dim + pair, head * head_dim + pair + half);
                out[low] = state[low] * cosine - state[high] * sine;
                out[high] = state[high] * cosine + state[low] * sine;
            }
        }
        out
    }

    /// The same by double precision.
    fn exact(&self, chunks: &[(Vec<f32>, Vec<usize>)]) -> Found<f64> {
        let ModelConfig { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let sizes = self.sizes();
        let shapes = self.config.linear_shapes();
        let mut found = Found {
            output: Vec::new(),
            moments: sizes.iter().map(|&size| vec![0.0; size * (size + 1) / 2]).collect(),
            sensitivities: shapes.iter().map(|&(rows, cols)| vec![0.0; rows * cols]).collect(),
        };
        let sequences = chunks.iter().flat_map(|(states, lengths)| {
            let mut rest = &states[..];
            lengths.iter().map(move |&length| {
                let (own, later) = rest.split_at(length * hidden);
                rest = later;
                own.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>()
            })
        });
        for sequence in sequences {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in sequence.chunks(hidden).enumerate() {
                let mut inputs = vec![self.norm(0, x)];
                let mut outputs: Vec<_> = (0..3).map(|linear| self.product(linear, &inputs[0])).collect();
                let query = self.rotated(position, &outputs[0]);
                keys.push(self.rotated(position, &outputs[1]));
                values.push(outputs[2].clone());
                let mut attended = Vec::new();
                for head in 0..heads {
                    let at = head / (heads / kv_heads) * head_dim;
                    let score = |key: &Vec<f64>| -> f64 {
                        let terms = (0..head_dim).map(|dim| query[head * head_dim + dim] * key[at + dim]);
                        terms.sum::<f64>() / (head_dim as f64).sqrt()
                    };
                    let scores: Vec<f64> = keys.iter().map(score).collect();
                    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    attended.extend((0..head_dim).map(|dim| {
                        let terms =
                            weights.iter().zip(&values).map(|(weight, value)| weight * value[at + dim]);
                        terms.sum::<f64>() / total
                    }));
                }
                inputs.push(attended);
                outputs.push(self.product(3, &inputs[1]));
                let middle: Vec<f64> = x.iter().zip(&outputs[3]).map(|(x, y)| x + y).collect();
                inputs.push(self.norm(1, &middle));
                outputs.extend((4..6).map(|linear| self.product(linear, &inputs[2])));
                let silu = |(gate, up): (&f64, &f64)| gate / (1.0 + (-gate).exp()) * up;
                inputs.push(outputs[4].iter().zip(&outputs[5]).map(silu).collect());
                outputs.push(self.product(6, &inputs[3]));
                found.output.extend(middle.iter().zip(&outputs[6]).map(|(x, y)| x + y));
                for (moment, x) in found.moments.iter_mut().zip(&inputs) {
                    let pairs = (0..x.len()).flat_map(|a| x[a..].iter().map(move |b| x[a] * b));
                    moment.iter_mut().zip(pairs).for_each(|(sum, term)| *sum += term);
                }
                for (linear, sums) in found.sensitivities.iter_mut().enumerate() {
                    let x = &inputs[INPUTS[linear]];
                    let pairs = outputs[linear].iter().flat_map(|y| x.iter().map(move |x| (y * x).abs()));
                    sums.iter_mut().zip(pairs).for_each(|(sum, term)| *sum += term);
                }
            }
        }
        found
    }
}

fn run(calibrator: &mut Calibrator, hidden: &[f32], lengths: &[usize]) -> Vec<f32> {
    let pieces = calibrator.begin(hidden, lengths).unwrap();
    (0..pieces).for_each(|piece| calibrator.run(piece).unwrap());
    calibrator.read_stream(0..lengths.iter().sum()).unwrap()
}

/// The largest error, relative to the largest number.
fn error(found: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let largest = exact.iter().fold(0f64, |most, value| most.max(value.abs()));
    let errors = found.iter().zip(exact).map(|(&found, exact)| (f64::from(found) - exact).abs());
    // `max` would ignore NaN.
    errors.fold(0.0, |most, error| if error <= most { most } else { error }) / largest
}

fn assert_close(found: &Found<f32>, exact: &Found<f64>, what: &str) {
    let named = |name: &str, found: &[Vec<f32>], exact: &[Vec<f64>]| {
        for (index, (found, exact)) in found.iter().zip(exact).enumerate() {
            let error = error(found, exact);
            assert!(error < 3e-6, "{what}: {name} {index} is off by {error:e}");
        }
    };
    named("output", std::slice::from_ref(&found.output), std::slice::from_ref(&exact.output));
    named("moment", &found.moments, &exact.moments);
    named("sensitivity", &found.sensitivities, &exact.sensitivities);
}

fn all_bits(found: &Found<f32>) -> Vec<Vec<u32>> {
    let outputs = std::slice::from_ref(&found.output);
    [outputs, &found.moments, &found.sensitivities].concat().iter().map(|values| bits(values)).collect()
}

/// Chunks of sequences of these lengths.
fn chunks(block: &Block, lengths: &[&[usize]]) -> Vec<(Vec<f32>, Vec<usize>)> {
    let chunk = |(seed, lengths): (usize, &&[usize])| {
        (block.hidden(seed as u64, lengths.iter().sum()), lengths.to_vec())
    };
    lengths.iter().enumerate().map(chunk).collect()
}

#[test]
fn blocks_of_many_shapes_equal_the_oracles_over_chunks_of_sequences() {
    let blocks = [
        block(6, 2, 16, 48, 72),
        block(4, 4, 6, 65, 130),
        block(3, 1, 64, 64, 64),
        block(2, 1, 130, 30, 100),
        block(1, 1, 2, 1, 1),
    ];
    for (index, block) in blocks.iter().enumerate() {
        let chunks = chunks(block, &[&[70, 1, 9, 129], &[1], &[64, 64], &[64, 64]]);
        let mut calibrator = block.calibrator(209, |_| {});
        let found = block.calibrate(&mut calibrator, &chunks);
        assert_close(&found, &block.exact(&chunks), &format!("block {index}"));
        // A second calibration starts from zero, and repeats to the bit.
        assert_eq!(all_bits(&block.calibrate(&mut calibrator, &chunks)), all_bits(&found));
    }
}

#[test]
fn small_buffers_and_small_pieces_change_no_bit() {
    let block = block(6, 2, 16, 200, 300);
    let chunks = chunks(&block, &[&[100, 30, 70], &[50]]);
    let mut whole = block.calibrator(200, |_| {});
    let found = block.calibrate(&mut whole, &chunks);
    assert_close(&found, &block.exact(&chunks), "whole");
    assert_eq!(whole.begin(&chunks[0].0, &chunks[0].1).unwrap(), 1);
    // Matrices in parts of 64 rows, and one row of tiles in a piece.
    let mut split = block.calibrator(200, |limits| {
        limits.buffer_bytes = 4 * 64 * 300;
        limits.piece_products = 1 << 20;
    });
    assert_eq!(all_bits(&block.calibrate(&mut split, &chunks)), all_bits(&found));
    assert!(split.begin(&chunks[0].0, &chunks[0].1).unwrap() > 50);
    assert_eq!(whole.memory().sums, split.memory().sums);
}

#[test]
fn a_long_sequence_passes_through_the_linears_in_slices() {
    let block = block(2, 1, 16, 40, 60);
    let chunks = chunks(&block, &[&[600], &[300, 300]]);
    let mut whole = block.calibrator(600, |_| {});
    let mut sliced = block.calibrator(600, |limits| limits.slice_tokens = 256);
    let (found, in_slices) = (block.calibrate(&mut whole, &chunks), block.calibrate(&mut sliced, &chunks));
    assert_eq!(bits(&in_slices.output), bits(&found.output));
    assert_close(&in_slices, &block.exact(&chunks), "slices");
    assert!(sliced.memory().activations < whole.memory().activations);
}

#[test]
fn scores_whose_exponentials_overflow_are_weighed() {
    let mut block = block(6, 2, 16, 48, 72);
    block.linears[0].iter_mut().for_each(|weight| *weight *= 400.0);
    let chunks = chunks(&block, &[&[150]]);
    let mut calibrator = block.calibrator(150, |_| {});
    // A score of a thousand is rounded to some 10⁻⁴.
    assert!(error(&block.calibrate(&mut calibrator, &chunks).output, &block.exact(&chunks).output) < 1e-3);
}

#[test]
fn sequences_do_not_depend_on_those_beside_them() {
    let block = block(6, 2, 16, 48, 72);
    let mut calibrator = block.calibrator(200, |_| {});
    let hidden = block.hidden(7, 190);
    let together = run(&mut calibrator, &hidden, &[100, 3, 87]);
    let mut alone = Vec::new();
    for (first, length) in [(0, 100), (100, 3), (103, 87)] {
        alone.extend(run(&mut calibrator, &hidden[48 * first..48 * (first + length)], &[length]));
    }
    assert_eq!(bits(&together), bits(&alone));
}

#[test]
fn values_that_are_not_finite_show_in_the_tokens_that_see_them_and_in_the_moments_of_their_inputs() {
    let block = block(6, 2, 16, 48, 72);
    let mut calibrator = block.calibrator(200, |limits| limits.slice_tokens = 64);
    let hidden = block.hidden(7, 190);
    let expected = run(&mut calibrator, &hidden, &[100, 90]);
    let row = |values: &[f32], token: usize| values[48 * token..48 * (token + 1)].to_vec();
    // In the first and a later slice, and at the end.
    for (token, value, end) in [(29, f32::NAN, 100), (99, f32::INFINITY, 100), (189, f32::NAN, 190)] {
        let mut damaged = hidden.clone();
        damaged[48 * token + 5] = value;
        calibrator.clear().unwrap();
        let found = run(&mut calibrator, &damaged, &[100, 90]);
        for other in 0..190 {
            if (token..end).contains(&other) {
                assert!(row(&found, other).iter().any(|value| !value.is_finite()), "token {other}");
            } else {
                assert_eq!(bits(&row(&found, other)), bits(&row(&expected, other)), "token {other}");
            }
        }
        for (input, size) in block.sizes().into_iter().enumerate() {
            assert!(calibrator.read_moment(input, 0..size).unwrap().iter().all(|value| value.is_nan()));
        }
    }
    // The product of gate and up overflows: the inputs before it are finite.
    let mut huge =
        Block { config: block.config.clone(), linears: block.linears.clone(), norms: block.norms.clone() };
    (4..6).for_each(|linear| huge.linears[linear].iter_mut().for_each(|weight| *weight *= 1e25));
    huge.write(&mut calibrator);
    calibrator.clear().unwrap();
    run(&mut calibrator, &hidden, &[100, 90]);
    let finite = |input: usize| calibrator.read_moment(input, 0..1).unwrap()[0].is_finite();
    assert_eq!([0, 1, 2, 3].map(finite), [true, true, true, false]);
    // Cleared, it is forgotten.
    block.write(&mut calibrator);
    calibrator.clear().unwrap();
    run(&mut calibrator, &hidden, &[100, 90]);
    assert!(calibrator.read_moment(3, 0..72).unwrap().iter().all(|value| value.is_finite()));
}

#[test]
fn arguments_that_do_not_fit_too_small_buffers_and_a_lost_device_are_faults() {
    let block = block(2, 1, 16, 40, 60);
    let mut calibrator = block.calibrator(20, |_| {});
    let reason = |fault: Fault| match fault {
        Fault::Invalid(reason) => reason,
        Fault::Device(fault) => panic!("{fault}"),
    };
    assert!(reason(calibrator.write_linear(7, 0, &[0.0]).unwrap_err()).contains("no linear 7"));
    assert!(reason(calibrator.write_linear(0, 0, &[0.0; 41]).unwrap_err()).contains("41 values"));
    assert!(reason(calibrator.write_linear(0, 32, &[0.0; 40]).unwrap_err()).contains("32 rows"));
    assert!(reason(calibrator.write_norm(2, &[0.0; 40]).unwrap_err()).contains("no norm 2"));
    assert!(reason(calibrator.write_norm(0, &[0.0; 39]).unwrap_err()).contains("39 values"));
    for lengths in [&[][..], &[0], &[21]] {
        assert!(reason(calibrator.begin(&[0.0; 40], lengths).unwrap_err()).contains("1 to 20 tokens"));
    }
    assert!(reason(calibrator.begin(&[0.0; 40], &[2]).unwrap_err()).contains("2 tokens"));
    assert!(reason(calibrator.begin(&[0.0; 40 * 21], &[20, 1]).unwrap_err()).contains("20 at most"));
    assert!(reason(calibrator.run(0).unwrap_err()).contains("not the next one"));
    assert_eq!(calibrator.begin(&[1.0; 40], &[1]).unwrap(), 1);
    assert!(reason(calibrator.run(1).unwrap_err()).contains("not the next one"));
    calibrator.run(0).unwrap();
    for piece in [0, 1] {
        assert!(reason(calibrator.run(piece).unwrap_err()).contains("not the next one"));
    }
    assert!(reason(calibrator.read_moment(4, 0..1).unwrap_err()).contains("no input 4"));
    assert!(reason(calibrator.read_moment(0, 1..1).unwrap_err()).contains("40 rows"));
    assert!(reason(calibrator.read_moment(0, 39..41).unwrap_err()).contains("40 rows"));
    assert!(reason(calibrator.read_sensitivity(7, 0..1).unwrap_err()).contains("no sensitivity 7"));
    let new = |config: &ModelConfig, change: &dyn Fn(&mut Limits)| {
        let gpu = open();
        let mut limits = Limits::new(&gpu, config);
        change(&mut limits);
        Calibrator::new(gpu, config.clone(), block.options(20), limits).err().unwrap()
    };
    match new(&block.config, &|limits| limits.buffer_bytes = 4 * 63 * 60) {
        Fault::Device(DeviceFault::OutOfMemory(what)) => assert!(what.contains("60 columns"), "{what}"),
        other => panic!("{other:?}"),
    }
    let wide = ModelConfig { head_dim: 258, rope: vec![1.0; 129], ..block.config.clone() };
    assert!(matches!(new(&wide, &|_| {}), Fault::Device(DeviceFault::Unavailable(_))));
    let odd = ModelConfig { heads: 3, kv_heads: 2, ..block.config.clone() };
    assert!(matches!(new(&odd, &|_| {}), Fault::Invalid(_)));
    let lost = |fault: Option<Fault>| {
        assert!(matches!(fault, Some(Fault::Device(DeviceFault::Lost(_)))), "{fault:?}");
    };
    calibrator.begin(&[1.0; 40], &[1]).unwrap();
    calibrator.gpu().lose();
    lost(calibrator.run(0).err());
    lost(calibrator.begin(&[1.0; 40], &[1]).err());
    lost(calibrator.clear().err());
    lost(calibrator.write_norm(0, &[0.0; 40]).err());
    lost(calibrator.read_stream(0..1).err());
    lost(calibrator.read_moment(0, 0..1).err());
}
