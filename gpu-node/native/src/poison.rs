//! Poisoning of freed memory, for tests that look for uses after free.
//!
//! Memory is overwritten with NaNs before it goes back to the allocator, so that reading the activations of a freed engine
//! yields NaN. Mappings hold weights, keys and values: a freed one stays mapped and becomes unreadable, so that reading a
//! released weight set ends the process, even if another one of the same size was loaded since. A matrix that is dropped while
//! others in its mapping live stays readable.

#![allow(unsafe_code)]

use memmap2::{MmapMut, MmapOptions};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Smaller allocations are left alone: they hold no activations or logits.
const MIN_BYTES: usize = 1024;
/// Four of these are a NaN in f32, two in f16 and bf16.
pub(crate) const POISON: u8 = 0xff;
/// The largest number of freed mappings that are kept; beyond it the oldest are unmapped. Linux allows a process about
/// 65,000 mappings.
const MAX_KEPT: usize = 4096;

static POISONING: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<VecDeque<MmapMut>> = Mutex::new(VecDeque::new());

/// Switches poisoning on, or off, which also unmaps the mappings that were kept.
///
/// All it costs is a read of this switch whenever memory is freed, so every build has it: tests run the binary that is
/// shipped.
pub fn poison_freed(on: bool) {
    POISONING.store(on, Ordering::Relaxed);
    if !on {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether memory of this size is to be poisoned when it is freed.
pub(crate) fn poisons(bytes: usize) -> bool {
    bytes >= MIN_BYTES && POISONING.load(Ordering::Relaxed)
}

/// A mapping of zeroed memory, which is unmapped when it is dropped.
pub(crate) struct Mapping(ManuallyDrop<MmapMut>);

impl Mapping {
    /// Maps memory; an error if the machine does not have it.
    pub(crate) fn new(options: &MmapOptions) -> io::Result<Mapping> {
        options.map_anon().map(|map| Mapping(ManuallyDrop::new(map)))
    }
}

impl Deref for Mapping {
    type Target = MmapMut;

    fn deref(&self) -> &MmapMut {
        &self.0
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut MmapMut {
        &mut self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the map is not used after this.
        let mut map = unsafe { ManuallyDrop::take(&mut self.0) };
        if !poisons(map.len()) {
            return;
        }
        forbid(&mut map);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(map);
        if kept.len() > MAX_KEPT {
            kept.pop_front();
        }
    }
}

/// Gives the memory back and makes its addresses unreadable.
#[cfg(unix)]
fn forbid(map: &mut MmapMut) {
    const PROT_NONE: i32 = 0;
    unsafe extern "C" {
        fn mprotect(start: *mut u8, bytes: usize, protection: i32) -> i32;
    }
    // SAFETY: nothing may read or write this mapping any more. An access that does fails, which tests want to see.
    let result = unsafe {
        let _ = map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed);
        mprotect(map.as_mut_ptr(), map.len(), PROT_NONE)
    };
    assert_eq!(result, 0, "a mapping cannot be made unreadable: {}", io::Error::last_os_error());
}

#[cfg(not(unix))]
fn forbid(map: &mut MmapMut) {
    map.fill(POISON);
}
