//! The plan of a step: the words that are uploaded for it, and where the kernels find their part of them.

use super::{ModelConfig, Output, PAGE_TOKENS, Work};
use crate::device::AttentionLimits;
use crate::device::kernel::{CALL_STRIDE, CANDIDATES, VOCAB_PARTS};
use crate::parts::parts;
use copal_native::engine::{Batch, Span, batches};
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
    pub(super) attention: AttentionPlan,
    pub(super) heads: Vec<HeadPlan>,
    pub(super) sums: Vec<SumPlan>,
}

/// The attention of a batch.
pub(super) struct AttentionPlan {
    /// The rows of each command, and its call.
    pub(super) parts: Vec<(u32, CallId)>,
    /// Whether it is so much that each part has a submission for itself.
    pub(super) is_long: bool,
}

/// Rows of a batch whose logits are computed together: first those that stay on the device, then those that are returned. So
/// steps with as many rows of each kind have the same commands, in whatever order the works are.
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
    /// Rows of the logits that stay on the device.
    pub(super) kept: RowRun,
    /// Rows of the logits that the step returns.
    pub(super) returned: RowRun,
    pub(super) calls: Option<HeadCalls>,
}

/// Neighbouring rows of the logits.
#[derive(Clone, Copy, Default)]
pub(super) struct RowRun {
    pub(super) first: usize,
    pub(super) count: usize,
    /// The place of the first one among such rows of the step.
    pub(super) place: usize,
}

/// A row of a batch that needs logits.
struct HeadRow {
    row: u32,
    /// A target, and the number of alternatives.
    target: Option<(u32, usize)>,
    sampled: Sampled,
}

/// What a row is sampled from.
#[derive(Clone, Copy)]
enum Sampled {
    /// It is not sampled.
    Not,
    Logits,
    /// The temperature and the random number, as bits.
    Candidates([u32; 2]),
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
    pub(super) attention: Option<AttentionLimits>,
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
        // The calls of all batches come first, so that their places do not depend on what is computed of the logits.
        let parts: Vec<_> = batches(work, sizes.max_tokens).collect();
        plan.batches = parts.iter().map(|batch| plan.batch(config, sizes, batch, &tables)).collect();
        for (index, batch) in parts.iter().enumerate() {
            plan.batches[index].heads = plan.heads(sizes, batch);
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
        let whole = Call {
            rows: batch.len(),
            tokens: self.push(batch.spans().flat_map(|span| span.work.tokens[span.tokens].iter().copied())),
            positions: self.push(positions().map(|position| position as u32)),
            tables: self
                .push(batch.spans().flat_map(|span| span.tokens.map(move |_| tables[span.index] as u32))),
            angles: self.push(positions().flat_map(|position| angles(config, position))),
            ..Call::default()
        };
        self.table_places.push(whole.tables..whole.tables + whole.rows);
        let call = self.call(whole);
        let attended: Vec<_> = positions().map(|position| (config.heads * (position + 1)) as u64).collect();
        let attention = self.attention(&attended, config.heads, sizes.attention, (whole, call));
        BatchPlan { rows: batch.len() as u32, call, attention, heads: Vec::new(), sums: Vec::new() }
    }

    /// Divides the attention of rows, whose heads attend to so many positions together, into commands.
    fn attention(
        &mut self,
        positions: &[u64],
        heads: usize,
        limits: Option<AttentionLimits>,
        (whole, call): (Call, CallId),
    ) -> AttentionPlan {
        let (sum, usual) = (positions.iter().sum::<u64>(), (heads * positions.len()) as u64);
        let is_long = |limits: &AttentionLimits| sum > limits.command / 8 && sum > limits.head * usual;
        let Some(AttentionLimits { command, .. }) = limits.filter(is_long) else {
            return AttentionPlan { parts: vec![(whole.rows as u32, call)], is_long: false };
        };
        let parts = parts(positions.iter().copied(), command).into_iter().map(|rows| {
            let call = if rows.start == 0 { call } else { self.call(Call { first: rows.start, ..whole }) };
            (rows.len() as u32, call)
        });
        AttentionPlan { parts: parts.collect(), is_long: true }
    }

    /// The rows of a batch that need logits, in groups that fit the buffers.
    fn heads(&mut self, sizes: Sizes, batch: &Batch<'_>) -> Vec<HeadPlan> {
        let (mut rows, mut end) = (Vec::new(), 0);
        for span in batch.spans() {
            rows.extend(head_rows(&span, end));
            end += span.tokens.len();
        }
        rows.chunks(sizes.logit_rows).map(|rows| self.head(sizes, rows)).collect()
    }

    fn head(&mut self, sizes: Sizes, rows: &[HeadRow]) -> HeadPlan {
        let count = |is: fn(&Sampled) -> bool| rows.iter().filter(|row| is(&row.sampled)).count();
        let kept = count(|sampled| matches!(sampled, Sampled::Candidates(_)));
        let returned = count(|sampled| matches!(sampled, Sampled::Logits));
        let mut head = HeadPlan {
            picks: vec![0; rows.len()],
            place: self.scores,
            kept: RowRun { first: 0, count: kept, place: self.kept },
            returned: RowRun { first: kept, count: returned, place: self.logits },
            ..HeadPlan::default()
        };
        let [mut next_kept, mut next_returned, mut next_other] = [0, kept, kept + returned];
        for HeadRow { row, target, sampled } in rows {
            let next = match sampled {
                Sampled::Candidates(_) => &mut next_kept,
                Sampled::Logits => &mut next_returned,
                Sampled::Not => &mut next_other,
            };
            let place = *next;
            *next += 1;
            head.picks[place] = *row;
            if let Some((target, alternatives)) = *target {
                head.entries.extend([place as u32, target, alternatives as u32, head.floats as u32]);
                head.floats += 1 + 2 * alternatives;
            }
            match *sampled {
                Sampled::Candidates([temperature, chance]) => {
                    head.candidates.extend([place as u32, head.floats as u32, temperature, chance]);
                    head.floats += sizes.candidates;
                    self.rows.push(LogitRow::Kept(self.kept));
                    self.kept += 1;
                }
                Sampled::Logits => {
                    self.rows.push(LogitRow::Returned(self.logits));
                    self.logits += 1;
                }
                Sampled::Not => {}
            }
        }
        self.scores += head.floats;
        let picks = self.push(head.picks.iter().copied());
        let entries = self.push(head.entries.iter().copied());
        let candidates = self.push(head.candidates.iter().copied());
        let mut call = |rows: u32, picks| self.call(Call { rows: rows as usize, picks, ..Call::default() });
        head.calls = Some(HeadCalls {
            logits: call(head.rows(), picks),
            scores: call(head.scores(), entries),
            candidates: call(head.candidates(), candidates),
        });
        head
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

/// The rows of a span that need logits, in order. `first` is the row of its first token.
fn head_rows(span: &Span<'_>, first: usize) -> impl Iterator<Item = HeadRow> {
    let Work { tokens, output, .. } = span.work;
    let (scored, logits) = (output.scored(), span.logit_rows());
    let first_sampled = tokens.len() - output.logit_rows();
    span.tokens.clone().zip(first..).filter_map(move |(token, row)| {
        let sampled = match (logits.contains(&token), output) {
            (false, _) => Sampled::Not,
            (true, Output::Candidates { temperature, chances }) => {
                Sampled::Candidates([*temperature, chances[token - first_sampled]].map(f32::to_bits))
            }
            (true, _) => Sampled::Logits,
        };
        let target = scored.filter(|(targets, _)| targets[token] >= 0);
        let target = target.map(|(targets, alternatives)| (targets[token] as u32, alternatives));
        let is_needed = target.is_some() || !matches!(sampled, Sampled::Not);
        is_needed.then_some(HeadRow { row: row as u32, target, sampled })
    })
}

/// The cosines, then the sines of the rotary angles of a position, as bits of f32.
fn angles(config: &ModelConfig, position: usize) -> impl Iterator<Item = u32> + '_ {
    let angle = move |frequency: &f64| position as f64 * frequency;
    let cosines = config.rope.iter().map(move |frequency| angle(frequency).cos());
    let sines = config.rope.iter().map(move |frequency| angle(frequency).sin());
    cosines.chain(sines).map(|value| (value as f32).to_bits())
}

#[cfg(test)]
mod tests {
    use super::{Call, Plan};
    use crate::device::AttentionLimits;

    /// The parts of the attention of rows that attend to so many positions, each with its first row.
    fn parts(positions: &[u64], limits: Option<AttentionLimits>) -> (Vec<(u32, usize)>, bool) {
        let mut plan = Plan::default();
        let whole = Call { rows: positions.len(), tokens: 7, ..Call::default() };
        let call = plan.call(whole);
        let found = plan.attention(positions, 2, limits, (whole, call));
        let calls = found.parts.iter().map(|&(rows, id)| (rows, plan.calls[id.0]));
        let parts = calls.map(|(rows, call)| {
            assert_eq!((call.rows, call.tokens), (positions.len(), 7));
            (rows, call.first)
        });
        (parts.collect(), found.is_long)
    }

    #[test]
    fn long_attention_is_divided_and_short_attention_is_not() {
        let limits = Some(AttentionLimits { command: 100, head: 10 });
        let long = [60, 40, 10, 200, 5];
        assert_eq!(parts(&long, limits), (vec![(2, 0), (1, 2), (1, 3), (1, 4)], true));
        assert_eq!(parts(&long, None), (vec![(5, 0)], false));
        // Two heads attend to ten positions each on average.
        assert_eq!(parts(&[20; 20], limits), (vec![(20, 0)], false));
        // An eighth of a command.
        assert_eq!(parts(&[12], limits), (vec![(1, 0)], false));
        assert_eq!(parts(&[90], limits), (vec![(1, 0)], true));
    }
}
