//! Calibration of decoder blocks on a device: the forward pass of a block in f32, and the sums of its statistics.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `calibrator` | a block on a device, step by step |
//! | `buffers` | the memory of a calibration |
//! | `bound` | the kernels and their buffers |
//! | `parted` | matrices in as many buffers as a driver wants |
//! | `plan` | what is run for a chunk of sequences, in which order and pieces |
//!
//! All memory is allocated when a [`Calibrator`] is made, so that too little of it shows before any work is done. A block is
//! calibrated by [`Calibrator::write_linear`] and [`Calibrator::write_norm`] for its weights, [`Calibrator::clear`], and for each
//! chunk [`Calibrator::begin`], [`Calibrator::run`] for each piece, and [`Calibrator::read_stream`]. A call does a bounded amount
//! of work, because it delays what else the device has to do.

mod bound;
mod buffers;
mod calibrator;
mod parted;
mod plan;

use crate::device::Gpu;
use crate::device::kernel::{CALL_BYTES, CALL_STRIDE};
use crate::engine::ModelConfig;

pub use crate::exchange::Fault;
pub use calibrator::Calibrator;

/// See [`Limits::piece_products`].
const PIECE_PRODUCTS: usize = 1 << 32;
/// Values of an activation of the gated layer: 128 MiB, which every driver takes in a buffer.
const SLICE_VALUES: usize = 1 << 25;
/// Tokens that pass through the gated layer together: as few as make whole runs of a sum of products, and as many as a chunk has
/// unless one sequence is longer.
const SLICE_TOKENS: [usize; 2] = [256, 2048];
/// Tokens of a chunk at most: a grid has no more groups each way.
const MAX_TOKENS: usize = 65_535;
/// Calls that are submitted at a time.
const MAX_CALLS: usize = 64;
/// Inputs of a block: of attention, of its projection, of the gated layer, and of its projection.
const INPUTS: usize = 4;
/// The input of each linear.
const LINEAR_INPUTS: [usize; 7] = [0, 0, 0, 1, 2, 2, 3];
/// Linears whose outputs are queries, keys and values.
const STATE_LINEARS: usize = 3;

/// The size and the statistics of a calibration.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationOptions {
    /// Tokens of the largest chunk.
    pub tokens: usize,
    /// Tokens of the longest sequence.
    pub length: usize,
    /// Whether sensitivities are summed.
    pub sensitivities: bool,
}

/// Bytes of the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalibrationMemory {
    /// Weights of a block.
    pub weights: u64,
    /// Sums of its statistics.
    pub sums: u64,
    /// Activations of a chunk.
    pub activations: u64,
}

/// Limits that the device and the size of the model set, and that tests lower.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a buffer at most, of matrices.
    pub buffer_bytes: u64,
    /// Tokens that pass through the gated layer together.
    pub slice_tokens: usize,
    /// Products that a piece adds up at most, unless 64 rows of a matrix have more.
    pub piece_products: usize,
}

/// Columns of the inputs of a block.
fn input_sizes(config: &ModelConfig) -> [usize; INPUTS] {
    let shapes = config.linear_shapes();
    [shapes[0].1, shapes[3].1, shapes[4].1, shapes[6].1]
}

impl Limits {
    /// The limits of a device for a model.
    pub fn new(gpu: &Gpu, config: &ModelConfig) -> Limits {
        let [least, most] = SLICE_TOKENS;
        Limits {
            buffer_bytes: gpu.max_buffer_bytes(),
            // It does not depend on the device, because it decides how sums are rounded.
            slice_tokens: (SLICE_VALUES / config.intermediate / least * least).clamp(least, most),
            piece_products: PIECE_PRODUCTS,
        }
    }
}

const _: () = assert!(CALL_BYTES >= 4 * 10 && CALL_STRIDE >= CALL_BYTES);
