//! The allocator of the process: the system's, with two switches for tests. Every build has them, so that tests run the
//! binary that is shipped.

#![allow(unsafe_code)]

use crate::poison::{POISON, poisons};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts the allocations and reallocations of all threads while `work` runs. Only one count may run at a time.
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

// SAFETY: every call goes to the system's allocator unchanged. Memory is overwritten, within the size that was
// allocated, while it still belongs to the caller that frees it.
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
            // SAFETY: `memory` has `layout.size()` bytes, and nothing may use them any more.
            unsafe { memory.write_bytes(POISON, layout.size()) };
            // The compiler would remove a write right before memory is freed, unless the memory is used afterwards.
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
        // SAFETY: the caller guarantees that the size fits the alignment. The new memory does not overlap the old, and
        // both have the bytes that are copied. The old memory is freed only if there is new memory.
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
