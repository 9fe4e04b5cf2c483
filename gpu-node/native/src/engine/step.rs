//! Steps: sequences, their pages, and what comes of their tokens.

use super::ModelConfig;
use super::forward::{Forward, Span, by_rows, linear, padded};
use super::pages::{PAGE_TOKENS, PagePool};
use super::weights::WeightSet;
use crate::kernels::{CHUNK_TOKENS, Kernel, Multiplier, MultiplyError};
use crate::pool::{Panicked, Pool};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Rows whose logits are in memory while texts are scored.
const SCORE_ROWS: usize = 32;

/// What an [`Engine`] has room for.
pub struct EngineOptions {
    /// Threads, the caller's among them.
    pub threads: usize,
    /// Pages of [`PAGE_TOKENS`] keys and values.
    pub pages: usize,
    /// Tokens that go through the blocks together; longer steps are cut.
    pub batch_tokens: usize,
}

/// The new tokens of one sequence.
pub struct Work<'a> {
    /// Any number; each weight set has its own.
    pub sequence: u64,
    /// Of the first token; at most the number of tokens held.
    pub position: usize,
    /// At least one.
    pub tokens: &'a [u32],
    /// What is wanted of them.
    pub output: Output<'a>,
}

/// What is wanted of some tokens.
pub enum Output<'a> {
    /// Only their keys and values.
    None,
    /// The logits after the last one.
    Logits,
    /// How unlikely each of these is after its token; of those that are negative nothing.
    Nll(&'a [i32]),
    /// The sum over the tokens of the last hidden state, after the final norm.
    HiddenSum,
}

/// Why a step did not run. Nothing but the dropped sequences has changed, and what of a sequence
/// lies behind `position` of its work is undefined.
#[derive(Debug)]
pub enum StepError {
    /// The work does not fit what is held, or the model.
    Misfit(String),
    /// More pages are needed than are free.
    Pages {
        /// For this step.
        needed: usize,
        /// Not taken.
        free: usize,
        /// All together.
        total: usize,
    },
    /// A kernel failed.
    Multiply(MultiplyError),
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of all weight sets.
    pub sequences: usize,
    /// That sequences have.
    pub pages: usize,
    /// That there are.
    pub total_pages: usize,
}

/// Runs steps of weight sets of one model, one at a time.
pub struct Engine {
    config: ModelConfig,
    forward: Forward,
    pool: PagePool,
    sequences: HashMap<(u64, u64), Sequence>,
    /// `[wanted, hidden]`, normed, and `[wanted, vocab]`.
    wanted: Vec<f32>,
    logits: Vec<f32>,
    /// `[hidden]`, of the work whose hidden states are being added up.
    hidden_sum: Vec<f64>,
    /// Rows of `logits` that the last step left.
    sampled: usize,
    panic_next: bool,
}

#[derive(Default)]
struct Sequence {
    pages: Vec<u32>,
    length: usize,
}

/// A piece of a work in a batch.
struct Piece {
    work: usize,
    from: usize,
    to: usize,
}

impl Engine {
    /// An engine of a configuration that was checked.
    pub fn new(
        config: ModelConfig,
        kernel: &'static Kernel,
        options: &EngineOptions,
    ) -> std::io::Result<Engine> {
        let pool = Pool::new(options.threads)?;
        let widest = config.hidden.max(config.query_width()).max(config.intermediate);
        // Whole chunks, so that only the last one of some rows can be a lone one.
        let batch_tokens = options.batch_tokens.next_multiple_of(CHUNK_TOKENS);
        let rows = batch_tokens.max(SCORE_ROWS) + 1;
        let multiplier = Multiplier::new(kernel, pool, rows, widest);
        Ok(Engine {
            forward: Forward::new(&config, multiplier, options.threads, batch_tokens),
            pool: PagePool::new(&config, options.pages),
            sequences: HashMap::new(),
            wanted: Vec::new(),
            logits: Vec::new(),
            hidden_sum: vec![0.0; config.hidden],
            sampled: 0,
            panic_next: false,
            config,
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What is taken.
    pub fn usage(&self) -> Usage {
        Usage {
            sequences: self.sequences.len(),
            pages: self.pool.total() - self.pool.free(),
            total_pages: self.pool.total(),
        }
    }

    /// Logits of the `index`-th work of the last step that wanted them, `[vocab]`.
    pub fn logits(&self, index: usize) -> Option<&[f32]> {
        (index < self.sampled).then(|| &self.logits[index * self.config.vocab..][..self.config.vocab])
    }

    /// For tests: the next step panics on a thread of the pool.
    pub fn panic_next(&mut self) {
        self.panic_next = true;
    }

    /// Frees a sequence; an unknown one is ignored.
    pub fn drop_sequence(&mut self, weights: &WeightSet, sequence: u64) {
        self.free(&(weights.id(), sequence));
    }

    /// Frees all sequences of a weight set.
    pub fn drop_sequences_of(&mut self, weights: &WeightSet) {
        let keys: Vec<_> = self.sequences.keys().filter(|(set, _)| *set == weights.id()).copied().collect();
        keys.iter().for_each(|key| self.free(key));
    }

    fn free(&mut self, key: &(u64, u64)) {
        if let Some(sequence) = self.sequences.remove(key) {
            sequence.pages.into_iter().for_each(|page| self.pool.give(page));
        }
    }

    /// Runs a step. Negative log-likelihoods and sums of hidden states, `[hidden]`, of all works that
    /// wanted them go to `results`, in the works' order; logits can be read until the next step.
    pub fn step(
        &mut self,
        weights: &WeightSet,
        work: &[Work<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        self.sampled = 0;
        self.check(weights, work)?;
        self.reserve(weights, work)?;
        if std::mem::take(&mut self.panic_next) {
            self.forward.multiplier().pool().run(&|_| panic!("provoked"))?;
        }
        let sampled = work.iter().filter(|work| matches!(work.output, Output::Logits)).count();
        self.make_room(sampled);
        let mut batch: Vec<Piece> = Vec::with_capacity(work.len());
        let mut tokens = 0;
        for (index, item) in work.iter().enumerate() {
            let mut from = 0;
            while from < item.tokens.len() {
                let room = self.forward.max_tokens() - tokens;
                let to = item.tokens.len().min(from + room);
                batch.push(Piece { work: index, from, to });
                tokens += to - from;
                from = to;
                if tokens == self.forward.max_tokens() {
                    self.run_batch(weights, work, &batch, results)?;
                    batch.clear();
                    tokens = 0;
                }
            }
        }
        if !batch.is_empty() {
            self.run_batch(weights, work, &batch, results)?;
        }
        self.head(weights, 0, sampled)?;
        self.sampled = sampled;
        for item in work {
            if let Some(sequence) = self.sequences.get_mut(&(weights.id(), item.sequence)) {
                sequence.length = item.position + item.tokens.len();
            }
        }
        Ok(())
    }

    fn check(&self, weights: &WeightSet, work: &[Work<'_>]) -> Result<(), StepError> {
        let ModelConfig { vocab, context, .. } = self.config;
        let mut seen = HashSet::new();
        for item in work {
            let refuse = |why: String| {
                Err(StepError::Misfit(format!("the work of sequence {} does not fit: {why}", item.sequence)))
            };
            let held = self.sequences.get(&(weights.id(), item.sequence)).map_or(0, |known| known.length);
            if !seen.insert(item.sequence) {
                return refuse("the step has another work for it".to_owned());
            }
            if item.tokens.is_empty() {
                return refuse("it has no tokens".to_owned());
            }
            if item.position > held {
                return refuse(format!("it starts at position {}, {held} tokens are held", item.position));
            }
            if item.position + item.tokens.len() > context {
                let tokens = item.position + item.tokens.len();
                return refuse(format!("the sequence has {tokens} tokens, the model takes {context}"));
            }
            if let Some(token) = item.tokens.iter().find(|&&token| token as usize >= vocab) {
                return refuse(format!("token {token} is none of {vocab}"));
            }
            if let Output::Nll(targets) = item.output {
                if targets.len() != item.tokens.len() {
                    let (targets, tokens) = (targets.len(), item.tokens.len());
                    return refuse(format!("it has {targets} targets for {tokens} tokens"));
                }
                if let Some(target) = targets.iter().find(|&&target| target >= vocab as i32) {
                    return refuse(format!("target {target} is none of {vocab}"));
                }
            }
        }
        Ok(())
    }

    /// Takes the pages that the step needs, or none.
    fn reserve(&mut self, weights: &WeightSet, work: &[Work<'_>]) -> Result<(), StepError> {
        let pages_of = |item: &Work<'_>| (item.position + item.tokens.len()).div_ceil(PAGE_TOKENS);
        let missing = |sequences: &HashMap<(u64, u64), Sequence>, item: &Work<'_>| {
            let held = sequences.get(&(weights.id(), item.sequence)).map_or(0, |known| known.pages.len());
            pages_of(item).saturating_sub(held)
        };
        let needed = work.iter().map(|item| missing(&self.sequences, item)).sum();
        let (free, total) = (self.pool.free(), self.pool.total());
        let short = StepError::Pages { needed, free, total };
        if needed > free {
            return Err(short);
        }
        for item in work {
            let sequence = self.sequences.entry((weights.id(), item.sequence)).or_default();
            // What stands behind the new tokens' start is written anew.
            sequence.length = item.position;
            while sequence.pages.len() > pages_of(item) {
                sequence.pages.pop().into_iter().for_each(|page| self.pool.give(page));
            }
            while sequence.pages.len() < pages_of(item) {
                match self.pool.take() {
                    Some(page) => sequence.pages.push(page),
                    None => return Err(short),
                }
            }
        }
        Ok(())
    }

    fn make_room(&mut self, sampled: usize) {
        // Behind the sampled rows there is room to score, and for the neighbour of a lone row.
        let rows = padded(sampled).max(sampled + SCORE_ROWS + 1);
        if self.wanted.len() < rows * self.config.hidden {
            self.wanted.resize(rows * self.config.hidden, 0.0);
            self.logits.resize(rows * self.config.vocab, 0.0);
        }
    }

    fn run_batch(
        &mut self,
        weights: &WeightSet,
        work: &[Work<'_>],
        batch: &[Piece],
        results: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        let spans: Vec<Span<'_>> = batch
            .iter()
            .map(|piece| Span {
                tokens: &work[piece.work].tokens[piece.from..piece.to],
                position: work[piece.work].position + piece.from,
                pages: &self.sequences[&(weights.id(), work[piece.work].sequence)].pages,
            })
            .collect();
        self.forward.run(weights, &mut self.pool, &spans)?;
        drop(spans);
        let sampled = work.iter().filter(|work| matches!(work.output, Output::Logits)).count();
        let mut row = 0;
        for piece in batch {
            let item = &work[piece.work];
            let rows = row..row + piece.to - piece.from;
            row = rows.end;
            match item.output {
                Output::None => {}
                Output::Logits if piece.to < item.tokens.len() => {}
                Output::Logits => {
                    let before = work[..piece.work].iter();
                    let place = before.filter(|work| matches!(work.output, Output::Logits)).count();
                    self.want(weights, rows.end - 1, place);
                }
                Output::Nll(targets) => {
                    let targets = &targets[piece.from..piece.to];
                    let wanted = rows.zip(targets).filter(|(_, target)| **target >= 0);
                    let wanted: Vec<(usize, usize)> =
                        wanted.map(|(row, &target)| (row, target as usize)).collect();
                    for wanted in wanted.chunks(SCORE_ROWS) {
                        self.score(weights, wanted, sampled, results)?;
                    }
                }
                Output::HiddenSum => {
                    if piece.from == 0 {
                        self.hidden_sum.fill(0.0);
                    }
                    rows.for_each(|row| self.add_hidden(weights, row, sampled));
                    if piece.to == item.tokens.len() {
                        results.extend(self.hidden_sum.iter().map(|&sum| sum as f32));
                    }
                }
            }
        }
        Ok(())
    }

    /// Norms the last hidden state of a row of the batch into a row of `wanted`.
    fn want(&mut self, weights: &WeightSet, row: usize, place: usize) {
        let hidden = self.config.hidden;
        let out = &mut self.wanted[place * hidden..][..hidden];
        self.forward.norm_row(row, &weights.shared.final_norm, out);
    }

    /// Adds the last hidden state of a row of the batch to the sum; row `place` of `wanted` is written.
    fn add_hidden(&mut self, weights: &WeightSet, row: usize, place: usize) {
        self.want(weights, row, place);
        let hidden = &self.wanted[place * self.config.hidden..][..self.config.hidden];
        for (sum, value) in self.hidden_sum.iter_mut().zip(hidden) {
            *sum += f64::from(*value);
        }
    }

    /// Logits of `count` rows of `wanted`.
    fn head(&mut self, weights: &WeightSet, first: usize, count: usize) -> Result<(), MultiplyError> {
        let ModelConfig { hidden, vocab, .. } = self.config;
        let most = self.forward.max_tokens().max(SCORE_ROWS);
        let mut done = 0;
        while done < count {
            let rows = most.min(count - done);
            let inputs = &self.wanted[(first + done) * hidden..];
            let logits = &mut self.logits[(first + done) * vocab..];
            linear(self.forward.multiplier(), hidden, inputs, rows, &mut [(&weights.shared.head, logits)])?;
            done += rows;
        }
        Ok(())
    }

    fn score(
        &mut self,
        weights: &WeightSet,
        wanted: &[(usize, usize)],
        first: usize,
        nll: &mut Vec<f32>,
    ) -> Result<(), MultiplyError> {
        let vocab = self.config.vocab;
        for (place, (row, _)) in wanted.iter().enumerate() {
            self.want(weights, *row, first + place);
        }
        self.head(weights, first, wanted.len())?;
        let start = nll.len();
        nll.resize(start + wanted.len(), 0.0);
        let rows = &self.logits[first * vocab..];
        let fns = self.forward.fns();
        let score = |first: usize, out: &mut [f32]| {
            for (index, out) in (first..).zip(out) {
                let logits = &rows[index * vocab..][..vocab];
                *out = fns.log_sum_exp(logits) - logits[wanted[index].1];
            }
        };
        by_rows(self.forward.multiplier().pool(), &mut nll[start..], 1, &score)?;
        Ok(())
    }
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
            StepError::Misfit(message) => f.write_str(message),
            StepError::Pages { needed, free, total } => write!(
                f,
                "the step needs {needed} more pages of {PAGE_TOKENS} tokens, and {free} of {total} are free; run fewer or shorter requests at once, or give the cache more tokens"
            ),
            StepError::Multiply(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StepError {}
