//! Second moments `Σ x xᵀ` of the inputs of linears, summed on a device.
//!
//! A call does a bounded amount of work, because it delays what else the device has to do.

use crate::device::kernel::{CALL_BYTES, KernelKind, SQUARE_TILE};
use crate::device::{Bound, Buffer, BufferUse, Command, Gpu, Kernel};
use crate::fault::DeviceFault;
use std::ops::Range;
use std::sync::Arc;

pub use crate::exchange::{Fault, MAX_COLS};

/// Products that a piece adds up at most, unless a row of tiles has more.
const MAX_PRODUCTS: usize = 1 << 32;

/// Sums of second moments on a device.
pub struct MomentSums {
    gpu: Arc<Gpu>,
    /// Bytes of a buffer at most.
    buffer_bytes: u64,
    kernel: Kernel,
    /// The data of a step, which the kernel does not read.
    call: Bound,
    sums: Vec<Sum>,
    uploaded: Option<Uploaded>,
}

/// The sum for one input of a block.
struct Sum {
    cols: usize,
    /// Rows of each part but the last: whole tiles.
    part_rows: usize,
    parts: Vec<Buffer>,
}

/// Inputs that are added in pieces.
struct Uploaded {
    sum: usize,
    tokens: usize,
    inputs: Buffer,
    /// Rows of H that each piece sums; none crosses the border of two parts. `None` once it was added.
    pieces: Vec<Option<Range<usize>>>,
}

impl MomentSums {
    /// Opens a device by its name, as [`Gpu::open`] does.
    pub fn open(name: Option<&str>) -> Result<MomentSums, DeviceFault> {
        let gpu = Arc::new(Gpu::open(name)?);
        let kernel = gpu.compile(None, &[KernelKind::Moment])?.pop().expect("one for each kind");
        let call = gpu.bind_step(&gpu.allocate("a step", CALL_BYTES, BufferUse::Step)?)?;
        let buffer_bytes = gpu.max_buffer_bytes();
        Ok(MomentSums { gpu, buffer_bytes, kernel, call, sums: Vec::new(), uploaded: None })
    }

    /// For tests: takes buffers of at most `bytes`, as some drivers do.
    pub fn with_buffer_bytes(self, bytes: u64) -> MomentSums {
        MomentSums { buffer_bytes: self.buffer_bytes.min(bytes), ..self }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Sets sums for inputs of these columns to zero. Allocates them, unless the last call had the same columns.
    pub fn begin(&mut self, cols: &[usize]) -> Result<(), Fault> {
        self.uploaded = None;
        if self.sums.iter().map(|sum| sum.cols).ne(cols.iter().copied()) {
            self.sums.clear();
            self.sums = cols.iter().map(|&cols| self.allocate(cols)).collect::<Result<_, _>>()?;
        }
        let parts = self.sums.iter().flat_map(|sum| &sum.parts);
        let commands: Vec<_> = parts.map(Command::Clear).collect();
        Ok(self.run(&commands)?)
    }

    /// Uploads inputs, `[tokens, cols]`, that are to be added to a sum.
    ///
    /// Returns the number of pieces in which [`MomentSums::add`] adds them.
    pub fn upload(&mut self, sum: usize, inputs: &[f32]) -> Result<usize, Fault> {
        self.uploaded = None;
        let Sum { cols, part_rows, .. } = *self.sum(sum)?;
        if inputs.is_empty() || !inputs.len().is_multiple_of(cols) {
            return Err(Fault::Invalid(format!(
                "inputs has {} values; they must be rows of {cols}",
                inputs.len()
            )));
        }
        let tokens = inputs.len() / cols;
        let bytes = 4 * inputs.len() as u64;
        let buffer = self.gpu.allocate("calibration inputs", bytes, BufferUse::Stored)?;
        self.gpu.upload(&buffer, bytemuck::cast_slice(inputs))?;
        let rows = (MAX_PRODUCTS / (tokens * cols) / SQUARE_TILE * SQUARE_TILE).max(SQUARE_TILE);
        let part = |first: usize| first..(first + part_rows).min(cols);
        let pieces = (0..cols).step_by(part_rows).map(part).flat_map(|part| {
            let end = part.end;
            part.step_by(rows).map(move |first| Some(first..(first + rows).min(end)))
        });
        let pieces: Vec<_> = pieces.collect();
        let count = pieces.len();
        self.uploaded = Some(Uploaded { sum, tokens, inputs: buffer, pieces });
        Ok(count)
    }

    /// Adds a piece of the inputs that were uploaded last; each piece once.
    pub fn add(&mut self, piece: usize) -> Result<(), Fault> {
        let uploaded = self.uploaded.as_mut();
        let rows = uploaded.and_then(|uploaded| uploaded.pieces.get_mut(piece)?.take());
        let (Some(uploaded), Some(rows)) = (&self.uploaded, rows) else {
            return Err(Fault::Invalid(format!("there is no piece {piece} to add")));
        };
        let (gpu, Sum { cols, part_rows, parts }) = (&self.gpu, &self.sums[uploaded.sum]);
        let part = rows.start / part_rows;
        let shape = [uploaded.tokens, *cols, rows.start, rows.end, part * part_rows];
        let shape = gpu.stored(&shape.map(|count| count as u32), BufferUse::Uniform)?;
        let bound = gpu.bind(&self.kernel, &[&shape, &uploaded.inputs, &parts[part]])?;
        let [x, y] = [*cols, rows.len()].map(|count| count.div_ceil(SQUARE_TILE) as u32);
        let call = (&self.call, 0);
        Ok(self.run(&[Command::Run { kernel: &self.kernel, call, bound: &bound, groups: (x, y) }])?)
    }

    /// Downloads some rows of a sum, each from the diagonal on, one after another.
    pub fn read(&self, sum: usize, rows: Range<usize>) -> Result<Vec<f32>, Fault> {
        let Sum { cols, part_rows, parts } = self.sum(sum)?;
        if rows.is_empty() || rows.end > *cols {
            return Err(Fault::Invalid(format!(
                "the sum has {cols} rows, not {} to {}",
                rows.start, rows.end
            )));
        }
        let gpu = &self.gpu;
        let bytes = |rows: usize| 4 * (rows * cols) as u64;
        let results = gpu.allocate("a second moment", bytes(rows.len()), BufferUse::Results)?;
        let mut commands = Vec::new();
        let mut first = rows.start;
        while first < rows.end {
            let (part, within) = (first / part_rows, first % part_rows);
            let count = (part_rows - within).min(rows.end - first);
            let (from, to) = ((&parts[part], bytes(within)), (&results, bytes(first - rows.start)));
            commands.push(Command::Copy { from, to, bytes: bytes(count) });
            first += count;
        }
        let values = gpu.run(None, &commands, Some((&results, rows.len() * cols)))?;
        Ok(rows.zip(values.chunks_exact(*cols)).flat_map(|(row, values)| &values[row..]).copied().collect())
    }

    /// Runs commands without results.
    fn run(&self, commands: &[Command<'_>]) -> Result<(), DeviceFault> {
        self.gpu.run(None, commands, None).map(drop)
    }

    fn allocate(&self, cols: usize) -> Result<Sum, Fault> {
        if cols == 0 || cols > MAX_COLS {
            return Err(Fault::Invalid(format!("cols has {cols}; the kernel takes 1 to {MAX_COLS} columns")));
        }
        let part_rows = (self.buffer_bytes / (4 * cols as u64)) as usize / SQUARE_TILE * SQUARE_TILE;
        if part_rows == 0 {
            return Err(Fault::Device(DeviceFault::OutOfMemory(format!(
                "the second moment of {cols} columns: its driver takes buffers of {} bytes",
                self.buffer_bytes
            ))));
        }
        let part = |first: usize| {
            let rows = part_rows.min(cols - first);
            self.gpu.allocate("a second moment", 4 * (rows * cols) as u64, BufferUse::Work)
        };
        let parts = (0..cols).step_by(part_rows).map(part).collect::<Result<_, _>>()?;
        Ok(Sum { cols, part_rows, parts })
    }

    fn sum(&self, sum: usize) -> Result<&Sum, Fault> {
        self.sums.get(sum).ok_or_else(|| Fault::Invalid(format!("there is no sum {sum}")))
    }
}
