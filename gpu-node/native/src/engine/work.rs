//! The work of a step, and the check that rejects a step that does not fit.

use super::ModelConfig;
use super::pages::PAGE_TOKENS;
use crate::kernels::MultiplyError;
use crate::pool::Panicked;
use std::fmt;

/// The new tokens of one sequence.
pub struct Work<'a> {
    /// Id of the sequence, any number. Weight sets have separate sequences.
    pub sequence: u64,
    /// Position of the first token; at most the number of tokens held.
    pub position: usize,
    /// The new tokens, at least one.
    pub tokens: &'a [u32],
    /// Tokens before `position` that other sequences of the weight set have computed, in whole pages. Given with the
    /// first work of a sequence that does not start at 0.
    pub cached: usize,
    /// The pages of the sequence's positions, [`PAGE_TOKENS`] each, in order, enough for the new tokens. Pages that the
    /// work writes belong to this sequence alone.
    pub pages: &'a [u32],
    /// The result to compute.
    pub output: Output<'a>,
}

impl Work<'_> {
    /// Tokens of the sequence after the work.
    pub fn end(&self) -> usize {
        self.position + self.tokens.len()
    }

    /// The pages that the work reads or writes.
    fn used_pages(&self) -> &[u32] {
        &self.pages[..self.end().div_ceil(PAGE_TOKENS)]
    }

    /// The pages that the work writes.
    fn written_pages(&self) -> &[u32] {
        &self.used_pages()[self.position / PAGE_TOKENS..]
    }
}

/// The result to compute for some tokens.
pub enum Output<'a> {
    /// Nothing but their keys and values.
    None,
    /// The logits after the last one.
    Logits,
    /// The last `drafts` tokens are drafts of what follows those before them: the logits after the token before the
    /// drafts and after each of them.
    Drafted {
        /// Fewer than the tokens.
        drafts: usize,
    },
    /// What sampling needs of the logits after each of the last tokens, all but the first of which are drafts: the most
    /// probable tokens, sums over all logits, and the part of the vocabulary in which a random number falls. Engines whose
    /// logits are in the memory of the processor give the logits instead: there is nothing to save.
    Candidates {
        /// The temperature of the distribution, above 0.
        temperature: f32,
        /// The random number for each of the last tokens, from 0 to 1.
        chances: &'a [f32],
    },
    /// The negative log-likelihoods of targets.
    Scores {
        /// The token to score after each token; negative ones are skipped.
        targets: &'a [i32],
        /// Number of most probable tokens that follow each score.
        alternatives: usize,
        /// Also the logits after the last token.
        logits: bool,
    },
    /// The sum of the last hidden states of the tokens, after the final norm.
    HiddenSum {
        /// The token to score after each token, before the sum; negative ones are skipped.
        targets: Option<&'a [i32]>,
    },
}

impl<'a> Output<'a> {
    /// The number of last tokens after which logits are wanted, or candidates in their place.
    pub fn logit_rows(&self) -> usize {
        match *self {
            Output::Drafted { drafts } => 1 + drafts,
            Output::Candidates { chances, .. } => chances.len(),
            Output::Logits | Output::Scores { logits: true, .. } => 1,
            Output::None | Output::Scores { logits: false, .. } | Output::HiddenSum { .. } => 0,
        }
    }

    /// The token to score after each token, and the number of alternatives that follow each score.
    pub fn scored(&self) -> Option<(&'a [i32], usize)> {
        match *self {
            Output::Scores { targets, alternatives, .. } => Some((targets, alternatives)),
            Output::HiddenSum { targets } => targets.map(|targets| (targets, 0)),
            Output::None | Output::Logits | Output::Drafted { .. } | Output::Candidates { .. } => None,
        }
    }
}

/// Why a step failed. After `Misfit` and `OutOfMemory` only the dropped sequences have changed. After `Multiply` the
/// sequences of the step hold no more than the tokens before the `position` of their work.
#[derive(Debug)]
pub enum StepError {
    /// A work does not fit the tokens that are held, or the model.
    Misfit(String),
    /// There is no memory for the logits.
    OutOfMemory(String),
    /// A kernel failed.
    Multiply(MultiplyError),
}

/// Checks works against the tokens that are held of their sequences.
///
/// `written` says for each page whether a step has written to it. `uses` has a counter for each page; all are zero before
/// and after the call.
pub fn check_work(
    config: &ModelConfig,
    written: &[bool],
    uses: &mut [u8],
    held: impl Fn(u64) -> usize,
    work: &[Work<'_>],
) -> Result<(), StepError> {
    for (index, item) in work.iter().enumerate() {
        // A step has few works, so comparing each with all before it is cheap.
        let fault = match work[..index].iter().any(|other| other.sequence == item.sequence) {
            true => Some("the step has another work for it".to_owned()),
            false => fault_of(config, written, held(item.sequence), item),
        };
        if let Some(why) = fault {
            return Err(misfit(item, &why));
        }
    }
    // A page that one sequence writes and another one uses would mix the two.
    let used = || work.iter().flat_map(Work::used_pages).map(|&page| page as usize);
    used().for_each(|page| uses[page] = uses[page].saturating_add(1));
    let clash = work.iter().find_map(|item| {
        item.written_pages().iter().find(|&&page| uses[page as usize] > 1).map(|page| (item, page))
    });
    used().for_each(|page| uses[page] = 0);
    clash.map_or(Ok(()), |(item, page)| {
        Err(misfit(item, &format!("it writes page {page}, which the step uses twice")))
    })
}

fn misfit(item: &Work<'_>, why: &str) -> StepError {
    StepError::Misfit(format!("the work of sequence {} does not fit: {why}", item.sequence))
}

fn fault_of(config: &ModelConfig, written: &[bool], held: usize, item: &Work<'_>) -> Option<String> {
    let ModelConfig { vocab, context, .. } = *config;
    let Work { position, tokens, cached, pages, .. } = *item;
    if tokens.is_empty() {
        return Some("it has no tokens".to_owned());
    }
    if cached > 0 && (cached != position || cached % PAGE_TOKENS != 0) {
        return Some(format!("it starts at position {position} after {cached} cached tokens"));
    }
    if cached == 0 && position > held {
        return Some(format!("it starts at position {position}, {held} tokens are held"));
    }
    let Some(end) = position.checked_add(tokens.len()).filter(|&end| end <= context) else {
        let end = position.saturating_add(tokens.len());
        return Some(format!("the sequence has {end} tokens, the model takes {context}"));
    };
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
        return Some(format!("token {token} is not in the vocabulary of {vocab} tokens"));
    }
    let rows = item.output.logit_rows();
    if rows > tokens.len() {
        return Some(format!("it wants logits after {rows} of {} tokens", tokens.len()));
    }
    if pages.len() < end.div_ceil(PAGE_TOKENS) {
        return Some(format!("it has {} pages, too few for {end} tokens", pages.len()));
    }
    if let Some(page) = pages.iter().find(|&&page| page as usize >= written.len()) {
        return Some(format!("page {page} is not one of the {} pages", written.len()));
    }
    if let Some(page) = pages[..position.div_ceil(PAGE_TOKENS)].iter().find(|&&page| !written[page as usize])
    {
        return Some(format!("page {page} was never written"));
    }
    let (targets, alternatives) = item.output.scored()?;
    if alternatives > vocab {
        return Some(format!("it wants {alternatives} alternatives from a vocabulary of {vocab} tokens"));
    }
    if targets.len() != tokens.len() {
        return Some(format!("it has {} targets for {} tokens", targets.len(), tokens.len()));
    }
    let target = targets.iter().find(|&&target| target >= vocab as i32)?;
    Some(format!("target {target} is not in the vocabulary of {vocab} tokens"))
}

impl From<MultiplyError> for StepError {
    fn from(error: MultiplyError) -> StepError {
        StepError::Multiply(error)
    }
}

impl From<Panicked> for StepError {
    fn from(error: Panicked) -> StepError {
        StepError::Multiply(error.into())
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::Misfit(message) | StepError::OutOfMemory(message) => f.write_str(message),
            StepError::Multiply(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StepError {}
