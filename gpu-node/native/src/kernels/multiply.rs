//! Multiplication of encoded activations by packed matrices, shared between threads by blocks of rows.

use super::activations::fits_activations;
use super::disjoint::Disjoint;
use super::matrix_product::{MatrixProduct, Workspace};
use super::{Activations, Encoding};
use crate::cpu::Implementation;
use crate::pool::{Panicked, Pool};
use crate::storage::Matrix;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of matrices in one call of [`Multiplier::multiply_all`].
pub const MAX_PRODUCTS: usize = 4;

/// A matrix `[rows, cols]`, and its products `[tokens, rows]` f32 row-major.
pub type Product<'a> = (&'a Matrix, &'a mut [f32]);

/// Multiplies packed matrices on a pool of threads. Holds the inputs and all buffers: nothing is allocated
/// after [`Multiplier::new`].
pub struct Multiplier {
    implementation: &'static Implementation,
    pool: Pool,
    activations: Activations,
    /// For each thread.
    workspaces: Vec<Mutex<Workspace>>,
    /// For each thread's share of the blocks, how many of them are taken.
    taken: Vec<TakenBlocks>,
    max_cols: usize,
    /// Called by every thread after each block that it multiplied.
    pause: Option<Box<dyn Fn() + Send + Sync>>,
}

/// A counter on a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct TakenBlocks(AtomicUsize);

/// Why a multiplication failed.
#[derive(Debug)]
pub enum MultiplyError {
    /// Inputs or outputs do not have the matrix's shape, or the buffers are too small for them.
    Shape(String),
    /// The work of a thread panicked.
    Panicked(Panicked),
}

impl Multiplier {
    /// Creates a multiplier with buffers for `max_tokens` tokens and matrices of up to `max_cols` columns.
    /// Fails where that exceeds [`MAX_ACTIVATIONS`](super::MAX_ACTIVATIONS).
    pub fn new(
        implementation: &'static Implementation,
        pool: Pool,
        max_tokens: usize,
        max_cols: usize,
    ) -> Result<Multiplier, MultiplyError> {
        let threads = pool.threads();
        if !fits_activations(max_tokens, max_cols) {
            return Err(MultiplyError::Shape(format!(
                "{max_tokens} tokens of {max_cols} columns need more than a gigabyte"
            )));
        }
        let workspaces = (0..threads).map(|_| Mutex::new(Workspace::new(max_tokens))).collect();
        let taken = (0..threads).map(|_| TakenBlocks::default()).collect();
        Ok(Multiplier {
            implementation,
            pool,
            activations: Activations::with_capacity(max_tokens, max_cols),
            workspaces,
            taken,
            max_cols,
            pause: None,
        })
    }

    /// Calls `pause` on every thread after each block of rows that it multiplied.
    pub(crate) fn pause_by(&mut self, pause: Box<dyn Fn() + Send + Sync>) {
        self.pause = Some(pause);
    }

    /// The implementation that multiplies.
    pub fn implementation(&self) -> &'static Implementation {
        self.implementation
    }

    /// The pool of threads, for other work between multiplications.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Encodes `inputs`, `[tokens, cols]` f32 row-major, for [`Multiplier::multiply`]. Once is enough for all
    /// matrices that multiply the same inputs.
    pub fn encode(&mut self, encoding: Encoding, cols: usize, inputs: &[f32]) -> Result<(), MultiplyError> {
        if cols == 0 || !inputs.len().is_multiple_of(cols) || inputs.is_empty() {
            let count = inputs.len();
            return Err(MultiplyError::Shape(format!(
                "{count} inputs are no whole tokens of {cols} columns"
            )));
        }
        self.check_room(inputs.len() / cols, cols)?;
        self.activations.encode(self.implementation, &mut self.pool, encoding, cols, inputs)?;
        Ok(())
    }

    /// Fails if the buffers are too small.
    pub(crate) fn check_room(&self, tokens: usize, cols: usize) -> Result<(), MultiplyError> {
        let (max_tokens, max_cols) = (self.activations.capacity(), self.max_cols);
        if tokens <= max_tokens && cols <= max_cols {
            return Ok(());
        }
        Err(MultiplyError::Shape(format!(
            "there is room for {max_tokens} tokens of {max_cols} columns, not for {tokens} of {cols}"
        )))
    }

    /// Multiplies the inputs that were encoded last. `outputs` is `[tokens, rows]` f32 row-major.
    pub fn multiply(&mut self, matrix: &Matrix, outputs: &mut [f32]) -> Result<(), MultiplyError> {
        self.multiply_all(&mut [(matrix, outputs)])
    }

    /// Multiplies the inputs that were encoded last by up to [`MAX_PRODUCTS`] matrices. Threads wait for each
    /// other once, not after every matrix.
    ///
    /// The result of a row does not depend on the number of threads, nor on the other rows. Up to
    /// 8 tokens, or 16 of bf16 with AMX, share one pass over the weights. For more tokens, chunks of them read each block
    /// from a cache, one after another.
    pub fn multiply_all(&mut self, products: &mut [Product<'_>]) -> Result<(), MultiplyError> {
        if products.len() > MAX_PRODUCTS {
            let count = products.len();
            return Err(MultiplyError::Shape(format!(
                "at most {MAX_PRODUCTS} matrices are multiplied at once, not {count}"
            )));
        }
        for (matrix, outputs) in &*products {
            self.check(matrix, outputs)?;
        }
        let parts = self.pool.threads();
        let mut matrix_products = [const { None }; MAX_PRODUCTS];
        for (product, (matrix, outputs)) in matrix_products.iter_mut().zip(products) {
            let (implementation, activations) = (self.implementation, &self.activations);
            *product =
                Some(MatrixProduct { implementation, matrix, activations, outputs: Disjoint::new(outputs) });
        }
        let (workspaces, taken, pause) = (&self.workspaces, &self.taken, &self.pause);
        taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        self.pool.run(&|part| {
            let _releases = ReleaseAtEnd(self.implementation);
            let mut workspace = workspaces[part].lock().unwrap_or_else(PoisonError::into_inner);
            // Its own share first, then the rest of the shares whose threads are behind.
            for share in (0..parts).map(|offset| (part + offset) % parts) {
                let mut first = 0;
                let mut next = taken[share].0.fetch_add(1, Ordering::Relaxed);
                for product in matrix_products.iter().flatten() {
                    let blocks = product.matrix.share(share, parts);
                    while next - first < blocks.len() {
                        product.multiply_block(blocks.start + next - first, &mut workspace);
                        if let Some(pause) = pause {
                            self.implementation.release();
                            pause();
                        }
                        next = taken[share].0.fetch_add(1, Ordering::Relaxed);
                    }
                    first += blocks.len();
                }
            }
        })?;
        Ok(())
    }

    fn check(&self, matrix: &Matrix, outputs: &[f32]) -> Result<(), MultiplyError> {
        let (tokens, cols) = (self.activations.tokens(), self.activations.cols());
        let encoding = Encoding::of(matrix.format());
        if cols != matrix.cols() || encoding != self.activations.encoding() {
            return Err(MultiplyError::Shape(format!(
                "inputs were encoded as {:?} of {cols} columns; the matrix needs {encoding:?} of {}",
                self.activations.encoding(),
                matrix.cols()
            )));
        }
        if outputs.len() != tokens * matrix.rows() {
            return Err(MultiplyError::Shape(format!(
                "{tokens} tokens of {} rows are not {} outputs",
                matrix.rows(),
                outputs.len()
            )));
        }
        Ok(())
    }
}

/// Releases the thread's tiles when it is dropped, also where a product panics.
struct ReleaseAtEnd(&'static Implementation);

impl Drop for ReleaseAtEnd {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl From<Panicked> for MultiplyError {
    fn from(panicked: Panicked) -> MultiplyError {
        MultiplyError::Panicked(panicked)
    }
}

impl fmt::Display for MultiplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MultiplyError::Shape(message) => f.write_str(message),
            MultiplyError::Panicked(panicked) => panicked.fmt(f),
        }
    }
}

impl std::error::Error for MultiplyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Format, pack};
    use std::sync::Arc;

    #[test]
    fn every_block_of_rows_is_followed_by_a_pause() {
        let matrix = pack(&vec![0.5; 130 * 64], (130, 64), None, Format::BF16).unwrap();
        let mut multiplier =
            Multiplier::new(Implementation::select(None).unwrap(), Pool::new(2).unwrap(), 1, 64).unwrap();
        let pauses = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pauses);
        multiplier.pause_by(Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        multiplier.encode(Encoding::of(matrix.format()), 64, &[1.0; 64]).unwrap();
        multiplier.multiply(&matrix, &mut [0.0; 130]).unwrap();
        assert_eq!(pauses.load(Ordering::Relaxed), 5);
    }
}
