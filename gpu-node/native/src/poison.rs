//! Freed memory that tells: for tests, what is given back is overwritten first, so that whoever still reads a
//! weight set that was released reads numbers that are none.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// Smaller pieces hold no weights, keys or values.
const LEAST_BYTES: usize = 1024;
/// Four of these are a NaN in f32, two in f16 and bf16.
const POISON: u8 = 0xff;

static POISONING: AtomicBool = AtomicBool::new(false);

/// From now on freed memory is overwritten, or left alone. It costs a look at this switch whenever memory is
/// freed, so it is in every build: what is tested is what is shipped.
pub fn poison_freed(on: bool) {
    POISONING.store(on, Ordering::Relaxed);
}

/// The system's allocator, and the switch.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: everything is the system's, unchanged; memory is overwritten while it is still the caller's to
// give back, in the size that it was asked for.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if layout.size() >= LEAST_BYTES && POISONING.load(Ordering::Relaxed) {
            // SAFETY: `memory` has `layout.size()` bytes, and nobody else may use them any more.
            unsafe { memory.write_bytes(POISON, layout.size()) };
        }
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}
