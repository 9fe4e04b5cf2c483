//! Steps: the tokens of many sequences in batches through the blocks, and what comes of them.

use super::ModelConfig;
use super::forward::{Forward, Span};
use super::outputs::{Outputs, SCORE_ROWS};
use super::pace::Pace;
use super::pages::PagePool;
use super::weights::WeightSet;
use super::work::{Output, StepError, Work, check};
use crate::kernels::{CHUNK_TOKENS, Kernel, Multiplier};
use crate::pool::Pool;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// What an [`Engine`] has room for.
pub struct EngineOptions {
    /// Threads, the caller's among them.
    pub threads: usize,
    /// Pages of [`PAGE_TOKENS`](super::PAGE_TOKENS) keys and values.
    pub pages: usize,
    /// Tokens that go through the blocks together; longer steps are cut.
    pub batch_tokens: usize,
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of all weight sets.
    pub sequences: usize,
    /// That were written.
    pub pages: usize,
    /// That there are.
    pub total_pages: usize,
}

/// Runs steps of weight sets of one model, one at a time.
pub struct Engine {
    config: ModelConfig,
    forward: Forward,
    pool: PagePool,
    /// Tokens held of each sequence of each weight set.
    sequences: HashMap<(u64, u64), usize>,
    outputs: Outputs,
    /// Rows of logits that the last step left.
    sampled: usize,
    panic_next: bool,
    pace: Arc<Pace>,
}

/// A piece of a work in a batch.
struct Piece {
    work: usize,
    from: usize,
    to: usize,
}

impl Engine {
    /// An engine of a configuration that was checked; an error, which says what to do, where the machine has not the
    /// threads or the memory, of the kind `InvalidInput` where no machine should have it.
    pub fn new(config: ModelConfig, kernel: &'static Kernel, options: &EngineOptions) -> io::Result<Engine> {
        let threads = options.threads;
        let pool = Pool::new(threads).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {threads} threads: {error}"))
        })?;
        let widest = config.hidden.max(config.query_width()).max(config.intermediate);
        // Whole chunks, so that only the last one of some rows can be a lone one.
        let batch_tokens = options.batch_tokens.next_multiple_of(CHUNK_TOKENS);
        let rows = batch_tokens.max(SCORE_ROWS);
        let multiplier = Multiplier::new(kernel, pool, rows, widest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Engine {
            forward: Forward::new(&config, multiplier, options.threads, batch_tokens),
            pool: PagePool::new(&config, options.pages)?,
            sequences: HashMap::new(),
            outputs: Outputs::new(&config),
            sampled: 0,
            panic_next: false,
            pace: Arc::default(),
            config,
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What tells those who pack weights that steps run.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// What is taken.
    pub fn usage(&self) -> Usage {
        Usage { sequences: self.sequences.len(), pages: self.pool.written(), total_pages: self.pool.total() }
    }

    /// Logits of the `index`-th work of the last step that wanted them, `[vocab]`.
    pub fn logits(&self, index: usize) -> Option<&[f32]> {
        (index < self.sampled).then(|| self.outputs.logits(index))
    }

    /// For tests: the next step panics on a thread of the pool.
    pub fn panic_next(&mut self) {
        self.panic_next = true;
    }

    /// Forgets a sequence; an unknown one is ignored.
    pub fn drop_sequence(&mut self, weights: &WeightSet, sequence: u64) {
        self.sequences.remove(&(weights.id(), sequence));
    }

    /// Forgets all sequences of a weight set.
    pub fn drop_sequences_of(&mut self, weights: &WeightSet) {
        self.sequences.retain(|(set, _), _| *set != weights.id());
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
        let pace = Arc::clone(&self.pace);
        let _running = pace.step();
        let held = |sequence| self.sequences.get(&(weights.id(), sequence)).copied().unwrap_or(0);
        check(&self.config, &self.pool, held, work)?;
        let sampled = work.iter().filter(|work| matches!(work.output, Output::Logits)).count();
        self.outputs.begin(sampled)?;
        // What stands behind the new tokens' start is written anew: should the step fail it is not held.
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.position);
        }
        if std::mem::take(&mut self.panic_next) {
            self.forward.multiplier().pool().run(&|_| panic!("provoked"))?;
        }
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
        self.outputs.sample(&mut self.forward, weights)?;
        self.sampled = sampled;
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.end());
        }
        Ok(())
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
                pages: work[piece.work].used_pages(),
            })
            .collect();
        let Engine { forward, pool, outputs, .. } = self;
        forward.run(weights, pool, &spans)?;
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
                    outputs.want(forward, weights, rows.end - 1, place);
                }
                Output::Nll(targets) => {
                    let targets = &targets[piece.from..piece.to];
                    let wanted = rows.zip(targets).filter(|(_, target)| **target >= 0);
                    let pairs: Vec<_> = wanted.map(|(row, &target)| (row, target as usize)).collect();
                    outputs.score(forward, weights, &pairs, results)?;
                }
                Output::HiddenSum => {
                    if piece.from == 0 {
                        outputs.begin_sum();
                    }
                    rows.for_each(|row| outputs.add(forward, weights, row));
                    if piece.to == item.tokens.len() {
                        results.extend(outputs.sum());
                    }
                }
            }
        }
        Ok(())
    }
}
