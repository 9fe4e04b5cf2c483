//! The tokens whose logits biases and penalties change before a token is sampled.

use super::{Output, StepError, Work};
use crate::device::kernel::MAX_ADJUSTED;

/// The adjusted tokens of a row of logits. The kernel leaves them out of its candidates and sums and returns their logits, which
/// the caller adjusts in f64 and rounds to f32. The kernel adjusts them too, in f32, but only to decide which part of the
/// vocabulary it returns: `logit + bias`, divided by the factor where it is positive and multiplied by it elsewhere, minus the
/// deduction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adjustments<'a> {
    /// Each once, the lowest first.
    pub tokens: &'a [u32],
    /// For each of them.
    pub biases: &'a [f32],
    /// For each of them, above 0.
    pub factors: &'a [f32],
    /// For each of them.
    pub deductions: &'a [f32],
}

impl Adjustments<'_> {
    /// The words that the kernel reads.
    pub(super) fn words(&self) -> impl Iterator<Item = u32> {
        let floats = [self.biases, self.factors, self.deductions].into_iter().flatten();
        self.tokens.iter().copied().chain(floats.map(|number| number.to_bits()))
    }

    fn fault(&self, vocab: usize) -> Option<String> {
        let Adjustments { tokens, biases, factors, deductions } = self;
        let most = most_adjusted(vocab);
        if tokens.len() > most {
            return Some(format!("{} adjusted tokens, at most {most} are possible", tokens.len()));
        }
        if [biases, factors, deductions].iter().any(|numbers| numbers.len() != tokens.len()) {
            return Some(format!("{} adjusted tokens need as many numbers of each kind", tokens.len()));
        }
        if tokens.last().is_some_and(|&last| last as usize >= vocab) || !tokens.is_sorted_by(|a, b| a < b) {
            return Some(format!(
                "adjusted tokens must rise, each once, and be in the vocabulary of {vocab} tokens"
            ));
        }
        let factor = factors.iter().find(|&&factor| !(factor > 0.0 && factor.is_finite()))?;
        Some(format!("the factor {factor} of an adjusted token, a number above 0 is expected"))
    }
}

/// Adjusted tokens of a row of logits, at most. One token at least has to be left.
pub(super) fn most_adjusted(vocab: usize) -> usize {
    MAX_ADJUSTED.min(vocab - 1)
}

/// Checks the adjustments of a step: none at all, or one for each row with candidates.
pub(super) fn check_adjustments(
    vocab: usize,
    work: &[Work<'_>],
    adjustments: &[Adjustments<'_>],
) -> Result<(), StepError> {
    let rows = work.iter().map(|item| match item.output {
        Output::Candidates { chances, .. } => chances.len(),
        _ => 0,
    });
    let rows: usize = rows.sum();
    let fault = match adjustments.len() {
        0 => None,
        lists if lists != rows => Some(format!("{lists} lists of them for {rows} rows with candidates")),
        _ => adjustments.iter().find_map(|list| list.fault(vocab)),
    };
    fault.map_or(Ok(()), |why| Err(StepError::Misfit(format!("the adjustments do not fit: {why}"))))
}
