//! Buffers that begin at a line of the cache.

use std::ops::{Deref, DerefMut};

/// Bytes of a line of the cache. Tiles and vectors that cross two lines are read at half the speed.
const LINE: usize = 64;

/// Numbers of which the first is at the beginning of a line of the cache.
pub(super) struct AlignedBuffer<T> {
    numbers: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Copy + Default> AlignedBuffer<T> {
    /// `length` zeros. The system gives them memory when they are first written.
    pub(super) fn zeros(length: usize) -> AlignedBuffer<T> {
        let numbers = vec![T::default(); length + LINE / size_of::<T>()];
        let start = numbers.as_ptr().align_offset(LINE);
        AlignedBuffer { numbers, start, length }
    }
}

impl<T> Deref for AlignedBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.numbers[self.start..][..self.length]
    }
}

impl<T> DerefMut for AlignedBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.numbers[self.start..][..self.length]
    }
}
