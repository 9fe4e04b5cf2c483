//! Calibration of decoder blocks on a device: the forward pass of a block in f32, and the sums of its statistics.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `parted` | matrices in as many buffers as a driver wants |
//! | `plan` | what is run for a chunk of sequences, in which order and pieces |
//!
//! All memory is allocated when a [`Calibrator`] is made, so that too little of it shows before any work is done. A block is
//! calibrated by [`Calibrator::write_linear`] and [`Calibrator::write_norm`] for its weights, [`Calibrator::clear`], and for each
//! chunk [`Calibrator::begin`], [`Calibrator::run`] for each piece, and [`Calibrator::read_stream`]. A call does a bounded amount
//! of work, because it delays what else the device has to do.

mod parted;
mod plan;

use crate::device::kernel::{CALL_BYTES, CALL_STRIDE, CalibrationKind, KernelKind, MAX_HEAD_DIM, QUERY_TILE};
use crate::device::{Bound, Buffer, BufferUse, Command, Gpu, Kernel};
use crate::engine::ModelConfig;
use crate::fault::DeviceFault;
use parted::Parted;
use plan::{Bindings, Layout, Plan, Task};
use std::ops::Range;
use std::sync::Arc;

pub use crate::exchange::Fault;

/// See [`Limits::piece_products`].
const PIECE_PRODUCTS: usize = 1 << 32;
/// Values of an activation of the gated layer: 128 MiB, which every driver takes in a buffer.
const SLICE_VALUES: usize = 1 << 25;
/// Tokens that pass through the gated layer together: as few as make whole runs of a sum of products, and as many as a chunk has
/// unless one sequence is longer.
const SLICE_TOKENS: [usize; 2] = [256, 2048];
/// Tokens of a chunk at most: a grid has no more groups each way.
const MAX_TOKENS: usize = 65_535;
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

/// A decoder block on a device, with the sums of its statistics and the activations of a chunk.
pub struct Calibrator {
    gpu: Arc<Gpu>,
    config: ModelConfig,
    options: CalibrationOptions,
    limits: Limits,
    kernels: Kernels,
    buffers: Buffers,
    bound: BoundBuffers,
    chunk: Option<Chunk>,
}

struct Kernels {
    norm: Kernel,
    gate: Kernel,
    linear: Kernel,
    rotate: Kernel,
    attention: Kernel,
    residual: Kernel,
    statistic: Kernel,
    check: Kernel,
}

struct Buffers {
    weights: Vec<Parted>,
    norms: [Buffer; 2],
    moments: Vec<Parted>,
    sensitivities: Vec<Parted>,
    /// For each input whether a value was not finite.
    marks: Buffer,
    /// Cosines and sines of each position.
    angles: Buffer,
    /// For each token its position.
    positions: Buffer,
    /// For each tile of attention its rows.
    tiles: Buffer,
    activations: Activations,
    /// Calls of a piece, one after another.
    calls: Buffer,
}

/// Activations of a chunk; those of the gated layer of a slice of it.
struct Activations {
    stream: Parted,
    normed: Buffer,
    queries: Buffer,
    keys: Buffer,
    values: Buffer,
    projected: Buffer,
    gate: Buffer,
    up: Buffer,
}

struct BoundBuffers {
    calls: Bound,
    norms: [Bound; 2],
    linears: Vec<Vec<Bound>>,
    rotate: [Bound; 2],
    attention: Bound,
    gate: Bound,
    residual: Bound,
    moments: Vec<Vec<Bound>>,
    sensitivities: Vec<Vec<Bound>>,
    checks: Vec<Bound>,
}

/// A chunk that was begun.
struct Chunk {
    lengths: Vec<usize>,
    sums: bool,
    plan: Plan,
    /// The piece that is run next.
    next: usize,
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

impl Calibrator {
    /// Opens a device by its name, as [`Gpu::open`] does, and allocates everything.
    pub fn open(
        name: Option<&str>,
        config: ModelConfig,
        options: CalibrationOptions,
    ) -> Result<Calibrator, Fault> {
        let gpu = Gpu::open(name)?;
        let limits = Limits::new(&gpu, &config);
        Calibrator::new(gpu, config, options, limits)
    }

    /// Allocates everything on an open device. For tests: with lower limits.
    pub fn new(
        gpu: Gpu,
        config: ModelConfig,
        options: CalibrationOptions,
        limits: Limits,
    ) -> Result<Calibrator, Fault> {
        config.check().map_err(|error| Fault::Invalid(error.to_string()))?;
        let CalibrationOptions { tokens, length, .. } = options;
        if !(1..=tokens).contains(&length) {
            return Err(Fault::Invalid(format!("length is {length}; 1 to {tokens} is expected")));
        }
        if config.head_dim > MAX_HEAD_DIM {
            let reason = format!("the kernels take heads of up to {MAX_HEAD_DIM}, not {}", config.head_dim);
            return Err(Fault::Device(DeviceFault::Unavailable(reason)));
        }
        if tokens > MAX_TOKENS {
            let reason = format!("the kernels take up to {MAX_TOKENS} tokens at once, not {tokens}");
            return Err(Fault::Device(DeviceFault::Unavailable(reason)));
        }
        let gpu = Arc::new(gpu);
        let kernels = Kernels::new(&gpu, &config)?;
        let buffers = Buffers::new(&gpu, &config, options, limits)?;
        let bound = BoundBuffers::new(&gpu, &kernels, &buffers)?;
        Ok(Calibrator { gpu, config, options, limits, kernels, buffers, bound, chunk: None })
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The memory of the device that it holds.
    pub fn memory(&self) -> CalibrationMemory {
        self.buffers.memory()
    }

    /// Writes rows of the weights of a linear, `[rows, cols]`, from a row on.
    pub fn write_linear(&mut self, linear: usize, first: usize, values: &[f32]) -> Result<(), Fault> {
        let weights = self.buffers.weights.get(linear);
        let weights = weights.ok_or_else(|| Fault::Invalid(format!("there is no linear {linear}")))?;
        weights.write(&self.gpu, first, values)
    }

    /// Writes the factors of the norm before attention (0) or before the gated layer (1).
    pub fn write_norm(&mut self, norm: usize, values: &[f32]) -> Result<(), Fault> {
        let gamma = self.buffers.norms.get(norm).filter(|_| values.len() == self.config.hidden);
        let gamma = gamma
            .ok_or_else(|| Fault::Invalid(format!("there is no norm {norm} of {} values", values.len())))?;
        Ok(self.gpu.upload(gamma, bytemuck::cast_slice(values))?)
    }

    /// Sets the sums to zero.
    pub fn clear(&mut self) -> Result<(), Fault> {
        let Buffers { moments, sensitivities, marks, .. } = &self.buffers;
        let parts = moments.iter().chain(sensitivities).flat_map(|sum| &sum.parts);
        let commands: Vec<_> = parts.chain([marks]).map(Command::Clear).collect();
        self.gpu.run(None, &commands, None)?;
        Ok(())
    }

    /// Begins a chunk: uploads the hidden state `[tokens, hidden]` of sequences of these lengths, one after another. `sums` adds
    /// their statistics to the sums.
    ///
    /// Returns the number of pieces to [`Calibrator::run`].
    pub fn begin(&mut self, hidden: &[f32], lengths: &[usize], sums: bool) -> Result<usize, Fault> {
        let CalibrationOptions { tokens, length, .. } = self.options;
        if lengths.is_empty() || lengths.iter().any(|each| !(1..=length).contains(each)) {
            return Err(Fault::Invalid(format!("sequences have 1 to {length} tokens")));
        }
        let found: usize = lengths.iter().sum();
        if found > tokens || hidden.len() != found * self.config.hidden {
            let (values, width) = (hidden.len(), self.config.hidden);
            return Err(Fault::Invalid(format!(
                "hidden has {values} values; they must be {width} for each of {found} tokens, {tokens} at most"
            )));
        }
        let known = self.chunk.take().filter(|chunk| chunk.lengths == lengths && chunk.sums == sums);
        self.buffers.activations.stream.write(&self.gpu, 0, hidden)?;
        let chunk = match known {
            Some(chunk) => Chunk { next: 0, ..chunk },
            None => self.prepare(lengths, sums)?,
        };
        let pieces = chunk.plan.pieces.len();
        self.chunk = Some(chunk);
        Ok(pieces)
    }

    fn prepare(&self, lengths: &[usize], sums: bool) -> Result<Chunk, Fault> {
        let Buffers { weights, moments, sensitivities, .. } = &self.buffers;
        let (mut positions, mut tiles, mut start) = (Vec::<u32>::new(), Vec::new(), 0);
        for &length in lengths {
            positions.extend(0..length as u32);
            for first in (0..length).step_by(QUERY_TILE) {
                let rows = [start, start + first, start + (first + QUERY_TILE).min(length)];
                tiles.extend(rows.map(|row| row as u32));
            }
            start += length;
        }
        self.gpu.upload(&self.buffers.positions, &positions)?;
        self.gpu.upload(&self.buffers.tiles, &tiles)?;
        let parts = |matrices: &[Parted]| matrices.iter().map(|one| one.part_ranges().collect()).collect();
        let layout = Layout {
            config: &self.config,
            lengths,
            slice_tokens: self.limits.slice_tokens,
            piece_products: self.limits.piece_products,
            weights: parts(weights),
            moments: parts(moments),
            sensitivities: parts(sensitivities),
            sums,
        };
        Ok(Chunk { lengths: lengths.to_vec(), sums, plan: layout.plan(), next: 0 })
    }

    /// Runs a piece of the chunk; each once, in order.
    pub fn run(&mut self, piece: usize) -> Result<(), Fault> {
        let chunk = self.chunk.as_mut().filter(|chunk| chunk.next == piece);
        let chunk = chunk.filter(|chunk| piece < chunk.plan.pieces.len());
        let chunk = chunk.ok_or_else(|| Fault::Invalid(format!("piece {piece} is not the next one")))?;
        chunk.next += 1;
        let chunk = self.chunk.as_ref().expect("it was just there");
        let tasks = &chunk.plan.tasks[chunk.plan.pieces[piece].clone()];
        // As many calls as the buffer holds are submitted at a time.
        for tasks in tasks.chunks(MAX_CALLS) {
            let mut words = vec![0; tasks.len() * CALL_STRIDE as usize / 4];
            for (task, words) in tasks.iter().zip(words.chunks_mut(CALL_STRIDE as usize / 4)) {
                words[..task.call.len()].copy_from_slice(&task.call);
            }
            let commands: Vec<_> =
                tasks.iter().enumerate().map(|(index, task)| self.command(task, index)).collect();
            self.gpu.run(Some((&self.buffers.calls, &words)), &commands, None)?;
        }
        Ok(())
    }

    fn command(&self, task: &Task, index: usize) -> Command<'_> {
        let (kernels, bound) = (&self.kernels, &self.bound);
        let (kernel, buffers) = match task.bindings {
            Bindings::Norm(norm) => (&kernels.norm, &bound.norms[norm]),
            Bindings::Linear(linear, part) => (&kernels.linear, &bound.linears[linear][part]),
            Bindings::Rotate(states) => (&kernels.rotate, &bound.rotate[states]),
            Bindings::Attention => (&kernels.attention, &bound.attention),
            Bindings::Gate => (&kernels.gate, &bound.gate),
            Bindings::Residual => (&kernels.residual, &bound.residual),
            Bindings::Moment(input, part) => (&kernels.statistic, &bound.moments[input][part]),
            Bindings::Sensitivity(linear, part) => (&kernels.statistic, &bound.sensitivities[linear][part]),
            Bindings::Check(input) => (&kernels.check, &bound.checks[input]),
        };
        let call = (&bound.calls, index as u32 * CALL_STRIDE as u32);
        Command::Run { kernel, call, bound: buffers, groups: task.groups }
    }

    /// Downloads rows of the residual stream: the output of the block once all pieces have run.
    pub fn read_stream(&self, rows: Range<usize>) -> Result<Vec<f32>, Fault> {
        self.download(&self.buffers.activations.stream, &rows, None).map(|(values, _)| values)
    }

    /// Downloads rows of the second moment of an input, each from the diagonal on, one after another. All values are NaN if a
    /// value of the input was not finite.
    pub fn read_moment(&self, input: usize, rows: Range<usize>) -> Result<Vec<f32>, Fault> {
        let moment = self.buffers.moments.get(input);
        let moment = moment.ok_or_else(|| Fault::Invalid(format!("there is no input {input}")))?;
        let (values, mark) = self.download(moment, &rows, Some((&self.buffers.marks, input)))?;
        let rows = rows.zip(values.chunks_exact(moment.cols)).flat_map(|(row, values)| &values[row..]);
        Ok(rows.map(|&value| if mark == 0 { value } else { f32::NAN }).collect())
    }

    /// Downloads rows of the sensitivity of a linear.
    pub fn read_sensitivity(&self, linear: usize, rows: Range<usize>) -> Result<Vec<f32>, Fault> {
        let sensitivity = self.buffers.sensitivities.get(linear);
        let sensitivity =
            sensitivity.ok_or_else(|| Fault::Invalid(format!("there is no sensitivity {linear}")))?;
        self.download(sensitivity, &rows, None).map(|(values, _)| values)
    }

    /// Downloads rows of a matrix, and a word of a buffer.
    fn download(
        &self,
        matrix: &Parted,
        rows: &Range<usize>,
        word: Option<(&Buffer, usize)>,
    ) -> Result<(Vec<f32>, u32), Fault> {
        if rows.is_empty() || rows.end > matrix.rows {
            let Range { start, end } = rows;
            return Err(Fault::Invalid(format!("there are {} rows, not {start} to {end}", matrix.rows)));
        }
        let count = rows.len() * matrix.cols;
        let bytes = 4 * count as u64;
        let results = self.gpu.allocate("a download", bytes + 4, BufferUse::Results)?;
        let mut commands: Vec<_> = matrix.copy(rows.clone(), &results).collect();
        if let Some((from, at)) = word {
            commands.push(Command::Copy { from: (from, 4 * at as u64), to: (&results, bytes), bytes: 4 });
        }
        let mut values = self.gpu.run(None, &commands, Some((&results, count + 1)))?;
        let word = values.pop().expect("one more was read").to_bits();
        Ok((values, word))
    }
}

/// Calls that are submitted at a time.
const MAX_CALLS: usize = 64;

impl Kernels {
    fn new(gpu: &Gpu, config: &ModelConfig) -> Result<Kernels, DeviceFault> {
        use CalibrationKind::{Attention, Check, Linear, Residual, Rotate, Statistic};
        let own = [Linear, Rotate, Attention, Residual, Statistic, Check].map(KernelKind::Calibration);
        let kinds = [&[KernelKind::Norm, KernelKind::Gate], &own[..]].concat();
        let mut kernels = gpu.compile(Some(config), &kinds)?.into_iter();
        let mut next = || kernels.next().expect("one for each kind");
        Ok(Kernels {
            norm: next(),
            gate: next(),
            linear: next(),
            rotate: next(),
            attention: next(),
            residual: next(),
            statistic: next(),
            check: next(),
        })
    }
}

impl Buffers {
    fn new(
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

    fn memory(&self) -> CalibrationMemory {
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
    fn new(gpu: &Gpu, config: &ModelConfig, tokens: usize, slice: usize) -> Result<Activations, DeviceFault> {
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

impl BoundBuffers {
    fn new(gpu: &Gpu, kernels: &Kernels, buffers: &Buffers) -> Result<BoundBuffers, DeviceFault> {
        let Activations { stream, normed, queries, keys, values, projected, gate, up } = &buffers.activations;
        let stream = &stream.parts[0];
        // The results of attention replace the queries, and the gated values those of the gate.
        let inputs = [normed, queries, normed, gate];
        let outputs = [queries, keys, values, projected, gate, up, projected];
        let norm = |gamma| gpu.bind(&kernels.norm, &[stream, gamma, normed]);
        let rotate = |states| gpu.bind(&kernels.rotate, &[states, &buffers.angles, &buffers.positions]);
        let parts = |kernel, (left, right): (&Buffer, &Buffer), sum: &Parted| {
            let bind = |part| gpu.bind(kernel, &[left, right, part]);
            sum.parts.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let linear = |(linear, weights): (usize, &Parted)| {
            let bind =
                |part| gpu.bind(&kernels.linear, &[inputs[LINEAR_INPUTS[linear]], part, outputs[linear]]);
            weights.parts.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let moment =
            |(input, sum): (usize, &Parted)| parts(&kernels.statistic, (inputs[input], inputs[input]), sum);
        let sensitivity = |(linear, sum): (usize, &Parted)| {
            parts(&kernels.statistic, (outputs[linear], inputs[LINEAR_INPUTS[linear]]), sum)
        };
        let check = |input| gpu.bind(&kernels.check, &[input, &buffers.marks]);
        Ok(BoundBuffers {
            calls: gpu.bind_step(&buffers.calls)?,
            norms: [norm(&buffers.norms[0])?, norm(&buffers.norms[1])?],
            linears: buffers.weights.iter().enumerate().map(linear).collect::<Result<_, _>>()?,
            rotate: [rotate(queries)?, rotate(keys)?],
            attention: gpu.bind(&kernels.attention, &[&buffers.tiles, keys, values, queries])?,
            gate: gpu.bind(&kernels.gate, &[gate, up])?,
            residual: gpu.bind(&kernels.residual, &[projected, stream])?,
            moments: buffers.moments.iter().enumerate().map(moment).collect::<Result<_, _>>()?,
            sensitivities: buffers
                .sensitivities
                .iter()
                .enumerate()
                .map(sensitivity)
                .collect::<Result<_, _>>()?,
            checks: inputs.into_iter().map(check).collect::<Result<_, _>>()?,
        })
    }
}

const _: () = assert!(CALL_BYTES >= 4 * 10 && CALL_STRIDE >= CALL_BYTES);
