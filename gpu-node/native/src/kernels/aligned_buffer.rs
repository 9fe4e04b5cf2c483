//! Buffers that begin at a line of the cache.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A line of the cache. Tiles and vectors that cross two are read at half the speed.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

/// Numbers for which every pattern of bits is valid, and 64 bytes a whole number of them.
///
/// # Safety
///
/// Both hold.
pub(super) unsafe trait PlainNumber: Copy {}
// SAFETY: every pattern is a number, of 1 and of 4 bytes.
unsafe impl PlainNumber for u8 {}
// SAFETY: as above.
unsafe impl PlainNumber for u32 {}

/// A slice of numbers that begins at a line of the cache.
pub(super) struct AlignedBuffer<T> {
    lines: Vec<CacheLine>,
    length: usize,
    numbers: PhantomData<T>,
}

impl<T: PlainNumber> AlignedBuffer<T> {
    /// `length` zeros.
    pub(super) fn zeros(length: usize) -> AlignedBuffer<T> {
        let lines = vec![CacheLine([0; 64]); (length * size_of::<T>()).div_ceil(size_of::<CacheLine>())];
        AlignedBuffer { lines, length, numbers: PhantomData }
    }
}

impl<T: PlainNumber> Deref for AlignedBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines have as many numbers, and any bits are numbers.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: PlainNumber> DerefMut for AlignedBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
