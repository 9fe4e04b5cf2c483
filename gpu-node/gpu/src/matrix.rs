//! Matrices on a device.

use crate::device::{Bound, Buffer, BufferUse, Command, Gpu};
use crate::fault::DeviceFault;
use crate::layout::{BLOCK_ROWS, Form, Packed, pack};
use crate::programs::Kernels;
use copal_native::storage::{PackError, RowSource};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest array that is packed at a time, bytes: so much of the machine's memory a loading thread takes.
const MAX_PART_BYTES: usize = 64 << 20;

/// Counts the bytes of buffers of one kind.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<AtomicU64>);

/// Bytes that a [`Meter`] counts until this is dropped.
pub(crate) struct Metered(Meter, u64);

impl Meter {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: u64) -> Metered {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Metered(self.clone(), bytes)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        (self.0).0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Why a matrix cannot be put on a device.
#[derive(Debug)]
pub(crate) enum MatrixError {
    Pack(PackError),
    Device(DeviceFault),
}

impl From<PackError> for MatrixError {
    fn from(error: PackError) -> MatrixError {
        MatrixError::Pack(error)
    }
}

impl From<DeviceFault> for MatrixError {
    fn from(fault: DeviceFault) -> MatrixError {
        MatrixError::Device(fault)
    }
}

/// A matrix `[rows, cols]` in the memory of a device, in parts of consecutive rows.
pub(crate) struct Matrix {
    form: Form,
    rows: usize,
    cols: usize,
    parts: Vec<Part>,
    bytes: u64,
    _metered: Metered,
}

struct Part {
    rows: Range<usize>,
    arrays: Vec<Buffer>,
}

/// The inputs and outputs of a product.
#[derive(Clone, Copy)]
pub(crate) struct Ports<'a> {
    /// `[tokens, cols]` f32.
    pub(crate) inputs: &'a Buffer,
    /// `[tokens, rows]` f32.
    pub(crate) outputs: &'a Buffer,
    /// Whether products are added to the outputs.
    pub(crate) add: bool,
}

/// A matrix bound to its ports.
pub(crate) struct Linear {
    pub(crate) matrix: Arc<Matrix>,
    /// For each part its number of rows and its buffers.
    bound: Vec<(usize, Bound)>,
}

impl Matrix {
    /// Packs a matrix and uploads it, part by part.
    pub(crate) fn load(
        (gpu, meter): (&Gpu, &Meter),
        weights: &mut dyn RowSource,
        (rows, cols): (usize, usize),
        bits: Option<&[u8]>,
        form: Form,
    ) -> Result<Matrix, MatrixError> {
        let limit = gpu.max_buffer_bytes().min(MAX_PART_BYTES as u64);
        let (mut parts, mut bytes) = (Vec::new(), 0);
        let upload = |packed: Packed| {
            let arrays = packed.words.iter().map(|words| {
                bytes += 4 * words.len() as u64;
                gpu.stored(words, BufferUse::Stored)
            });
            parts.push(Part { rows: packed.rows, arrays: arrays.collect::<Result<_, _>>()? });
            Ok::<(), MatrixError>(())
        };
        pack(weights, (rows, cols), bits, (form, limit as usize), upload)?;
        Ok(Matrix { form, rows, cols, parts, bytes, _metered: meter.count(bytes) })
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows, all parts together.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn groups(&self) -> usize {
        self.cols.div_ceil(self.form.group())
    }

    /// Binds a dense bf16 matrix as the table of embeddings.
    pub(crate) fn bind_table(
        &self,
        gpu: &Gpu,
        kernels: &Kernels,
        stream: &Buffer,
    ) -> Result<Vec<Bound>, DeviceFault> {
        assert!(self.form == Form::Bf16);
        let bind = |part: &Part| {
            let shape = [part.rows.len(), self.cols, self.groups(), part.rows.start];
            let shape = gpu.stored(&shape.map(|count| count as u32), BufferUse::Uniform)?;
            gpu.bind(&kernels.embed, &[&part.arrays[0], stream, &shape])
        };
        self.parts.iter().map(bind).collect()
    }
}

impl Linear {
    pub(crate) fn new(
        (gpu, kernels): (&Gpu, &Kernels),
        matrix: Arc<Matrix>,
        ports: Ports<'_>,
    ) -> Result<Linear, DeviceFault> {
        let kernel = kernels.product(matrix.form).any();
        let bind = |part: &Part| {
            let counts = [part.rows.len(), matrix.cols, matrix.groups(), part.rows.start, matrix.rows];
            let shape = [&counts.map(|count| count as u32)[..], &[u32::from(ports.add)]].concat();
            let shape = gpu.stored(&shape, BufferUse::Uniform)?;
            let mut buffers = vec![ports.inputs, ports.outputs, &shape];
            buffers.extend(&part.arrays);
            Ok((part.rows.len(), gpu.bind(kernel, &buffers)?))
        };
        let bound = matrix.parts.iter().map(bind).collect::<Result<_, DeviceFault>>()?;
        Ok(Linear { matrix, bound })
    }

    /// The commands that multiply the rows of a call.
    pub(crate) fn commands<'a>(
        &'a self,
        kernels: &'a Kernels,
        call: (&'a Bound, u32),
        rows: u32,
    ) -> impl Iterator<Item = Command<'a>> {
        let (tile, kernel) = kernels.product(self.matrix.form).for_tokens(rows);
        let run = move |(part, bound): &'a (usize, Bound)| Command::Run {
            kernel,
            call,
            bound,
            groups: (part.div_ceil(BLOCK_ROWS) as u32, rows.div_ceil(*tile)),
        };
        self.bound.iter().map(run)
    }
}
