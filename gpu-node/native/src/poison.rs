//! Freed memory that tells: for tests. What is given back to the allocator is overwritten first, so that whoever still
//! reads activations of an engine that is gone reads numbers that are none. Mappings, which hold weights, keys and
//! values, stay where they are and cannot be read: whoever still reads a weight set that was released ends the process,
//! also when another one of its size is loaded at once.

#![allow(unsafe_code)]

use memmap2::{MmapMut, MmapOptions};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Smaller pieces hold no activations or logits.
const LEAST_BYTES: usize = 1024;
/// Four of these are a NaN in f32, two in f16 and bf16.
pub(crate) const POISON: u8 = 0xff;
/// Mappings that are kept when they are freed; of more the oldest go. A system lets a process have some 65,000.
const MOST_KEPT: usize = 4096;

static POISONING: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<VecDeque<MmapMut>> = Mutex::new(VecDeque::new());

/// From now on freed memory tells, or is left alone and what was kept is given back. It costs a look at this switch
/// whenever memory is freed, so it is in every build: what is tested is what is shipped.
pub fn poison_freed(on: bool) {
    POISONING.store(on, Ordering::Relaxed);
    if !on {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether what has so many bytes is to tell when it is freed.
pub(crate) fn poisons(bytes: usize) -> bool {
    bytes >= LEAST_BYTES && POISONING.load(Ordering::Relaxed)
}

/// Memory of its own, zeros at first; dropped, it goes back to the machine.
pub(crate) struct Mapping(ManuallyDrop<MmapMut>);

impl Mapping {
    /// As the options say; an error where the machine does not have it.
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
        // SAFETY: it is not used after this.
        let mut map = unsafe { ManuallyDrop::take(&mut self.0) };
        if !poisons(map.len()) {
            return;
        }
        forbid(&mut map);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(map);
        if kept.len() > MOST_KEPT {
            kept.pop_front();
        }
    }
}

/// Gives its memory back and lets nobody read its place.
#[cfg(unix)]
fn forbid(map: &mut MmapMut) {
    const PROT_NONE: i32 = 0;
    unsafe extern "C" {
        fn mprotect(start: *mut u8, bytes: usize, protection: i32) -> i32;
    }
    // SAFETY: a mapping that nobody reads or writes any more: whoever does has a fault, which is to show.
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
