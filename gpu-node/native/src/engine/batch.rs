//! A step cut into batches.

use super::work::Work;
use std::ops::Range;

/// Tokens of works that go through the blocks together.
pub(super) struct Batch<'a> {
    /// All works of the step.
    work: &'a [Work<'a>],
    /// Of the tokens of all of them, one after the other.
    tokens: Range<usize>,
}

/// What a batch has of one work.
pub(super) struct Span<'a> {
    /// Among the works of the step.
    pub(super) index: usize,
    pub(super) work: &'a Work<'a>,
    /// Of the work's tokens; at least one.
    pub(super) tokens: Range<usize>,
}

/// The batches of a step, of up to `most` tokens each.
pub(super) fn batches<'a>(work: &'a [Work<'a>], most: usize) -> impl Iterator<Item = Batch<'a>> {
    let total: usize = work.iter().map(|work| work.tokens.len()).sum();
    (0..total).step_by(most).map(move |start| Batch { work, tokens: start..total.min(start + most) })
}

impl<'a> Batch<'a> {
    /// How many tokens it has.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// A work of the step.
    pub(super) fn work(&self, index: usize) -> &'a Work<'a> {
        &self.work[index]
    }

    /// Its tokens by works, in their order.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span<'a>> + '_ {
        let mut end = 0;
        self.work.iter().enumerate().filter_map(move |(index, work)| {
            let start = end;
            end += work.tokens.len();
            let (from, to) = (self.tokens.start.max(start), self.tokens.end.min(end));
            (from < to).then(|| Span { index, work, tokens: from - start..to - start })
        })
    }
}
