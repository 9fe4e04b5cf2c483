//! Steps: they run the tokens of many sequences through the blocks, in batches, and collect the results.

use super::ModelConfig;
use super::batch::{Batch, batches};
use super::forward::Forward;
use super::outputs::{Outputs, SCORE_ROWS};
use super::pace::Pace;
use super::pages::{KvPrecision, PagePool};
use super::usage::Usage;
use super::weights::WeightSet;
use super::work::{Output, StepError, Work, check_work};
use crate::cpu::Implementation;
use crate::kernels::{MAX_CHUNK_TOKENS, Multiplier, MultiplyError};
use crate::pool::Pool;
use std::collections::HashMap;
use std::sync::Arc;
use std::{fmt, io};

/// The size of an [`Engine`].
pub struct EngineOptions {
    /// Threads, including the caller's.
    pub threads: usize,
    /// Pages of [`PAGE_TOKENS`](super::PAGE_TOKENS) keys and values.
    pub pages: usize,
    /// How they are stored.
    pub kv_precision: KvPrecision,
    /// Tokens that go through the blocks together; longer steps are split.
    pub batch_tokens: usize,
}

/// Why an engine cannot be made.
#[derive(Debug)]
pub enum EngineError {
    /// The activations would take more memory than any machine should give them.
    Activations(MultiplyError),
    /// The machine cannot start so many threads.
    Threads(usize, io::Error),
    /// The machine has no memory for so many pages.
    Pages(usize, io::Error),
}

/// Runs steps of weight sets of one model, one at a time.
pub struct Engine {
    config: ModelConfig,
    forward: Forward,
    pool: PagePool,
    /// Uses of each page within a step, see [`check_work`].
    page_uses: Vec<u8>,
    /// Tokens held of each sequence, by weight set and sequence.
    sequences: HashMap<(u64, u64), usize>,
    outputs: Outputs,
    /// Rows of logits of the last step.
    sampled: usize,
    panic_next: bool,
}

impl Engine {
    /// An engine of a configuration that was checked.
    pub fn new(
        config: ModelConfig,
        implementation: &'static Implementation,
        options: &EngineOptions,
    ) -> Result<Engine, EngineError> {
        let pool =
            Pool::new(options.threads).map_err(|error| EngineError::Threads(options.threads, error))?;
        let widest = config.hidden.max(config.query_width()).max(config.intermediate);
        // Whole chunks: then only the last chunk of a batch can be incomplete.
        let batch_tokens = options.batch_tokens.next_multiple_of(MAX_CHUNK_TOKENS);
        let rows = batch_tokens.max(SCORE_ROWS);
        let multiplier =
            Multiplier::new(implementation, pool, rows, widest).map_err(EngineError::Activations)?;
        Ok(Engine {
            forward: Forward::new(&config, multiplier, options.threads, batch_tokens),
            pool: PagePool::new(&config, options.pages, options.kv_precision)
                .map_err(|error| EngineError::Pages(options.pages, error))?,
            page_uses: vec![0; options.pages],
            sequences: HashMap::new(),
            outputs: Outputs::new(&config),
            sampled: 0,
            panic_next: false,
            config,
        })
    }

    /// Lets the engine, which has one thread, rest between pieces of work while a step by this pace is under way.
    pub(super) fn rest_beside(&mut self, pace: &Arc<Pace>) {
        assert_eq!(
            self.forward.multiplier().pool().threads(),
            1,
            "each thread would wait for the others' rests"
        );
        let packer = pace.packer(1);
        self.forward.multiplier().pause_by(Box::new(move || packer.pause()));
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The sequences and pages in use.
    pub fn usage(&self) -> Usage {
        Usage::new(self.sequences.len(), self.pool.written())
    }

    /// A row of logits `[vocab]` of the last step, in the order of the works and their tokens.
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

    /// Runs a step. Appends to `results` the negative log-likelihoods and sums of hidden states, `[hidden]`, of the works
    /// that asked for them, in the order of the works. With alternatives, each log-likelihood is followed by them, most
    /// probable first: the token, and its negative log-likelihood. Logits can be read until the next step.
    ///
    /// Allocates only for `results`, for a new sequence, and for the logits of more works than in any step before.
    pub fn step(
        &mut self,
        weights: &WeightSet,
        work: &[Work<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        self.sampled = 0;
        let held = |sequence| self.sequences.get(&(weights.id(), sequence)).copied().unwrap_or(0);
        check_work(&self.config, self.pool.written(), &mut self.page_uses, held, work)?;
        let sampled = work.iter().map(|work| work.output.logit_rows()).sum();
        self.outputs.begin(sampled)?;
        // Positions from the first new token on are overwritten. If the step fails they no longer count as held.
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.position);
        }
        if std::mem::take(&mut self.panic_next) {
            self.forward.multiplier().pool().run(&|_| panic!("provoked"))?;
        }
        for batch in batches(work, self.forward.max_tokens()) {
            self.run_batch(weights, &batch, results)?;
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
        batch: &Batch<'_>,
        results: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        let Engine { forward, pool, outputs, .. } = self;
        forward.run(weights, pool, batch)?;
        let mut row = 0;
        for span in batch.spans() {
            let rows = row..row + span.tokens.len();
            row = rows.end;
            let is_end = span.tokens.end == span.work.tokens.len();
            let output = &span.work.output;
            if let Some((targets, alternatives)) = output.scored() {
                let targets = &targets[span.tokens.clone()];
                let wanted = rows.clone().zip(targets).filter(|(_, target)| **target >= 0);
                let pairs = wanted.map(|(row, &target)| (row, target as usize));
                outputs.score(forward, weights, pairs, alternatives, results)?;
            }
            for token in span.logit_rows() {
                outputs.add_sampled(forward, weights, rows.start + token - span.tokens.start);
            }
            if let Output::HiddenSum { .. } = output {
                if span.tokens.start == 0 {
                    outputs.begin_sum();
                }
                rows.for_each(|row| outputs.add(forward, weights, row));
                if is_end {
                    results.extend(outputs.sum());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Activations(error) => error.fmt(f),
            EngineError::Threads(threads, error) => write!(f, "cannot start {threads} threads: {error}"),
            EngineError::Pages(pages, error) => write!(
                f,
                "the machine has no memory for {pages} pages of keys and values ({error}); give the cache fewer tokens"
            ),
        }
    }
}

impl std::error::Error for EngineError {}
