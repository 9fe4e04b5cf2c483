//! Measurements for benchmarks: the time of multiplications, and the bandwidth of memory.

use crate::kernels::{Encoding, Multiplier, MultiplyError, fits_activations};
use crate::pool::{Panicked, Pool};
use crate::storage::Matrix;
use std::hint::black_box;
use std::ops::Deref;
use std::time::Instant;

/// The time of one pass over some matrices, seconds.
pub struct PassTime {
    /// Encoding of the inputs, seconds.
    pub encode_s: f64,
    /// Multiplications, seconds.
    pub multiply_s: f64,
}

impl PassTime {
    /// Both, seconds.
    pub fn total_s(&self) -> f64 {
        self.encode_s + self.multiply_s
    }
}

/// Multiplies one matrix after another by `tokens` tokens of synthetic inputs, and measures the time.
///
/// Encodes the inputs only where their number of columns or their encoding changes, as the layers of a model
/// share them.
pub fn time_pass<M: Deref<Target = Matrix>>(
    multiplier: &mut Multiplier,
    matrices: &[M],
    tokens: usize,
) -> Result<PassTime, MultiplyError> {
    let times = time_blocks(multiplier, matrices, matrices.len().max(1), tokens, |_| false)?;
    Ok(times.into_iter().next().unwrap_or(PassTime { encode_s: 0.0, multiply_s: 0.0 }))
}

/// As [`time_pass`], and returns the time of each `block` consecutive matrices. Ends early where `is_enough` says so of the times
/// so far.
pub fn time_blocks<M: Deref<Target = Matrix>>(
    multiplier: &mut Multiplier,
    matrices: &[M],
    block: usize,
    tokens: usize,
    is_enough: impl Fn(&[PassTime]) -> bool,
) -> Result<Vec<PassTime>, MultiplyError> {
    let widest = matrices.iter().map(|matrix| matrix.cols()).max().unwrap_or(0);
    let tallest = matrices.iter().map(|matrix| matrix.rows()).max().unwrap_or(0);
    multiplier.check_room(tokens, widest)?;
    if !fits_activations(tokens, tallest) {
        return Err(MultiplyError::Shape(format!("{tokens} tokens of {tallest} rows are too many outputs")));
    }
    let inputs: Vec<f32> = (0..tokens * widest).map(|index| (index as f32).sin()).collect();
    let mut outputs = vec![0.0; tokens * tallest];
    let mut times = Vec::with_capacity(matrices.len().div_ceil(block));
    let mut held = None;
    for matrices in matrices.chunks(block) {
        let mut time = PassTime { encode_s: 0.0, multiply_s: 0.0 };
        for matrix in matrices {
            let wanted = (Encoding::of(matrix.format()), matrix.cols());
            if held != Some(wanted) {
                let start = Instant::now();
                multiplier.encode(wanted.0, wanted.1, &inputs[..tokens * matrix.cols()])?;
                time.encode_s += start.elapsed().as_secs_f64();
                held = Some(wanted);
            }
            let start = Instant::now();
            multiplier.multiply(matrix, &mut outputs[..tokens * matrix.rows()])?;
            time.multiply_s += start.elapsed().as_secs_f64();
        }
        times.push(time);
        if is_enough(&times) {
            break;
        }
    }
    black_box(outputs);
    Ok(times)
}

/// Reads `memory` once, divided between the pool's threads. Returns bytes per second.
pub fn read_bandwidth(pool: &mut Pool, memory: &[u64]) -> Result<f64, Panicked> {
    let parts = pool.threads();
    let start = Instant::now();
    pool.run(&|part| {
        let range = memory.len() * part / parts..memory.len() * (part + 1) / parts;
        black_box(sum(&memory[range]));
    })?;
    Ok(size_of_val(memory) as f64 / start.elapsed().as_secs_f64())
}

/// Returns the sums of every 32nd word: a vectorised loop with enough loads in flight to be bound by memory.
fn sum(memory: &[u64]) -> [u64; 32] {
    let mut sums = [0u64; 32];
    for words in memory.chunks_exact(32) {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums
}
