//! Devices of wgpu: finding them, opening one, noticing when it fails, and running commands.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `commands` | records commands, in submissions of bounded work |
//! | `kernels` | compiles kernels and binds their buffers |
//! | `template` | writes the sources of the kernels for a model, `shaders/` |
//! | `exchange` | those of the refinement of masks |
//! | `limits` | the limits of a device: what kernels need, and what buffers may have |
//! | `memory` | the memory of a device |

mod commands;
mod exchange;
mod kernels;
mod limits;
mod memory;
mod template;

use super::{BufferUse, Command, DeviceDescription};
use crate::fault::DeviceFault;
pub(super) use commands::ATTENTION_LIMITS;
use commands::{record, submissions};
pub(crate) use kernels::Kernel;
use limits::{lacking, max_buffer_bytes};
use memory::memory_bytes;
use pollster::block_on;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;
use wgpu::{
    Adapter, BackendOptions, Backends, Buffer, BufferDescriptor, BufferUsages, CommandBuffer, Device,
    DeviceDescriptor, DeviceType, Dx12Compiler, ErrorFilter, Instance, InstanceDescriptor, InstanceFlags,
    Limits, MapMode, MemoryHints, PollType, Queue,
};

/// Why a device was lost; the first reason counts.
type Loss = Arc<OnceLock<String>>;

/// An open device. Every method fails with [`DeviceFault::Lost`] once it was lost.
pub struct Portable {
    pub(crate) device: Device,
    queue: Queue,
    description: DeviceDescription,
    loss: Loss,
    /// Held while bytes are handed to the queue, so that the pieces of two loads do not pile up.
    transfer: Mutex<()>,
}

/// Tokens of the tiles of the product with a matrix, the smallest first.
pub(super) const TILES: &[u32] = &[1, 4, 16];

/// Bytes that are handed to the device at a time while it loads weights: little enough that a step waits only shortly.
const PIECE_BYTES: usize = 4 << 20;

/// The longest time from the end of a submission to the callback of its download.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The devices of this machine.
pub(super) fn adapters() -> Vec<Adapter> {
    let backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let mut options = BackendOptions::default();
    // Without this DLL there is no DX12. The older compiler of Windows rejects barriers in loops whose end shared memory tells.
    options.dx12.shader_compiler = Dx12Compiler::default_dynamic_dxc();
    let instance = Instance::new(InstanceDescriptor {
        backends,
        // No validation layers and no labels, whatever the profile.
        flags: InstanceFlags::empty(),
        backend_options: options,
        ..InstanceDescriptor::new_without_display_handle()
    });
    block_on(instance.enumerate_adapters(backends))
}

/// A device as its driver describes it.
pub(super) fn describe(adapter: &Adapter) -> DeviceDescription {
    let info = adapter.get_info();
    DeviceDescription {
        name: info.name,
        api: match info.backend {
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => "vulkan",
        },
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: max_buffer_bytes(&adapter.limits()),
        memory_bytes: memory_bytes(adapter),
    }
}

impl Portable {
    /// Opens a device of [`adapters`].
    pub(super) fn open(adapter: &Adapter) -> Result<Portable, DeviceFault> {
        Portable::with_limits(adapter, adapter.limits())
    }

    /// For tests with lower limits.
    fn with_limits(adapter: &Adapter, limits: Limits) -> Result<Portable, DeviceFault> {
        let description =
            DeviceDescription { max_binding_bytes: max_buffer_bytes(&limits), ..describe(adapter) };
        let cannot = |reason: String| {
            DeviceFault::Unavailable(format!("{} cannot be opened: {reason}", description.name))
        };
        if let Some(reason) = lacking(&limits) {
            return Err(cannot(reason));
        }
        let descriptor = DeviceDescriptor {
            label: Some("copal"),
            required_limits: limits,
            memory_hints: MemoryHints::MemoryUsage,
            ..DeviceDescriptor::default()
        };
        let opened = block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| cannot(error.to_string()))?;
        let loss = Loss::default();
        let (lost, failed) = (Arc::clone(&loss), Arc::clone(&loss));
        device.set_device_lost_callback(move |_, reason| drop(lost.set(reason)));
        // Without this, an error outside of a scope would panic.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| drop(failed.set(error.to_string()))));
        Ok(Portable { device, queue, description, loss, transfer: Mutex::new(()) })
    }

    /// The device as its driver describes it.
    pub fn description(&self) -> &DeviceDescription {
        &self.description
    }

    /// Fails if the device was lost.
    pub fn check(&self) -> Result<(), DeviceFault> {
        self.loss.get().map_or(Ok(()), |reason| Err(DeviceFault::Lost(reason.clone())))
    }

    /// For tests: loses the device.
    pub fn lose(&self) {
        drop(self.loss.set("a test destroyed it".to_owned()));
        self.device.destroy();
    }

    /// Runs calls of the device and reports what they raise. `what` they are for completes "no memory for …".
    pub(super) fn run<T>(&self, what: &str, calls: impl FnOnce() -> T) -> Result<T, DeviceFault> {
        self.check()?;
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let value = calls();
        let raised = [validation.pop(), internal.pop()].map(block_on);
        let exhausted = block_on(memory.pop());
        self.check()?;
        if let Some(error) = raised.into_iter().flatten().next() {
            // Calls are checked before they are made: what the driver or wgpu rejects is a fault of either.
            let reason = error.to_string();
            drop(self.loss.set(reason.clone()));
            return Err(DeviceFault::Lost(reason));
        }
        match exhausted {
            Some(_) => Err(DeviceFault::OutOfMemory(what.to_owned())),
            None => Ok(value),
        }
    }

    /// Allocates a buffer, zeroed, of at least `bytes`.
    pub(super) fn allocate(
        &self,
        what: &str,
        bytes: u64,
        usage: BufferUsages,
    ) -> Result<Buffer, DeviceFault> {
        let size = bytes.next_multiple_of(16).max(16);
        if size > self.device.limits().max_buffer_size
            || usage.contains(BufferUsages::STORAGE) && size > self.description.max_binding_bytes
        {
            return Err(DeviceFault::OutOfMemory(format!("{what}: {size} bytes in one buffer")));
        }
        let descriptor = BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        self.run(what, || self.device.create_buffer(&descriptor))
    }

    /// Writes words to the start of a buffer, runs commands, and reads floats from the start of another buffer, if any.
    pub(super) fn run_step(
        &self,
        upload: Option<(&Buffer, &[u32])>,
        commands: &[Command<'_>],
        results: Option<(&Buffer, usize)>,
    ) -> Result<Vec<f32>, DeviceFault> {
        if let Some((buffer, words)) = upload {
            self.run("the data of a step", || self.write(buffer, words))?;
        }
        let mut last = None;
        for part in submissions(commands) {
            let recorded = self.run("the commands of a step", || record(&self.device, &commands[part]))?;
            last = Some(self.submit(recorded)?);
        }
        let submission = last.expect("no commands are one submission");
        match results {
            Some((buffer, count)) => self.read(buffer, count, submission),
            None => self.wait(submission).map(|()| Vec::new()),
        }
    }

    /// Writes a few bytes into a buffer with the next submission.
    fn write(&self, buffer: &Buffer, words: &[u32]) {
        self.queue.write_buffer(buffer, 0, bytemuck::cast_slice(words));
    }

    /// Writes words into a buffer from a byte on, in pieces, and waits for each, so that steps run between them.
    pub(super) fn upload_at(&self, buffer: &Buffer, from: u64, words: &[u32]) -> Result<(), DeviceFault> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let _turn = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
            self.run("an upload", || {
                self.queue.write_buffer(buffer, from + (index * PIECE_BYTES) as u64, piece);
            })?;
            self.finish([])?;
        }
        Ok(())
    }

    /// Submits commands and waits until they have run.
    fn finish(&self, commands: impl IntoIterator<Item = CommandBuffer>) -> Result<(), DeviceFault> {
        let index = self.run("a submission", || self.queue.submit(commands))?;
        self.wait(index)
    }

    /// Submits commands.
    fn submit(&self, commands: CommandBuffer) -> Result<wgpu::SubmissionIndex, DeviceFault> {
        self.run("a submission", || self.queue.submit([commands]))
    }

    /// Waits for a submission.
    fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), DeviceFault> {
        let wait = PollType::Wait { submission_index: Some(submission), timeout: None };
        let polled = self.run("waiting", || self.device.poll(wait))?;
        polled.map(drop).map_err(|error| {
            let reason = error.to_string();
            drop(self.loss.set(reason.clone()));
            DeviceFault::Lost(reason)
        })
    }

    /// Waits for a submission, and reads floats from the start of a buffer that it wrote.
    fn read(
        &self,
        buffer: &Buffer,
        count: usize,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<f32>, DeviceFault> {
        let range = buffer.slice(..4 * count as u64);
        let (done, mapped) = mpsc::channel();
        self.run("a download", || range.map_async(MapMode::Read, move |result| drop(done.send(result))))?;
        self.wait(submission)?;
        let failed = |reason: String| {
            drop(self.loss.set(reason.clone()));
            DeviceFault::Lost(reason)
        };
        // A thread that waits for an upload may have taken the callback, and calls it when this thread no longer waits.
        match mapped.recv_timeout(CALLBACK_TIMEOUT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("a download did not end".to_owned())),
        }
        let bytes = range.get_mapped_range().map_err(|error| failed(error.to_string()))?;
        let floats = bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
        drop(bytes);
        buffer.unmap();
        Ok(floats)
    }
}

impl From<BufferUse> for BufferUsages {
    fn from(buffer_use: BufferUse) -> BufferUsages {
        match buffer_use {
            BufferUse::Stored => BufferUsages::STORAGE | BufferUsages::COPY_DST,
            BufferUse::Uniform => BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            BufferUse::Work => BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            BufferUse::Step => BufferUsages::STORAGE | BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            BufferUse::Kept => BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            BufferUse::Results => BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        }
    }
}
