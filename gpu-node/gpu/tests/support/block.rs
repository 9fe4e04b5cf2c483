//! A block with random weights, and its calibration in double precision.

use super::native::Random;
use super::open;
use copal_gpu::calibration::{CalibrationOptions, Calibrator, Limits};
use copal_gpu::engine::ModelConfig;

/// A block with random weights, and inputs for it.
pub struct Block {
    pub config: ModelConfig,
    pub linears: Vec<Vec<f32>>,
    pub norms: [Vec<f32>; 2],
}

/// The results of a calibration, on a device or by the reference.
pub struct Found<T> {
    pub output: Vec<T>,
    pub moments: Vec<Vec<T>>,
    pub sensitivities: Vec<Vec<T>>,
}

pub const INPUTS: [usize; 7] = [0, 0, 0, 1, 2, 2, 3];

pub fn block(heads: usize, kv_heads: usize, head_dim: usize, hidden: usize, intermediate: usize) -> Block {
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
    pub fn hidden(&self, seed: u64, tokens: usize) -> Vec<f32> {
        let mut hidden = Random::new(seed).normals(tokens * self.config.hidden, 1.0);
        hidden.iter_mut().step_by(5).for_each(|value| *value *= 10.0);
        hidden
    }

    pub fn options(&self, tokens: usize) -> CalibrationOptions {
        CalibrationOptions { tokens, length: tokens, sensitivities: true }
    }

    pub fn calibrator(&self, tokens: usize, change: impl Fn(&mut Limits)) -> Calibrator {
        let gpu = open();
        let mut limits = Limits::new(&gpu, &self.config);
        change(&mut limits);
        let mut calibrator = Calibrator::new(gpu, self.config.clone(), self.options(tokens), limits).unwrap();
        self.write(&mut calibrator);
        calibrator
    }

    pub fn write(&self, calibrator: &mut Calibrator) {
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
    pub fn calibrate(&self, calibrator: &mut Calibrator, chunks: &[(Vec<f32>, Vec<usize>)]) -> Found<f32> {
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

    pub fn sizes(&self) -> [usize; 4] {
        let shapes = self.config.linear_shapes();
        [shapes[0].1, shapes[3].1, shapes[4].1, shapes[6].1]
    }

    pub fn product(&self, linear: usize, x: &[f64]) -> Vec<f64> {
        let cols = self.config.linear_shapes()[linear].1;
        let rows = self.linears[linear].chunks(cols);
        let row = |row: &[f32]| -> f64 { row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum() };
        rows.map(row).collect()
    }

    pub fn norm(&self, norm: usize, x: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (square + f64::from(self.config.eps)).sqrt();
        x.iter().zip(&self.norms[norm]).map(|(x, &gamma)| x * scale * f64::from(gamma)).collect()
    }

    pub fn rotated(&self, position: usize, state: &[f64]) -> Vec<f64> {
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
    pub fn exact(&self, chunks: &[(Vec<f32>, Vec<usize>)]) -> Found<f64> {
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

pub fn run(calibrator: &mut Calibrator, hidden: &[f32], lengths: &[usize]) -> Vec<f32> {
    let pieces = calibrator.begin(hidden, lengths).unwrap();
    (0..pieces).for_each(|piece| calibrator.run(piece).unwrap());
    calibrator.read_stream(0..lengths.iter().sum()).unwrap()
}
