//! A step, split into batches.

use super::work::Work;
use std::ops::Range;

/// The tokens of works that go through the blocks together.
pub struct Batch<'a> {
    /// All works of the step.
    work: &'a [Work<'a>],
    /// A range of the tokens of all works, joined.
    tokens: Range<usize>,
}

/// The part of one work that is in a batch.
pub struct Span<'a> {
    /// Index among the works of the step.
    pub index: usize,
    /// The work.
    pub work: &'a Work<'a>,
    /// A range of the work's tokens, not empty.
    pub tokens: Range<usize>,
}

/// The batches of a step, of up to `max_tokens` tokens each.
pub fn batches<'a>(work: &'a [Work<'a>], max_tokens: usize) -> impl Iterator<Item = Batch<'a>> {
    let total: usize = work.iter().map(|work| work.tokens.len()).sum();
    (0..total)
        .step_by(max_tokens)
        .map(move |start| Batch { work, tokens: start..total.min(start + max_tokens) })
}

impl Span<'_> {
    /// The part of the span's tokens after which the work wants logits.
    pub fn logit_rows(&self) -> Range<usize> {
        let first = self.work.tokens.len() - self.work.output.logit_rows();
        self.tokens.start.max(first).min(self.tokens.end)..self.tokens.end
    }
}

impl<'a> Batch<'a> {
    /// The number of tokens, at least one.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// A work of the step.
    pub fn work(&self, index: usize) -> &'a Work<'a> {
        &self.work[index]
    }

    /// The parts of the works that are in the batch, in order.
    pub fn spans(&self) -> impl Iterator<Item = Span<'a>> + '_ {
        let mut end = 0;
        self.work.iter().enumerate().filter_map(move |(index, work)| {
            let start = end;
            end += work.tokens.len();
            let (from, to) = (self.tokens.start.max(start), self.tokens.end.min(end));
            (from < to).then(|| Span { index, work, tokens: from - start..to - start })
        })
    }
}
