//! Devices: finding them, opening one, and what an engine asks of it.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `portable` | devices of wgpu: Vulkan, Metal or DX12, with kernels in WGSL |
//! | `cuda` | devices of NVIDIA's driver, with kernels in CUDA C++ |
//! | `selection` | chooses a device, and the next one if it does not open |
//! | `kernel` | what a kernel computes, whatever the device |

pub(crate) mod cuda;
pub(crate) mod kernel;
pub(crate) mod portable;
mod selection;

use crate::fault::DeviceFault;
use copal_native::engine::ModelConfig;
use cuda::Cuda;
use kernel::KernelKind;
use portable::Portable;
pub use selection::PassedOver;
use selection::{first_that_opens, named};

/// A device as its driver describes it.
#[derive(Clone, Debug)]
pub struct DeviceDescription {
    /// The name of the card.
    pub name: String,
    /// `cuda`, `vulkan`, `metal` or `dx12`.
    pub api: &'static str,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Name and version of the driver.
    pub driver: String,
    /// The largest buffer that a kernel can use, bytes.
    pub max_binding_bytes: u64,
    /// Its own memory, bytes, where the interface tells.
    pub memory_bytes: Option<u64>,
}

impl DeviceDescription {
    /// What names it: its interface and its name, such as `vulkan NVIDIA L4`.
    pub fn title(&self) -> String {
        format!("{} {}", self.api, self.name)
    }
}

/// An open device. Every method fails with [`DeviceFault::Lost`] once it was lost.
pub enum Gpu {
    /// Of wgpu.
    Portable(Portable),
    /// Of NVIDIA's driver.
    Cuda(Cuda),
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferUse {
    /// Kernels read it after an upload.
    Stored,
    /// Kernels read it as a whole after an upload; small.
    Uniform,
    /// Kernels write and read it, and commands copy it.
    Work,
    /// Kernels read the data of a step in it.
    Step,
    /// Commands copy into and from it.
    Kept,
    /// Commands copy into it, and it is downloaded.
    Results,
}

/// Memory of a device, zeroed when it was allocated.
pub(crate) enum Buffer {
    Portable(wgpu::Buffer),
    Cuda(cuda::Buffer),
}

/// A compiled kernel.
pub(crate) enum Kernel {
    Portable(portable::Kernel),
    Cuda(cuda::Kernel),
}

/// The buffers of a kernel, in order. They live as long as this does.
pub(crate) enum Bound {
    Portable(wgpu::BindGroup),
    Cuda(cuda::Bound),
}

/// How much attention goes into a command and into a submission.
#[derive(Clone, Copy)]
pub(crate) struct AttentionLimits {
    /// Positions to which all heads of the rows of a command attend together, at most, unless one row has more.
    pub(crate) command: u64,
    /// Positions to which a head attends on average, from which on a command has a submission for itself if it has an eighth
    /// of what it may have.
    pub(crate) head: u64,
}

/// The work of a device in a step, in order.
#[derive(Clone, Copy)]
pub(crate) enum Command<'a> {
    /// Runs a kernel in `groups` of threads.
    Run {
        kernel: &'a Kernel,
        /// The data of the step, and the byte where it describes the call; anything for a kernel without a call.
        call: (&'a Bound, u32),
        bound: &'a Bound,
        groups: (u32, u32),
    },
    /// Sets a buffer to zero.
    Clear(&'a Buffer),
    /// Copies bytes from a place of a buffer to a place of another.
    Copy { from: (&'a Buffer, u64), to: (&'a Buffer, u64), bytes: u64 },
    /// Ends a submission of a device that bounds their work.
    Submit,
}

/// A device that was found.
enum Found {
    Portable(wgpu::Adapter),
    Cuda(cuda::Card),
}

/// The devices of this machine, best first, software drivers last. Empty without a driver.
pub fn devices() -> Vec<DeviceDescription> {
    found().into_iter().map(|(description, _)| description).collect()
}

fn found() -> Vec<(DeviceDescription, Found)> {
    let cuda = cuda::cards().into_iter();
    let cuda = cuda.map(|card| (card.description.clone(), Found::Cuda(card)));
    let portable = portable::adapters().into_iter();
    let portable = portable.map(|adapter| (portable::describe(&adapter), Found::Portable(adapter)));
    let mut found: Vec<_> = cuda.chain(portable).collect();
    // Stable: of one kind those of CUDA come first, the others in the order of their drivers. CUDA comes last where no kernels
    // can be compiled for the card.
    found.sort_by_cached_key(|(description, found)| {
        let cannot_compile = matches!(found, Found::Cuda(card) if !cuda::can_compile(card));
        (rank(description), cannot_compile)
    });
    found
}

fn rank(device: &DeviceDescription) -> usize {
    let kinds = ["discrete", "integrated", "virtual", "other", "software"];
    kinds.iter().position(|&kind| kind == device.kind).unwrap_or(kinds.len())
}

impl Gpu {
    /// Opens the first of [`devices`] whose interface and name, such as `vulkan NVIDIA L4`, contain `name`, in any case; the
    /// first of all for `None`. If it does not open, the next one does.
    pub fn open(name: Option<&str>) -> Result<Gpu, DeviceFault> {
        Gpu::select(name, |_| Ok(())).map(|(gpu, _)| gpu)
    }

    /// Like [`Gpu::open`], for a purpose: a device for which `suits` says that it is unavailable is passed over, too.
    pub fn select(
        name: Option<&str>,
        suits: impl Fn(&Gpu) -> Result<(), DeviceFault>,
    ) -> Result<(Gpu, Vec<PassedOver>), DeviceFault> {
        first_that_opens(named(found(), name)?, |found| {
            let gpu = match found {
                Found::Portable(adapter) => Gpu::Portable(Portable::open(&adapter)?),
                Found::Cuda(card) => Gpu::Cuda(Cuda::open(card)?),
            };
            suits(&gpu)?;
            Ok(gpu)
        })
    }

    /// Whether compiled kernels are kept, so that the next device of a model opens quickly.
    pub(crate) fn keeps_kernels(&self) -> bool {
        matches!(self, Gpu::Cuda(_))
    }

    /// The device as its driver describes it.
    pub fn description(&self) -> &DeviceDescription {
        match self {
            Gpu::Portable(device) => device.description(),
            Gpu::Cuda(device) => device.description(),
        }
    }

    /// Fails if the device was lost.
    pub fn check(&self) -> Result<(), DeviceFault> {
        match self {
            Gpu::Portable(device) => device.check(),
            Gpu::Cuda(device) => device.check(),
        }
    }

    /// For tests: loses the device.
    pub fn lose(&self) {
        match self {
            Gpu::Portable(device) => device.lose(),
            Gpu::Cuda(device) => device.lose(),
        }
    }

    /// The largest buffer that kernels can use, bytes.
    pub(crate) fn max_buffer_bytes(&self) -> u64 {
        self.description().max_binding_bytes
    }

    /// The limits of attention; `None` where a command may take as long as it wants.
    pub(crate) fn attention_limits(&self) -> Option<AttentionLimits> {
        match self {
            Gpu::Portable(_) => Some(portable::ATTENTION_LIMITS),
            Gpu::Cuda(_) => None,
        }
    }

    /// Tokens of the tiles of the product with a matrix, the smallest first.
    pub(crate) fn tiles(&self) -> &'static [u32] {
        match self {
            Gpu::Portable(_) => portable::TILES,
            Gpu::Cuda(_) => cuda::TILES,
        }
    }

    /// Parts of a second moment that kernels take at most.
    pub(crate) fn max_moment_parts(&self) -> usize {
        match self {
            Gpu::Portable(device) => device.max_moment_parts(),
            Gpu::Cuda(_) => 1,
        }
    }

    /// Compiles kernels, in order, for a model if they need one.
    pub(crate) fn compile(
        &self,
        config: Option<&ModelConfig>,
        kinds: &[KernelKind],
    ) -> Result<Vec<Kernel>, DeviceFault> {
        match self {
            Gpu::Portable(device) => {
                Ok(device.compile(config, kinds)?.into_iter().map(Kernel::Portable).collect())
            }
            Gpu::Cuda(device) => Ok(device.compile(config, kinds)?.into_iter().map(Kernel::Cuda).collect()),
        }
    }

    /// Allocates a buffer, zeroed, of at least `bytes`. `what` it is for completes "no memory for …".
    pub(crate) fn allocate(
        &self,
        what: &str,
        bytes: u64,
        buffer_use: BufferUse,
    ) -> Result<Buffer, DeviceFault> {
        match self {
            Gpu::Portable(device) => Ok(Buffer::Portable(device.allocate(what, bytes, buffer_use.into())?)),
            Gpu::Cuda(device) => Ok(Buffer::Cuda(device.allocate(what, bytes)?)),
        }
    }

    /// A buffer with these contents.
    pub(crate) fn stored(&self, words: &[u32], buffer_use: BufferUse) -> Result<Buffer, DeviceFault> {
        let buffer = self.allocate("weights", 4 * words.len() as u64, buffer_use)?;
        self.upload(&buffer, words)?;
        Ok(buffer)
    }

    /// Writes words into a buffer in pieces, and waits for each, so that steps run between them.
    pub(crate) fn upload(&self, buffer: &Buffer, words: &[u32]) -> Result<(), DeviceFault> {
        self.upload_at(buffer, 0, words)
    }

    /// Like [`Gpu::upload`], from a byte of the buffer on.
    pub(crate) fn upload_at(&self, buffer: &Buffer, from: u64, words: &[u32]) -> Result<(), DeviceFault> {
        match self {
            Gpu::Portable(device) => device.upload_at(buffer.portable(), from, words),
            Gpu::Cuda(device) => device.upload_at(buffer.cuda(), from, words),
        }
    }

    /// Binds the buffers of a kernel, in order.
    pub(crate) fn bind(&self, kernel: &Kernel, buffers: &[&Buffer]) -> Result<Bound, DeviceFault> {
        match (self, kernel) {
            (Gpu::Portable(device), Kernel::Portable(kernel)) => {
                let buffers: Vec<_> = buffers.iter().map(|buffer| buffer.portable()).collect();
                Ok(Bound::Portable(device.run("bindings", || kernel.bind(device, &buffers))?))
            }
            (Gpu::Cuda(_), Kernel::Cuda(_)) => {
                Ok(Bound::Cuda(cuda::Bound::new(buffers.iter().map(|buffer| buffer.cuda()))))
            }
            _ => unreachable!("{OWN}"),
        }
    }

    /// Binds a buffer with the data of a step.
    pub(crate) fn bind_step(&self, buffer: &Buffer) -> Result<Bound, DeviceFault> {
        match self {
            Gpu::Portable(device) => {
                Ok(Bound::Portable(device.run("bindings", || device.bind_step(buffer.portable()))?))
            }
            Gpu::Cuda(_) => Ok(Bound::Cuda(cuda::Bound::new([buffer.cuda()].into_iter()))),
        }
    }

    /// Rows for which kernels of a batch are launched, at least `rows`. Those after the last row of the call do nothing. A
    /// device that remembers commands is launched for few different numbers.
    pub(crate) fn launched_rows(&self, rows: u32) -> u32 {
        match self {
            Gpu::Portable(_) => rows,
            Gpu::Cuda(_) => cuda::launched_rows(rows),
        }
    }

    /// Groups of threads of a head that run so many spans of attention. A device that remembers commands has one number for all.
    pub(crate) fn span_groups(&self, heads: usize, spans: u32) -> u32 {
        match self {
            Gpu::Portable(_) => spans,
            Gpu::Cuda(_) => cuda::span_groups(heads),
        }
    }

    /// Writes words to the start of a buffer, runs commands, and reads floats from the start of another buffer, if any.
    pub(crate) fn run(
        &self,
        upload: Option<(&Buffer, &[u32])>,
        commands: &[Command<'_>],
        results: Option<(&Buffer, usize)>,
    ) -> Result<Vec<f32>, DeviceFault> {
        self.run_lists(upload, &[commands], results)
    }

    /// Like [`Gpu::run`], with lists of commands that repeat independently of each other: a device remembers each for itself.
    pub(crate) fn run_lists(
        &self,
        upload: Option<(&Buffer, &[u32])>,
        lists: &[&[Command<'_>]],
        results: Option<(&Buffer, usize)>,
    ) -> Result<Vec<f32>, DeviceFault> {
        match self {
            Gpu::Portable(device) => {
                let upload = upload.map(|(buffer, words)| (buffer.portable(), words));
                let results = results.map(|(buffer, count)| (buffer.portable(), count));
                device.run_step(upload, &lists.concat(), results)
            }
            Gpu::Cuda(device) => {
                let upload = upload.map(|(buffer, words)| (buffer.cuda(), words));
                device.run_lists(upload, lists, results.map(|(buffer, count)| (buffer.cuda(), count)))
            }
        }
    }
}

/// What callers keep to.
const OWN: &str = "an engine has buffers and kernels of its own device alone";

impl Buffer {
    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Buffer::Portable(buffer) => buffer.size(),
            Buffer::Cuda(buffer) => buffer.size(),
        }
    }

    fn portable(&self) -> &wgpu::Buffer {
        match self {
            Buffer::Portable(buffer) => buffer,
            Buffer::Cuda(_) => unreachable!("{OWN}"),
        }
    }

    fn cuda(&self) -> &cuda::Buffer {
        match self {
            Buffer::Cuda(buffer) => buffer,
            Buffer::Portable(_) => unreachable!("{OWN}"),
        }
    }
}

impl Kernel {
    fn portable(&self) -> &portable::Kernel {
        match self {
            Kernel::Portable(kernel) => kernel,
            Kernel::Cuda(_) => unreachable!("{OWN}"),
        }
    }
}

impl Bound {
    fn portable(&self) -> &wgpu::BindGroup {
        match self {
            Bound::Portable(bound) => bound,
            Bound::Cuda(_) => unreachable!("{OWN}"),
        }
    }
}
