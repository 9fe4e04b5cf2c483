//! Memory for packed matrices, in huge pages where the system gives them.

#![allow(unsafe_code)]

use crate::poison::{Mapping, poisons};
use memmap2::MmapOptions;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a huge page of x86-64 and of most ARM systems.
const HUGE_PAGE: usize = 2 << 20;
/// Matrices begin at a page, so that no two threads that pack write to one.
const ALIGNMENT: usize = 4096;

/// Memory for matrices that are used and released together, such as those of a weight set: small ones share a mapping, a chunk,
/// which is left to the next set, or unmapped, when the last of them is dropped.
///
/// A product reads its matrices as one stream, in which a page of 4 KiB ends after every 64 vectors. With huge pages one token of
/// bf16 is 1.3 to 1.7 times as fast on a virtual machine of Zen 5, see `docs/measurements/engine-zen5.md`, *Huge pages*.
pub struct Arena {
    chunk_bytes: usize,
    spare: Weak<Spare>,
    /// The latest chunk, and how many of its bytes are taken.
    latest: Mutex<Option<(Arc<Chunk>, usize)>>,
    mapped_bytes: AtomicUsize,
}

/// Mappings that sets have left to their successors. A new mapping takes longer than using one again: in a virtual machine whose
/// host takes unused memory back, each huge page of it holds up the machine for milliseconds.
#[derive(Default)]
pub struct Spare(Mutex<(Vec<Pages>, usize)>);

/// A mapping.
struct Pages {
    mapping: Mapping,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the address is that of the mapping, which may be used by any thread.
unsafe impl Send for Pages {}

/// A mapping whose parts have different owners.
struct Chunk {
    pages: ManuallyDrop<Pages>,
    /// Whether it may have other bytes than zeros.
    was_used: bool,
    spare: Weak<Spare>,
}

/// A part of a chunk that nothing else reads or writes.
pub(super) struct Part {
    chunk: Arc<Chunk>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: nothing reads or writes the mapping but by its parts.
unsafe impl Sync for Chunk {}
// SAFETY: a part owns its bytes, as a `Box<[u8]>` does.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Default for Arena {
    /// For matrices that are all released together. What no matrix takes of a chunk has no memory.
    fn default() -> Arena {
        Arena::with_chunks(64 << 20)
    }
}

impl Arena {
    /// With mappings of so many bytes, a multiple of a huge page, unless a matrix is larger. Smaller ones are for matrices of
    /// which some live longer, and keep the memory of their neighbours.
    pub(crate) fn with_chunks(chunk_bytes: usize) -> Arena {
        Arena { chunk_bytes, spare: Weak::new(), latest: Mutex::new(None), mapped_bytes: AtomicUsize::new(0) }
    }

    /// As the default, and its mappings come from `spare` and go there.
    pub(crate) fn with_spare(spare: &Arc<Spare>) -> Arena {
        Arena { spare: Arc::downgrade(spare), ..Arena::default() }
    }

    /// Bytes of all its mappings.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.mapped_bytes.load(Ordering::Relaxed)
    }

    /// Zeroed memory; an error if the machine does not have it. `pause` is called between pieces of its pages that are populated
    /// together.
    pub(super) fn allocate(&self, bytes: usize, pause: &dyn Fn()) -> io::Result<Part> {
        let mut part = self.take(bytes)?;
        part.populate(pause);
        Ok(part)
    }

    fn take(&self, bytes: usize) -> io::Result<Part> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (chunk, taken) = match &mut *latest {
            Some(latest) if latest.0.pages.bytes - latest.1 >= bytes => latest,
            latest => latest.insert((Arc::new(self.chunk(bytes.max(self.chunk_bytes))?), 0)),
        };
        // SAFETY: `taken` is within the mapping.
        let start = unsafe { chunk.pages.start.add(*taken) };
        *taken = (*taken + bytes).next_multiple_of(ALIGNMENT).min(chunk.pages.bytes);
        Ok(Part { chunk: Arc::clone(chunk), start, bytes })
    }

    /// A mapping of at least so many bytes.
    fn chunk(&self, bytes: usize) -> io::Result<Chunk> {
        let spare = self.spare.upgrade().and_then(|spare| spare.take(bytes));
        let was_used = spare.is_some();
        let pages = ManuallyDrop::new(spare.map_or_else(|| Pages::new(bytes), Ok)?);
        self.mapped_bytes.fetch_add(pages.bytes, Ordering::Relaxed);
        Ok(Chunk { pages, was_used, spare: Weak::clone(&self.spare) })
    }
}

impl Spare {
    /// Keeps at most so many bytes from now on.
    pub(crate) fn limit(&self, bytes: usize) {
        let (kept, limit) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *limit = bytes;
        while bytes_of(kept) > bytes {
            kept.pop();
        }
    }

    fn take(&self, bytes: usize) -> Option<Pages> {
        let (kept, _) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|pages| pages.bytes >= bytes)?;
        Some(kept.swap_remove(index))
    }

    fn keep(&self, pages: Pages) {
        let (kept, limit) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes_of(kept) + pages.bytes <= *limit {
            kept.push(pages);
        }
    }
}

fn bytes_of(kept: &[Pages]) -> usize {
    kept.iter().map(|pages| pages.bytes).sum()
}

impl Pages {
    /// A new mapping of at least so many bytes. Since Linux 6.7 it begins at a huge page if its length is a multiple of one.
    fn new(bytes: usize) -> io::Result<Pages> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        let mut mapping = Mapping::new(MmapOptions::new().len(bytes))?;
        // Huge pages only make it faster; a kernel without them returns an error.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        let start = NonNull::new(mapping.as_mut_ptr()).expect("a mapping has an address");
        Ok(Pages { mapping, start, bytes })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the field is not used after this.
        let pages = unsafe { ManuallyDrop::take(&mut self.pages) };
        if let Some(spare) = self.spare.upgrade()
            && !poisons(pages.bytes)
        {
            spare.keep(pages);
        }
    }
}

impl Part {
    /// Populates it, one huge page after another: some tenths of a millisecond each. Where the system cannot, the pages are
    /// populated as they are written.
    ///
    /// Writing to a huge page populates it without the lock of all mappings, for which other threads would wait: a new page can
    /// take milliseconds. If there is none, the small pages in its place are populated together, which costs less than one page
    /// fault after another.
    fn populate(&mut self, pause: &dyn Fn()) {
        if self.chunk.was_used {
            for piece in self.chunks_mut(HUGE_PAGE) {
                piece.fill(0);
                pause();
            }
            return;
        }
        #[cfg(target_os = "linux")]
        {
            let (chunk, start) = (self.chunk.pages.start.addr().get(), self.start.addr().get());
            let mut at = start;
            while at < start + self.bytes {
                self[at - start] = 0;
                let end = (at + 1).next_multiple_of(HUGE_PAGE).min(start + self.bytes);
                let advice = memmap2::Advice::PopulateWrite;
                if self.chunk.pages.mapping.advise_range(advice, at - chunk, end - at).is_err() {
                    return;
                }
                pause();
                at = end;
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = &self.chunk.pages.mapping;
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are within the mapping, which this keeps, and are given out once.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; nothing else has a reference to them.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zeroed_apart_from_each_other_and_begin_at_a_page() {
        let arena = Arena::default();
        let take = |bytes| arena.allocate(bytes, &|| ()).unwrap();
        let mut parts: Vec<Part> = [1, 5000, 4096, 70_000].into_iter().map(take).collect();
        for (index, part) in parts.iter_mut().enumerate() {
            assert_eq!(part.as_ptr() as usize % ALIGNMENT, 0);
            assert!(part.iter().all(|&byte| byte == 0));
            part.fill(index as u8 + 1);
        }
        for (index, part) in parts.iter().enumerate() {
            assert!(part.iter().all(|&byte| byte == index as u8 + 1));
        }
        assert_eq!(Arc::strong_count(&parts[0].chunk), 5, "one mapping holds all of them");
    }

    #[test]
    fn what_does_not_fit_begins_another_chunk_which_lives_as_long_as_its_last_part() {
        let arena = Arena::with_chunks(HUGE_PAGE);
        let take = |bytes| arena.take(bytes).unwrap();
        let (first, large) = (take(10), take(HUGE_PAGE + 1));
        assert_eq!(large.chunk.pages.bytes, 2 * HUGE_PAGE);
        let behind = take(10);
        assert!(Arc::ptr_eq(&large.chunk, &behind.chunk));
        let chunk = Arc::downgrade(&first.chunk);
        drop(first);
        assert!(chunk.upgrade().is_none());
        let chunk = Arc::downgrade(&large.chunk);
        drop((arena, large));
        assert_eq!(*behind, [0; 10]);
        drop(behind);
        assert!(chunk.upgrade().is_none());
    }

    #[test]
    fn a_dropped_chunk_is_used_again_zeroed_within_the_limit() {
        let spare = Arc::new(Spare::default());
        let taken = |spare: &Arc<Spare>| Arena::with_spare(spare).allocate(5000, &|| ()).unwrap();
        let kept = |spare: &Arc<Spare>| spare.0.lock().unwrap().0.len();
        drop(taken(&spare));
        assert_eq!(kept(&spare), 0, "nothing is kept before there is a limit");
        spare.limit(64 << 20);
        let (mut first, second) = (taken(&spare), taken(&spare));
        first.fill(7);
        let address = first.as_ptr();
        drop(first);
        drop(second);
        assert_eq!(kept(&spare), 1);
        let again = taken(&spare);
        assert_eq!(again.as_ptr(), address);
        assert!(again.iter().all(|&byte| byte == 0));
        drop(again);
        spare.limit(0);
        assert_eq!(kept(&spare), 0);
    }
}
