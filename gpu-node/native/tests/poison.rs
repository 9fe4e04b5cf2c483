//! Poisoned memory: freed allocations read as NaN, freed mappings cannot be read and their addresses are not reused.

use crate::support::packed;
use copal_native::poison::poison_freed;
use copal_native::storage::Format;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Too large for the allocator's lists of small pieces and too small for a mapping of its own, so it stays mapped when it
/// is freed.
const BYTES: usize = 64 << 10;
/// The allocator uses both ends of a freed piece for itself.
const ENDS: usize = 64;

/// The mappings that cannot be read.
fn unreadable() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().filter(|line| line.contains(" ---p ")).map(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()
    });
    ranges.collect()
}

/// One test only, because the switch and the memory belong to the process.
pub fn freed_memory_is_poisoned() {
    let memory = File::open("/proc/self/mem").unwrap();
    // Allocated first, or it could reuse the freed memory.
    let mut seen = vec![0; BYTES - 2 * ENDS];
    // Reads through the system, because a reference to freed memory must not exist.
    let mut is_poisoned = |address: usize| {
        memory.read_exact_at(&mut seen, (address + ENDS) as u64).unwrap();
        seen.iter().all(|&byte| byte == 0xff)
    };
    // The memory behind it stays allocated, or the freed memory would be merged with unused memory.
    let allocate = || (vec![7u8; BYTES], vec![7u8; BYTES]);

    let (freed, _behind) = allocate();
    let address = freed.as_ptr().addr();
    drop(freed);
    assert!(!is_poisoned(address), "nothing is overwritten before poisoning is on");

    poison_freed(true);
    let (freed, _behind) = allocate();
    let address = freed.as_ptr().addr();
    drop(freed);
    assert!(is_poisoned(address), "freed");

    let (mut grown, _behind) = allocate();
    let address = grown.as_ptr().addr();
    grown.reserve_exact(4 * BYTES);
    assert_ne!(grown.as_ptr().addr(), address);
    assert!(is_poisoned(address), "freed because the vector moved to grow");
    assert!(grown.iter().all(|&byte| byte == 7));

    // A mapping larger than those that matrices share, a size that no other unreadable mapping has.
    let dense = vec![0.5; 9 * 1024 * 4096];
    let matrix = || packed(&dense, 4096, None, Format::BF16);
    let is_matrix = |range: &Range<usize>| range.len() == 74 << 20;
    assert!(!unreadable().iter().any(is_matrix));
    drop(matrix());
    let kept =
        unreadable().into_iter().find(is_matrix).expect("the weights of the dropped matrix stay mapped");
    let _others = [(); 3].map(|()| matrix());
    assert!(unreadable().contains(&kept), "no other matrix reuses its addresses");
    poison_freed(false);
    assert!(!unreadable().contains(&kept), "unmapped when poisoning is off");
}
