//! A sample of a model's linears in both forms, to measure which form this machine multiplies faster.

use crate::cpu::Implementation;
use crate::kernels::{CHUNK_TOKENS, Multiplier, MultiplyError};
use crate::measure::{PassTime, time_blocks};
use crate::pool::Pool;
use crate::storage::{Arena, BLOCK_ROWS, Form, Format, Mask, Matrix, PackError, pack_rows_as};
use std::sync::Arc;
use std::{fmt, io};

/// The largest number of weights that are made up. Larger linears are cut after some of their rows.
const MAX_WEIGHTS: usize = 4 << 20;
/// Blocks of rows that a cut linear keeps for each thread, so that every thread has work.
const MIN_BLOCKS: usize = 2;

/// Copies are measured for at least so long, seconds, if there are so many: the first one waits for threads that slept, and a copy
/// may take but a millisecond or two.
const MIN_SECONDS: f64 = 0.008;

/// The linears to measure, and limits of the sample.
pub struct SampleOptions {
    /// Rows and columns of the linears of one block of the model.
    pub shapes: Vec<(usize, usize)>,
    /// Blocks of the model.
    pub layers: usize,
    /// Precision of the linears.
    pub format: Format,
    /// Which weights the masks keep.
    pub kept: KeptWeights,
    /// Threads that multiply.
    pub threads: usize,
    /// The largest number of tokens to measure.
    pub max_tokens: usize,
    /// The sample in the dense form has about as many bytes as the model, but no more than this.
    pub max_bytes: usize,
}

/// Which weights a made-up mask keeps.
#[derive(Clone, Copy, Debug)]
pub enum KeptWeights {
    /// Each with this probability.
    Share(f64),
    /// `kept` of every `columns` columns.
    Grouped {
        /// Columns of a group.
        columns: usize,
        /// Weights of a group that are kept.
        kept: usize,
    },
}

/// Why there is no sample.
#[derive(Debug)]
pub enum SampleError {
    /// The threads cannot be started.
    Threads(usize, io::Error),
    /// The activations are too large.
    Multiply(MultiplyError),
    /// The weights cannot be packed.
    Pack(PackError),
    /// There is no memory for the copies.
    Memory(io::Error),
}

/// Linears of a model's shapes with made-up weights and masks, in both forms, and the threads that multiply by them.
///
/// The speed of a multiplication does not depend on the weights, only on the number and the places of those that are kept.
pub struct FormSample {
    multiplier: Multiplier,
    packed: Vec<Arc<Matrix>>,
    dense: Vec<Arc<Matrix>>,
    /// Matrices of one copy.
    block: usize,
}

impl FormSample {
    /// Makes the sample: one block of the model, and copies of it that take as much memory as the model does, because
    /// multiplying by weights in the cache is faster than by weights in memory.
    pub fn new(
        implementation: &'static Implementation,
        options: &SampleOptions,
    ) -> Result<FormSample, SampleError> {
        let SampleOptions { format, kept, threads, max_tokens, .. } = *options;
        let pool = Pool::new(threads).map_err(|error| SampleError::Threads(threads, error))?;
        let widest = options.shapes.iter().map(|(_, cols)| *cols).max().unwrap_or(0);
        let multiplier =
            Multiplier::new(implementation, pool, max_tokens, widest).map_err(SampleError::Multiply)?;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut packed, mut dense) = (Vec::new(), Vec::new());
        let memory = Arena::default();
        for (rows, cols) in cut_shapes(&options.shapes, threads) {
            let weights: Vec<f32> = (0..rows * cols).map(|_| random.uniform() as f32 - 0.5).collect();
            let bits = made_up_mask(&mut random, (rows, cols), kept);
            for (form, matrices) in [(Form::Packed, &mut packed), (Form::Dense, &mut dense)] {
                let mask = Mask::new(&bits, rows, cols)
                    .map_err(|error| SampleError::Pack(PackError::Mask(error)))?;
                let shape = (rows, cols);
                let matrix = pack_rows_as(form, &mut &*weights, shape, Some(mask), format, &memory, &|| ());
                matrices.push(Arc::new(matrix.map_err(SampleError::Pack)?));
            }
        }
        let block = dense.len();
        let cut_bytes: usize = dense.iter().map(|matrix| matrix.stream_bytes()).sum();
        let weights_of = |(rows, cols): &(usize, usize)| rows * cols;
        let cut_weights: usize = dense.iter().map(|matrix| matrix.rows() * matrix.cols()).sum();
        let model_weights = options.layers * options.shapes.iter().map(weights_of).sum::<usize>();
        let model_bytes = (cut_bytes as f64 * model_weights as f64 / cut_weights as f64) as usize;
        let copies = model_bytes.min(options.max_bytes).div_ceil(cut_bytes.max(1)).max(1);
        for matrices in [&mut packed, &mut dense] {
            for index in block..block * copies {
                let copy = matrices[index - block].copied(&memory).map_err(SampleError::Memory)?;
                matrices.push(Arc::new(copy));
            }
        }
        Ok(FormSample { multiplier, packed, dense, block })
    }

    /// Bytes of the sample in a form.
    pub fn bytes(&self, form: Form) -> usize {
        self.matrices(form).iter().map(|matrix| matrix.stream_bytes()).sum()
    }

    /// Multiplies by the matrices of a form, at most once by each. With more tokens than share one pass over the weights it uses
    /// fewer copies, because memory is less of a limit then, but as many as take [`MIN_SECONDS`]. Returns seconds for one token and
    /// one copy: the lower quartile of the copies, which other work that takes the processors for some milliseconds does not
    /// change.
    pub fn time(&mut self, form: Form, tokens: usize) -> Result<f64, MultiplyError> {
        let FormSample { multiplier, packed, dense, block } = self;
        let all = if form == Form::Packed { packed } else { dense };
        let copies = all.len() / *block;
        let least = copies * CHUNK_TOKENS / tokens.max(CHUNK_TOKENS);
        let times = time_blocks(multiplier, all, *block, tokens, |times| {
            times.len() >= least && times.iter().map(PassTime::total_s).sum::<f64>() >= MIN_SECONDS
        })?;
        let mut seconds: Vec<f64> = times.iter().map(PassTime::total_s).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        Ok(seconds[(seconds.len() - 1) / 4] / tokens as f64)
    }

    fn matrices(&self, form: Form) -> &[Arc<Matrix>] {
        if form == Form::Packed { &self.packed } else { &self.dense }
    }
}

/// Returns the shapes, with fewer rows if they have more than [`MAX_WEIGHTS`] weights.
fn cut_shapes(shapes: &[(usize, usize)], threads: usize) -> Vec<(usize, usize)> {
    let total: usize = shapes.iter().map(|(rows, cols)| rows * cols).sum();
    let share = (MAX_WEIGHTS as f64 / total as f64).min(1.0);
    let min_rows = MIN_BLOCKS * BLOCK_ROWS * threads;
    let cut = |&(rows, cols): &(usize, usize)| {
        let wanted = ((rows as f64 * share) as usize).next_multiple_of(BLOCK_ROWS);
        (wanted.max(min_rows).min(rows), cols)
    };
    shapes.iter().map(cut).collect()
}

/// Makes up the bits of a mask, `[rows, ceil(cols / 8)]`.
fn made_up_mask(random: &mut Random, (rows, cols): (usize, usize), kept: KeptWeights) -> Vec<u8> {
    let width = cols.div_ceil(8);
    let mut bits = vec![0u8; rows * width];
    for row in bits.chunks_exact_mut(width) {
        let mut keep = |col: usize| row[col / 8] |= 1 << (col % 8);
        match kept {
            KeptWeights::Share(share) => {
                (0..cols).filter(|_| random.uniform() < share).for_each(&mut keep);
            }
            KeptWeights::Grouped { columns, kept } => {
                for first in (0..cols).step_by(columns) {
                    // Keeps each of the columns left with the chance that gives the exact count.
                    let (mut left, mut wanted) = (columns.min(cols - first), kept);
                    for col in first..first + left {
                        if random.uniform() * (left as f64) < wanted as f64 {
                            keep(col);
                            wanted -= 1;
                        }
                        left -= 1;
                    }
                }
            }
        }
    }
    bits
}

/// Xorshift: random enough for a measurement.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleError::Threads(threads, error) => write!(f, "cannot start {threads} threads: {error}"),
            SampleError::Multiply(error) => error.fmt(f),
            SampleError::Pack(error) => error.fmt(f),
            SampleError::Memory(error) => write!(f, "there is no memory for the sample ({error})"),
        }
    }
}

impl std::error::Error for SampleError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kept: KeptWeights) -> SampleOptions {
        SampleOptions {
            shapes: vec![(96, 64), (64, 96)],
            layers: 3,
            format: Format::BF16,
            kept,
            threads: 2,
            max_tokens: 16,
            max_bytes: usize::MAX,
        }
    }

    #[test]
    fn a_sample_has_the_bytes_of_the_model_in_both_forms() {
        let implementation = Implementation::supported()[0];
        let sample = FormSample::new(implementation, &options(KeptWeights::Share(0.5))).unwrap();
        let dense = 3 * 2 * (96 * 64 + 64 * 128);
        assert_eq!(sample.bytes(Form::Dense), dense);
        let packed = sample.bytes(Form::Packed);
        assert!((dense / 3..dense * 2 / 3).contains(&packed), "{packed} of {dense}");
        let mut small = options(KeptWeights::Share(0.5));
        small.max_bytes = 1;
        let small = FormSample::new(implementation, &small).unwrap();
        assert_eq!(small.bytes(Form::Dense), dense / 3);
    }

    #[test]
    fn a_grouped_mask_keeps_the_exact_count_of_every_group() {
        let bits = made_up_mask(&mut Random(7), (5, 64), KeptWeights::Grouped { columns: 4, kept: 2 });
        for byte in bits {
            assert_eq!(((byte & 15).count_ones(), (byte >> 4).count_ones()), (2, 2));
        }
    }

    #[test]
    fn large_linears_are_cut_and_every_thread_keeps_work() {
        assert_eq!(cut_shapes(&[(96, 64)], 8), [(96, 64)]);
        assert_eq!(cut_shapes(&[(11_008, 4096)], 2), [(1024, 4096)]);
        assert_eq!(cut_shapes(&[(11_008, 4096)], 64), [(4096, 4096)]);
    }

    #[test]
    fn every_form_is_timed_with_few_tokens_and_with_many() {
        for implementation in Implementation::supported() {
            let kept = KeptWeights::Grouped { columns: 4, kept: 2 };
            let mut sample = FormSample::new(implementation, &options(kept)).unwrap();
            for form in [Form::Packed, Form::Dense] {
                for tokens in [1, 8, 16] {
                    assert!(sample.time(form, tokens).unwrap() > 0.0);
                }
                assert!(matches!(sample.time(form, 17), Err(MultiplyError::Shape(_))));
            }
        }
    }
}
