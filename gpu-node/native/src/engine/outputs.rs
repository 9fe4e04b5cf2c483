//! What is made of the hidden states after the last block: logits, scores, sums.

use super::ModelConfig;
use super::forward::{Forward, by_rows, linear};
use super::weights::WeightSet;
use super::work::StepError;
use crate::kernels::MultiplyError;

/// Rows whose logits are in memory while texts are scored.
pub(super) const SCORE_ROWS: usize = 32;

/// Room for results, which grows to what the largest step needed.
pub(super) struct Outputs {
    config: ModelConfig,
    /// `[wanted, hidden]`, normed, and `[wanted, vocab]`: first the rows whose logits are wanted, behind them
    /// those that are scored, [`SCORE_ROWS`] at a time.
    wanted: Vec<f32>,
    logits: Vec<f32>,
    /// Rows whose logits this step wants, and how many of them are in `wanted`.
    sampled: usize,
    placed: usize,
    /// `[hidden]`, of the work whose hidden states are being added up.
    sum: Vec<f64>,
}

impl Outputs {
    pub(super) fn new(config: &ModelConfig) -> Outputs {
        let sum = vec![0.0; config.hidden];
        Outputs { config: config.clone(), wanted: Vec::new(), logits: Vec::new(), sampled: 0, placed: 0, sum }
    }

    /// Makes room for a step that wants the logits of `sampled` rows; an error where the machine has none.
    pub(super) fn begin(&mut self, sampled: usize) -> Result<(), StepError> {
        (self.sampled, self.placed) = (sampled, 0);
        // Behind the sampled rows there is room to score.
        let rows = sampled + SCORE_ROWS;
        for (room, width) in [(&mut self.wanted, self.config.hidden), (&mut self.logits, self.config.vocab)] {
            let more = (rows * width).saturating_sub(room.len());
            room.try_reserve_exact(more).map_err(|error| {
                StepError::Misfit(format!("there is no memory for the logits of {sampled} works ({error})"))
            })?;
            room.resize(room.len() + more, 0.0);
        }
        Ok(())
    }

    /// Logits of a sampled row, `[vocab]`.
    pub(super) fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index * self.config.vocab..][..self.config.vocab]
    }

    /// Asks for the logits of a row of the batch, behind those that were asked for before.
    pub(super) fn want_logits(&mut self, forward: &Forward, weights: &WeightSet, row: usize) {
        self.want(forward, weights, row, self.placed);
        self.placed += 1;
    }

    /// Norms the last hidden state of a row of the batch into a row of `wanted`.
    fn want(&mut self, forward: &Forward, weights: &WeightSet, row: usize, place: usize) {
        let hidden = self.config.hidden;
        let out = &mut self.wanted[place * hidden..][..hidden];
        forward.norm_row(row, &weights.shared.final_norm, out);
    }

    /// Logits of all sampled rows.
    pub(super) fn sample(&mut self, forward: &mut Forward, weights: &WeightSet) -> Result<(), MultiplyError> {
        self.head(forward, weights, 0, self.sampled)
    }

    /// Negative log-likelihoods of (row of the batch, token) pairs.
    pub(super) fn score(
        &mut self,
        forward: &mut Forward,
        weights: &WeightSet,
        mut pairs: impl Iterator<Item = (usize, usize)>,
        results: &mut Vec<f32>,
    ) -> Result<(), MultiplyError> {
        let (vocab, first) = (self.config.vocab, self.sampled);
        loop {
            let (mut tokens, mut count) = ([0; SCORE_ROWS], 0);
            for (row, token) in pairs.by_ref().take(SCORE_ROWS) {
                self.want(forward, weights, row, first + count);
                tokens[count] = token;
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.head(forward, weights, first, count)?;
            let start = results.len();
            results.resize(start + count, 0.0);
            let rows = &self.logits[first * vocab..];
            let cpu = forward.cpu();
            let score = |first: usize, out: &mut [f32]| {
                for (index, out) in (first..).zip(out) {
                    let logits = &rows[index * vocab..][..vocab];
                    *out = cpu.log_sum_exp(logits) - logits[tokens[index]];
                }
            };
            by_rows(forward.multiplier().pool(), &mut results[start..], 1, &score)?;
        }
    }

    /// Starts a sum of hidden states.
    pub(super) fn begin_sum(&mut self) {
        self.sum.fill(0.0);
    }

    /// Adds the last hidden state of a row of the batch.
    pub(super) fn add(&mut self, forward: &Forward, weights: &WeightSet, row: usize) {
        self.want(forward, weights, row, self.sampled);
        let hidden = &self.wanted[self.sampled * self.config.hidden..][..self.config.hidden];
        for (sum, value) in self.sum.iter_mut().zip(hidden) {
            *sum += f64::from(*value);
        }
    }

    /// The sum, `[hidden]`.
    pub(super) fn sum(&self) -> impl Iterator<Item = f32> + '_ {
        self.sum.iter().map(|&sum| sum as f32)
    }

    /// Logits of `count` rows of `wanted`.
    fn head(
        &mut self,
        forward: &mut Forward,
        weights: &WeightSet,
        first: usize,
        count: usize,
    ) -> Result<(), MultiplyError> {
        let ModelConfig { hidden, vocab, .. } = self.config;
        let most = forward.max_tokens().max(SCORE_ROWS);
        let mut done = 0;
        while done < count {
            let rows = most.min(count - done);
            let inputs = &self.wanted[(first + done) * hidden..];
            let logits = &mut self.logits[(first + done) * vocab..];
            linear(forward.multiplier(), hidden, inputs, rows, &mut [(&weights.shared.head, logits)])?;
            done += rows;
        }
        Ok(())
    }
}
