//! Activations, and the buffers that a step is transferred by.

use super::ModelConfig;
use super::adjustments::most_adjusted;
use super::plan::candidate_floats;
use crate::device::kernel::{ATTENTION_SPAN, FILLING_GROUPS};
use crate::device::{Bound, Buffer, BufferUse, Gpu};
use crate::fault::DeviceFault;

/// Rows whose logits are computed at a time, at most.
const MAX_LOGIT_ROWS: usize = 64;
/// Spans of attention that are stored, times heads, at most: less work than a submission takes.
const MAX_SPAN_HEADS: usize = 1 << 15;
/// The largest number of floats of a score: a likelihood and 255 alternatives.
const MAX_SCORE_FLOATS: usize = 1 + 2 * 255;

/// Buffers of f32 for one batch, allocated once.
pub(super) struct Activations {
    /// Tokens of a batch, at most.
    pub(super) max_tokens: usize,
    /// Rows of `logits`.
    pub(super) logit_rows: usize,
    /// Spans of attention that are stored, at most; 0 if no context has several.
    pub(super) max_spans: usize,
    /// The residual stream, `[tokens, hidden]`.
    pub(super) stream: Buffer,
    pub(super) normed: Buffer,
    pub(super) queries: Buffer,
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
    pub(super) attended: Buffer,
    /// Spans of attention, `[max_spans, heads, head_dim + 2]`.
    pub(super) spans: Buffer,
    pub(super) gate: Buffer,
    pub(super) up: Buffer,
    /// The normed rows of `logits`.
    pub(super) picked: Buffer,
    pub(super) logits: Buffer,
    /// Scores and candidates of the rows of `logits`.
    pub(super) scores: Buffer,
    /// A sum of hidden states and its rounding errors, `[2, hidden]`.
    pub(super) sums: Buffer,
    pub(super) bytes: u64,
}

impl Activations {
    /// Buffers for batches of `max_tokens`, or fewer if one would be larger than the device takes.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        max_tokens: usize,
    ) -> Result<Activations, DeviceFault> {
        let ModelConfig { hidden, vocab, intermediate, .. } = *config;
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let max_floats = (gpu.max_buffer_bytes() / 4) as usize;
        let widest = hidden.max(query).max(intermediate);
        let max_tokens = max_tokens.min(max_floats / widest).max(1);
        let span_floats = config.heads * (config.head_dim + 2);
        let max_spans = match config.context.div_ceil(ATTENTION_SPAN) {
            0 | 1 => 0,
            longest => {
                let rows = max_tokens.min(FILLING_GROUPS / config.heads);
                (MAX_SPAN_HEADS / config.heads).min(rows * longest).min(max_floats / span_floats)
            }
        };
        let logit_rows = MAX_LOGIT_ROWS.min(max_floats / vocab).max(1);
        let mut bytes = 0;
        let mut floats = |count: usize| {
            bytes += 4 * count as u64;
            gpu.allocate("activations", 4 * count as u64, BufferUse::Work)
        };
        Ok(Activations {
            max_tokens,
            logit_rows,
            max_spans,
            stream: floats(max_tokens * hidden)?,
            normed: floats(max_tokens * hidden)?,
            queries: floats(max_tokens * query)?,
            keys: floats(max_tokens * key)?,
            values: floats(max_tokens * key)?,
            attended: floats(max_tokens * query)?,
            spans: floats(max_spans * span_floats)?,
            gate: floats(max_tokens * intermediate)?,
            up: floats(max_tokens * intermediate)?,
            picked: floats(logit_rows * hidden)?,
            logits: floats(logit_rows * vocab)?,
            scores: floats(
                logit_rows * MAX_SCORE_FLOATS.max(candidate_floats(vocab) + most_adjusted(vocab)),
            )?,
            sums: floats(2 * hidden)?,
            bytes,
        })
    }
}

/// The buffers for the data of a step, for its results, and for logits that stay on the device. They grow to the size of
/// the largest step.
pub(super) struct Transfers {
    pub(super) step: Buffer,
    /// `step`, bound for every kernel.
    pub(super) call: Bound,
    pub(super) results: Buffer,
    /// `[rows, vocab]`
    pub(super) kept: Buffer,
}

/// Bytes that a step needs of each of the [`Transfers`].
#[derive(Clone, Copy)]
pub(super) struct StepBytes {
    pub(super) step: u64,
    pub(super) results: u64,
    pub(super) kept: u64,
}

impl Transfers {
    pub(super) fn new(gpu: &Gpu) -> Result<Transfers, DeviceFault> {
        let (step, call) = step_buffer(gpu, 1 << 16)?;
        Ok(Transfers { step, call, results: result_buffer(gpu, 1 << 16)?, kept: kept_buffer(gpu, 0)? })
    }

    /// Makes room for a step.
    pub(super) fn reserve(
        &mut self,
        gpu: &Gpu,
        StepBytes { step, results, kept }: StepBytes,
    ) -> Result<(), DeviceFault> {
        if step > self.step.size() {
            (self.step, self.call) = step_buffer(gpu, step.next_power_of_two())?;
        }
        if results > self.results.size() {
            self.results = result_buffer(gpu, results.next_power_of_two())?;
        }
        if kept > self.kept.size() {
            self.kept = kept_buffer(gpu, kept.next_power_of_two())?;
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.step.size() + self.results.size() + self.kept.size()
    }
}

fn step_buffer(gpu: &Gpu, bytes: u64) -> Result<(Buffer, Bound), DeviceFault> {
    let buffer = gpu.allocate("the data of a step", bytes, BufferUse::Step)?;
    let call = gpu.bind_step(&buffer)?;
    Ok((buffer, call))
}

fn kept_buffer(gpu: &Gpu, bytes: u64) -> Result<Buffer, DeviceFault> {
    gpu.allocate("the logits of a step", bytes, BufferUse::Kept)
}

fn result_buffer(gpu: &Gpu, bytes: u64) -> Result<Buffer, DeviceFault> {
    gpu.allocate("the results of a step", bytes, BufferUse::Results)
}
