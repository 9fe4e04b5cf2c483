//! Memory of the device, and pinned memory of the processor that it is transferred through.

use super::calls::{self, DriverError, written};
use super::context::{Calls, Context, Owned, lock};
use super::{Cuda, next_id};
use crate::fault::DeviceFault;
use cudarc::driver::sys::CUdeviceptr;
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes that are copied to the device at a time while it loads weights: little enough that a step waits only shortly.
pub(super) const PIECE_BYTES: usize = 4 << 20;

/// Memory of the device. Clones share it; the last one frees it.
#[derive(Clone)]
pub(crate) struct Buffer(Arc<Memory>);

struct Memory {
    id: u64,
    bytes: u64,
    address: Owned<CUdeviceptr>,
}

impl Buffer {
    /// Bytes.
    pub(in crate::device) fn size(&self) -> u64 {
        self.0.bytes
    }

    /// Whether it has some bytes from a byte on.
    pub(super) fn has(&self, from: u64, bytes: u64) -> bool {
        from.checked_add(bytes).is_some_and(|end| end <= self.size())
    }

    /// Identifies the buffer; no other resource of the process has it, before or after.
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn address(&self) -> CUdeviceptr {
        self.0.address.raw()
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        self.0.address.context()
    }
}

/// Memory of the processor that the device copies from and to by itself.
pub(super) struct Pinned {
    memory: Owned<*mut c_void>,
    bytes: usize,
}

impl Pinned {
    pub(super) fn new(context: &Arc<Context>, _: &Calls<'_>, bytes: usize) -> Result<Pinned, DriverError> {
        // SAFETY: the memory is freed by its own function, and filled before anything reads it.
        let memory = unsafe {
            let raw = written(|memory| calls::cuMemHostAlloc(memory, bytes, 0));
            let memory = Owned::new(context, raw, calls::cuMemFreeHost)?;
            memory.raw().cast::<u8>().write_bytes(0, bytes);
            memory
        };
        Ok(Pinned { memory, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn address(&self) -> *mut c_void {
        self.memory.raw()
    }

    /// Writes bytes to the start. The device does not use the memory meanwhile.
    pub(super) fn write(&mut self, _: &Calls<'_>, bytes: &[u8]) {
        assert!(bytes.len() <= self.bytes, "pinned memory was reserved");
        // SAFETY: it has room, nothing else refers to it, and it is not freed while the context is used.
        unsafe { self.memory.raw().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Floats at the start. The device does not use the memory meanwhile.
    pub(super) fn floats(&self, _: &Calls<'_>, count: usize) -> Vec<f32> {
        assert!(4 * count <= self.bytes, "pinned memory was reserved");
        // SAFETY: it holds as many, aligned to a page and written at least once; it is not freed while the context is used.
        unsafe { std::slice::from_raw_parts(self.memory.raw().cast::<f32>(), count) }.to_vec()
    }
}

/// Frees memory that a stream has allocated. The driver takes it that all uses have ended, and does not wait for the device.
///
/// # Safety
/// Nothing may use the memory any more.
unsafe fn free_of_pool(address: CUdeviceptr) -> Result<(), DriverError> {
    // SAFETY: passed on.
    unsafe {
        calls::cuMemFree_v2(address)?;
        // A pool gives memory back to other programs when somebody waits for a stream. Nothing runs on the default one.
        calls::cuStreamSynchronize(std::ptr::null_mut())
    }
}

impl Cuda {
    /// Allocates a buffer, zeroed, of at least `bytes`.
    pub(in crate::device) fn allocate(&self, what: &str, bytes: u64) -> Result<Buffer, DeviceFault> {
        let entered = self.enter()?;
        let size = bytes.max(16).checked_next_multiple_of(16);
        let size = size
            .filter(|&size| size <= self.description.max_binding_bytes)
            .ok_or_else(|| DeviceFault::OutOfMemory(format!("{what}: {bytes} bytes in one buffer")))?;
        let (uploads, bytes) = (self.uploads.raw(), size as usize);
        // SAFETY: the memory is freed by its own function. It is zeroed before anyone else knows it.
        let address = unsafe {
            // Otherwise allocating and freeing would wait for the device, which runs steps meanwhile.
            let (raw, free): (_, unsafe fn(_) -> _) = match self.has_pools {
                true => (written(|address| calls::cuMemAllocAsync(address, bytes, uploads)), free_of_pool),
                false => (written(|address| calls::cuMemAlloc_v2(address, bytes)), calls::cuMemFree_v2),
            };
            let address = self.checked(what, Owned::new(&self.context, raw, free))?;
            self.checked(what, calls::cuMemsetD8Async(address.raw(), 0, bytes, uploads))?;
            address
        };
        self.finish(&entered, what, self.uploads.raw())?;
        Ok(Buffer(Arc::new(Memory { id: next_id(), bytes: size, address })))
    }

    /// Writes words into a buffer from a byte on, in pieces, and waits for each, so that steps run between them.
    pub(in crate::device) fn upload_at(
        &self,
        buffer: &Buffer,
        from: u64,
        words: &[u32],
    ) -> Result<(), DeviceFault> {
        let what = "an upload";
        let bytes: &[u8] = bytemuck::cast_slice(words);
        assert!(buffer.has(from, bytes.len() as u64), "a buffer was allocated for its contents");
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            // Held for a piece, so that the pieces of two loads alternate.
            let mut staging = lock(&self.staging);
            let entered = self.enter()?;
            staging.write(&entered, piece);
            let to = buffer.address() + from + (index * PIECE_BYTES) as u64;
            // SAFETY: both have room for the piece, and live until the copy has ended.
            let copied = unsafe {
                calls::cuMemcpyHtoDAsync_v2(to, staging.address(), piece.len(), self.uploads.raw())
            };
            self.checked(what, copied)?;
            self.finish(&entered, what, self.uploads.raw())?;
        }
        Ok(())
    }
}
