//! The process's allocator: the system's, with two switches for tests. They are in every build: what is tested is what
//! is shipped.

#![allow(unsafe_code)]

use crate::poison::{POISON, poisons};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// How often any thread asks for memory, or for more of it, while `work` runs; one count at a time.
pub fn allocations_during(work: impl FnOnce()) -> usize {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    work();
    COUNTING.store(false, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst)
}

fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: everything is the system's, unchanged; memory is overwritten while it is still the caller's to
// give back, in the size that it was asked for.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if poisons(layout.size()) {
            // SAFETY: `memory` has `layout.size()` bytes, and nobody else may use them any more.
            unsafe { memory.write_bytes(POISON, layout.size()) };
            // The compiler knows what freeing is, and leaves out what is written right before it unless it was seen.
            black_box(memory);
        }
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !poisons(layout.size()) {
            count();
            // SAFETY: the caller's contract.
            return unsafe { System.realloc(memory, layout, size) };
        }
        // SAFETY: the caller says that the size fits the alignment; the new memory is another's, and both have the bytes
        // that are copied. The old memory is given back only where there is new.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(memory, size.min(layout.size()));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}
