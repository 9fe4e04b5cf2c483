//! A block on a device.

use super::bound::{BoundBuffers, Kernels};
use super::buffers::Buffers;
use super::parted::Parted;
use super::plan::{Layout, Plan, Task};
use super::{CalibrationMemory, CalibrationOptions, Fault, Limits, MAX_CALLS, MAX_TOKENS};
use crate::device::kernel::{CALL_STRIDE, MAX_HEAD_DIM, QUERY_TILE};
use crate::device::{Buffer, BufferUse, Command, Gpu};
use crate::engine::ModelConfig;
use crate::fault::DeviceFault;
use std::ops::Range;
use std::sync::Arc;

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

/// A chunk that was begun.
struct Chunk {
    lengths: Vec<usize>,
    plan: Plan,
    /// The piece that is run next.
    next: usize,
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

    /// Begins a chunk: uploads the hidden state `[tokens, hidden]` of sequences of these lengths, one after another. Their statistics
    /// are added to the sums.
    ///
    /// Returns the number of pieces to [`Calibrator::run`].
    pub fn begin(&mut self, hidden: &[f32], lengths: &[usize]) -> Result<usize, Fault> {
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
        let known = self.chunk.take().filter(|chunk| chunk.lengths == lengths);
        self.buffers.activations.stream.write(&self.gpu, 0, hidden)?;
        let chunk = match known {
            Some(chunk) => Chunk { next: 0, ..chunk },
            None => self.prepare(lengths)?,
        };
        let pieces = chunk.plan.pieces.len();
        self.chunk = Some(chunk);
        Ok(pieces)
    }

    fn prepare(&self, lengths: &[usize]) -> Result<Chunk, Fault> {
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
        };
        Ok(Chunk { lengths: lengths.to_vec(), plan: layout.plan(), next: 0 })
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
        let (kernel, buffers) = self.bound.find(&self.kernels, task.bindings);
        let call = (&self.bound.calls, index as u32 * CALL_STRIDE as u32);
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
