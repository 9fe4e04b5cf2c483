//! What a switch makes of freed memory: it reads as no numbers, or cannot be read, and is not given out again.
#![cfg(target_os = "linux")]

mod support;

use copal_native::poison::poison_freed;
use copal_native::storage::Format;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use support::packed;

/// Too large for lists of small pieces, too small for a mapping of its own: freed, it stays mapped.
const BYTES: usize = 64 << 10;
/// Of what is freed, the allocator uses the ends for itself.
const ENDS: usize = 64;

/// Where memory is mapped that cannot be read.
fn unreadable() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().filter(|line| line.contains(" ---p ")).map(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()
    });
    ranges.collect()
}

/// One test, because the switch and the memory are the process's.
#[test]
fn freed_memory_tells() {
    let memory = File::open("/proc/self/mem").unwrap();
    // Made before, or it would lie in what is freed.
    let mut seen = vec![0; BYTES - 2 * ENDS];
    // What lies there, asked of the system: a reference to freed memory must not be.
    let mut is_poisoned = |address: usize| {
        memory.read_exact_at(&mut seen, (address + ENDS) as u64).unwrap();
        seen.iter().all(|&byte| byte == 0xff)
    };
    // What is behind it stays, or it would be joined with what was never used.
    let allocate = || (vec![7u8; BYTES], vec![7u8; BYTES]);

    let (freed, _behind) = allocate();
    let address = freed.as_ptr().addr();
    drop(freed);
    assert!(!is_poisoned(address), "nothing is overwritten before it is asked for");

    poison_freed(true);
    let (freed, _behind) = allocate();
    let address = freed.as_ptr().addr();
    drop(freed);
    assert!(is_poisoned(address), "freed");

    let (mut grown, _behind) = allocate();
    let address = grown.as_ptr().addr();
    grown.reserve_exact(4 * BYTES);
    assert_ne!(grown.as_ptr().addr(), address);
    assert!(is_poisoned(address), "moved, to grow");
    assert!(grown.iter().all(|&byte| byte == 7));

    // Of two megabytes, as nothing else is that cannot be read.
    let dense = vec![0.5; 1024 * 1024];
    let matrix = || packed(&dense, 1024, None, Format::BF16);
    let is_matrix = |range: &Range<usize>| (2 << 20..3 << 20).contains(&range.len());
    assert!(!unreadable().iter().any(is_matrix));
    drop(matrix());
    let kept = unreadable().into_iter().find(is_matrix).expect("the weights of a matrix that was dropped");
    let _others = [(); 3].map(|()| matrix());
    assert!(unreadable().contains(&kept), "no other matrix has its place");
    poison_freed(false);
    assert!(!unreadable().contains(&kept), "given back when nobody asks any more");
}
