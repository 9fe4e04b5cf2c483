//! The memory of a calibration on a device.

use super::parted::Parted;
use super::{CalibrationMemory, CalibrationOptions, INPUTS, Limits, MAX_CALLS, input_sizes};
use crate::device::kernel::CALL_STRIDE;
use crate::device::{Buffer, BufferUse, Gpu};
use crate::engine::ModelConfig;
use crate::fault::DeviceFault;

pub(super) struct Buffers {
    pub(super) weights: Vec<Parted>,
    pub(super) norms: [Buffer; 2],
    pub(super) moments: Vec<Parted>,
    pub(super) sensitivities: Vec<Parted>,
    /// For each input whether a value was not finite.
    pub(super) marks: Buffer,
    /// Cosines and sines of each position.
    pub(super) angles: Buffer,
    /// For each token its position.
    pub(super) positions: Buffer,
    /// For each tile of attention its rows.
    pub(super) tiles: Buffer,
    pub(super) activations: Activations,
    /// Calls of a piece, one after another.
    pub(super) calls: Buffer,
}

/// Activations of a chunk; those of the gated layer of a slice of it.
pub(super) struct Activations {
    pub(super) stream: Parted,
    pub(super) normed: Buffer,
    pub(super) queries: Buffer,
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
    pub(super) projected: Buffer,
    pub(super) gate: Buffer,
    pub(super) up: Buffer,
}

impl Buffers {
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        options: CalibrationOptions,
        Limits { buffer_bytes, slice_tokens, .. }: Limits,
    ) -> Result<Buffers, DeviceFault> {
        let CalibrationOptions { tokens, length, sensitivities } = options;
        let shapes = config.linear_shapes();
        let matrix =
            |what: &str, shape, buffer_use| Parted::allocate((gpu, buffer_bytes), what, shape, buffer_use);
        let words = |what: &str, count: usize, buffer_use| gpu.allocate(what, 4 * count as u64, buffer_use);
        let weights = |&shape: &(usize, usize)| matrix("the weights of a block", shape, BufferUse::Stored);
        let moment = |&cols: &usize| matrix("a second moment", (cols, cols), BufferUse::Work);
        let sensitivity = |&shape: &(usize, usize)| matrix("a sensitivity", shape, BufferUse::Work);
        let norm = || words("a norm", config.hidden, BufferUse::Stored);
        let angles: Vec<u32> = (0..length)
            .flat_map(|position| {
                let angle = move |frequency: &f64| position as f64 * frequency;
                let cosines = config.rope.iter().map(move |frequency| angle(frequency).cos());
                cosines.chain(config.rope.iter().map(move |frequency| angle(frequency).sin()))
            })
            .map(|value| (value as f32).to_bits())
            .collect();
        // Every sequence but those of whole tiles has a tile that is not full.
        let tiles = 3 * tokens;
        Ok(Buffers {
            weights: shapes.iter().map(weights).collect::<Result<_, _>>()?,
            norms: [norm()?, norm()?],
            moments: input_sizes(config).iter().map(moment).collect::<Result<_, _>>()?,
            sensitivities: shapes
                .iter()
                .filter(|_| sensitivities)
                .map(sensitivity)
                .collect::<Result<_, _>>()?,
            marks: words("a mark", INPUTS, BufferUse::Work)?,
            angles: gpu.stored(&angles, BufferUse::Stored)?,
            positions: words("positions", tokens, BufferUse::Stored)?,
            tiles: words("tiles", tiles, BufferUse::Stored)?,
            activations: Activations::new(gpu, config, tokens, slice_tokens.min(tokens))?,
            calls: gpu.allocate("calls", MAX_CALLS as u64 * CALL_STRIDE, BufferUse::Step)?,
        })
    }

    pub(super) fn memory(&self) -> CalibrationMemory {
        let Buffers { weights, norms, moments, sensitivities, .. } = self;
        let others = [&self.marks, &self.angles, &self.positions, &self.tiles, &self.calls];
        let Activations { stream, normed, queries, keys, values, projected, gate, up } = &self.activations;
        let activations = [normed, queries, keys, values, projected, gate, up];
        let sizes = |buffers: &[&Buffer]| buffers.iter().map(|buffer| buffer.size()).sum::<u64>();
        let all = |matrices: &[Parted]| matrices.iter().map(Parted::bytes).sum::<u64>();
        CalibrationMemory {
            weights: all(weights) + sizes(&[&norms[0], &norms[1]]),
            sums: all(moments) + all(sensitivities),
            activations: stream.bytes() + sizes(&activations) + sizes(&others),
        }
    }
}

impl Activations {
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        tokens: usize,
        slice: usize,
    ) -> Result<Activations, DeviceFault> {
        let ModelConfig { hidden, intermediate, .. } = *config;
        let [(query, _), (key, _), ..] = config.linear_shapes();
        let what = "the activations of a calibration";
        let rows =
            |tokens: usize, width: usize| gpu.allocate(what, 4 * (tokens * width) as u64, BufferUse::Work);
        // Kernels take it as one buffer, and it has whole parts of any number of rows.
        let stream =
            Parted { rows: tokens, cols: hidden, part_rows: tokens, parts: vec![rows(tokens, hidden)?] };
        Ok(Activations {
            stream,
            normed: rows(tokens, hidden)?,
            queries: rows(tokens, query)?,
            keys: rows(tokens, key)?,
            values: rows(tokens, key)?,
            projected: rows(slice, hidden)?,
            gate: rows(slice, intermediate)?,
            up: rows(slice, intermediate)?,
        })
    }
}
