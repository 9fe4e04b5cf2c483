//! The primary context of a device, and the resources that belong to it.
//!
//! The driver gives a process one primary context for each device, so everything that is open on a device shares one
//! [`Context`]. An error that breaks it, such as an access to an illegal address, breaks it for all of them. It is then
//! reset when the device is opened again, or when the last user is gone. A reset frees all resources of the context, so
//! from the error on nothing calls the driver for them, not even to free them.

use super::calls::{self, DriverError, describe, written};
use crate::fault::DeviceFault;
use cudarc::driver::sys::{CUcontext, CUctx_flags, CUdevice, CUresult};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The longest time that calls of a broken context may take to fail.
const RESET_TIMEOUT: Duration = Duration::from_secs(30);

/// The flag of a context whose threads sleep while they wait for the device.
pub(super) const SLEEP_WHILE_WAITING: u32 = CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32;

/// The contexts of the process. A context is removed when it was released.
static CONTEXTS: Mutex<Vec<(CUdevice, Weak<Context>)>> = Mutex::new(Vec::new());
/// Signalled when a context was released.
static RELEASED: Condvar = Condvar::new();

/// The retained primary context of a device.
pub(super) struct Context {
    device: CUdevice,
    raw: CUcontext,
    /// The error that broke it.
    broken: OnceLock<String>,
    /// Threads that are calling the driver.
    calls: AtomicUsize,
    /// Bindings that were dropped: graphs of them cannot be found any more.
    dropped_bindings: AtomicU64,
    /// Whether it was reset and released.
    reset: AtomicBool,
}

// SAFETY: a context may be used from every thread on which it was set.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks it.
unsafe impl Sync for Context {}

impl Context {
    /// Retains the primary context of a device that the driver named. Resets it first if it is broken.
    pub(super) fn open(device: CUdevice) -> Result<Arc<Context>, DeviceFault> {
        let mut contexts = lock(&CONTEXTS);
        while let Some(at) = contexts.iter().position(|(known, _)| *known == device) {
            match contexts[at].1.upgrade() {
                Some(context) if context.broken.get().is_none() => return Ok(context),
                Some(context) => {
                    if let Err(fault) = context.reset() {
                        // This may be its last reference by now, and its end locks the list.
                        drop(contexts);
                        return Err(fault);
                    }
                    contexts.remove(at);
                }
                // Its last user is about to release it.
                None => contexts = RELEASED.wait(contexts).unwrap_or_else(PoisonError::into_inner),
            }
        }
        // SAFETY: the call writes a context.
        let retained = unsafe {
            // A thread that waits for the device sleeps until the device wakes it, where it would otherwise occupy a core. A driver
            // that does not take the flag keeps its own way to wait.
            let _ = calls::cuDevicePrimaryCtxSetFlags_v2(device, SLEEP_WHILE_WAITING);
            written(|context| calls::cuDevicePrimaryCtxRetain(context, device))
        };
        let raw = retained.map_err(|error| match error.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
            true => DeviceFault::OutOfMemory("a context of CUDA: other programs hold it".to_owned()),
            false => DeviceFault::Unavailable(describe(error)),
        })?;
        let context = Arc::new(Context {
            device,
            raw,
            broken: OnceLock::new(),
            calls: AtomicUsize::new(0),
            dropped_bindings: AtomicU64::new(0),
            reset: AtomicBool::new(false),
        });
        contexts.push((device, Arc::downgrade(&context)));
        Ok(context)
    }

    /// Makes the context current on this thread, and keeps it from being reset while the result lives.
    pub(super) fn enter(&self) -> Result<Calls<'_>, DeviceFault> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let calls = Calls(self);
        if let Some(reason) = self.broken.get() {
            return Err(DeviceFault::Lost(reason.clone()));
        }
        // SAFETY: it was retained, and is not released before `calls` is dropped.
        match unsafe { calls::cuCtxSetCurrent(self.raw) } {
            Ok(()) => Ok(calls),
            Err(error) => {
                let reason = describe(error);
                self.break_with(&reason);
                Err(DeviceFault::Lost(reason))
            }
        }
    }

    /// Notes that nothing runs in the context any more. The first reason counts.
    pub(super) fn break_with(&self, reason: &str) {
        drop(self.broken.set(reason.to_owned()));
    }

    /// Bindings that were dropped.
    pub(super) fn dropped_bindings(&self) -> u64 {
        self.dropped_bindings.load(Ordering::Acquire)
    }

    /// Frees all resources of the broken context, when no thread uses them any more, and releases it.
    fn reset(&self) -> Result<(), DeviceFault> {
        let start = Instant::now();
        // Written, not only read: a thread that enters after this sees that the context is broken.
        while self.calls.compare_exchange(0, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            if start.elapsed() > RESET_TIMEOUT {
                let reason = "the device was lost, and calls of its driver do not return".to_owned();
                return Err(DeviceFault::Unavailable(reason));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.release();
        self.reset.store(true, Ordering::Release);
        Ok(())
    }

    fn release(&self) {
        // SAFETY: it was retained once and is released once. Before a reset no thread of ours uses its resources any more.
        // What fails, fails again where the device is opened.
        unsafe {
            if self.broken.get().is_some() {
                let _ = calls::cuDevicePrimaryCtxReset_v2(self.device);
            }
            let _ = calls::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if *self.reset.get_mut() {
            return;
        }
        let mut contexts = lock(&CONTEXTS);
        self.release();
        contexts.retain(|(_, context)| !std::ptr::eq(context.as_ptr(), self));
        RELEASED.notify_all();
    }
}

/// Lives as long as a binding.
pub(super) struct BindingLife(Arc<Context>);

impl BindingLife {
    pub(super) fn new(context: &Arc<Context>) -> Arc<BindingLife> {
        Arc::new(BindingLife(Arc::clone(context)))
    }
}

impl Drop for BindingLife {
    fn drop(&mut self) {
        self.0.dropped_bindings.fetch_add(1, Ordering::Release);
    }
}

/// Calls of the driver in a context, which is current on this thread.
pub(super) struct Calls<'a>(&'a Context);

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Release);
    }
}

/// A resource of a context, which is freed with this.
pub(super) struct Owned<T: Copy> {
    raw: T,
    free: unsafe fn(T) -> Result<(), DriverError>,
    context: Arc<Context>,
}

// SAFETY: the driver's handles are valid on every thread.
unsafe impl<T: Copy> Send for Owned<T> {}
// SAFETY: as above; reading a handle changes nothing.
unsafe impl<T: Copy> Sync for Owned<T> {}

impl<T: Copy> Owned<T> {
    /// Owns a resource that a call has made.
    ///
    /// # Safety
    /// `free` must take the resource, which nothing else frees.
    pub(super) unsafe fn new(
        context: &Arc<Context>,
        raw: Result<T, DriverError>,
        free: unsafe fn(T) -> Result<(), DriverError>,
    ) -> Result<Owned<T>, DriverError> {
        Ok(Owned { raw: raw?, free, context: Arc::clone(context) })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The resource, valid as long as this lives and the context is not reset.
    pub(super) fn raw(&self) -> T {
        self.raw
    }
}

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Ok(_calls) = self.context.enter() {
            // SAFETY: who made this vouches for `free`; the context was not reset. What still fails has no consequence.
            let _ = unsafe { (self.free)(self.raw) };
        }
    }
}

/// Locks a mutex, whatever a thread that held it has met.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
