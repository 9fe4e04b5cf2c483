//! The plan of a step: the words that are uploaded for it, and where the kernels find their part of them.

mod attention;
mod heads;

use super::{Adjustments, ModelConfig, Output, PAGE_TOKENS, Work};
use crate::device::AttentionLimits;
use crate::device::kernel::{CALL_STRIDE, CANDIDATES, VOCAB_PARTS};
use attention::Spans;
pub(super) use attention::{AttentionCommands, AttentionPlan};
use copal_native::engine::{Batch, batches};
pub(super) use heads::{HeadPlan, RowRun};
use std::ops::Range;

/// Words between two calls.
const CALL_WORDS: usize = CALL_STRIDE as usize / 4;

/// A call of kernels, as `shaders/call.wgsl` declares it; a zero follows.
#[derive(Clone, Copy, Default)]
struct Call {
    rows: usize,
    tokens: usize,
    positions: usize,
    tables: usize,
    angles: usize,
    picks: usize,
    first: usize,
    reset: usize,
}

/// Identifies a call of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CallId(usize);

/// A step, ready to be recorded.
#[derive(Default)]
pub(super) struct Plan {
    /// The data; places count from its start.
    words: Vec<u32>,
    /// Words that are themselves places: those of page tables.
    table_places: Vec<Range<usize>>,
    calls: Vec<Call>,
    pub(super) batches: Vec<BatchPlan>,
    /// The floats of all scores and candidates, the number of sums, and the number of rows of logits that the step
    /// returns.
    pub(super) scores: usize,
    pub(super) sums: usize,
    pub(super) logits: usize,
    /// Rows of logits that stay on the device.
    pub(super) kept: usize,
    /// For each work with logits or candidates where its logits are.
    pub(super) rows: Vec<LogitRow>,
}

/// Where a row of logits is after the step.
#[derive(Clone, Copy)]
pub(super) enum LogitRow {
    /// Among the rows that were returned.
    Returned(usize),
    /// Among the rows that stay on the device.
    Kept(usize),
}

/// A batch of tokens.
pub(super) struct BatchPlan {
    pub(super) rows: u32,
    pub(super) call: CallId,
    pub(super) attention: AttentionPlan,
    pub(super) heads: Vec<HeadPlan>,
    pub(super) sums: Vec<SumPlan>,
}

/// Rows of a batch that are added to a sum of hidden states.
pub(super) struct SumPlan {
    pub(super) call: CallId,
    /// The place of the sum among those of the step, if it is complete.
    pub(super) complete: Option<usize>,
}

/// Sizes of the buffers.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) max_tokens: usize,
    pub(super) logit_rows: usize,
    /// Floats of a list of candidates, without adjusted tokens.
    pub(super) candidates: usize,
    /// Spans of attention that the device stores.
    pub(super) max_spans: usize,
    pub(super) attention: Option<AttentionLimits>,
}

/// Floats of a list of candidates: two sums, a part of the vocabulary and the sum before it, for each candidate the token
/// and its logit, and the logits of the part. Those of adjusted tokens follow.
pub(super) fn candidate_floats(vocab: usize) -> usize {
    4 + 2 * vocab.min(CANDIDATES) + vocab.div_ceil(VOCAB_PARTS)
}

impl Plan {
    /// Plans a step that was checked.
    pub(super) fn new(
        config: &ModelConfig,
        sizes: Sizes,
        work: &[Work<'_>],
        adjustments: &[Adjustments<'_>],
    ) -> Plan {
        let mut plan = Plan::default();
        let tables: Vec<usize> = work
            .iter()
            .map(|item| plan.push(item.pages[..item.end().div_ceil(PAGE_TOKENS)].iter().copied()))
            .collect();
        // The calls of all batches come first, so that their places do not depend on what is computed of the logits.
        let parts: Vec<_> = batches(work, sizes.max_tokens).collect();
        plan.batches = parts.iter().map(|batch| plan.batch(config, sizes, batch, &tables)).collect();
        for (index, batch) in parts.iter().enumerate() {
            plan.batches[index].heads = plan.heads(sizes, batch, adjustments);
            plan.batches[index].sums = plan.sums(batch);
        }
        plan
    }

    /// The words to upload: the calls, then the data. So steps of the same shape have their calls at the same places, and a
    /// device can repeat its commands.
    pub(super) fn upload(&self) -> Vec<u32> {
        let first = self.calls.len() * CALL_WORDS;
        let mut words = Vec::with_capacity(first + self.words.len());
        for call in &self.calls {
            let Call { rows, tokens, positions, tables, angles, picks, first: first_row, reset } = *call;
            let [tokens, positions, tables, angles, picks] =
                [tokens, positions, tables, angles, picks].map(|place| first + place);
            let fields = [rows, tokens, positions, tables, angles, picks, first_row, reset];
            words.extend(fields.map(|field| field as u32));
            words.resize(words.len().next_multiple_of(CALL_WORDS), 0);
        }
        words.extend(&self.words);
        for places in &self.table_places {
            words[first..][places.clone()].iter_mut().for_each(|place| *place += first as u32);
        }
        words
    }

    /// The offset of a call, bytes.
    pub(super) fn offset(&self, CallId(index): CallId) -> u32 {
        4 * (index * CALL_WORDS) as u32
    }

    /// Appends words and returns the place of the first one.
    fn push(&mut self, words: impl Iterator<Item = u32>) -> usize {
        let place = self.words.len();
        self.words.extend(words);
        place
    }

    fn call(&mut self, call: Call) -> CallId {
        self.calls.push(call);
        CallId(self.calls.len() - 1)
    }

    fn batch(
        &mut self,
        config: &ModelConfig,
        sizes: Sizes,
        batch: &Batch<'_>,
        tables: &[usize],
    ) -> BatchPlan {
        let positions = || {
            batch.spans().flat_map(|span| {
                let first = span.work.position;
                span.tokens.map(move |token| first + token)
            })
        };
        let spans = Spans::of(positions(), sizes.max_spans, config.heads);
        let whole = Call {
            rows: batch.len(),
            tokens: self.push(batch.spans().flat_map(|span| span.work.tokens[span.tokens].iter().copied())),
            positions: self.push(positions().map(|position| position as u32)),
            tables: self
                .push(batch.spans().flat_map(|span| span.tokens.map(move |_| tables[span.index] as u32))),
            angles: self.push(positions().flat_map(|position| angles(config, position))),
            picks: spans.as_ref().map_or(0, |spans| self.push(spans.words())),
            ..Call::default()
        };
        self.table_places.push(whole.tables..whole.tables + whole.rows);
        let call = self.call(whole);
        let attended: Vec<_> = positions().map(|position| (config.heads * (position + 1)) as u64).collect();
        let attention =
            self.attention(&attended, spans.as_ref(), config.heads, sizes.attention, (whole, call));
        BatchPlan { rows: batch.len() as u32, call, attention, heads: Vec::new(), sums: Vec::new() }
    }

    fn sums(&mut self, batch: &Batch<'_>) -> Vec<SumPlan> {
        let mut sums = Vec::new();
        let mut end = 0;
        for span in batch.spans() {
            let first = end;
            end += span.tokens.len();
            if !matches!(span.work.output, Output::HiddenSum { .. }) {
                continue;
            }
            let reset = usize::from(span.tokens.start == 0);
            let call = self.call(Call { rows: end - first, first, reset, ..Call::default() });
            let complete = (span.tokens.end == span.work.tokens.len()).then_some(self.sums);
            self.sums += usize::from(complete.is_some());
            sums.push(SumPlan { call, complete });
        }
        sums
    }
}

/// The cosines, then the sines of the rotary angles of a position, as bits of f32.
fn angles(config: &ModelConfig, position: usize) -> impl Iterator<Item = u32> + '_ {
    let angle = move |frequency: &f64| position as f64 * frequency;
    let cosines = config.rope.iter().map(move |frequency| angle(frequency).cos());
    let sines = config.rope.iter().map(move |frequency| angle(frequency).sin());
    cosines.chain(sines).map(|value| (value as f32).to_bits())
}
