//! Devices of NVIDIA's driver.

use super::kernel::{KernelKind, Tile};
use super::{BufferUse, Command, DeviceDescription};
use crate::fault::DeviceFault;
use copal_native::engine::ModelConfig;

/// Tiles of the product with a matrix, the smallest first.
pub(super) const TILES: &[Tile] = &[
    Tile { tokens: 8, blocks: 1 },
    Tile { tokens: 16, blocks: 1 },
    Tile { tokens: 32, blocks: 1 },
    Tile { tokens: 64, blocks: 1 },
];

/// An open device.
pub struct Cuda {
    description: DeviceDescription,
}

/// Memory of the device.
pub(crate) struct Buffer {}

/// A compiled kernel.
pub(crate) struct Kernel {}

/// The buffers of a kernel, in order.
pub(crate) struct Bound {}

/// The devices of this machine.
pub(super) fn devices() -> Vec<DeviceDescription> {
    Vec::new()
}

impl Cuda {
    /// Opens one of [`devices`].
    pub(super) fn open(description: &DeviceDescription) -> Result<Cuda, DeviceFault> {
        Ok(Cuda { description: description.clone() })
    }

    pub(super) fn description(&self) -> &DeviceDescription {
        &self.description
    }

    pub(super) fn check(&self) -> Result<(), DeviceFault> {
        todo!()
    }

    pub(super) fn lose(&self) {
        todo!()
    }

    pub(super) fn compile(
        &self,
        _config: Option<&ModelConfig>,
        _kinds: &[KernelKind],
    ) -> Result<Vec<Kernel>, DeviceFault> {
        todo!()
    }

    pub(super) fn allocate(
        &self,
        _what: &str,
        _bytes: u64,
        _buffer_use: BufferUse,
    ) -> Result<Buffer, DeviceFault> {
        todo!()
    }

    pub(super) fn upload_at(&self, _buffer: &Buffer, _from: u64, _words: &[u32]) -> Result<(), DeviceFault> {
        todo!()
    }

    pub(super) fn run_step(
        &self,
        _upload: Option<(&Buffer, &[u32])>,
        _commands: &[Command<'_>],
        _results: Option<(&Buffer, usize)>,
    ) -> Result<Vec<f32>, DeviceFault> {
        todo!()
    }
}

impl Buffer {
    pub(super) fn size(&self) -> u64 {
        todo!()
    }
}

impl Bound {
    pub(super) fn new<'a>(_buffers: impl Iterator<Item = &'a Buffer>) -> Bound {
        todo!()
    }
}
