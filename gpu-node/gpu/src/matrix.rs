//! Matrices on a device.

use crate::device::Gpu;
use crate::fault::DeviceFault;
use crate::layout::{BLOCK_ROWS, Form, Packed, pack};
use crate::programs::{Kernels, TILES};
use copal_native::storage::{PackError, RowSource};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wgpu::{BindGroup, Buffer, BufferUsages, ComputePass};

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
    /// For each part its number of blocks and its bindings.
    bound: Vec<(u32, BindGroup)>,
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
        let limit = gpu.device.limits().max_storage_buffer_binding_size.min(MAX_PART_BYTES as u64);
        let (mut parts, mut bytes) = (Vec::new(), 0);
        let upload = |packed: Packed| {
            let arrays = packed.words.iter().map(|words| {
                bytes += 4 * words.len() as u64;
                stored(gpu, words)
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
    ) -> Result<Vec<BindGroup>, DeviceFault> {
        assert!(self.form == Form::Bf16);
        let bind = |part: &Part| {
            let shape = [part.rows.len(), self.cols, self.groups(), part.rows.start];
            let shape = uniform(gpu, &shape.map(|count| count as u32))?;
            gpu.run("bindings", || kernels.embed.bind(gpu, &[&part.arrays[0], stream, &shape]))
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
        let product = kernels.product(matrix.form);
        let bind = |part: &Part| {
            let counts = [part.rows.len(), matrix.cols, matrix.groups(), part.rows.start, matrix.rows];
            let shape = [&counts.map(|count| count as u32)[..], &[u32::from(ports.add)]].concat();
            let shape = uniform(gpu, &shape)?;
            let mut buffers = vec![ports.inputs, ports.outputs, &shape];
            buffers.extend(&part.arrays);
            let group = gpu.run("bindings", || product.bind(gpu, &buffers))?;
            Ok((part.rows.len().div_ceil(BLOCK_ROWS) as u32, group))
        };
        let bound = matrix.parts.iter().map(bind).collect::<Result<_, DeviceFault>>()?;
        Ok(Linear { matrix, bound })
    }

    /// Multiplies the rows of the call that bind group 0 holds.
    pub(crate) fn record(&self, kernels: &Kernels, pass: &mut ComputePass<'_>, rows: u32) {
        let tile = TILES.iter().position(|&tokens| tokens >= rows).unwrap_or(TILES.len() - 1);
        pass.set_pipeline(&kernels.product(self.matrix.form).pipelines[tile]);
        for (blocks, group) in &self.bound {
            pass.set_bind_group(1, group, &[]);
            pass.dispatch_workgroups(*blocks, rows.div_ceil(TILES[tile]), 1);
        }
    }
}

/// A buffer that kernels read, with these contents.
pub(crate) fn stored(gpu: &Gpu, words: &[u32]) -> Result<Buffer, DeviceFault> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let buffer = gpu.allocate("weights", 4 * words.len() as u64, usage)?;
    gpu.upload(&buffer, words)?;
    Ok(buffer)
}

/// A small buffer that kernels read as a whole, with these contents.
pub(crate) fn uniform(gpu: &Gpu, words: &[u32]) -> Result<Buffer, DeviceFault> {
    let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
    let buffer = gpu.allocate("weights", 4 * words.len() as u64, usage)?;
    gpu.run("weights", || gpu.write(&buffer, words))?;
    Ok(buffer)
}
