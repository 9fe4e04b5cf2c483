//! Devices of NVIDIA's driver.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `devices` | finds devices |
//! | `calls` | the functions of the driver and of the compiler |
//! | `context` | the primary context of a device, and the resources that belong to it |
//! | `errors` | which errors of the driver stay |
//! | `memory` | memory of the device, and uploads |
//! | `kernels` | sources, names and constants of the kernels (`kernels/`) |
//! | `library` | finds the library of NVIDIA's compiler |
//! | `nvrtc` | NVIDIA's compiler |
//! | `cache` | files with compiled code |
//! | `compile` | compiles kernels for a model, or takes them from the cache |
//! | `launch` | runs steps |
//! | `graphs` | remembers lists of commands that repeat |
//!
//! The driver and the compiler are loaded while the program runs. Every method waits until the device has done what it
//! asked for, so nothing is in flight between two calls.

#![allow(unsafe_code)]

mod cache;
mod calls;
mod compile;
mod context;
mod devices;
mod errors;
mod graphs;
mod kernels;
mod launch;
mod library;
mod memory;
mod nvrtc;
#[cfg(test)]
mod tests;

use super::DeviceDescription;
use super::kernel::FILLING_GROUPS;
use crate::fault::DeviceFault;
use calls::{DriverError, describe, written};
use context::{Calls, Context, Owned};
use cudarc::driver::sys::{CUdevice, CUresult, CUstream};
use devices::Capability;
pub(super) use devices::{Card, find as cards};
use launch::StepState;
pub(crate) use launch::{Bound, Kernel};
pub(crate) use memory::Buffer;
use memory::{PIECE_BYTES, Pinned};
use nvrtc::Nvrtc;
use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Makes a stream not wait for the default stream: `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;

/// Tokens of the tiles of the product with a matrix, the smallest first.
pub(super) const TILES: &[u32] = &[8, 16, 32, 64];

/// Rows for which kernels are launched, at least `rows`: up to 8 as many, and 19 numbers of more, up to 1,024. So all batches
/// have few different lists of commands, and a device soon has a graph for each.
pub(super) fn launched_rows(rows: u32) -> u32 {
    rows.next_multiple_of(match rows {
        0..=8 => 1,
        9..=64 => 8,
        65..=256 => 32,
        _ => 128,
    })
}

/// Groups of threads that run the spans of attention of a head, whatever their number: those of all heads fill a card.
pub(super) fn span_groups(heads: usize) -> u32 {
    FILLING_GROUPS.div_ceil(heads) as u32
}

/// An open device.
pub struct Cuda {
    description: DeviceDescription,
    capability: Capability,
    has_pools: bool,
    /// The version of the driver.
    driver: c_int,
    nvrtc: Nvrtc,
    /// The folder for compiled code.
    cache: Option<PathBuf>,
    context: Arc<Context>,
    /// Why this device was lost; the first reason counts.
    loss: OnceLock<String>,
    /// Where steps run. It goes first where both have work.
    steps: Owned<CUstream>,
    /// Where memory is zeroed and uploaded.
    uploads: Owned<CUstream>,
    /// The piece that is being uploaded.
    staging: Mutex<Pinned>,
    state: Mutex<Box<StepState>>,
}

/// Whether the compiler on this machine compiles kernels for a device, and its driver loads them.
pub(super) fn can_compile(card: &Card) -> bool {
    let suits = |nvrtc: Nvrtc| nvrtc.is_known_to(card.driver) && nvrtc.target(card.capability).is_ok();
    Nvrtc::load(card.driver).is_ok_and(suits)
}

impl Cuda {
    /// Opens one of [`cards`].
    pub(super) fn open(card: Card) -> Result<Cuda, DeviceFault> {
        let Card { device, capability, driver, has_pools, description } = card;
        let nvrtc = Nvrtc::load(driver)?;
        let opened = open_context(device).map_err(|fault| cannot_open(&description.name, fault));
        let (context, Parts { steps, uploads, staging }) = opened?;
        Ok(Cuda {
            description,
            capability,
            has_pools,
            driver,
            nvrtc,
            cache: cache::folder(),
            context,
            loss: OnceLock::new(),
            steps,
            uploads,
            staging: Mutex::new(staging),
            state: Mutex::default(),
        })
    }

    pub(super) fn description(&self) -> &DeviceDescription {
        &self.description
    }

    pub(super) fn check(&self) -> Result<(), DeviceFault> {
        self.enter().map(drop)
    }

    /// For tests: loses the device, but not for others that have it open.
    pub(super) fn lose(&self) {
        drop(self.loss.set("a test lost it".to_owned()));
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<Calls<'_>, DeviceFault> {
        match self.loss.get() {
            Some(reason) => Err(DeviceFault::Lost(reason.clone())),
            None => self.context.enter(),
        }
    }

    /// Waits for a stream. `what` it works on completes "no memory for …".
    fn finish(&self, _: &Calls<'_>, what: &str, stream: CUstream) -> Result<(), DeviceFault> {
        // SAFETY: the stream is one of this device.
        self.checked(what, unsafe { calls::cuStreamSynchronize(stream) })
    }

    /// Loses the device if a call failed, unless it lacked memory. `what` it was for completes "no memory for …".
    fn checked<T>(&self, what: &str, result: Result<T, DriverError>) -> Result<T, DeviceFault> {
        result.map_err(|error| {
            let fault = fault(&self.context, what, error);
            if let DeviceFault::Lost(reason) = &fault {
                // Calls are checked before they are made: what the driver rejects is a fault of either.
                drop(self.loss.set(reason.clone()));
            }
            fault
        })
    }
}

/// Opens the context of a device, and makes what transfers need.
fn open_context(device: CUdevice) -> Result<(Arc<Context>, Parts), DeviceFault> {
    let context = Context::open(device)?;
    let parts = context.enter().and_then(|calls| {
        let parts = Parts::new(&context, &calls);
        parts.map_err(|error| fault(&context, "the buffers for transfers", error))
    })?;
    Ok((context, parts))
}

/// The fault of a device that cannot be opened, with its name and what to do.
fn cannot_open(name: &str, fault: DeviceFault) -> DeviceFault {
    match fault {
        DeviceFault::Lost(reason) | DeviceFault::Unavailable(reason) => DeviceFault::Unavailable(format!(
            "{name} cannot be opened by CUDA: {reason}; COPAL_GPU=vulkan uses the Vulkan driver instead"
        )),
        other => other,
    }
}

/// The fault that an error of the driver is. `what` a call was for completes "no memory for …".
fn fault(context: &Context, what: &str, error: DriverError) -> DeviceFault {
    if error.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
        return DeviceFault::OutOfMemory(what.to_owned());
    }
    let reason = describe(error);
    if errors::breaks_context(error) {
        context.break_with(&reason);
    }
    DeviceFault::Lost(reason)
}

/// What a device is opened with.
struct Parts {
    steps: Owned<CUstream>,
    uploads: Owned<CUstream>,
    staging: Pinned,
}

impl Parts {
    fn new(context: &Arc<Context>, entered: &Calls<'_>) -> Result<Parts, DriverError> {
        let mut least = 0;
        // SAFETY: the call writes two integers.
        let greatest =
            unsafe { written(|greatest| calls::cuCtxGetStreamPriorityRange(&mut least, greatest)) }?;
        let stream = |priority| {
            // SAFETY: the call writes a stream, and streams are destroyed by this function.
            unsafe {
                let raw = written(|stream| calls::cuStreamCreateWithPriority(stream, NON_BLOCKING, priority));
                Owned::new(context, raw, calls::cuStreamDestroy_v2)
            }
        };
        let (steps, uploads) = (stream(greatest)?, stream(least)?);
        Ok(Parts { steps, uploads, staging: Pinned::new(context, entered, PIECE_BYTES)? })
    }
}

/// An identity that no other resource of the process has, before or after.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
