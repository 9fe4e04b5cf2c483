//! The plan of a step: the words that are uploaded for it, and where the kernels find their part of them.

use super::{ModelConfig, Output, PAGE_TOKENS, Work};
use crate::device::kernel::{CALL_STRIDE, CANDIDATES, VOCAB_PARTS};
use copal_native::engine::{Batch, batches};
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
#[derive(Clone, Copy)]
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
    pub(super) heads: Vec<HeadPlan>,
    pub(super) sums: Vec<SumPlan>,
}

/// Rows of a batch whose logits are computed together.
#[derive(Default)]
pub(super) struct HeadPlan {
    /// The rows of the batch.
    picks: Vec<u32>,
    /// For each score the row of the logits, the target, the number of alternatives, and the place of its floats.
    entries: Vec<u32>,
    /// For each list of candidates the row of the logits, the place of its floats, the temperature and the random number.
    candidates: Vec<u32>,
    /// Floats of the scores and candidates, and their place among those of the step.
    pub(super) floats: usize,
    pub(super) place: usize,
    /// Rows of the logits that the step returns, and their place among those.
    pub(super) returned: Vec<(usize, usize)>,
    /// Rows of the logits that stay on the device, and their place among those.
    pub(super) kept: Vec<(usize, usize)>,
    pub(super) calls: Option<HeadCalls>,
}

/// The calls of a [`HeadPlan`].
#[derive(Clone, Copy)]
pub(super) struct HeadCalls {
    pub(super) logits: CallId,
    pub(super) scores: CallId,
    pub(super) candidates: CallId,
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
    /// Floats of a list of candidates.
    pub(super) candidates: usize,
}

/// Floats of a list of candidates: two sums, a part of the vocabulary and the sum before it, for each candidate the token
/// and its logit, and the logits of the part.
pub(super) fn candidate_floats(vocab: usize) -> usize {
    4 + 2 * vocab.min(CANDIDATES) + vocab.div_ceil(VOCAB_PARTS)
}

impl Plan {
    /// Plans a step that was checked.
    pub(super) fn new(config: &ModelConfig, sizes: Sizes, work: &[Work<'_>]) -> Plan {
        let mut plan = Plan::default();
        let tables: Vec<usize> = work
            .iter()
            .map(|item| plan.push(item.pages[..item.end().div_ceil(PAGE_TOKENS)].iter().copied()))
            .collect();
        for batch in batches(work, sizes.max_tokens) {
            let planned = plan.batch(config, sizes, &batch, &tables);
            plan.batches.push(planned);
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
        let call = Call {
            rows: batch.len(),
            tokens: self.push(batch.spans().flat_map(|span| span.work.tokens[span.tokens].iter().copied())),
            positions: self.push(positions().map(|position| position as u32)),
            tables: self
                .push(batch.spans().flat_map(|span| span.tokens.map(move |_| tables[span.index] as u32))),
            angles: self.push(positions().flat_map(|position| angles(config, position))),
            ..Call::default()
        };
        self.table_places.push(call.tables..call.tables + call.rows);
        let call = self.call(call);
        let (heads, sums) = (self.heads(sizes, batch), self.sums(batch));
        BatchPlan { rows: batch.len() as u32, call, heads, sums }
    }

    /// The rows of a batch that need logits, in order, in groups that fit the buffers.
    fn heads(&mut self, sizes: Sizes, batch: &Batch<'_>) -> Vec<HeadPlan> {
        let mut heads: Vec<HeadPlan> = Vec::new();
        let mut end = 0;
        for span in batch.spans() {
            let start = end;
            end += span.tokens.len();
            let sampled = span.logit_rows();
            let drawn = match span.work.output {
                Output::Candidates { temperature, chance } => Some([temperature, chance].map(f32::to_bits)),
                _ => None,
            };
            let scored = span.work.output.scored();
            for (row, token) in (start..end).zip(span.tokens) {
                let target = scored.filter(|(targets, _)| targets[token] >= 0);
                let sampled = sampled.contains(&token);
                if target.is_none() && !sampled {
                    continue;
                }
                if heads.last().is_none_or(|head| head.picks.len() == sizes.logit_rows) {
                    heads.push(HeadPlan { place: self.scores, ..HeadPlan::default() });
                }
                let head = heads.last_mut().expect("pushed above");
                let place = head.picks.len();
                head.picks.push(row as u32);
                if let Some((targets, alternatives)) = target {
                    let (target, floats) = (targets[token] as u32, head.floats as u32);
                    head.entries.extend([place as u32, target, alternatives as u32, floats]);
                    head.floats += 1 + 2 * alternatives;
                    self.scores += 1 + 2 * alternatives;
                }
                if sampled && let Some([temperature, chance]) = drawn {
                    head.candidates.extend([place as u32, head.floats as u32, temperature, chance]);
                    head.floats += sizes.candidates;
                    self.scores += sizes.candidates;
                    head.kept.push((place, self.kept));
                    self.rows.push(LogitRow::Kept(self.kept));
                    self.kept += 1;
                } else if sampled {
                    head.returned.push((place, self.logits));
                    self.rows.push(LogitRow::Returned(self.logits));
                    self.logits += 1;
                }
            }
        }
        for head in &mut heads {
            let picks = self.push(head.picks.iter().copied());
            let entries = self.push(head.entries.iter().copied());
            let candidates = self.push(head.candidates.iter().copied());
            let mut call =
                |rows: u32, picks| self.call(Call { rows: rows as usize, picks, ..Call::default() });
            head.calls = Some(HeadCalls {
                logits: call(head.rows(), picks),
                scores: call(head.scores(), entries),
                candidates: call(head.candidates(), candidates),
            });
        }
        heads
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

impl HeadPlan {
    /// Rows of logits.
    pub(super) fn rows(&self) -> u32 {
        self.picks.len() as u32
    }

    /// The number of scores.
    pub(super) fn scores(&self) -> u32 {
        self.entries.len() as u32 / 4
    }

    /// The number of lists of candidates.
    pub(super) fn candidates(&self) -> u32 {
        self.candidates.len() as u32 / 4
    }
}

/// The cosines, then the sines of the rotary angles of a position, as bits of f32.
fn angles(config: &ModelConfig, position: usize) -> impl Iterator<Item = u32> + '_ {
    let angle = move |frequency: &f64| position as f64 * frequency;
    let cosines = config.rope.iter().map(move |frequency| angle(frequency).cos());
    let sines = config.rope.iter().map(move |frequency| angle(frequency).sin());
    cosines.chain(sines).map(|value| (value as f32).to_bits())
}
