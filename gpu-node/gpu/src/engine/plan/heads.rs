//! The rows of a batch whose logits are computed.

use super::{Call, CallId, LogitRow, Plan, Sizes};
use crate::engine::{Adjustments, Output, Work};
use copal_native::engine::{Batch, Span};

/// Rows of a batch whose logits are computed together: first those that stay on the device, then those that are returned. So
/// steps with as many rows of each kind have the same commands, in whatever order the works are.
#[derive(Default)]
pub(in crate::engine) struct HeadPlan {
    /// The rows of the batch.
    picks: Vec<u32>,
    /// For each score the row of the logits, the target, the number of alternatives, and the place of its floats.
    entries: Vec<u32>,
    /// For each list of candidates the row of the logits, the place of its floats, the temperature, the random number, and
    /// the place and number of its adjusted tokens. The place counts from the first entry.
    candidates: Vec<[u32; 6]>,
    /// Floats of the scores and candidates, and their place among those of the step.
    pub(in crate::engine) floats: usize,
    pub(in crate::engine) place: usize,
    /// Rows of the logits that stay on the device.
    pub(in crate::engine) kept: RowRun,
    /// Rows of the logits that the step returns.
    pub(in crate::engine) returned: RowRun,
    pub(in crate::engine) calls: Option<HeadCalls>,
}

/// Neighbouring rows of the logits.
#[derive(Clone, Copy, Default)]
pub(in crate::engine) struct RowRun {
    pub(in crate::engine) first: usize,
    pub(in crate::engine) count: usize,
    /// The place of the first one among such rows of the step.
    pub(in crate::engine) place: usize,
}

/// A row of a batch that needs logits.
struct HeadRow {
    row: u32,
    /// A target, and the number of alternatives.
    target: Option<(u32, usize)>,
    sampled: Sampled,
}

/// The source from which a row is sampled.
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
pub(in crate::engine) struct HeadCalls {
    pub(in crate::engine) logits: CallId,
    pub(in crate::engine) scores: CallId,
    pub(in crate::engine) candidates: CallId,
}

impl Plan {
    /// The rows of a batch that need logits, in groups that fit the buffers.
    pub(super) fn heads(
        &mut self,
        sizes: Sizes,
        batch: &Batch<'_>,
        adjustments: &[Adjustments<'_>],
    ) -> Vec<HeadPlan> {
        let (mut rows, mut end) = (Vec::new(), 0);
        for span in batch.spans() {
            rows.extend(head_rows(&span, end));
            end += span.tokens.len();
        }
        rows.chunks(sizes.logit_rows).map(|rows| self.head(sizes, rows, adjustments)).collect()
    }

    fn head(&mut self, sizes: Sizes, rows: &[HeadRow], adjustments: &[Adjustments<'_>]) -> HeadPlan {
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
        let mut adjusted = Vec::new();
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
                    // Rows with candidates come in the order of the adjustments.
                    let list = adjustments.get(self.kept).copied().unwrap_or_default();
                    let (first, count) = (6 * kept + adjusted.len(), list.tokens.len());
                    let [place, floats, first] = [place, head.floats, first].map(|number| number as u32);
                    head.candidates.push([place, floats, temperature, chance, first, count as u32]);
                    head.floats += sizes.candidates + count;
                    adjusted.extend(list.words());
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
        let candidates = self.push(head.candidates.as_flattened().iter().copied().chain(adjusted));
        let mut call = |rows: u32, picks| self.call(Call { rows: rows as usize, picks, ..Call::default() });
        head.calls = Some(HeadCalls {
            logits: call(head.rows(), picks),
            scores: call(head.scores(), entries),
            candidates: call(head.candidates(), candidates),
        });
        head
    }
}

impl HeadPlan {
    /// Rows of logits.
    pub(in crate::engine) fn rows(&self) -> u32 {
        self.picks.len() as u32
    }

    /// The number of scores.
    pub(in crate::engine) fn scores(&self) -> u32 {
        self.entries.len() as u32 / 4
    }

    /// The number of lists of candidates.
    pub(in crate::engine) fn candidates(&self) -> u32 {
        self.candidates.len() as u32
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
