//! Matrices of f32 on a device, in parts that its buffers hold.

use super::Fault;
use crate::device::kernel::SQUARE_TILE;
use crate::device::{Buffer, BufferUse, Command, Gpu};
use crate::fault::DeviceFault;
use std::ops::Range;

/// A matrix `[rows, cols]`.
pub(super) struct Parted {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Rows of each part but the last: whole tiles.
    pub(super) part_rows: usize,
    pub(super) parts: Vec<Buffer>,
}

impl Parted {
    /// Allocates a matrix in buffers of at most `buffer_bytes`. `what` it is completes "no memory for …".
    pub(super) fn allocate(
        (gpu, buffer_bytes): (&Gpu, u64),
        what: &str,
        (rows, cols): (usize, usize),
        buffer_use: BufferUse,
    ) -> Result<Parted, DeviceFault> {
        let part_rows = (buffer_bytes / (4 * cols as u64)) as usize / SQUARE_TILE * SQUARE_TILE;
        if part_rows == 0 {
            return Err(DeviceFault::OutOfMemory(format!(
                "{what} with {cols} columns: its driver takes buffers of {buffer_bytes} bytes"
            )));
        }
        let part = |first: usize| {
            let rows = part_rows.min(rows - first);
            gpu.allocate(what, 4 * (rows * cols) as u64, buffer_use)
        };
        let parts = (0..rows).step_by(part_rows).map(part).collect::<Result<_, _>>()?;
        Ok(Parted { rows, cols, part_rows, parts })
    }

    /// Bytes of all parts.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(Buffer::size).sum()
    }

    /// The rows of each part.
    pub(super) fn part_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let (rows, part_rows) = (self.rows, self.part_rows);
        (0..rows).step_by(part_rows).map(move |first| first..(first + part_rows).min(rows))
    }

    /// Writes whole rows from a row on.
    pub(super) fn write(&self, gpu: &Gpu, first: usize, values: &[f32]) -> Result<(), Fault> {
        let rows = self.check(first, values.len())?;
        let mut words: &[u32] = bytemuck::cast_slice(values);
        for (part, within, count) in self.split(first..first + rows) {
            let (now, later) = words.split_at(count * self.cols);
            gpu.upload_at(&self.parts[part], 4 * (within * self.cols) as u64, now)?;
            words = later;
        }
        Ok(())
    }

    /// The commands that copy rows to the start of a buffer.
    pub(super) fn copy<'a>(
        &'a self,
        rows: Range<usize>,
        to: &'a Buffer,
    ) -> impl Iterator<Item = Command<'a>> {
        let bytes = |rows: usize| 4 * (rows * self.cols) as u64;
        let start = rows.start;
        self.split(rows).map(move |(part, within, count)| Command::Copy {
            from: (&self.parts[part], bytes(within)),
            to: (to, bytes(part * self.part_rows + within - start)),
            bytes: bytes(count),
        })
    }

    fn check(&self, first: usize, values: usize) -> Result<usize, Fault> {
        let (rows, cols) = (self.rows, self.cols);
        let given = values / cols;
        if values == 0 || !values.is_multiple_of(cols) || first > rows || given > rows - first {
            return Err(Fault::Invalid(format!(
                "{values} values from row {first} on do not fit a matrix of {rows} rows and {cols} columns"
            )));
        }
        Ok(given)
    }

    /// The part, the first row within it and the number of rows, of each part that has some of these rows.
    fn split(&self, rows: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
        let part_rows = self.part_rows;
        let parts = rows.start / part_rows..rows.end.div_ceil(part_rows);
        parts.map(move |part| {
            let first = rows.start.max(part * part_rows);
            (part, first - part * part_rows, rows.end.min((part + 1) * part_rows) - first)
        })
    }
}
