//! What an engine does for the thread of its steps.

use super::errors::Result;
use crate::engine::{Usage, Work};

/// An engine that JavaScript can run.
pub trait StepEngine: Send + 'static {
    /// The weight sets that it runs.
    type Weights: Send + Sync + 'static;

    /// The name of the thread that runs its steps.
    const THREAD: &'static str;

    /// Runs a step and appends its scores and sums to `results`.
    fn step(&mut self, weights: &Self::Weights, work: &[Work<'_>], results: &mut Vec<f32>) -> Result<()>;

    /// Forgets a sequence; an unknown one is ignored.
    fn drop_sequence(&mut self, weights: &Self::Weights, sequence: u64);

    /// Forgets all sequences of a weight set.
    fn drop_sequences_of(&mut self, weights: &Self::Weights);

    /// A row of logits `[vocab]` of the last step, in the order of the works and their tokens; those of a work that asked
    /// for candidates only if they were downloaded.
    fn logits(&self, index: usize) -> Option<&[f32]>;

    /// Downloads those of these rows that are on a device. Returns a row that the step does not have, if any; then nothing is
    /// downloaded.
    fn download_logits(&mut self, rows: &[usize]) -> Result<Option<usize>> {
        Ok(rows.iter().copied().find(|&row| self.logits(row).is_none()))
    }

    /// The sequences and pages in use.
    fn usage(&self) -> Usage;

    /// For tests: the next step panics.
    fn panic_next(&mut self);

    /// Called on a thread of libuv after weights or an engine were freed.
    fn after_free() {}
}
