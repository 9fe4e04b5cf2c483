//! The attention of a batch.

use super::{Call, CallId, Plan};
use crate::device::AttentionLimits;
use crate::device::kernel::{ATTENTION_SPAN, FILLING_GROUPS};
use crate::parts::parts;

/// The attention of a batch.
pub(in crate::engine) struct AttentionPlan {
    pub(in crate::engine) commands: AttentionCommands,
    /// Whether it is so much that each command has a submission for itself.
    pub(in crate::engine) is_long: bool,
}

/// How attention is divided. The results are the same.
#[derive(Debug, PartialEq)]
pub(in crate::engine) enum AttentionCommands {
    /// One group of threads for each head of a row: the rows of each command, and its call.
    Rows(Vec<(u32, CallId)>),
    /// One for each head of this number of spans, so that few rows with long contexts use the whole device.
    Spans(u32),
}

/// The spans of the rows of a batch.
pub(super) struct Spans {
    /// The number of spans before each row, and of all rows.
    before: Vec<u32>,
}

impl Spans {
    /// The spans of rows at these positions, unless each has only one, there are more than the device stores, or the `heads` of
    /// the rows fill it anyway.
    pub(super) fn of(
        positions: impl Iterator<Item = usize>,
        max_spans: usize,
        heads: usize,
    ) -> Option<Spans> {
        let mut before = vec![0];
        let mut sum = 0;
        for position in positions {
            sum += position / ATTENTION_SPAN + 1;
            before.push(sum as u32);
        }
        let rows = before.len() - 1;
        (rows < sum && sum <= max_spans && rows * heads < FILLING_GROUPS).then_some(Spans { before })
    }

    fn count(&self) -> u32 {
        *self.before.last().expect("it begins with 0")
    }

    /// The number of spans before each row and of all rows, and then the row of each span.
    pub(super) fn words(&self) -> impl Iterator<Item = u32> {
        let counts = self.before.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        let rows = counts.zip(0..).flat_map(|(count, row)| std::iter::repeat_n(row, count));
        self.before.iter().copied().chain(rows)
    }
}

impl Plan {
    /// Divides the attention of rows, whose heads attend to so many positions together, into commands.
    pub(super) fn attention(
        &mut self,
        positions: &[u64],
        spans: Option<&Spans>,
        heads: usize,
        limits: Option<AttentionLimits>,
        (whole, call): (Call, CallId),
    ) -> AttentionPlan {
        let (sum, usual) = (positions.iter().sum::<u64>(), (heads * positions.len()) as u64);
        let limits = limits.filter(|limits| sum > limits.command / 8 && sum > limits.head * usual);
        let commands = match (spans, limits) {
            // They are so few that a command may have all of their work.
            (Some(spans), _) => AttentionCommands::Spans(spans.count()),
            (None, None) => AttentionCommands::Rows(vec![(whole.rows as u32, call)]),
            (None, Some(AttentionLimits { command, .. })) => {
                let parts = parts(positions.iter().copied(), command).into_iter().map(|rows| {
                    let is_first = rows.start == 0;
                    let call = if is_first { call } else { self.call(Call { first: rows.start, ..whole }) };
                    (rows.len() as u32, call)
                });
                AttentionCommands::Rows(parts.collect())
            }
        };
        AttentionPlan { commands, is_long: limits.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Call, Plan};
    use super::{AttentionCommands, Spans};
    use crate::device::AttentionLimits;

    /// The parts of the attention of rows that attend to so many positions, each with its first row.
    fn parts(positions: &[u64], limits: Option<AttentionLimits>) -> (Vec<(u32, usize)>, bool) {
        let mut plan = Plan::default();
        let whole = Call { rows: positions.len(), tokens: 7, ..Call::default() };
        let call = plan.call(whole);
        let found = plan.attention(positions, None, 2, limits, (whole, call));
        let AttentionCommands::Rows(parts) = found.commands else { panic!("there are no spans") };
        let calls = parts.iter().map(|&(rows, id)| (rows, plan.calls[id.0]));
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

    #[test]
    fn spans_are_listed_if_a_row_has_several_all_fit_and_the_rows_do_not_fill_the_device() {
        let words = |positions: &[usize], max_spans, heads| {
            let spans = Spans::of(positions.iter().copied(), max_spans, heads);
            spans.map(|spans| spans.words().collect::<Vec<_>>())
        };
        assert_eq!(words(&[0, 511], 9, 1), None);
        assert_eq!(words(&[0, 512, 1535], 6, 170), Some(vec![0, 1, 3, 6, 0, 1, 1, 2, 2, 2]));
        assert_eq!(words(&[0, 512, 1535], 6, 171), None);
        assert_eq!(words(&[0, 512, 1535], 5, 1), None);
        assert_eq!(words(&[], 5, 1), None);
    }

    #[test]
    fn attention_by_spans_is_one_command_with_a_submission_for_itself_if_it_is_long() {
        let plan = |positions: &[usize], limits| {
            let mut plan = Plan::default();
            let whole = Call { rows: positions.len(), ..Call::default() };
            let (call, spans) = (plan.call(whole), Spans::of(positions.iter().copied(), 100, 2));
            let attended: Vec<_> = positions.iter().map(|&position| 2 * (position as u64 + 1)).collect();
            let found = plan.attention(&attended, spans.as_ref(), 2, limits, (whole, call));
            assert_eq!((found.commands, plan.calls.len()), (AttentionCommands::Spans(4), 1));
            found.is_long
        };
        assert!(!plan(&[1600], None));
        assert!(plan(&[1600], Some(AttentionLimits { command: 1000, head: 10 })));
        assert!(!plan(&[0, 0, 512], Some(AttentionLimits { command: 100_000, head: 10 })));
    }
}
