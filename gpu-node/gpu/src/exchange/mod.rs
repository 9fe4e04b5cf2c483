//! Refinement of a mask on a device, by exchanging a kept weight for a pruned one, row by row.
//!
//! `gpu-node/src/pruning/refinement/exchange.ts` explains the method, and the native crate's `exchange` does it on the
//! processor. Here numbers are f32, so that masks differ where exchanges are worth almost the same.
//!
//! H lies on the device while a linear is refined, and its rows go there in pieces: a call does a bounded amount of work,
//! because it delays what else the device has to do. A piece is measured, and refined when all have been measured: the least
//! gain of an exchange depends on the errors of all rows. The result does not depend on the sizes of the pieces.

mod linear;
mod scale;

use crate::device::kernel::{ExchangeKind, KernelKind};
use crate::device::{Gpu, Kernel};
use crate::fault::DeviceFault;
pub use linear::{Linear, RefinedRows};
use std::fmt;
use std::sync::Arc;

/// Columns of a row at most: its mask lies in shared memory.
pub const MAX_COLS: usize = 32_768;
/// Why a linear is not refined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An argument does not fit: its length, its order, or a value that is not finite.
    Invalid(String),
    /// A fault of the device, also if H is too large for its buffers.
    Device(DeviceFault),
}

/// An open device with the kernels of the refinement.
pub struct Exchanger {
    gpu: Arc<Gpu>,
    /// Bytes of a part of H.
    part_bytes: u64,
    /// By the number of parts, as they are needed.
    kernels: Vec<(usize, Arc<Kernels>)>,
}

/// The kernels of the refinement. All have the same buffers.
struct Kernels {
    /// A group of threads takes a tile.
    product: Kernel,
    /// A group of threads takes a row, as in the next two.
    error: Kernel,
    whole: Kernel,
    groups: Kernel,
}

impl Kernels {
    /// Compiles the kernels for H in this number of parts.
    fn new(gpu: &Gpu, parts: usize) -> Result<Kernels, DeviceFault> {
        use ExchangeKind::{Error, Groups, Product, Whole};
        let kinds = [Product, Error, Whole, Groups].map(|kind| KernelKind::Exchange(kind, parts));
        let mut kernels = gpu.compile(None, &kinds)?.into_iter();
        let mut next = || kernels.next().expect("one for each kind");
        Ok(Kernels { product: next(), error: next(), whole: next(), groups: next() })
    }
}

impl Exchanger {
    /// Opens a device by its name, as [`Gpu::open`] does.
    pub fn open(name: Option<&str>) -> Result<Exchanger, DeviceFault> {
        let gpu = Gpu::open(name)?;
        Ok(Exchanger { part_bytes: gpu.max_buffer_bytes(), gpu: Arc::new(gpu), kernels: Vec::new() })
    }

    /// For tests: takes buffers of at most `bytes` for H, as some drivers do.
    pub fn with_part_bytes(self, bytes: u64) -> Exchanger {
        Exchanger { part_bytes: self.part_bytes.min(bytes), ..self }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Begins a linear with rows of as many columns as the diagonal of H `[cols]` has, and allocates H.
    ///
    /// With a `group`, both weights of an exchange are in the same group of so many columns.
    pub fn begin(&mut self, diagonal: &[f64], group: Option<usize>) -> Result<Linear, Fault> {
        let cols = diagonal.len();
        if cols == 0 || cols > MAX_COLS {
            return Err(Fault::Invalid(format!(
                "diagonal has {cols} values; the kernels take 1 to {MAX_COLS} columns"
            )));
        }
        if group.is_some_and(|group| group == 0 || !cols.is_multiple_of(group)) {
            let group = group.unwrap_or(0);
            return Err(Fault::Invalid(format!(
                "group has {group} columns; it must divide the row's {cols}"
            )));
        }
        let part_rows = cols.min((self.part_bytes / (4 * cols as u64)) as usize);
        let parts = if part_rows == 0 { usize::MAX } else { cols.div_ceil(part_rows) };
        if parts > self.gpu.max_moment_parts() {
            return Err(Fault::Device(DeviceFault::OutOfMemory(format!(
                "the second moment of {cols} columns: its driver takes buffers of {} bytes",
                self.part_bytes
            ))));
        }
        let kernels = self.kernels_of(parts)?;
        Linear::new(Arc::clone(&self.gpu), kernels, diagonal, group, part_rows)
    }

    fn kernels_of(&mut self, parts: usize) -> Result<Arc<Kernels>, DeviceFault> {
        if let Some((_, kernels)) = self.kernels.iter().find(|(known, _)| *known == parts) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = Arc::new(Kernels::new(&self.gpu, parts)?);
        self.kernels.push((parts, Arc::clone(&kernels)));
        Ok(kernels)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Invalid(reason) => f.write_str(reason),
            Fault::Device(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<DeviceFault> for Fault {
    fn from(fault: DeviceFault) -> Fault {
        Fault::Device(fault)
    }
}
