use super::scale::{power_below, scaled};
use super::{Fault, Kernels};
use crate::device::kernel::{CALL_BYTES, SQUARE_TILE};
use crate::device::{Bound, Buffer, BufferUse, Command, Gpu, Kernel};
use std::sync::Arc;

/// Products that a call adds up for `E H`, unless the least rows of a piece have more.
const MAX_PRODUCTS: usize = 1 << 32;
/// The least and the most rows of a piece: whole tiles of the product.
const PIECE_ROWS: [usize; 2] = [SQUARE_TILE, 4 * SQUARE_TILE];

/// A linear whose mask is refined: H, and the rows that were added.
pub struct Linear {
    gpu: Arc<Gpu>,
    kernels: Arc<Kernels>,
    cols: usize,
    is_grouped: bool,
    /// The power of two that H is multiplied by.
    scale: f64,
    /// Rows of each part of H but the last.
    part_rows: usize,
    parts: Vec<Buffer>,
    /// Rows of H that were added.
    moment_rows: usize,
    shape: Buffer,
    diagonal: Buffer,
    /// The data of a step, which the kernels do not read.
    call: Bound,
    /// In the order in which they were added; `None` once refined.
    pieces: Vec<Option<Piece>>,
}

/// Rows of a linear on the device.
struct Piece {
    /// The factor of each row's error.
    scales: Vec<f64>,
    bits: Buffer,
    figures: Buffer,
    bound: Bound,
}

/// The result for a piece.
#[derive(Debug)]
pub struct RefinedRows {
    /// Mask bits `[rows, ceil(cols / 8)]`.
    pub bits: Vec<u8>,
    /// The error of each row, `[rows]`.
    pub errors: Vec<f64>,
}

impl Linear {
    /// Allocates H. `diagonal` and `group` were checked, except for values that are not finite.
    pub(super) fn new(
        gpu: Arc<Gpu>,
        kernels: Arc<Kernels>,
        diagonal: &[f64],
        group: Option<usize>,
        part_rows: usize,
    ) -> Result<Linear, Fault> {
        let cols = diagonal.len();
        let (scale, words) = scaled_below_one(diagonal, "diagonal")?;
        let allocate = |first| {
            let rows = part_rows.min(cols - first);
            gpu.allocate("a second moment", 4 * (rows * cols) as u64, BufferUse::Stored)
        };
        let parts = (0..cols).step_by(part_rows).map(allocate).collect::<Result<_, _>>()?;
        let diagonal = gpu.stored(&words, BufferUse::Stored)?;
        let shape = [cols, group.unwrap_or(0), part_rows].map(|count| count as u32);
        let shape = gpu.stored(&shape, BufferUse::Uniform)?;
        let call = gpu.bind_step(&gpu.allocate("a step", CALL_BYTES, BufferUse::Step)?)?;
        let (is_grouped, pieces) = (group.is_some(), Vec::new());
        let moment_rows = 0;
        Ok(Linear {
            gpu,
            kernels,
            cols,
            is_grouped,
            scale,
            part_rows,
            parts,
            moment_rows,
            shape,
            diagonal,
            call,
            pieces,
        })
    }

    /// Rows of a piece whose work is bounded and still gives the device enough to do at once.
    pub fn piece_rows(&self) -> usize {
        let rows = MAX_PRODUCTS / (self.cols * self.cols) / SQUARE_TILE * SQUARE_TILE;
        rows.clamp(PIECE_ROWS[0], PIECE_ROWS[1])
    }

    /// Adds the next rows of H, `[rows, cols]`.
    pub fn add_moment(&mut self, rows: &[f64]) -> Result<(), Fault> {
        let end = self.moment_rows + self.count_rows("moment", rows.len())?;
        if end > self.cols {
            return Err(self.wrong_moment(end));
        }
        let words = scaled(rows, self.scale).ok_or_else(|| not_finite("moment"))?;
        let mut words = &words[..];
        while self.moment_rows < end {
            let (part, first) = (self.moment_rows / self.part_rows, self.moment_rows % self.part_rows);
            let count = (self.part_rows - first).min(end - self.moment_rows);
            let (now, later) = words.split_at(count * self.cols);
            self.gpu.upload_at(&self.parts[part], 4 * (first * self.cols) as u64, now)?;
            self.moment_rows += count;
            words = later;
        }
        Ok(())
    }

    /// Adds a piece: rows of W, `[rows, cols]`, with their mask bits, `[rows, ceil(cols / 8)]`. Computes `E H`.
    ///
    /// Returns the error of each row, `e H eᵀ`.
    pub fn add_rows(&mut self, weights: &[f32], bits: &[u8]) -> Result<Vec<f64>, Fault> {
        let rows = self.count_rows("weights", weights.len())?;
        let (found, expected) = (bits.len(), rows * self.cols.div_ceil(8));
        if found != expected {
            let reason = format!("bits has {found} bytes; the mask of {rows} rows has {expected}");
            return Err(Fault::Invalid(reason));
        }
        if self.moment_rows < self.cols {
            return Err(self.wrong_moment(self.moment_rows));
        }
        let piece = self.upload(weights, bits)?;
        let [x, y] = [self.cols, rows].map(|count| count.div_ceil(SQUARE_TILE) as u32);
        let errors = self.run(&piece, &self.kernels.product, (x, y))?.errors;
        self.pieces.push(Some(piece));
        Ok(errors)
    }

    /// Refines a piece, by its place in the order in which they were added, and frees it. An exchange must lower a row's
    /// error by more than `floor`.
    pub fn refine(&mut self, piece: usize, floor: f64) -> Result<RefinedRows, Fault> {
        if floor.is_nan() {
            return Err(Fault::Invalid("floor must be a number".to_owned()));
        }
        let found = self.pieces.get_mut(piece).and_then(Option::take);
        let piece = found.ok_or_else(|| Fault::Invalid(format!("there is no piece {piece} to refine")))?;
        let figures: Vec<u32> =
            piece.scales.iter().flat_map(|scale| [((floor * scale) as f32).to_bits(), 0]).collect();
        self.gpu.upload(&piece.figures, &figures)?;
        let rounds = if self.is_grouped { &self.kernels.groups } else { &self.kernels.whole };
        self.run(&piece, rounds, (piece.scales.len() as u32, 1))
    }

    fn upload(&self, weights: &[f32], bits: &[u8]) -> Result<Piece, Fault> {
        let (gpu, cols) = (&self.gpu, self.cols);
        let (mut words, mut scales) = (Vec::with_capacity(weights.len()), Vec::new());
        for row in weights.chunks_exact(cols) {
            let row: Vec<f64> = row.iter().map(|&weight| f64::from(weight)).collect();
            let (scale, row) = scaled_below_one(&row, "weights")?;
            words.extend(row);
            scales.push(scale * scale * self.scale);
        }
        let masks: Vec<u32> = bits.chunks_exact(cols.div_ceil(8)).flat_map(mask_words).collect();
        let stored = |words: &[u32], buffer_use| {
            let buffer = gpu.allocate("rows of a linear", 4 * words.len() as u64, buffer_use)?;
            gpu.upload(&buffer, words)?;
            Ok::<_, Fault>(buffer)
        };
        let (weights, bits) = (stored(&words, BufferUse::Stored)?, stored(&masks, BufferUse::Work)?);
        let gradient = gpu.allocate("rows of a linear", 4 * words.len() as u64, BufferUse::Work)?;
        let figures = gpu.allocate("rows of a linear", 8 * scales.len() as u64, BufferUse::Work)?;
        let rows = stored(&[scales.len() as u32], BufferUse::Uniform)?;
        let own = [&rows, &weights, &bits, &gradient, &figures, &self.shape, &self.diagonal];
        let buffers: Vec<_> = own.into_iter().chain(&self.parts).collect();
        let bound = gpu.bind(&self.kernels.product, &buffers)?;
        Ok(Piece { scales, bits, figures, bound })
    }

    /// Runs a kernel on a piece, and computes its errors.
    fn run(&self, piece: &Piece, kernel: &Kernel, groups: (u32, u32)) -> Result<RefinedRows, Fault> {
        let (gpu, rows) = (&self.gpu, piece.scales.len());
        let [figures, masks] = [2 * rows, rows * self.cols.div_ceil(32)];
        let bytes = |words: usize| 4 * words as u64;
        let results = gpu.allocate("rows of a linear", bytes(figures + masks), BufferUse::Results)?;
        let run =
            |kernel, groups| Command::Run { kernel, call: (&self.call, 0), bound: &piece.bound, groups };
        let commands = [
            run(kernel, groups),
            run(&self.kernels.error, (rows as u32, 1)),
            Command::Copy { from: (&piece.figures, 0), to: (&results, 0), bytes: bytes(figures) },
            Command::Copy { from: (&piece.bits, 0), to: (&results, bytes(figures)), bytes: bytes(masks) },
        ];
        let found = gpu.run(None, &commands, Some((&results, figures + masks)))?;
        let (figures, masks) = found.split_at(figures);
        let masks: Vec<u32> = masks.iter().map(|word| word.to_bits()).collect();
        let error = |(figures, scale): (&[f32], &f64)| f64::from(figures[1]) / scale;
        Ok(RefinedRows {
            bits: masks
                .chunks_exact(self.cols.div_ceil(32))
                .flat_map(|row| mask_bytes(row, self.cols))
                .collect(),
            errors: figures.chunks_exact(2).zip(&piece.scales).map(error).collect(),
        })
    }

    fn count_rows(&self, what: &str, values: usize) -> Result<usize, Fault> {
        if values == 0 || !values.is_multiple_of(self.cols) {
            let cols = self.cols;
            return Err(Fault::Invalid(format!("{what} has {values} values; they must be rows of {cols}")));
        }
        Ok(values / self.cols)
    }

    fn wrong_moment(&self, rows: usize) -> Fault {
        let cols = self.cols;
        Fault::Invalid(format!("moment has {rows} rows; it has the shape [{cols}, {cols}]"))
    }
}

/// Scales values by a power of two, so that none is above 1.
fn scaled_below_one(values: &[f64], what: &str) -> Result<(f64, Vec<u32>), Fault> {
    let found = power_below(values).and_then(|scale| Some((scale, scaled(values, scale)?)));
    found.ok_or_else(|| not_finite(what))
}

fn not_finite(what: &str) -> Fault {
    Fault::Invalid(format!("{what} has a value that is not finite"))
}

/// A row's mask in words, the lowest column in the lowest bit.
fn mask_words(row: &[u8]) -> impl Iterator<Item = u32> {
    row.chunks(4).map(|bytes| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)))
}

fn mask_bytes(row: &[u32], cols: usize) -> impl Iterator<Item = u8> {
    row.iter().flat_map(|word| word.to_le_bytes()).take(cols.div_ceil(8))
}

#[cfg(test)]
mod tests {
    use super::{mask_bytes, mask_words};

    #[test]
    fn masks_keep_their_bytes() {
        for cols in [1usize, 8, 31, 32, 33, 95] {
            let bytes: Vec<u8> = (0..cols.div_ceil(8) as u8).map(|index| 7 * index + 3).collect();
            let words: Vec<u32> = mask_words(&bytes).collect();
            assert_eq!(words.len(), cols.div_ceil(32));
            assert_eq!(mask_bytes(&words, cols).collect::<Vec<_>>(), bytes, "{cols} columns");
        }
        assert_eq!(mask_words(&[1, 2, 3, 4, 5]).collect::<Vec<_>>(), [0x0403_0201, 5]);
    }
}
