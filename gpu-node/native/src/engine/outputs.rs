//! The results that are computed from the hidden states after the last block: logits, scores and sums.

use super::ModelConfig;
use super::forward::{Forward, by_rows, linear};
use super::weights::WeightSet;
use super::work::StepError;
use crate::kernels::MultiplyError;

/// Rows whose logits are in memory at a time while texts are scored.
pub(super) const SCORE_ROWS: usize = 32;

/// Buffers for results, which grow to the size that the largest step needed.
pub(super) struct Outputs {
    config: ModelConfig,
    /// Normed hidden states `[rows, hidden]` and their logits `[rows, vocab]`: first the rows whose logits the step
    /// returns, then the rows that are scored, [`SCORE_ROWS`] at a time.
    normed: Vec<f32>,
    logits: Vec<f32>,
    /// Rows whose logits this step returns, and how many of them are in `normed`.
    sampled: usize,
    placed: usize,
    /// Sum `[hidden]` of the hidden states of the current work.
    sum: Vec<f64>,
}

impl Outputs {
    pub(super) fn new(config: &ModelConfig) -> Outputs {
        let sum = vec![0.0; config.hidden];
        Outputs { config: config.clone(), normed: Vec::new(), logits: Vec::new(), sampled: 0, placed: 0, sum }
    }

    /// Makes room for a step that returns the logits of `sampled` rows.
    pub(super) fn begin(&mut self, sampled: usize) -> Result<(), StepError> {
        (self.sampled, self.placed) = (sampled, 0);
        // The rows that are scored follow the sampled ones.
        let rows = sampled + SCORE_ROWS;
        for (room, width) in [(&mut self.normed, self.config.hidden), (&mut self.logits, self.config.vocab)] {
            let more = (rows * width).saturating_sub(room.len());
            room.try_reserve_exact(more).map_err(|error| {
                StepError::OutOfMemory(format!("there is no memory for {sampled} rows of logits ({error})"))
            })?;
            room.resize(room.len() + more, 0.0);
        }
        Ok(())
    }

    /// Logits `[vocab]` of a sampled row.
    pub(super) fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index * self.config.vocab..][..self.config.vocab]
    }

    /// Adds a row of the batch to the rows whose logits the step returns.
    pub(super) fn add_sampled(&mut self, forward: &Forward, weights: &WeightSet, row: usize) {
        self.norm(forward, weights, row, self.placed);
        self.placed += 1;
    }

    /// Norms the last hidden state of a row of the batch into a row of `normed`.
    fn norm(&mut self, forward: &Forward, weights: &WeightSet, row: usize, place: usize) {
        let hidden = self.config.hidden;
        let out = &mut self.normed[place * hidden..][..hidden];
        forward.norm_row(row, &weights.shared.final_norm, out);
    }

    /// Computes the logits of all sampled rows.
    pub(super) fn sample(&mut self, forward: &mut Forward, weights: &WeightSet) -> Result<(), MultiplyError> {
        self.head(forward, weights, 0, self.sampled)
    }

    /// Appends the negative log-likelihoods of pairs of a row of the batch and a token, each followed by the
    /// `alternatives` most probable tokens of its row.
    pub(super) fn score(
        &mut self,
        forward: &mut Forward,
        weights: &WeightSet,
        mut pairs: impl Iterator<Item = (usize, usize)>,
        alternatives: usize,
        results: &mut Vec<f32>,
    ) -> Result<(), MultiplyError> {
        let (vocab, first) = (self.config.vocab, self.sampled);
        let width = 1 + 2 * alternatives;
        loop {
            let (mut tokens, mut count) = ([0; SCORE_ROWS], 0);
            for (row, token) in pairs.by_ref().take(SCORE_ROWS) {
                self.norm(forward, weights, row, first + count);
                tokens[count] = token;
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.head(forward, weights, first, count)?;
            let start = results.len();
            results.resize(start + count * width, 0.0);
            let rows = &self.logits[first * vocab..];
            let cpu = forward.cpu();
            let score = |first: usize, out: &mut [f32]| {
                for (index, out) in (first..).zip(out.chunks_exact_mut(width)) {
                    let logits = &rows[index * vocab..][..vocab];
                    let log_sum_exp = cpu.log_sum_exp(logits);
                    out[0] = log_sum_exp - logits[tokens[index]];
                    rank(logits, log_sum_exp, &mut out[1..]);
                }
            };
            by_rows(forward.multiplier().pool(), &mut results[start..], width, &score)?;
        }
    }

    /// Starts a sum of hidden states.
    pub(super) fn begin_sum(&mut self) {
        self.sum.fill(0.0);
    }

    /// Adds the last hidden state of a row of the batch.
    pub(super) fn add(&mut self, forward: &Forward, weights: &WeightSet, row: usize) {
        self.norm(forward, weights, row, self.sampled);
        let hidden = &self.normed[self.sampled * self.config.hidden..][..self.config.hidden];
        for (sum, value) in self.sum.iter_mut().zip(hidden) {
            *sum += f64::from(*value);
        }
    }

    /// The sum, `[hidden]`.
    pub(super) fn sum(&self) -> impl Iterator<Item = f32> + '_ {
        self.sum.iter().map(|&sum| sum as f32)
    }

    /// Computes the logits of `count` rows of `normed`.
    fn head(
        &mut self,
        forward: &mut Forward,
        weights: &WeightSet,
        first: usize,
        count: usize,
    ) -> Result<(), MultiplyError> {
        let ModelConfig { hidden, vocab, .. } = self.config;
        let max_rows = forward.max_tokens().max(SCORE_ROWS);
        let mut done = 0;
        while done < count {
            let rows = max_rows.min(count - done);
            let inputs = &self.normed[(first + done) * hidden..];
            let logits = &mut self.logits[(first + done) * vocab..];
            linear(forward.multiplier(), hidden, inputs, rows, &mut [(&weights.shared.head, logits)])?;
            done += rows;
        }
        Ok(())
    }
}

/// Writes the most probable tokens, each followed by its negative log-likelihood: most probable first, ties to the lower
/// id. A token is exact in an f32, because no vocabulary has more than 2^24 tokens.
fn rank(logits: &[f32], log_sum_exp: f32, out: &mut [f32]) {
    let count = out.len() / 2;
    if count == 0 {
        return;
    }
    let mut found = 0;
    for (token, &logit) in logits.iter().enumerate() {
        let mut place = found;
        if found == count {
            if logit <= out[2 * count - 1] {
                continue;
            }
            place -= 1;
        } else {
            found += 1;
        }
        while place > 0 && out[2 * place - 1] < logit {
            out.copy_within(2 * place - 2..2 * place, 2 * place);
            place -= 1;
        }
        (out[2 * place], out[2 * place + 1]) = (token as f32, logit);
    }
    for pair in out.chunks_exact_mut(2) {
        pair[1] = log_sum_exp - pair[1];
    }
}
